"""How answers leave the command line: a table on the terminal, or CSV, JSON, Parquet to a file or a pipe."""

from __future__ import annotations

import json
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from itertools import islice
from typing import Any, BinaryIO, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from varstar_batch.cli.console import note, print_table, say, visible, warning_line
from varstar_batch.errors import InputError
from varstar_batch.files.location import locate, writable


class OutputFormat(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    VOT = "vot"
    FITS = "fits"
    ECSV = "ecsv"


def give_answer(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: OutputFormat | None, out_file: str | None, limit: int
) -> None:
    """Write an answer where and as the user wants it.

    Parameters
    ----------
    schema : pa.Schema
    batches : iterable of RecordBatch
        Read once, as they are written.
    form : OutputFormat or None
        Of None it is the ending of `out_file` that counts, and a table where there is none.
    out_file : str or None
        Path or URL; standard output where there is none.
    limit : int
        Most rows of a table.

    Raises
    ------
    InputError
        Format and output do not go together, or the output cannot be written.
    """
    if out_file is None and form in {None, OutputFormat.TABLE}:
        _print_rows(schema, batches, limit)
        return
    chosen = _file_format(form, out_file)
    if out_file is None:
        if chosen in BINARY and sys.stdout.isatty():
            raise InputError(expected="--out FILE", got=f"{chosen} for a terminal", where="--format", fix="give --out")
        # A pipe gets the texts as they are; on a terminal they must not steer it.
        sink: Any = _OnTerminal() if sys.stdout.isatty() else sys.stdout.buffer
        write_answer(schema, batches, chosen, sink)
        return
    target = locate(out_file, what="output")

    def write() -> int:
        with target.atomic_output() as sink:
            return write_answer(schema, batches, chosen, sink)

    rows = writable(str(target), "answer", write)
    note(f"{rows:,} rows in {target}")


def _file_format(form: OutputFormat | None, out_file: str | None) -> Format:
    if form is None:
        return format_of(out_file or "")
    if form.value not in FORMATS:
        raise InputError(
            expected=f"--format {', '.join(FORMATS)}", got="table", where="--out", fix="tables are for terminals"
        )
    return form.value  # type: ignore[return-value]


def _print_rows(schema: pa.Schema, batches: Iterable[pa.RecordBatch], limit: int) -> None:
    rows = _rows(batches)
    shown = list(islice(rows, limit))
    print_table("", schema.names, shown, exact=True)
    more = next(rows, None) is not None
    say(f"first {len(shown):,} rows; --out FILE or --format csv gives all" if more else f"{len(shown):,} rows")


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        # Not by way of dictionaries: a query may well name two columns alike.
        yield from zip(*(column.to_pylist() for column in json_ready(batch).columns), strict=True)


Format = Literal["csv", "json", "parquet", "vot", "fits", "ecsv"]

FORMATS: tuple[str, ...] = get_args(Format)

BINARY = {"parquet", "vot", "fits"}
"""What no terminal shows."""


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
    form : {"csv", "json", "parquet", "vot", "fits", "ecsv"}
        JSON is an array of objects, one a line, with null for what is no finite number. The last three are made in
        memory, as a whole.
    sink : binary file
        Stays open.

    Raises
    ------
    InputError
        The format has no such columns.
    """
    if form == "json":
        return write_json_rows(batches, sink)
    if form in ("vot", "fits", "ecsv"):
        from varstar_batch.catalog.columns.vo_files import vo_content

        table = pa.Table.from_batches(batches).cast(schema) if (batches := list(batches)) else schema.empty_table()
        sink.write(vo_content(table, form))
        return int(table.num_rows)
    intervals = [field.name for field in schema if pa.types.is_interval(field.type)]
    if intervals:
        raise InputError(
            expected=f"columns that {form} has",
            got=f"intervals in {', '.join(intervals)}",
            where="the query",
            fix=f'turn them into texts, as CAST("{intervals[0]}" AS VARCHAR), or write JSON',
        )
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


class _OnTerminal:
    """Standard output, with control characters written out."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, content: bytes) -> int:
        sys.stdout.write(visible(self._decoder.decode(bytes(content)).replace("\r\n", "\n")))
        return len(content)

    def flush(self) -> None:
        sys.stdout.flush()


class _Unclosed:
    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.closed = False

    def write(self, content: bytes) -> int:
        return self._sink.write(content)

    def flush(self) -> None:
        self._sink.flush()


def print_left_out(lines: dict[str, str]) -> None:
    """Print what `LabelReader.left_out` says of labels that name no class."""
    for why, line in lines.items():
        (warning_line if why == "unknown" else say)(line)
