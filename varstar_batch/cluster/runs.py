"""The stages of a run, as plain functions: prepare, execute, verify, publish. Flows and the command line call them.

What is finished is read from storage: each stage may be repeated, and outlasts storage that fails for a while.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from varstar_batch.cluster.attempts import StorageLostError, steadfast
from varstar_batch.cluster.execute import PartitionResult, execute
from varstar_batch.cluster.outcomes import STAGES, SYSTEMIC, ChunkRecord, Failure
from varstar_batch.cluster.preparing import Prepared, expected_objects, plan_run, prepare
from varstar_batch.errors import RefusedError
from varstar_batch.storage.finishing import finish_run_files, load_ahead
from varstar_batch.storage.publishing import output_key
from varstar_batch.storage.records import (
    FAILURES_SCHEMA,
    PARTITIONS_SCHEMA,
    TASKS_SCHEMA,
    add_counts,
    write_json,
    write_table,
)
from varstar_batch.storage.remote import storage_errors
from varstar_batch.storage.verification import VerificationError, verify_run_files

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "Executed",
    "Prepared",
    "execute_run",
    "expected_objects",
    "plan_run",
    "prepare",
    "publish",
    "summary",
    "verify",
]

SYSTEMIC_FAILURES = 8
"""Partitions that the system fails, one after the other, before the run waits for somebody to mend it."""


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What became of a run's partitions, and the seconds that took."""

    records: tuple[ChunkRecord, ...]
    failures: tuple[Failure, ...]
    seconds: float
    classified_now: int


def execute_run(
    prepared: Prepared,
    client: Client | None,
    on_rows: Callable[[int], None],
    on_partition: Callable[[PartitionResult], None],
) -> Executed:
    """Classify what is not on storage yet and account for all of it.

    Raises
    ------
    RefusedError
        More partitions failed than the configuration allows; what is done stays and the run can be resumed.
    StorageLostError
        The system failed (no storage, a full disk, expired credentials), which says nothing of the partitions: nothing
        is published without them, and the run can be resumed.
    """
    start = time.perf_counter()
    load_ahead(prepared.plan.survey)
    records: list[ChunkRecord] = []
    failures: list[Failure] = []
    config = prepared.plan.config
    allowed = config.max_failed_fraction * len(prepared.plan.survey.partitions)
    in_a_row = 0
    for result in execute(
        prepared.context,
        prepared.plan.survey.partitions,
        prepared.done,
        client,
        on_rows,
        carried=prepared.carried,
        lost_gpus=config.lost_gpu_policy(),
    ):
        on_partition(result)
        if not isinstance(result, Failure):
            records.extend(result)
            in_a_row = 0
            continue
        failures.append(result)
        in_a_row = in_a_row + 1 if result.kind in SYSTEMIC else 0
        if len(failures) > allowed:
            _write_failures(prepared, failures)
            raise RefusedError(
                expected=f"at most {allowed:.0f} failed partitions (max_failed_fraction)",
                got=f"{len(failures)}, the last: {result.message}",
                where=str(prepared.catalog),
                fix="mend the cause and start again: what is done is kept",
            )
        if in_a_row == SYSTEMIC_FAILURES:
            break
    _check_system(prepared, failures)
    return Executed(
        records=tuple(sorted(records, key=lambda record: (record.partition, record.chunk))),
        failures=tuple(sorted(failures, key=lambda failure: failure.partition)),
        seconds=time.perf_counter() - start,
        classified_now=sum(
            record.rows
            for record in records
            if record.partition not in prepared.done and record.run_id == prepared.run_id
        ),
    )


@steadfast
def verify(prepared: Prepared, executed: Executed) -> None:
    """Check the run as it lies on storage: every partition accounted for, every row there, no object twice.

    Raises
    ------
    VerificationError
        Naming what is off, or that nothing could be classified at all; nothing is published.
    """
    survey = prepared.plan.survey
    if not executed.records:
        raise VerificationError(
            expected="at least one partition that could be classified",
            got=f"{len(executed.failures)} failed, the first: {executed.failures[0].message}",
            where=str(prepared.catalog),
            fix="nothing was published; mend the cause and start again",
        )
    rows: dict[str, int] = {}
    for record in executed.records:
        key = output_key(survey.source.layout, record.partition)
        rows[key] = rows.get(key, 0) + record.rows
    failed = {failure.partition for failure in executed.failures}
    expected = {output_key(survey.source.layout, p.key) for p in survey.partitions if p.key not in failed}
    verify_run_files(prepared.context.run, rows, expected)


