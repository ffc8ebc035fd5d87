"""Commands about the runs of a catalog: `runs`, `rollback`, `prune`, `verify`, `path`, `report`, ..."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import asdict
from typing import Annotated, Any

import typer

from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.catalog.run_files import history
from varstar_batch.catalog.run_files.checks import VerificationError
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.run_files.tables import objects_line
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.cli.console import note, print_json, print_table, say
from varstar_batch.cli.options import CatalogArgument, JsonOption, RunOption
from varstar_batch.errors import ExitCode
from varstar_batch.files.parquet import read_table
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.open import open_survey

SLOWEST_CHUNKS = 10


def runs(
    catalog: CatalogArgument,
    detail: Annotated[bool, typer.Option("--detail", help="Times, rates and the slowest chunks of a run.")] = False,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs of CATALOG, oldest first."""
    root = open_catalog_root(catalog)
    found = history.list_runs(root)
    if as_json:
        content: dict[str, Any] = {"catalog": str(root), "runs": [asdict(entry) for entry in found]}
        if detail:
            content["tasks"] = _tasks(open_catalog(catalog, run))
        print_json(content)
        return
    columns = ("run", "state", "published", "objects", "classified", "failed partitions", "model", "light curves/s")
    print_table(str(root), columns, [_run_row(entry) for entry in found], exact=True)
    for entry in found:
        if entry.why:
            say(f"{entry.run_id} {'is held: ' if entry.state == 'held' else 'was '}{entry.why}")
    if detail:
        _print_detail(open_catalog(catalog, run))


def publish(
    catalog: CatalogArgument,
    run: Annotated[str, typer.Argument(help="Run that is held: its identifier, or its beginning.")],
    because: Annotated[str, typer.Option(help="Why it may be published; kept with your name.")],
    as_json: JsonOption = False,
) -> None:
    """Make a held RUN the current one of CATALOG: it did not pass its gate, and a person knows better."""
    root = open_catalog_root(catalog)
    held = history.named(run, root.held_runs())
    if len(held) == 1 and (findings := verify_catalog(CatalogReader(root, held[0]))):
        raise VerificationError(
            expected="the run as it was held",
            got=f"{len(findings)} findings, the first: {findings[0].file}: {findings[0].message}",
            where=f"{root} (run {held[0]})",
            fix="it stays held; classify again with --fresh",
        )
    pointer = history.release_held(root, run, because=because, by=_who())
    if as_json:
        print_json(asdict(pointer))
    else:
        say(f"{root} is at run {pointer.run_id}, released by {pointer.by}: {pointer.because}")


def rollback(
    catalog: CatalogArgument,
    run: Annotated[str, typer.Argument(help="Run to go back to: its identifier, its beginning, or `previous`.")],
    as_json: JsonOption = False,
) -> None:
    """Point CATALOG back to an earlier RUN; nothing is removed."""
    root = open_catalog_root(catalog)
    pointer = history.rollback(root, run)
    if as_json:
        print_json(asdict(pointer))
    else:
        say(f"{root} is at run {pointer.run_id} again")


def prune(
    catalog: CatalogArgument,
    keep: Annotated[int, typer.Option(help="How many of the newest published runs stay; the current one always does.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove old runs of CATALOG with all their files, and unfinished ones that a later run has overtaken."""
    root = open_catalog_root(catalog)
    found = history.prunable(root, keep)
    if not dry_run:
        history.prune(root, found)
    if as_json:
        print_json({"removed" if not dry_run else "would_remove": found})
        return
    verb = "Would remove" if dry_run else "Removed"
    say("\n".join(f"{verb} run {run_id}" for run_id in found) or "Nothing to remove")


def verify(
    catalog: CatalogArgument,
    run: RunOption = None,
    survey: Annotated[str | None, typer.Option(help="Compare with the objects of this survey, too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every byte and every row of a published run; exit code 1 and a list when anything is off."""
    reader = open_catalog(catalog, run)
    source = None
    if survey is not None:
        names = reader.record["configuration"].get("survey", {})
        source = open_survey(survey, SurveyConfig.model_validate(names))
    findings = verify_catalog(reader, source)
    if as_json:
        print_json({"run_id": reader.run_id, "findings": [asdict(finding) for finding in findings]})
    elif findings:
        rows = [(finding.kind, finding.file, finding.message) for finding in findings]
        # Where records are damaged or lost, nothing in them may be told.
        told = {finding.kind for finding in findings} <= {"objects", "survey", "unreadable"}
        title = f"{reader}: {objects_line(reader.record)}; " if told else f"{reader}: "
        print_table(f"{title}{len(findings)} findings", ("kind", "file", "what is off"), rows)
    else:
        say(f"{reader}: {objects_line(reader.record)}; {len(reader.files):,} files, all as published")
    if findings:
        raise typer.Exit(ExitCode.FAILURES)


def path(catalog: CatalogArgument, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Print where the current run's Parquet files stand, for DuckDB, polars, pandas, Spark: docs/readers.md."""
    reader = open_catalog(catalog, run)
    if as_json:
        print_json({"run_id": reader.run_id, "path": reader.path, "glob": f"{reader.path}/**/*.parquet"})
    else:
        say(reader.path)


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _run_row(run: history.Run) -> tuple[object, ...]:
    record = run.record
    model = record.get("model", {})
    return (
        run.run_id,
        run.state,
        run.published,
        record.get("rows"),
        record.get("status", {}).get("ok"),
        record.get("failed_partitions"),
        f"{model.get('name', '')} {model.get('version', '')}".strip(),
        round(record.get("light_curves_per_second", 0)) or None,
    )


def _tasks(reader: CatalogReader) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(reader.run / "tasks.parquet").to_pylist()
    for row in rows:
        row |= {name: dict(value) for name, value in row.items() if isinstance(value, list)}
    return rows


def _print_detail(reader: CatalogReader) -> None:
    record = reader.record
    stages = [(name, seconds) for name, seconds in record["worker_seconds"].items()]
    print_table(f"Worker seconds of run {reader.run_id}", ("stage", "seconds"), stages)
    tasks = _tasks(reader)
    slowest = sorted(tasks, key=lambda row: -sum(row["seconds"].values()))[:SLOWEST_CHUNKS]
    rows = [
        (
            f"{row['partition']} {row['chunk'] + 1}/{row['chunks']}",
            row["rows"],
            *(float(row["seconds"].get(name, 0.0)) for name, _ in stages),
            row["worker"],
            round(row["peak_memory"] / 2**20),
        )
        for row in slowest
    ]
    columns = ("chunk", "objects", *(f"{name} [s]" for name, _ in stages), "worker", "peak [MiB]")
    print_table(f"The slowest of {len(tasks):,} chunks", columns, rows, exact=True)
    say(f"{record['observations']:,} observations, {record['seconds']:.1f} s in all")


def report(
    catalog: CatalogArgument,
    out_file: Annotated[str, typer.Option("--out", "-o", help="HTML file to write.")] = "report.html",
    run: RunOption = None,
    survey: Annotated[
        str | None, typer.Option(help="Where the light curves are now. [default: where they were classified]")
    ] = None,
) -> None:
    """Write one self-contained page about a run of CATALOG: counts, sky, distributions, stars, changes, the model."""
    from varstar_batch.report import write_report

    written = write_report(open_catalog(catalog, run), out_file, survey_url=survey)
    note(f"Report in {written}")
