"""Commands that classify: `classify` and `demo`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from varstar_batch.api import ClassifyRequest, classify_survey
from varstar_batch.catalog.run_files.tables import objects_line, periods_line, speed_line
from varstar_batch.cli.console import (
    note,
    print_agreement,
    print_counts,
    print_fields,
    print_json,
    print_table,
    say,
    warning_line,
)
from varstar_batch.cli.options import JsonOption, takes
from varstar_batch.errors import ExitCode
from varstar_batch.progress import Advance, progress
from varstar_batch.runs.likeness import unlike_training
from varstar_batch.runs.plan import RunPlan
from varstar_batch.runs.prepare import Prepared, expected_objects, plan_run
from varstar_batch.runs.stages import RunObserver

SETTINGS = (
    "mira_amplitude",
    "engine",
    "precision",
    "use_best_period",
    "chunk_memory",
    "max_failed_fraction",
    "lost_gpus",
    "replace_survey",
)
"""Of the configuration, what has an option of its own."""


@takes(
    ClassifyRequest,
    arguments=("survey", "catalog"),
    common=("model", "preset", "bands", "config", "set_", "workers", "fresh"),
    leave_out=("mode", "abandon_unfinished"),
    settings=SETTINGS,
)
def classify(
    request: ClassifyRequest,
    incremental: Annotated[
        bool,
        typer.Option("--incremental", help="Take over the partitions that did not change since the published run."),
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be done and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Classify every light curve of SURVEY into a published CATALOG, one row for every object.

    A run that was cut off goes on where it stopped when the same command is given again.
    """
    if plan:
        planned, bundle = plan_run(request.survey, request.model, request.run_config())
        _print_plan(planned, unlike_training(planned.survey, bundle.contract), as_json)
        return
    if incremental:
        request = request.model_copy(update={"mode": "incremental"})
    classified = classify_survey(request, _Terminal())
    record, prepared = classified.record, classified.prepared
    if as_json:
        print_json(record)
    elif prepared.up_to_date:
        say(f"{prepared.catalog} is up to date: run {prepared.run_id} (--fresh classifies again)")
    else:
        print_record(record, prepared)
    if error := classified.held():
        raise error
    if record["failed_partitions"]:
        raise typer.Exit(ExitCode.FAILURES)


class _Terminal(RunObserver):
    """Tells a person beside the result."""

    def note(self, message: str) -> None:
        note(message)

    def warn(self, message: str) -> None:
        warning_line(message)

    @contextmanager
    def classifying(self, prepared: Prepared) -> Iterator[Advance]:
        with progress("Classifying", expected_objects(prepared.plan.survey), "light curves") as advance:
            yield advance


def print_record(record: dict[str, Any], prepared: Prepared) -> None:
    """Print what a run did, for people."""
    print_counts("Status", record["status"], "status")
    print_counts("Class", record["classes"], "class")
    rows = f"{record['rows']:,}"
    conserved = f"{rows} light curves in, {rows} rows out"
    counted = objects_line(record) if record["failed_partitions"] else conserved
    say(f"{counted}; {speed_line(record)} ({record['seconds']:.1f} s)")
    print_agreement(record["labels"])
    if line := periods_line(record):
        say(line)
    if record["failed_partitions"]:
        warning_line(
            f"{record['failed_partitions']} partitions failed: see {prepared.context.run / 'failures.parquet'}"
        )
    if not record.get("held"):
        say(f"Published run {prepared.run_id} in {prepared.catalog}")


def _print_plan(plan: RunPlan, unlike: list[str], as_json: bool) -> None:
    description = {**plan.describe(), "objects": expected_objects(plan.survey)}
    if as_json:
        files = [partition.key for partition in plan.survey.partitions]
        print_json(description | {"files": files, "unlike_training": unlike})
        return
    for line in unlike:
        warning_line(line)
    for key, value in description.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {entry}" for name, entry in value.items())  # noqa: PLW2901
        print_fields({key.replace("_", " "): value}, 13)
    rows = [(partition.key, partition.size) for partition in plan.survey.partitions[:5]]
    print_table("", ("partition", "bytes"), rows)
    if len(plan.survey.partitions) > len(rows):
        say(f"... and {len(plan.survey.partitions) - len(rows):,} more; nothing was written")
