"""Tables that are ingested: Parquet, or of objects also CSV, FITS, VOTable or ECSV."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.archives.fits_votable import has_mixins, kind_of, read_with_astropy, with_mixins_of_parquet
from varstar_batch.archives.text import as_utf8, read_table_text
from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.location import Location, locate
from varstar_batch.files.parquet import opened_parquet, parquet_files
from varstar_batch.survey.column_types import SchemaMismatchError
from varstar_batch.survey.declared_units import YAML_KEY, with_units

_FIX = "give Parquet, CSV with names in the first line, ECSV, FITS or VOTable"


def list_files(url: str | os.PathLike[str], what: str) -> list[Location]:
    """Return the Parquet files of a folder, by name, or the only file of a table.

    Parameters
    ----------
    url : str or path
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
def refused(file: Location) -> Iterator[None]:
    """Let what is wrong with an input end the ingest, since nobody can say which objects it would have been.

    Raises
    ------
    InputError
        The file is missing, may not be read, is damaged or a bomb, or lacks a column.
    """
    try:
        yield
    except (PartitionError, SchemaMismatchError, UnreadableFileError) as error:
        fix = _FIX if isinstance(error, UnreadableFileError) else error.fix
        raise InputError(expected=error.expected, got=error.got, where=str(file), fix=fix) from error


@contextmanager
def opened(file: Location) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for streamed reading; as `refused` says, and OSError where the storage failed."""
    with refused(file), opened_parquet(file) as parquet:
        yield parquet


def read_whole(file: Location, texts: Sequence[str]) -> pa.Table:
    """Read a table of any form; in CSV the columns `texts` are texts, so that leading zeros stay.

    Raises
    ------
    InputError
        It is of no known form, damaged, or has no column.
    """
    content = file.read_bytes()
    kind = kind_of(content, file.name)
    if content.startswith(b"PAR1"):
        with opened(file) as parquet:
            table = parquet.read()
            table.validate(full=True)
        metadata = table.schema.metadata
        if has_mixins(metadata):
            with refused(file):
                table = with_mixins_of_parquet(table, metadata[YAML_KEY])
    else:
        with refused(file):
            table = (
                read_table_text(as_utf8(content), {each.casefold() for each in texts})
                if kind is None
                else read_with_astropy(content, kind)
            )
    return with_units(table)


def cast_column(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """Return a column as it is read to; integers beyond 2^53 are rounded where that is a number of 64 bits."""
    # That is no reason to refuse a table. Other casts cannot lose anything.
    return column if column.type == kind else column.cast(kind, safe=False)
