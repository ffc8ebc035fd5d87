"""Answers on their way out: streams of Arrow batches as CSV, JSON or Parquet, never held whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing
from typing import BinaryIO, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from varstar_batch.errors import InputError

Format = Literal["csv", "json", "parquet"]

FORMATS: tuple[str, ...] = get_args(Format)


def format_of(name: str) -> Format:
    """Return the format that a file's name ends in. Raises InputError."""
    ending = name.rsplit(".", 1)[-1].lower()
    for known in FORMATS:
        if ending == known:
            return known  # type: ignore[return-value]
    raise InputError(
        expected="a name that ends in " + ", ".join(f".{known}" for known in FORMATS),
        got=repr(name),
        where="--out",
        fix="rename it, or say what it is to be with --format",
    )


def write_answer(schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: Format, sink: BinaryIO) -> int:
    """Write batches to an open file and return the number of rows.

    Parameters
    ----------
    schema : pa.Schema
        Of the batches; its metadata, units and UCDs among it, are kept in Parquet.
    batches : iterable of RecordBatch
    form : {"csv", "json", "parquet"}
        JSON is an array of objects, one a line, with null for what is no finite number.
    sink : binary file
        Stays open.
    """
    if form == "json":
        return write_json_rows(batches, sink)
    # The writers close what they are given, and a standard output must stay open.
    keeper = pa.PythonFile(_Unclosed(sink), mode="w")
    writer = pq.ParquetWriter(keeper, schema, compression="zstd") if form == "parquet" else _csv(keeper, schema)
    rows = 0
    with closing(writer):
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def write_json_rows(batches: Iterable[pa.RecordBatch], sink: BinaryIO) -> int:
    """Write batches as a JSON array of objects, one a line, and return the number of rows."""
    rows = 0
    sink.write(b"[")
    for batch in batches:
        for row in json_ready(batch).to_pylist():
            sink.write(b",\n" if rows else b"\n")
            sink.write(json.dumps(row, default=str, allow_nan=False).encode())
            rows += 1
    sink.write(b"\n]\n")
    return rows


def json_ready(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose numbers JSON can say: null for NaN and infinity, float32 by its shortest decimals."""
    columns = [_json_column(column) if pa.types.is_floating(column.type) else column for column in batch.columns]
    return pa.record_batch(columns, names=batch.schema.names)


def _json_column(column: pa.Array) -> pa.Array:
    finite = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
    return finite if finite.type == pa.float64() else finite.cast(pa.string()).cast(pa.float64())


def _csv(sink: pa.PythonFile, schema: pa.Schema) -> pa_csv.CSVWriter:
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested:
        raise InputError(
            expected="columns of single values",
            got=f"lists or structs in {', '.join(nested)}",
            where="--format csv",
            fix="take json or parquet, or unnest() them",
        )
    return pa_csv.CSVWriter(sink, schema)


class _Unclosed:
    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.closed = False

    def write(self, content: bytes) -> int:
        return self._sink.write(content)

    def flush(self) -> None:
        self._sink.flush()