@steadfast
def publish(prepared: Prepared, executed: Executed) -> dict[str, Any]:
    """Write the run's tables and record, move the catalog's pointer to it, and return the record.

    Raises
    ------
    RefusedError
        Somebody else published since the run began.
    """
    run = prepared.context.run
    tasks = [asdict(record) for record in executed.records]
    write_table(run / "tasks.parquet", tasks, TASKS_SCHEMA)
    write_table(run / "partitions.parquet", _by_partition(executed.records), PARTITIONS_SCHEMA)
    _write_failures(prepared, executed.failures)
    record = summary(prepared, executed)
    write_json(run / "run.json", record)
    (run / "parts").remove()
    run.remove_unfinished()
    finish_run_files(run, prepared.plan.survey, record)
    try:
        prepared.catalog.publish(prepared.run_id, based_on=prepared.based_on.number)
    except RefusedError:
        # The answer to an earlier try was lost, or another process resumed the same run and was first.
        if prepared.catalog.current().run_id != prepared.run_id:
            raise
    return record


def summary(prepared: Prepared, executed: Executed) -> dict[str, Any]:
    """Return the record of a run: what it was, its totals, its rates; JSON-ready."""
    records, failures = executed.records, executed.failures
    rows = sum(record.rows for record in records)
    mine = [record for record in records if record.run_id == prepared.run_id]
    partitions = Counter(record.run_id == prepared.run_id for record in records if record.chunk == 0)
    return {
        "run_id": prepared.run_id,
        **prepared.plan.describe(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": rows,
        "observations": sum(record.observations for record in records),
        "failed_partitions": len(failures),
        "resumed_partitions": len(prepared.done),
        "carried_partitions": partitions[False],
        "classified_partitions": partitions[True],
        "retries": sum(record.retries for record in mine),
        "status": add_counts(record.status for record in records),
        "classes": add_counts(record.classes for record in records),
        "dropped": add_counts(record.dropped for record in records),
        "labels": add_counts(record.labels for record in records),
        "seconds": round(executed.seconds, 3),
        "light_curves_per_second": round(executed.classified_now / executed.seconds, 1) if executed.seconds else 0.0,
        "worker_seconds": {name: round(sum(record.seconds[name] for record in mine), 3) for name in STAGES},
        "peak_memory": max((record.peak_memory for record in mine), default=0),
        "bytes_out": sum(record.bytes_out for record in records),
    }


def _write_failures(prepared: Prepared, failures: list[Failure] | tuple[Failure, ...]) -> None:
    rows = [asdict(failure) for failure in failures]
    write_table(prepared.context.run / "failures.parquet", rows, FAILURES_SCHEMA)


def _check_system(prepared: Prepared, failures: list[Failure]) -> None:
    systemic = [failure for failure in failures if failure.kind in SYSTEMIC]
    if not systemic:
        return
    last = systemic[-1]
    # What failed may forbid this too; the error below says it all the same.
    with suppress(OSError), storage_errors():
        _write_failures(prepared, failures)
    raise StorageLostError(
        expected="storage that reads and writes",
        got=f"{last.kind}: {last.message}",
        where=f"{len(systemic)} partitions of {prepared.catalog}",
        fix="nothing was published and what is done is kept: mend it, and the same command goes on from there",
    )


def _by_partition(records: tuple[ChunkRecord, ...]) -> list[dict[str, Any]]:
    grouped: dict[str, list[ChunkRecord]] = {}
    for record in records:
        grouped.setdefault(record.partition, []).append(record)
    return [
        {
            "partition": key,
            "rows": sum(record.rows for record in group),
            "bytes": sum(record.bytes_out for record in group),
            "sha256": group[-1].sha256,
            "status": add_counts(record.status for record in group),
            "classes": add_counts(record.classes for record in group),
        }
        for key, group in grouped.items()
    ]
