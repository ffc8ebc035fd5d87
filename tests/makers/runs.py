"""Whole runs in tests, and what they must leave behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.root import open_catalog_root
from varstar_batch.cluster.client import open_client
from varstar_batch.cluster.dask_runner import runner_on
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.stages import Prepared, execute_run, plan_run, prepare, publish, verify


def run(
    survey: str | Path,
    catalog: str | Path,
    *,
    config: RunConfig | None = None,
    workers: int | None = 0,
    scheduler: str | None = None,
    on_partition: Callable[[object], None] = lambda _: None,
    **how: bool,
) -> tuple[dict[str, Any], Prepared]:
    """Classify a survey and publish its catalog."""
    plan, bundle = plan_run(os.fspath(survey), None, config or RunConfig())
    prepared = prepare(plan, bundle, os.fspath(catalog), **how)
    with open_client(workers if scheduler is None else None, scheduler) as client:
        executed = execute_run(prepared, runner_on(client, prepared.plan.config), lambda _: None, on_partition)
    verify(prepared, executed)
    return publish(prepared, executed), prepared


def at_the_first(action: Callable[[], None]) -> Callable[[object], None]:
    """Return an `on_partition` that does something once, when the first is done: the run takes no other meanwhile."""
    left = [action]

    def on_partition(_: object) -> None:
        if left:
            left.pop()()

    return on_partition


def read_rows(catalog: str | Path) -> pa.Table:
    """Return the rows of a catalog's current run, by object_id, without what the file says of itself."""
    root = open_catalog_root(os.fspath(catalog))
    run = root.run(root.current().run_id)
    tables = []
    for info in (run / "dataset").files(".parquet"):
        with (run / f"dataset/{info.key}").open_input() as stream:
            tables.append(pq.read_table(stream).replace_schema_metadata(None))
    return pa.concat_tables(tables).sort_by("object_id").combine_chunks()


def without_run(table: pa.Table) -> pa.Table:
    """Return the data alone: not which run classified it."""
    return table.drop_columns(["run_id"])
