"""Whole runs in tests, and what they must leave behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.api import ClassifyRequest, classify_survey
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.runs.config import GateConfig, RunConfig
from varstar_batch.runs.prepare import Prepared, plan_run, prepare
from varstar_batch.runs.stages import RunObserver


class Hooks(RunObserver):
    """Calls back."""

    def __init__(
        self, on_rows: Callable[[int], None] | None = None, on_partition: Callable[[object], None] | None = None
    ) -> None:
        self.on_rows, self.on_partition = on_rows or (lambda _: None), on_partition or (lambda _: None)

    @contextmanager
    def classifying(self, _: Prepared) -> Iterator[Callable[[int], None]]:
        yield self.on_rows

    def partition(self, result: object) -> None:
        self.on_partition(result)


OPEN_GATE = GateConfig(max_changed=1, max_gone=1, max_unclassified_growth=1)
"""For tests in which stars change as no survey's stars do."""


def run(
    survey: str | Path,
    catalog: str | Path,
    *,
    config: RunConfig | None = None,
    model: str | Path | None = None,
    workers: int | None = 0,
    scheduler: str | None = None,
    on_partition: Callable[[object], None] | None = None,
    fresh: bool = False,
    incremental: bool = False,
) -> tuple[dict[str, Any], Prepared]:
    """Classify a survey and publish its catalog, as everybody does."""
    request = ClassifyRequest(
        survey=os.fspath(survey),
        catalog=os.fspath(catalog),
        model=None if model is None else os.fspath(model),
        config=config or RunConfig(),
        workers=workers if scheduler is None else None,
        scheduler=scheduler,
        fresh=fresh,
        mode="incremental" if incremental else "once",
    )
    classified = classify_survey(request, Hooks(on_partition=on_partition))
    return classified.record, classified.prepared


def start(survey: str | Path, catalog: str | Path, config: RunConfig | None = None, **how: bool) -> Prepared:
    """Plan a run and give it its place; `how` is as `prepare` has it."""
    plan, bundle = plan_run(os.fspath(survey), None, config or RunConfig())
    return prepare(plan, bundle, os.fspath(catalog), **how)


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
