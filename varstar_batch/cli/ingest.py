"""The command `ingest`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from varstar_batch.cli.console import parse_bytes, print_json, say, warning_line
from varstar_batch.cli.tls import InsecureScheduler, TlsCa, TlsCert, TlsKey
from varstar_batch.cluster.client import default_workers
from varstar_batch.cluster.dask_crew import open_crew
from varstar_batch.errors import InputError
from varstar_batch.progress import progress
from varstar_batch.requests import ClusterOptions
from varstar_batch.runs.config import load_config

if TYPE_CHECKING:
    from varstar_batch.ingest.options import ArchiveOptions, ArchiveReport, IngestReport
    from varstar_batch.parallel import Crew

LONG = "long"
"""Instead of an archive's format: Parquet with one row for each observation."""


def register(app: typer.Typer) -> None:
    """Add the command to `varstar`."""
    app.command()(ingest)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be ingested, and how."""

    observations: str
    objects: str | None
    """The table of objects."""
    out: str
    """Folders, files or URLs."""
    archive: ArchiveOptions
    """With the options of every ingest; its format may be `LONG`, for which the others of an archive's are None."""
    as_json: bool
    """Print the report as JSON."""

    def check(self) -> None:
        """Refuse what does not go together.

        Raises
        ------
        InputError
            Long-form observations without objects, or with an option for the files of archives.
        """
        if self.archive.format != LONG:
            return
        chosen = {"--band": self.archive.band, "--radius": self.archive.radius, "--flux-unit": self.archive.flux_unit}
        for name, value in chosen.items():
            if value is not None:
                raise InputError(
                    expected="an archive's files",
                    got="--format long",
                    where=name,
                    fix="say --format auto, or leave it out",
                )
        self._objects()

    def serve(self, crew: Crew | None) -> None:
        """Ingest by a crew, or by threads, and tell of it; exit with 1 where files were set aside."""
        options = replace(self.archive.ingest, crew=crew)
        if self.archive.format != LONG:
            archive = replace(self.archive, ingest=options)
            ingest_files(self.observations, self.objects, self.out, archive, self.as_json)
            return
        from varstar_batch.ingest.from_tables import count_observations
        from varstar_batch.ingest.from_tables import ingest as ingest_tables

        with progress("Ingesting", count_observations(self.observations, options), "observations") as advance:
            report = ingest_tables(self.observations, self._objects(), self.out, options, advance)
        if self.as_json:
            print_json(asdict(report))
        else:
            tell_ingested(report, self.out)

    def _objects(self) -> str:
        if self.objects is None:
            raise InputError(
                expected="a table of objects",
                got="none",
                where="--objects",
                fix="give it; --format auto can do without",
            )
        return self.objects


