"""The command `ingest`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import typer

from varstar_batch import api
from varstar_batch.cli.console import print_json, say, warning_line
from varstar_batch.cli.options import JsonOption, takes
from varstar_batch.errors import ExitCode
from varstar_batch.ingest.options import ArchiveReport, IngestReport, IngestRequest
from varstar_batch.light_curves.times import parse_time_system
from varstar_batch.progress import progress
from varstar_batch.survey.open import CENTURY

SHOWN = 10
"""Files that were set aside; the survey lists all."""

SHOWN_OBJECTS = 5
"""Objects that several files have."""


@takes(
    IngestRequest,
    arguments=("observations", "out"),
    common=("objects", "format", "periods", "time_system", "band", "find_periods", "hats", "config", "set_", "workers"),
)
def ingest(request: IngestRequest, as_json: JsonOption = False) -> None:
    """Make a partitioned survey of OBSERVATIONS and a table of objects; every object is one row."""
    report = api.ingest(request, progress)
    if isinstance(report, IngestReport):
        content, tell = asdict(report), partial(tell_ingested, report)
    else:
        content, tell = report.as_dict() | {"survey": asdict(report.ingest)}, partial(_tell, report)
    if as_json:
        print_json(content)
    else:
        tell(request.out)
    if isinstance(report, ArchiveReport) and report.tally.rejected:
        raise typer.Exit(ExitCode.FAILURES)


def tell_ingested(report: IngestReport, out: str) -> None:
    """Print what an ingest took in and wrote."""
    say(
        f"{report.objects:,} objects in, {report.objects_written:,} out in {report.partitions:,} partitions"
        f" ({report.objects_without_observations:,} without observations); time system {report.time_system}"
    )
    say(f"periods: {_counts(report.period_origins)}")
    if report.times is not None:
        say(f"times: {report.times[0]:.6f} to {report.times[1]:.6f}")
        if report.times[1] - report.times[0] > CENTURY and parse_time_system(report.time_system).jd_offset is None:
            warning_line(
                f"times of more than a century in the system {report.time_system!r}: are several systems mixed?"
                " Ingest the files of each by themselves, as in --time-system HJD-2450000"
            )
    for change, count in report.converted.items():
        say(f"converted: {change} ({count:,} values)")
    say(f"{report.observations:,} observations in, {report.observations_written:,} out: {out}")
    if report.periods is not None:
        found = report.periods
        say(f"{found['matched']:,} objects in the table of periods, {found['taken']:,} periods taken from it")
        for change in found.keys() - {"matched", "taken", "ambiguous", "shared"}:
            say(f"converted: {change} ({found[change]:,} values)")
        if found["ambiguous"] or found["shared"]:
            warning_line(
                f"{found['ambiguous']:,} objects have several rows of periods in the radius: the nearest was taken;"
                f" {found['shared']:,} rows belong to several objects"
            )
    if report.duplicates:
        warning_line(
            f"{report.duplicates:,} observations left out, since another one of the object has the same time, magnitude"
            " and error (--duplicates keep takes them)"
        )
    if report.left_out:
        warning_line(f"{report.left_out:,} observations left out: not good, or of another band")
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
    if tally.nameless:
        warning_line(f"{tally.nameless:,} rows left out that have neither an identifier nor an observation")
    if tally.repeated:
        shown = ", ".join(sorted(tally.repeated)[:SHOWN_OBJECTS]) + (", ..." if report.joined > SHOWN_OBJECTS else "")
        warning_line(f"{report.joined:,} objects are in several files, now one light curve each: {shown}")
    for note, count in sorted(tally.notes.items()):
        warning_line(f"{note} ({count:,} observations)")
    if tally.unknown_cameras:
        warning_line(f"cameras whose band is not known: {_counts(tally.unknown_cameras)} observations")
    if report.unmatched:
        warning_line(f"{report.unmatched:,} objects of the files are not in the table of objects")
    if report.ambiguous:
        warning_line(f"{report.ambiguous:,} objects have several rows within the radius: the nearest was taken")
    if report.shared:
        warning_line(f"{report.shared:,} rows of the table of objects have several objects of the files, now joined")
    for one in tally.rejected[:SHOWN]:
        warning_line(f"set aside: {one.file}: {one.error}")
    if len(tally.rejected) > SHOWN:
        warning_line(f"{len(tally.rejected):,} files set aside in all; the list is in _rejected.parquet of {out}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
