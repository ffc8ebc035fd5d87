"""The files of the tables of an ingest, and their columns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.location import Location, locate
from varstar_batch.files.parquet import opened_parquet, parquet_files
from varstar_batch.survey.schema import SchemaMismatchError


def list_files(url: str | os.PathLike[str], what: str) -> list[Location]:
    """Return the Parquet files of a table, by name.

    Parameters
    ----------
    url : str or path
        A file, or a folder of them.
    what : str
        What the reader of an error calls the table.

    Raises
    ------
    InputError
        There is none.
    """
    place = locate(url, what=what)
    if place.is_file():
        return [place]
    files = [place / info.key for info in parquet_files(place)] if place.exists() else []
    if not files:
        raise InputError(
            expected=f"the {what} (a Parquet file, or a folder with some)",
            got="no Parquet file (*.parquet) in it" if place.exists() else "nothing there",
            where=str(place),
            fix="check the path",
        )
    return files


@contextmanager
def opened(file: Location) -> Iterator[pq.ParquetFile]:
    """Open an input: what is wrong with it ends the ingest, since nobody can say which objects it would have been.

    Raises
    ------
    InputError
        It is missing, may not be read, is damaged or a bomb, or lacks a column.
    OSError
        The storage failed.
    """
    try:
        with opened_parquet(file) as parquet:
            yield parquet
    except PartitionError as error:
        raise InputError(expected=error.expected, got=error.got, where=error.where, fix=error.fix) from error
    except SchemaMismatchError as error:
        raise InputError(expected=error.expected, got=error.got, where=str(file), fix=error.fix) from error


def cast_column(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """Return a column as it is read to; integers beyond 2^53 are rounded where that is a number of 64 bits."""
    # That is no reason to refuse a table. Other casts cannot lose anything.
    return column if column.type == kind else column.cast(kind, safe=False)