def ingest(
    observations: Annotated[
        str, typer.Argument(help="Parquet with one row for each observation, or a folder of an archive's files.")
    ],
    out: Annotated[str, typer.Argument(help="Folder or URL of the survey; must not hold anything yet.")],
    objects: Annotated[
        str | None,
        typer.Option(help="Table with one row for each object, with its period: Parquet, CSV, ECSV, FITS, VOTable."),
    ] = None,
    periods: Annotated[
        str | None, typer.Option(help="Another table of objects, with their periods; matched by object_id.")
    ] = None,
    periods_radius: Annotated[
        float | None, typer.Option(min=0.001, max=3600, help="Arcseconds: match its rows by position instead.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="long (Parquet), auto, table, or an archive's: asassn-skypatrol-v1, ztf ...")
    ] = "long",
    band: Annotated[str | None, typer.Option(help="Of several bands the one to take; `all` joins them.")] = None,
    radius: Annotated[
        float | None, typer.Option(min=0.001, max=3600, help="Arcseconds: match objects by position.")
    ] = None,
    flux_unit: Annotated[
        str | None, typer.Option(help="With --format table: its magnitudes are fluxes in this unit, such as mJy.")
    ] = None,
    time_system: Annotated[
        str | None, typer.Option(help="JD, HJD, BJD, MJD, HJD-2450000, ... [default: the objects' time_system]")
    ] = None,
    correct_to: Annotated[
        str | None, typer.Option(help="Turn the times into this system: HJD, BJD, BJD_TDB, ...; needs positions.")
    ] = None,
    hats: Annotated[bool, typer.Option("--hats", help="Write a HATS catalog; every object needs a position.")] = False,
    find_periods: Annotated[
        bool, typer.Option("--find-periods", help="Search periods for objects without one; marked as found.")
    ] = False,
    partitions: Annotated[int | None, typer.Option(min=1, help="Files. [default: by the observations]")] = None,
    memory: Annotated[str, typer.Option(help="Of observations that wait for their partition.")] = "512MiB",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes of a local Dask cluster. [default: none, threads of this one]")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers see the same folders.")
    ] = None,
    scratch: Annotated[
        str | None, typer.Option(help="Folder for unfinished work, for workers too. [default: beside OUT]")
    ] = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure_scheduler: InsecureScheduler = False,
    config: Annotated[str | None, typer.Option(help="TOML file: [survey] with the names of the columns.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top: survey.mag=Vmag.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Make a partitioned survey of OBSERVATIONS and a table of objects; every object is one row."""
    from varstar_batch.ingest.options import ArchiveOptions, IngestOptions

    options = IngestOptions(
        config=load_config(config, set_ or []).survey,
        time_system=time_system,
        partitions=partitions,
        memory=parse_bytes(memory, "--memory"),
        correct_to=correct_to,
        periods=periods,
        periods_radius=periods_radius,
        hats=hats,
        workers=default_workers(),
        scratch=scratch,
        find_periods=find_periods,
    )
    archive = ArchiveOptions(format=form, band=band, radius=radius, flux_unit=flux_unit, ingest=options)
    request = Request(observations=observations, objects=objects, out=out, archive=archive, as_json=as_json)
    request.check()
    cluster = ClusterOptions(tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key, insecure=insecure_scheduler)
    with open_crew(workers, scheduler, cluster) as crew:
        request.serve(crew)


SET_ASIDE = 1
"""Exit code where some files were set aside."""


_SHOWN = 10


def ingest_files(url: str, objects: str | None, out: str, options: ArchiveOptions, as_json: bool) -> None:
    """Ingest the files of an archive, and exit with 1 where some were set aside."""
    from varstar_batch.ingest.from_archive import count_files, ingest_archive

    with progress("Reading", count_files(url), "files") as advance:
        report = ingest_archive(url, objects, out, options, advance)
    if as_json:
        print_json(report.as_dict() | {"survey": asdict(report.ingest)})
    else:
        _tell(report, out)
    if report.tally.rejected:
        raise typer.Exit(SET_ASIDE)


def tell_ingested(report: IngestReport, out: str) -> None:
    """Print what an ingest took in and wrote."""
    say(
        f"{report.objects:,} objects in, {report.objects_written:,} out in {report.partitions:,} partitions"
        f" ({report.objects_without_observations:,} without observations); time system {report.time_system}"
    )
    say(f"{report.observations:,} observations in, {report.observations_written:,} out: {out}")
    if report.periods is not None:
        found = report.periods
        say(f"{found['matched']:,} objects in the table of periods, {found['taken']:,} periods taken from it")
        if found["ambiguous"] or found["shared"]:
            warning_line(
                f"{found['ambiguous']:,} objects have several rows of periods in the radius: the nearest was taken;"
                f" {found['shared']:,} rows belong to several objects"
            )
    if report.orphans:
        examples = ", ".join(report.orphan_ids)
        warning_line(f"{report.orphans:,} observations left out: no object has their object_id ({examples}, ...)")


def _tell(report: ArchiveReport, out: str) -> None:
    tally = report.tally
    say(f"{tally.files:,} files in, {tally.files - len(tally.rejected):,} read ({_counts(tally.formats)})")
    say(f"{tally.observations:,} observations in them, {tally.kept:,} taken; bands: {_counts(tally.bands)}")
    tell_ingested(report.ingest, out)
    if tally.left_out:
        warning_line(f"{sum(tally.left_out.values()):,} observations left out: {_counts(tally.left_out)}")
    if tally.unknown_cameras:
        warning_line(f"cameras whose band is not known: {_counts(tally.unknown_cameras)} observations")
    if report.unmatched:
        warning_line(f"{report.unmatched:,} objects of the files are not in the table of objects")
    if report.ambiguous:
        warning_line(f"{report.ambiguous:,} objects have several rows within the radius: the nearest was taken")
    if report.shared:
        warning_line(f"{report.shared:,} rows of the table of objects have several objects of the files, now joined")
    for one in tally.rejected[:_SHOWN]:
        warning_line(f"set aside: {one.file}: {one.error}")
    if len(tally.rejected) > _SHOWN:
        warning_line(f"{len(tally.rejected):,} files set aside in all; the list is in _rejected.parquet of {out}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
