"""Commands about surveys: `simulate`, `ingest` and `fold`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from varstar_batch.arithmetic.rules import Preprocessing
from varstar_batch.cli.archives import ingest_files, tell_ingested
from varstar_batch.cli.console import parse_bytes, print_counts, print_json, progress, say, warning_line
from varstar_batch.cluster.clients import ClusterOptions, default_workers
from varstar_batch.cluster.configuration import load_config
from varstar_batch.cluster.ingesting import open_crew
from varstar_batch.errors import InputError

if TYPE_CHECKING:
    from varstar_batch.storage.ingest_options import IngestOptions

DONE_WITH_FAILURES = 1
DEFAULT_PARTITIONS = 16
LONG = "long"
"""Instead of an archive's format: Parquet with one row for each observation."""


def register(app: typer.Typer) -> None:
    """Add the commands to `varstar`."""
    app.command()(simulate)
    app.command()(ingest)
    app.command()(fold)


def simulate(
    out: Annotated[str, typer.Argument(help="Folder or URL of the survey; must not hold anything yet.")],
    objects: Annotated[int, typer.Option(min=1, help="Light curves.")] = 20_000,
    partitions: Annotated[int | None, typer.Option(min=1, help="Files. [default: 16]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same survey.")] = 1,
) -> None:
    """Simulate a survey of the six classes with ASAS-SN-like cadence and noise, and their true classes."""
    from varstar_batch.storage.simulated import write_simulated_survey

    files = min(DEFAULT_PARTITIONS, objects) if partitions is None else partitions
    with progress("Simulating", objects, "light curves") as advance:
        write_simulated_survey(out, objects=objects, partitions=files, seed=seed, progress=advance)
    say(f"{objects:,} light curves in {files:,} partitions: {out}")


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
    tls_ca: Annotated[str | None, typer.Option(help="PEM file of the authority behind the cluster's TLS.")] = None,
    tls_cert: Annotated[str | None, typer.Option(help="PEM file of this client's certificate.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM file of its key.")] = None,
    insecure_scheduler: Annotated[
        bool, typer.Option("--insecure-scheduler", help="Speak to a scheduler elsewhere without TLS.")
    ] = False,
    config: Annotated[str | None, typer.Option(help="TOML file: [survey] with the names of the columns.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top: survey.mag=Vmag.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Make a partitioned survey of OBSERVATIONS and a table of objects; every object is one row."""
    from varstar_batch.storage.ingest_options import IngestOptions

    settings = load_config(config, set_ or [])
    options = IngestOptions(
        config=settings.survey,
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
    cluster = ClusterOptions(tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key, insecure=insecure_scheduler)
    if form != LONG:
        from varstar_batch.storage.ingest_archives import ArchiveOptions

        with open_crew(workers, scheduler, cluster) as crew:
            options = replace(options, crew=crew)
            archive = ArchiveOptions(format=form, band=band, radius=radius, flux_unit=flux_unit, ingest=options)
            ingest_files(observations, objects, out, archive, as_json)
        return
    chosen = {"--band": band, "--radius": radius, "--flux-unit": flux_unit}
    for name, value in chosen.items():
        if value is not None:
            raise InputError(
                expected="an archive's files", got="--format long", where=name, fix="say --format auto, or leave it out"
            )
    if objects is None:
        raise InputError(
            expected="a table of objects", got="none", where="--objects", fix="give it; --format auto can do without"
        )
    with open_crew(workers, scheduler, cluster) as crew:
        _ingest_long(observations, objects, out, replace(options, crew=crew), as_json)


def _ingest_long(observations: str, objects: str, out: str, options: IngestOptions, as_json: bool) -> None:
    from varstar_batch.storage.ingest import count_observations
    from varstar_batch.storage.ingest import ingest as ingest_tables

    with progress("Ingesting", count_observations(observations, options), "observations") as advance:
        report = ingest_tables(observations, objects, out, options, advance)
    if as_json:
        print_json(asdict(report))
        return
    tell_ingested(report, out)


def fold(
    survey: Annotated[str, typer.Argument(help="Folder or URL of a survey.")],
    out: Annotated[str, typer.Argument(help="Folder or URL of the curves; must not hold anything yet.")],
    phase_zero: Annotated[
        str | None, typer.Option(help="Phase 0 at the first observation, or at maximum light.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="none (magnitudes), center (minus median) or minmax (0 to 1).")
    ] = None,
    config: Annotated[str | None, typer.Option(help="TOML file: [survey] and [preprocessing].")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top: preprocessing.sigma=4.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Partitions at once. [default: one per core]")] = None,
) -> None:
    """Clean and fold every light curve of SURVEY to 512 points, and write the curves to OUT as Parquet."""
    from varstar_batch.cluster.folding import fold_survey
    from varstar_batch.cluster.runs import expected_objects
    from varstar_batch.storage.surveys import open_survey

    choices = {"preprocessing.phase_zero": phase_zero, "preprocessing.scale": scale}
    overrides = ["preprocessing.scale=none", *(set_ or [])]
    overrides += [f"{key}={value}" for key, value in choices.items() if value is not None]
    settings = load_config(config, overrides)
    preprocessing = Preprocessing(**settings.preprocessing)
    opened = open_survey(survey, settings.survey)
    with progress("Folding", expected_objects(opened), "light curves") as advance:
        report = fold_survey(opened, out, preprocessing, threads or default_workers(), advance)
    print_counts("Status", report.status, "status")
    say(f"{sum(report.status.values()):,} objects: {out}")
    for failure in report.failures:
        warning_line(f"partition failed ({failure.kind}): {failure.message}")
    if report.failures:
        raise typer.Exit(DONE_WITH_FAILURES)
