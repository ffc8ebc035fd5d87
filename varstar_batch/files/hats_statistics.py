"""What the columns of every file of a HATS catalog span: the content of its ``per_partition_statistics.parquet``.

As `hats` writes and reads it, but with one row for each file instead of one for each row group, so that it stays small.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_FILES_AT_ONCE = 1_000
"""Kept as Python's objects, which take five times what Arrow's columns take."""


class StatisticsTable:
    """Collects footers, file by file."""

    def __init__(self) -> None:
        self._schema: pa.Schema | None = None
        self._rows: list[list[Any]] = []
        self._tables: list[pa.Table] = []

    def add(self, schema: pa.Schema, footer: pq.FileMetaData) -> None:
        """Take the footer of the next file, whose columns are those of `schema`, as in every file."""
        names = [field.name for field in schema if not pa.types.is_nested(field.type)]
        if self._schema is None:
            self._schema = pa.schema([entry for name in names for entry in _entries(name, schema.field(name).type)])
        numbers = {footer.schema.column(number).path: number for number in range(footer.num_columns)}
        self._rows.append([value for name in names for value in _spans(footer, numbers[name])])
        if len(self._rows) == _FILES_AT_ONCE:
            self._keep()

    def table(self) -> pa.Table:
        """Return one row for each file, in the order in which they came; columns as ``class::min_value``."""
        self._keep()
        return pa.concat_tables(self._tables) if self._tables else pa.table({})

    def _keep(self) -> None:
        if self._schema is not None and self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._tables.append(pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows = []


def _entries(name: str, kind: pa.DataType) -> list[pa.Field]:
    ends = [pa.field(f"{name}::{end}_value", kind) for end in ("min", "max")]
    counts = ("null_count", "row_count", "disk_bytes", "memory_bytes")
    return [*ends, *(pa.field(f"{name}::{count}", pa.int64()) for count in counts)]


def _spans(footer: pq.FileMetaData, number: int) -> tuple[Any, Any, int, int, int, int]:
    chunks = [footer.row_group(group).column(number) for group in range(footer.num_row_groups)]
    known = [chunk.statistics for chunk in chunks if chunk.statistics is not None]
    ends = [(each.min, each.max) for each in known if each.has_min_max]
    return (
        min((low for low, _ in ends), default=None),
        max((high for _, high in ends), default=None),
        sum(each.null_count or 0 for each in known),
        sum(chunk.num_values for chunk in chunks),
        sum(chunk.total_compressed_size for chunk in chunks),
        sum(chunk.total_uncompressed_size for chunk in chunks),
    )
