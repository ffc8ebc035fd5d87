"""What became of every chunk of a run, in columns: some 700 bytes each, where a `ChunkRecord` takes 4 kB.

This is all that grows while a run goes on, in whoever started it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.catalog.tables import TASKS_SCHEMA, add_counts
from varstar_batch.cluster.outcomes import ChunkRecord
from varstar_batch.files.parquet import as_table

BATCH = 1_000
"""Records that wait to become columns together."""


class Ledger:
    """Takes records as they come."""

    def __init__(self) -> None:
        self._waiting: list[ChunkRecord] = []
        self._tables: list[pa.Table] = [TASKS_SCHEMA.empty_table()]

    def add(self, records: Iterable[ChunkRecord]) -> None:
        """Take the records of a partition."""
        self._waiting.extend(records)
        if len(self._waiting) >= BATCH:
            self._store()

    def table(self) -> pa.Table:
        """Return all of them, `TASKS_SCHEMA`, by partition and chunk."""
        self._store()
        return pa.concat_tables(self._tables).sort_by([("partition", "ascending"), ("chunk", "ascending")])

    def _store(self) -> None:
        self._tables.append(as_table((vars(record) for record in self._waiting), TASKS_SCHEMA))
        self._waiting.clear()


def total(tasks: pa.Table, name: str) -> Any:
    """Return the sum of a column of numbers, 0 for none."""
    return pc.sum(tasks[name], min_count=0).as_py()


def counts(tasks: pa.Table, name: str) -> dict[str, Any]:
    """Return the sums of a column of maps by their keys, the largest first, then by name."""
    maps = tasks[name].combine_chunks()
    pairs = pa.table({"key": maps.keys, "value": maps.items})
    sums = pairs.group_by("key").aggregate([("value", "sum")])
    sums = sums.sort_by([("value_sum", "descending"), ("key", "ascending")])
    return dict(zip(sums["key"].to_pylist(), sums["value_sum"].to_pylist(), strict=True))


def rows_by_partition(tasks: pa.Table) -> dict[str, int]:
    """Return the rows of each partition, by its key."""
    sums = tasks.group_by("partition").aggregate([("rows", "sum")])
    return dict(zip(sums["partition"].to_pylist(), sums["rows_sum"].to_pylist(), strict=True))


def by_partition(tasks: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``partitions.parquet`` from tasks that are sorted by partition and chunk."""
    names = ["partition", "rows", "bytes_out", "sha256", "status", "classes"]
    batches = tasks.select(names).to_batches(max_chunksize=BATCH)
    entries = (entry for batch in batches for entry in batch.to_pylist())
    for key, chunks in groupby(entries, itemgetter("partition")):
        group = list(chunks)
        yield {
            "partition": key,
            "rows": sum(entry["rows"] for entry in group),
            "bytes": sum(entry["bytes_out"] for entry in group),
            "sha256": group[-1]["sha256"],
            "status": add_counts(dict(entry["status"]) for entry in group),
            "classes": add_counts(dict(entry["classes"]) for entry in group),
        }
