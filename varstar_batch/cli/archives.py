"""What `varstar ingest` does with the files of an archive, and how it tells what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from varstar_batch.cli.console import print_json, say, warning_line
from varstar_batch.progress import progress

if TYPE_CHECKING:
    from varstar_batch.ingest.options import ArchiveOptions, ArchiveReport, IngestReport

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
