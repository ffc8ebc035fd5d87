"""The stages of a run after it is prepared, as plain functions: execute, verify, publish.

What is finished is read from storage: each stage may be repeated, and outlasts storage that fails for a while.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.catalog.reader import CatalogReader
from varstar_batch.catalog.run_files.checks import VerificationError, verify_run_files
from varstar_batch.catalog.run_files.finish import finish_run_files, load_ahead
from varstar_batch.catalog.run_files.root import output_key
from varstar_batch.catalog.run_files.tables import ACCOUNT, FAILURES_SCHEMA, PARTITIONS_SCHEMA, RUN_RECORD
from varstar_batch.errors import RefusedError
from varstar_batch.files.location import Location, json_bytes, write_once
from varstar_batch.files.object_store import storage_errors
from varstar_batch.files.parquet import read_table, write_table
from varstar_batch.runs.execute import PartitionResult, Runner, StorageLostError, execute, steadfast
from varstar_batch.runs.gate import audit, limits_of
from varstar_batch.runs.keep import keep_failed, objects_of_survey
from varstar_batch.runs.prepare import Prepared
from varstar_batch.runs.records import STAGES, SYSTEMIC, Ledger, by_partition, counts, rows_by_partition, total
from varstar_batch.survey.open import Failure

T = TypeVar("T")

_ACCOUNT_KEY = b"varstar.account"
"""Of the account's Parquet metadata: the run's record and its failures."""

SYSTEMIC_FAILURES = 8
"""Partitions that the system fails, one after the other, before the run waits for somebody to mend it."""


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What became of a run's partitions."""

    tasks: pa.Table
    """Of every chunk (`varstar_batch.runs.records.TASKS_SCHEMA`), by partition and chunk."""
    failures: tuple[Failure, ...]
    """By partition."""
    seconds: float
    """That it took."""
    classified_now: int
    """Light curves that no earlier try or run had classified."""


