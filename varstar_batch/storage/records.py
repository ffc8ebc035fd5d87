"""The small tables of a run: what became of every chunk and every partition, and what failed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.storage.files import Location

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


def write_table(location: Location, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write one of a run's tables, atomically; `rows` may be empty."""
    with location.atomic_output() as sink:
        pq.write_table(pa.Table.from_pylist(_mappings_as_items(rows), schema=schema), sink, compression="zstd")


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


def _mappings_as_items(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    # Arrow takes a map column as lists of pairs.
    return [
        {name: list(value.items()) if isinstance(value, Mapping) else value for name, value in row.items()}
        for row in rows
    ]
