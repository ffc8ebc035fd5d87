"""Rows as Python hands them out: one Arrow table that says what it holds, for pandas, polars and astropy alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.catalog.columns.voparquet import astropy_table
from varstar_batch.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from astropy.table import Table

SHOWN_ROWS = 10

SHOWN_COLUMNS = (
    *("object_id", "separation", "period", "amplitude", "n_used", "status", "class", "class_prob", "second_class"),
    *("subclass", "period_flag", "ood_score"),
)
"""Of many rows; one row is shown whole."""


@dataclass(frozen=True, repr=False, eq=False)
class Rows:
    """Rows with the units, UCDs and descriptions of their columns; ``rows["class"]`` is a column, ``rows[0]`` a row.

    pandas, polars, DuckDB and pyarrow take it as it is, too: it has Arrow's C stream interface.
    """

    table: pa.Table
    """What they are."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, which: str) -> npt.NDArray[Any]: ...
    @overload
    def __getitem__(self, which: int) -> dict[str, Any]: ...
    def __getitem__(self, which: str | int) -> npt.NDArray[Any] | dict[str, Any]:
        if isinstance(which, str):
            if which not in self.table.column_names:
                raise KeyError(f"{which!r} is no column; there are {', '.join(self.columns)}")
            column: npt.NDArray[Any] = self.table[which].to_numpy()
            return column
        row: dict[str, Any] = self.table.slice(range(len(self))[which], 1).to_pylist()[0]
        return row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the rows by Arrow's C stream interface."""
        return self.table.__arrow_c_stream__(requested_schema)

    def _ipython_key_completions_(self) -> list[str]:
        return self.columns

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.table.column_names)

    def to_arrow(self) -> pa.Table:
        """Return an Arrow table, with units, UCDs and descriptions in the metadata of its fields."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas DataFrame."""
        return self.table.to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """Return a polars DataFrame. Raises InputError where polars is not installed."""
        return polars_frame(self.table)

    def to_astropy(self) -> Table:
        """Return an astropy Table with units, UCDs and descriptions; nulls are masked."""
        return astropy_table(self.table)

    def __repr__(self) -> str:
        return shown_as_text(self.table)

    def _repr_html_(self) -> str:
        return shown_as_html(self.table)


def polars_frame(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as polars has it. Raises InputError where polars is not installed."""
    try:
        import polars as pl
    except ImportError:
        raise InputError(
            expected="polars", got="no such package", where="to_polars()", fix="pip install polars, or take to_arrow()"
        ) from None
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def shown_as_text(table: pa.Table) -> str:
    """Return what a terminal shows of some rows."""
    head, cells, after = _shown(table)
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)] if head else []
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *cells)]
    return "\n".join(line.rstrip() for line in (*lines, after))


def shown_as_html(table: pa.Table) -> str:
    """Return what a notebook shows of some rows."""
    head, cells, after = _shown(table)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table><p>{escape(after)}</p>"


def _shown(table: pa.Table) -> tuple[list[str], list[list[str]], str]:
    if table.num_rows == 1:
        row = table.to_pylist()[0]
        return ["column", "value"], [[name, _cell(value)] for name, value in row.items() if value is not None], "1 row"
    names = [name for name in SHOWN_COLUMNS if name in table.column_names] or table.column_names[:8]
    head = table.select(names).slice(0, SHOWN_ROWS).to_pylist()
    rows = f"{table.num_rows:,} rows x {table.num_columns} columns"
    more = f"{rows}; the first {len(head)} are shown" if table.num_rows > len(head) else rows
    return names, [[_cell(row[name]) for name in names] for row in head], more


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value):,} values"
    return "" if value is None else f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