class RunObserver:
    """Who looks on while a survey is classified; everything may be overridden, and as it is nobody is told anything."""

    dashboard: Callable[[str], None] | None = None
    """Called with the address of Dask's dashboard, which is served if this is given."""

    def stage(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Do a stage of the run, which may be repeated: plan, prepare, classify, verify, publish."""
        del name
        return function(*arguments)

    def note(self, message: str) -> None:
        """Take a line about what goes on."""

    def warn(self, message: str) -> None:
        """Take a line about what went wrong."""

    @contextmanager
    def classifying(self, prepared: Prepared) -> Iterator[Callable[[int], None]]:
        """Yield what is to be called with the number of light curves of every chunk that is done."""
        del prepared
        yield lambda _: None

    def partition(self, result: PartitionResult) -> None:
        """Take what became of a partition."""


def execute_run(prepared: Prepared, runner: Runner, observer: RunObserver) -> Executed:
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
    if (prepared.context.run / ACCOUNT).is_file():
        return _read_account(prepared.context.run)[0]  # closed by a process that was cut off, or that is publishing it
    ledger = Ledger()
    classified_now = 0
    failures: list[Failure] = []
    config = prepared.plan.config
    allowed = config.max_failed_fraction * len(prepared.plan.survey.partitions)
    in_a_row = 0
    context, partitions = prepared.context, prepared.plan.survey.partitions
    with observer.classifying(prepared) as on_rows:
        for result in execute(context, partitions, prepared.done, runner, on_rows, carried=prepared.carried):
            observer.partition(result)
            if not isinstance(result, Failure):
                ledger.add(result)
                if result[0].run_id == prepared.run_id and result[0].partition not in prepared.done:
                    classified_now += sum(record.rows for record in result)
                if result[0].kept:  # by an earlier try, after everything else
                    failures.append(Failure(result[0].partition, *result[0].kept.split(": ", 1)))
                in_a_row = 0
                continue
            observer.warn(f"partition failed ({result.kind}): {result.message}")
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
    done = set(ledger.table()["partition"].to_pylist())
    left = [failure for failure in failures if failure.partition not in done]
    for result in keep_failed(prepared, left, sorted(done), runner):
        ledger.add(result)
    return Executed(
        tasks=ledger.table(),
        failures=tuple(sorted(failures, key=lambda failure: failure.partition)),
        seconds=time.perf_counter() - start,
        classified_now=classified_now,
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
    if not executed.tasks.num_rows:
        raise VerificationError(
            expected="at least one partition that could be classified",
            got=f"{len(executed.failures)} failed, the first: {executed.failures[0].message}",
            where=str(prepared.catalog),
            fix="nothing was published; mend the cause and start again",
        )
    layout = survey.source.layout
    rows = {output_key(layout, key): count for key, count in rows_by_partition(executed.tasks).items()}
    failed = {failure.partition for failure in executed.failures}
    expected = {output_key(layout, p.key) for p in survey.partitions if p.key not in failed} | rows.keys()
    verify_run_files(prepared.context.run, rows, expected)


@steadfast
def publish(prepared: Prepared, executed: Executed) -> dict[str, Any]:
    """Write the run's tables and record, move the catalog's pointer to it if it passes its gate, and return the record.

    A run that does not pass is held: it stays on storage, complete, and ``held`` of what is returned says why.

    Of several processes that finish the same run, at once or one after the other, the first account of it stands, and
    what all of them write is made from it: each file is created once and never written again.

    Raises
    ------
    RefusedError
        Somebody else published since the run began.
    """
    run = prepared.context.run
    executed, record = _close(prepared, executed)
    with suppress(FileExistsError):
        write_table(run / "partitions.parquet", by_partition(executed.tasks), PARTITIONS_SCHEMA, exclusive=True)
    with suppress(FileExistsError):
        write_table(run / "failures.parquet", map(asdict, executed.failures), FAILURES_SCHEMA, exclusive=True)
    write_once(run / RUN_RECORD, json_bytes(record))
    finish_run_files(run, prepared.plan.survey, record)
    prepared.context.work.remove()
    if prepared.catalog.current().run_id == prepared.run_id:
        return record | prepared.catalog.gate(prepared.run_id)  # by another process, or the answer was lost
    found = _audit(prepared)
    if prepared.run_id not in {pointer.run_id for pointer in prepared.catalog.history()}:
        prepared.catalog.write_gate(prepared.run_id, found)
    if not found["held"]:
        _move_pointer(prepared)
    return record | found


def _move_pointer(prepared: Prepared) -> None:
    try:
        prepared.catalog.publish(prepared.run_id, based_on=prepared.based_on.number)
    except RefusedError:
        # The answer to an earlier try was lost, or another process resumed the same run and was first.
        if prepared.catalog.current().run_id != prepared.run_id:
            raise


def _audit(prepared: Prepared) -> dict[str, Any]:
    """Measure the run against its gate, and return what is kept of that: the checks, and why it is held if it is."""
    catalog, before = prepared.catalog, prepared.based_on.run_id
    current = CatalogReader(catalog, before) if before in catalog.run_ids() else None
    checks = audit(CatalogReader(catalog, prepared.run_id), current, prepared.plan.config)
    return {
        "gate": [asdict(check) for check in checks],
        "held": [check.text for check in checks if not check.passed],
        "limits": limits_of(prepared.plan.config),
    }


def summary(prepared: Prepared, executed: Executed) -> dict[str, Any]:
    """Return the record of a run: what it was, its totals, its rates; JSON-ready."""
    tasks, failures = executed.tasks, executed.failures
    is_mine = pc.equal(tasks["run_id"], prepared.run_id)
    mine = tasks.filter(is_mine)
    firsts = is_mine.filter(pc.equal(tasks["chunk"], 0))
    classified = pc.sum(firsts, min_count=0).as_py()
    kept = tasks.filter(pc.not_equal(tasks["kept"], ""))
    objects, estimated = objects_of_survey(prepared, rows_by_partition(tasks), failures)
    seconds = counts(mine, "seconds")
    return {
        "run_id": prepared.run_id,
        **prepared.plan.describe(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": total(tasks, "rows"),
        "objects": objects,
        "objects_estimated": estimated,
        "kept_rows": total(kept, "rows"),
        "observations": total(tasks, "observations"),
        "failed_partitions": len(failures),
        "resumed_partitions": len(prepared.done),
        "kept_partitions": len(kept),
        "carried_partitions": len(firsts) - classified - len(kept),
        "classified_partitions": classified,
        "retries": total(mine, "retries"),
        "status": counts(tasks, "status"),
        "classes": counts(tasks, "classes"),
        "periods": counts(tasks, "periods"),
        "dropped": counts(tasks, "dropped"),
        "labels": counts(tasks, "labels"),
        "labels_left_out": counts(tasks, "left_out"),
        "seconds": round(executed.seconds, 3),
        "light_curves_per_second": round(executed.classified_now / executed.seconds, 1) if executed.seconds else 0.0,
        "worker_seconds": {name: round(seconds.get(name, 0.0), 3) for name in STAGES},
        "peak_memory": pc.max(mine["peak_memory"]).as_py() or 0,
        "bytes_out": total(tasks, "bytes_out"),
    }


def _close(prepared: Prepared, executed: Executed) -> tuple[Executed, dict[str, Any]]:
    """Write the account of a run, which closes it, and return what the first account says, whoever wrote it.

    Files of partitions that are not in it, which appeared while it was made, are taken away.
    """
    run = prepared.context.run
    failures = [asdict(failure) for failure in executed.failures]
    said = json.dumps({"record": summary(prepared, executed), "failures": failures}).encode()
    with suppress(FileExistsError):
        tasks = executed.tasks.replace_schema_metadata({_ACCOUNT_KEY: said})
        write_table(run / ACCOUNT, tasks, tasks.schema, exclusive=True)
    first, record = _read_account(run)
    there = set(first.tasks["partition"].to_pylist())
    for failure in first.failures:
        if failure.partition not in there:
            (run / output_key(prepared.plan.survey.source.layout, failure.partition)).remove()
    return first, record


def _read_account(run: Location) -> tuple[Executed, dict[str, Any]]:
    """Return what became of a run that is closed, and its record. Raises FileNotFoundError."""
    tasks = read_table(run / ACCOUNT)
    said = json.loads(tasks.schema.metadata[_ACCOUNT_KEY])
    failures = tuple(Failure(**failure) for failure in said["failures"])
    record = said["record"]
    return Executed(tasks=tasks, failures=failures, seconds=record["seconds"], classified_now=0), record


def _write_failures(prepared: Prepared, failures: list[Failure] | tuple[Failure, ...]) -> None:
    rows = [asdict(failure) for failure in failures]
    write_table(prepared.context.work / "failures.parquet", rows, FAILURES_SCHEMA)


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
