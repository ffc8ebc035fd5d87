"""The stages of a run, as plain functions: prepare, execute, verify, publish. Flows and the command line call them.

What is finished is read from storage: a run that was cut off is found by its fingerprint and goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from varstar_batch.cluster.configuration import RunConfig
from varstar_batch.cluster.execute import PartitionResult, execute
from varstar_batch.cluster.plan import RunPlan, difference, make_plan
from varstar_batch.cluster.work import STAGES, ChunkRecord, Failure, RunContext
from varstar_batch.errors import PartitionError, RefusedError
from varstar_batch.model.bundle import Bundle
from varstar_batch.storage.bundles import read_bundle, write_bundle
from varstar_batch.storage.files import Location, writable
from varstar_batch.storage.finishing import finish_run_files
from varstar_batch.storage.publishing import (
    Catalog,
    Pointer,
    check_catalog_root,
    make_catalog_root,
    new_run_id,
    output_key,
)
from varstar_batch.storage.reading import partition_shape
from varstar_batch.storage.records import (
    FAILURES_SCHEMA,
    PARTITIONS_SCHEMA,
    PLAN_SCHEMA,
    TASKS_SCHEMA,
    add_counts,
    write_json,
    write_table,
)
from varstar_batch.storage.surveys import Partition, Survey, open_survey
from varstar_batch.storage.verification import VerificationError, verify_run_files

if TYPE_CHECKING:
    from distributed import Client


FOOTERS = 1_000
"""Read at the most to tell a run's size beforehand."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is planned and has its place on storage.

    Attributes
    ----------
    plan : RunPlan
    catalog : Catalog
    run_id : str
    context : RunContext
        What every chunk needs.
    done : frozenset of str
        Partitions that are on storage already.
    based_on : Pointer
        Where the catalog's pointer stood.
    up_to_date : bool
        The published run has the same fingerprint and no failure: there is nothing to do.
    """

    plan: RunPlan
    catalog: Catalog
    run_id: str
    context: RunContext
    done: frozenset[str]
    based_on: Pointer
    up_to_date: bool = False

    def published_record(self) -> dict[str, Any]:
        """Return the record of the run where it is the published one already."""
        record = self.catalog.read_json(self.run_id, "run.json")
        if record is None:
            raise RefusedError(
                expected="a published run with its run.json",
                got="none",
                where=str(self.context.run),
                fix="look at `varstar verify`, or classify again with --fresh",
            )
        return record


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What became of a run's partitions, and the seconds that took."""

    records: tuple[ChunkRecord, ...]
    failures: tuple[Failure, ...]
    seconds: float
    classified_now: int


def plan_run(survey_url: str, model_url: str | None, config: RunConfig) -> tuple[RunPlan, Bundle]:
    """Return the plan of a run and its bundle; nothing is written.

    Raises
    ------
    InputError, RefusedError
        The survey, the bundle or the configuration does not fit.
    """
    bundle = read_bundle(model_url)
    return make_plan(open_survey(survey_url, config.survey), bundle, config), bundle


