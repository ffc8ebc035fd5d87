"""The small tables of a run: what became of every chunk and every partition, and what failed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.storage.files import Location

ROWS_AT_ONCE = 10_000
"""Made into columns, and a row group of their own."""

COUNTS = pa.map_(pa.string(), pa.int64())

PLAN_SCHEMA = pa.schema(
    [("partition", pa.string()), ("size", pa.int64()), ("version", pa.string()), ("fingerprint", pa.string())]
)

TASKS_SCHEMA = pa.schema(
    [
        ("partition", pa.string()),
        ("chunk", pa.int32()),
        ("chunks", pa.int32()),
        ("rows", pa.int64()),
        ("observations", pa.int64()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("status", COUNTS),
        ("classes", COUNTS),
        ("dropped", COUNTS),
        ("labels", COUNTS),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("started", pa.float64()),
        ("sha256", pa.string()),
        ("worker", pa.string()),
        ("classifier", pa.string()),
        ("peak_memory", pa.int64()),
        ("retries", pa.int32()),
        ("run_id", pa.string()),
    ]
)

PARTITIONS_SCHEMA = pa.schema(
    [
        ("partition", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("status", COUNTS),
        ("classes", COUNTS),
    ]
)

FAILURES_SCHEMA = pa.schema([("partition", pa.string()), ("kind", pa.string()), ("message", pa.string())])


def as_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows, which may hold mappings for map columns, as a table."""
    # Arrow takes a map column as lists of pairs.
    plain = [
        {name: list(value.items()) if isinstance(value, Mapping) else value for name, value in row.items()}
        for row in rows
    ]
    return pa.Table.from_pylist(plain, schema=schema)


def write_table(location: Location, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write one of a run's tables, atomically and some rows at a time; `rows` may be empty."""
    left = iter(rows)
    with location.atomic_output() as sink, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        while some := list(islice(left, ROWS_AT_ONCE)):
            writer.write_table(as_table(some, schema))


def write_columns(location: Location, table: pa.Table) -> None:
    """Write one of a run's tables that is one already, atomically."""
    with location.atomic_output() as sink:
        pq.write_table(table, sink, compression="zstd")


def read_table(location: Location) -> pa.Table:
    """Read one of a run's tables. Raises FileNotFoundError."""
    with location.open_input() as stream:
        return pq.read_table(stream)


def write_json(location: Location, content: Mapping[str, Any]) -> None:
    """Write a JSON file that people may read too, atomically."""
    location.write_bytes(json.dumps(content, indent=1).encode() + b"\n")


def add_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of several counts, the largest first."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total.most_common())
