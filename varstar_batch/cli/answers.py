"""How answers leave the command line: a table on the terminal, or CSV, JSON, Parquet to a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from varstar_batch.cli.console import note, out, say
from varstar_batch.errors import InputError
from varstar_batch.files.location import locate, writable
from varstar_batch.storage.results import FORMATS, Format, format_of, json_ready, write_answer


class OutputFormat(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


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
        if chosen == "parquet" and sys.stdout.isatty():
            raise InputError(expected="--out FILE", got="parquet for a terminal", where="--format", fix="give --out")
        write_answer(schema, batches, chosen, sys.stdout.buffer)
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
            expected="--format csv, json or parquet", got="table", where="--out", fix="tables are for terminals"
        )
    return form.value  # type: ignore[return-value]


def print_fitting(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, or, where a terminal is too narrow for it, its rows one below the other.

    Parameters
    ----------
    title : str
        May be empty.
    columns : sequence of str
    rows : sequence of sequences
        Whole numbers are printed without separators, since they may be identifiers; None is left out.
    """
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for index, name in enumerate(columns):
        number = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    width = Measurement.get(out, out.options.update(width=10_000), table).maximum
    if width <= out.width:
        out.print(table)
        return
    if not out.is_terminal:
        Console(highlight=False, width=width).print(table)
        return
    if title:
        say(title)
    longest = max(len(name) for name in columns)
    for row in rows:
        say("-" * min(out.width, 40))
        for name, value in zip(columns, row, strict=True):
            if value is not None:
                say(f"{name:<{longest}}  {_cell(value)}")


def _print_rows(schema: pa.Schema, batches: Iterable[pa.RecordBatch], limit: int) -> None:
    rows = _rows(batches)
    shown = list(islice(rows, limit))
    print_fitting("", schema.names, shown)
    more = next(rows, None) is not None
    say(f"first {len(shown):,} rows; --out FILE or --format csv gives all" if more else f"{len(shown):,} rows")


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        # Not by way of dictionaries: a query may well name two columns alike.
        yield from zip(*(column.to_pylist() for column in json_ready(batch).columns), strict=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(value)