def expected_objects(survey: Survey) -> int | None:
    """Return about how many objects a survey has: counted from footers, and from a sample of them where there are many.

    Returns
    -------
    int or None
        None where footers do not tell (the long form), or none of them can be read.
    """
    every = max(1, len(survey.partitions) // FOOTERS)
    sample = survey.partitions[::every]

    def rows(partition: Partition) -> int | None:
        try:
            return partition_shape(survey.source, partition).rows
        except (PartitionError, OSError):
            return None  # the run itself will say what is wrong with it

    with ThreadPoolExecutor(8) as pool:
        counted = [(partition.size, count) for partition, count in zip(sample, pool.map(rows, sample), strict=True)]
    known = [(size, count) for size, count in counted if count is not None]
    if not known:
        return None
    if len(known) == len(survey.partitions):
        return sum(count for _, count in known)
    per_byte = sum(count for _, count in known) / max(1, sum(size for size, _ in known))
    return round(per_byte * sum(partition.size for partition in survey.partitions))


def prepare(plan: RunPlan, bundle: Bundle, catalog_url: str, *, fresh: bool = False) -> Prepared:
    """Give a plan its place in a catalog: a new run, or the one that was cut off.

    Raises
    ------
    InputError
        The place holds something else or cannot be written.
    RefusedError
        A run of another fingerprint was cut off here, and `fresh` was not given.
    """
    catalog = check_catalog_root(catalog_url)
    based_on = catalog.current()
    if based_on.run_id and not fresh and _is_up_to_date(catalog, based_on, plan):
        return _prepared(plan, bundle, catalog, based_on.run_id, based_on, up_to_date=True)
    run_id = None if fresh else _find_unfinished(catalog, plan)
    if run_id is None:
        run_id = new_run_id(plan.fingerprint)
        make_catalog_root(catalog_url)
        writable(str(catalog), "run", lambda: _write_plan(plan, bundle, catalog.run(run_id), based_on))
    return _prepared(plan, bundle, catalog, run_id, based_on)


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
    """
    start = time.perf_counter()
    records: list[ChunkRecord] = []
    failures: list[Failure] = []
    partitions = prepared.plan.survey.partitions
    allowed = prepared.plan.config.max_failed_fraction * len(partitions)
    for result in execute(prepared.context, partitions, prepared.done, client, on_rows):
        on_partition(result)
        if isinstance(result, Failure):
            failures.append(result)
            if len(failures) > allowed:
                raise RefusedError(
                    expected=f"at most {allowed:.0f} failed partitions (max_failed_fraction)",
                    got=f"{len(failures)}, the last: {result.message}",
                    where=str(prepared.catalog),
                    fix="mend the cause and start again: what is done is kept",
                )
        else:
            records.extend(result)
    return Executed(
        records=tuple(sorted(records, key=lambda record: (record.partition, record.chunk))),
        failures=tuple(sorted(failures, key=lambda failure: failure.partition)),
        seconds=time.perf_counter() - start,
        classified_now=sum(record.rows for record in records if record.partition not in prepared.done),
    )


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
    write_table(run / "failures.parquet", [asdict(failure) for failure in executed.failures], FAILURES_SCHEMA)
    record = summary(prepared, executed)
    write_json(run / "run.json", record)
    finish_run_files(run, prepared.plan.survey, record)
    (run / "parts").remove()
    prepared.catalog.publish(prepared.run_id, based_on=prepared.based_on.number)
    return record


def summary(prepared: Prepared, executed: Executed) -> dict[str, Any]:
    """Return the record of a run: what it was, its totals, its rates; JSON-ready."""
    records, failures = executed.records, executed.failures
    rows = sum(record.rows for record in records)
    return {
        "run_id": prepared.run_id,
        **prepared.plan.describe(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": rows,
        "observations": sum(record.observations for record in records),
        "failed_partitions": len(failures),
        "resumed_partitions": len(prepared.done),
        "status": add_counts(record.status for record in records),
        "classes": add_counts(record.classes for record in records),
        "dropped": add_counts(record.dropped for record in records),
        "labels": add_counts(record.labels for record in records),
        "seconds": round(executed.seconds, 3),
        "light_curves_per_second": round(executed.classified_now / executed.seconds, 1) if executed.seconds else 0.0,
        "worker_seconds": {name: round(sum(record.seconds[name] for record in records), 3) for name in STAGES},
        "peak_memory": max((record.peak_memory for record in records), default=0),
        "bytes_out": sum(record.bytes_out for record in records),
    }


def _prepared(
    plan: RunPlan, bundle: Bundle, catalog: Catalog, run_id: str, based_on: Pointer, *, up_to_date: bool = False
) -> Prepared:
    run = catalog.run(run_id)
    there = {f"dataset/{info.key}" for info in (run / "dataset").files(".parquet")}
    layout = plan.survey.source.layout
    context = RunContext(
        source=plan.survey.source,
        run=run,
        run_id=run_id,
        bundle_hash=bundle.hash,
        engine=plan.config.engine,
        precision=plan.config.precision,
        chunk_memory=plan.config.chunk_memory,
    )
    return Prepared(
        plan=plan,
        catalog=catalog,
        run_id=run_id,
        context=context,
        done=frozenset(
            partition.key for partition in plan.survey.partitions if output_key(layout, partition.key) in there
        ),
        based_on=based_on,
        up_to_date=up_to_date,
    )


def _write_plan(plan: RunPlan, bundle: Bundle, run: Location, based_on: Pointer) -> None:
    write_bundle(bundle, str(run / "model"))
    rows = [
        {
            "partition": partition.key,
            "size": partition.size,
            "version": partition.version,
            "fingerprint": plan.partition_fingerprint(partition),
        }
        for partition in plan.survey.partitions
    ]
    write_table(run / "plan.parquet", rows, PLAN_SCHEMA)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    # The last of the three: a run that has it can be resumed.
    write_json(run / "plan.json", {**plan.describe(), "started": started, "based_on": based_on.number})


def _is_up_to_date(catalog: Catalog, current: Pointer, plan: RunPlan) -> bool:
    record = catalog.read_json(current.run_id, "run.json")
    return record is not None and record["fingerprint"] == plan.fingerprint and not record["failed_partitions"]


def _find_unfinished(catalog: Catalog, plan: RunPlan) -> str | None:
    published = {pointer.run_id for pointer in catalog.history()}
    newest = next(iter(reversed(catalog.run_ids())), None)
    if newest is None or newest in published:
        return None
    theirs = catalog.read_json(newest, "plan.json")
    if theirs is None:
        return None
    if theirs["fingerprint"] == plan.fingerprint:
        return newest
    names = plan.ingredients
    unlike = difference(names, {name: theirs.get(name) for name in names}) or ["the survey's files changed"]
    raise RefusedError(
        expected=f"what the unfinished run {newest} was started with",
        got="; ".join(unlike),
        where=str(catalog),
        fix="start it with the same survey, model and configuration, or give --fresh to begin a new run",
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
