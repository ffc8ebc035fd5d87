"""Ingest of the files that archives hand out: each is read by itself, and what it holds is ingested as one table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.archives.any_table import NAME as TABLE
from varstar_batch.archives.any_table import names_of, table_formats
from varstar_batch.archives.content import Format
from varstar_batch.archives.folder import ALL_BANDS, TIME_SYSTEM, list_archive, read_archive
from varstar_batch.archives.formats import FORMATS
from varstar_batch.archives.match import Matched, match_objects, objects_met, with_band
from varstar_batch.archives.tally import Tally
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location, locate
from varstar_batch.files.parquet import parquet_files
from varstar_batch.ingest.from_tables import TWO_THREADS, Target, count_observations, ingest, write_survey
from varstar_batch.ingest.objects import read_objects
from varstar_batch.ingest.observations import Observations
from varstar_batch.ingest.one_system import common_system, in_one_system
from varstar_batch.ingest.options import AUTO, LONG, ArchiveOptions, ArchiveReport, IngestReport, IngestRequest
from varstar_batch.ingest.workspace import open_workspace
from varstar_batch.light_curves.times import parse_time_system
from varstar_batch.parallel import Crew
from varstar_batch.progress import ShowProgress
from varstar_batch.survey.bands import FUSE, band_not_there, choice_of, shown
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.good import Good

REJECTED = "_rejected.parquet"
"""Of a survey: the files that were set aside, with the reasons; its name keeps it out of listings."""

ARCHIVE_REPORT = "_archive.json"
"""Of a survey: what its files held."""


def ingest_archive(
    url: str | os.PathLike[str],
    objects_url: str | os.PathLike[str] | None,
    out_url: str | os.PathLike[str],
    options: ArchiveOptions | None = None,
    progress: Callable[[int], None] | None = None,
    crew: Crew = TWO_THREADS,
) -> ArchiveReport:
    """Make a survey of the files of an archive; files that cannot be read are set aside, and listed in `REJECTED`.

    Parameters
    ----------
    url : str or path
        Folder of files, with those in folders below it, or one file. Names that begin with _ or a dot are left out.
    objects_url : str or path, or None
        Table of objects with their periods (Parquet, CSV, ECSV, FITS, VOTable). None: every object that is met is one,
        without a period.
    out_url : str or path
        Where nothing is yet. The survey appears there whole, or not at all.
    options : ArchiveOptions, optional
    progress : callable, optional
        Takes the number of files that were read since its last call; `count_files` tells the sum.
    crew : Crew, optional
        Who does the work, as for `varstar_batch.ingest.from_tables.ingest`.

    Raises
    ------
    InputError
        Nothing there, no file that can be read, several bands or time systems and no choice among them, an output
        that holds something.
    """
    options = options or ArchiveOptions()
    options.check_scratch()
    formats = _formats(options)
    place, out = locate(url, what="archive"), locate(out_url, what="survey")
    inputs = {"archive": url, "objects": objects_url, "periods": options.periods}
    with open_workspace(out, options.scratch, inputs, repr(options.lasting())) as work:
        objects = None if objects_url is None else read_objects(objects_url, options.columns)
        staged = work.folder / "files"
        tally = read_archive(place, formats, options.band, staged, crew, progress)
        time_system = _check(tally, options, str(place))
        if objects is None:
            objects, found = objects_met(tally, str(place)), Matched()
        else:
            objects, found = match_objects(objects, tally, options.radius, str(objects_url))
        objects = with_band(objects, tally, options.band)
        if len(tally.time_systems) > 1:
            turned = work.folder / "turned"
            tally.notes.update(in_one_system(staged, turned, time_system, objects, found.names))
            staged = turned
        observations = replace(Observations.open(staged, SurveyConfig()), renamed=found.names, band=FUSE)
        observations = observations.without([TIME_SYSTEM])
        if options.band not in ALL_BANDS:  # there is only one, as was seen when they were read
            observations = replace(observations, band_column=None)
        observations = observations if tally.has_cameras else observations.without(["camera"])
        counts = {"unmatched": found.unmatched, "ambiguous": found.ambiguous, "shared": found.shared}

        def finish(folder: Location, report: IngestReport) -> None:
            _leave_records(folder, ArchiveReport(tally=tally, ingest=report, **counts))

        report = write_survey(
            observations, objects, Target(out, work, time_system, str(url), finish), options, crew=crew
        )
        return ArchiveReport(tally=tally, ingest=report, **counts)


def ingest_survey(request: IngestRequest, show: ShowProgress, crew: Crew) -> IngestReport | ArchiveReport:
    """Make a survey as a request says: of observations in the long form, or of an archive's files.

    Parameters
    ----------
    request : IngestRequest
    show : callable
        See `ShowProgress`.
    crew : Crew
        Who does the work.

    Raises
    ------
    InputError
        As `ingest` and `ingest_archive` say.
    """
    source, objects, out, options = request.observations, request.objects, request.out, request.options()
    if request.format == LONG and objects is not None:
        _check_long(locate(source, what="table of observations"))
        with show("Ingesting", count_observations(source, options), "observations") as advance:
            return ingest(source, objects, out, options, advance, crew)
    with show("Reading", count_files(source), "files") as advance:
        return ingest_archive(source, objects, out, options, advance, crew)


def _check_long(place: Location) -> None:
    """Refuse what is no Parquet where nobody has said that it is something else."""
    if place.is_file():
        with place.open_input() as file:
            is_other = file.read(4) != b"PAR1" and not place.name.endswith(".parquet")
    else:
        is_other = place.exists() and not parquet_files(place) and bool(list_archive(place)[0])
    if is_other:
        raise InputError(
            expected="Parquet with one row for each observation",
            got="files of another kind",
            where=str(place),
            fix="say --format auto, or, with columns of your own, --format table --time-system MJD",
        )


def count_files(url: str | os.PathLike[str]) -> int:
    """Return the number of files of an archive, for a display of progress."""
    return len(list_archive(locate(url, what="archive"))[0])


def _formats(options: ArchiveOptions) -> list[Format]:
    if options.format == TABLE:
        if options.time_system is None and options.columns.time_system is None:
            raise InputError(
                expected="the time system of the table",
                got="none",
                where="ingest",
                fix="say it, as in --time-system HJD-2450000",
            )
        system = options.time_system or options.columns.time_system or ""
        columns, names = options.columns, options.column_names
        if names:
            columns, names = names_of(names, columns)
        return _as_chosen(table_formats(columns, system, names), options)
    if options.column_names:
        raise InputError(
            expected="--format table",
            got=f"--format {options.format}",
            where="--columns",
            fix="an archive's columns have names of their own",
        )
    if options.format == AUTO:
        return _as_chosen(FORMATS.values(), options)
    if options.format not in FORMATS:
        raise InputError(
            expected="one of " + ", ".join([AUTO, TABLE, *FORMATS]),
            got=repr(options.format),
            where="--format",
            fix="choose one of them",
        )
    return _as_chosen([FORMATS[options.format]], options)


def _as_chosen(formats: Iterable[Format], options: ArchiveOptions) -> list[Format]:
    good = None if options.columns.good is None else Good(options.columns.good)
    return [replace(form, aperture=options.aperture, good=good) for form in formats]


def _check(tally: Tally, options: ArchiveOptions, where: str) -> str:
    """Return the time system, once it is clear that the observations belong into one survey."""
    if tally.files == len(tally.rejected):
        first = f"{tally.rejected[0].file}: {tally.rejected[0].error}" if tally.rejected else "no file at all"
        raise InputError(
            expected="at least one light curve that can be read",
            got=f"none of {tally.files} files; {first}",
            where=where,
            fix="name the format with --format, or check the folder",
        )
    system = common_system(tally.time_systems)
    if system is None:
        raise InputError(
            expected="files of one time system, or of systems that differ in where light is timed, as JD and HJD",
            got=", ".join(sorted(tally.time_systems)) + " (formats " + ", ".join(sorted(tally.formats)) + ")",
            where=where,
            fix="ingest the files of each format by themselves: --format "
            + f"{min(tally.formats)} sets the others aside, and so on",
        )
    known = {name: count for name, count in tally.bands.items() if count}
    if options.band is None and len(known) > 1:
        raise InputError(
            expected="observations of one band, or a choice",
            got=shown(known),
            where=where,
            fix=choice_of(known),
        )
    if options.band not in (None, *ALL_BANDS) and tally.bands and not tally.kept:
        raise band_not_there(options.band or "", known, where)
    said = options.time_system
    if said is not None and _only_adds_scale(said, system):
        return said
    if said is not None and said != system:
        raise InputError(
            expected=f"{system}, which the format has",
            got=said,
            where="--time-system",
            fix="leave it out, or use --format table",
        )
    return system


def _only_adds_scale(said: str, system: str) -> bool:
    told, known = parse_time_system(said), parse_time_system(system)
    return (told.jd_offset, told.reference, known.scale) == (known.jd_offset, known.reference, None)


def _leave_records(folder: Location, report: ArchiveReport) -> None:
    rejected = report.tally.rejected
    schema = pa.schema({"file": pa.large_string(), "error": pa.large_string()})
    table = pa.Table.from_pylist([vars(one) for one in rejected], schema)
    with (folder / REJECTED).atomic_output() as sink:
        pq.write_table(table, sink)
    (folder / ARCHIVE_REPORT).write_bytes(json.dumps(report.as_dict(), indent=1).encode())
