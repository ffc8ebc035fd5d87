"""Parquet as this project reads and writes it: one way to open a file, one set of writer settings for surveys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.location import FileInfo, Location, check_names, refusal
from varstar_batch.files.object_store import kind_of
from varstar_batch.files.parquet_guard import GuardedParquetFile, OversizedError

UNFINISHED = "_unfinished.json"
"""A folder that holds this file is still being written, or its writing was interrupted: it is no survey."""

# Read ahead of decoding, of each column: with it a row group is streamed, without it its columns are loaded whole. What
# an object store is asked for should take longer to send than to ask for.
_LOCAL_BUFFER = 2**20
_REMOTE_BUFFER = 2**23

ROWS_AT_ONCE = 10_000
"""Rows of a run's table that are made into columns together, and are a row group of their own."""

WHOLE = 16 * 2**20
"""Bytes up to which an object is fetched whole. A request costs some 3 ms of a core here, and the store's; a partition
that is read column by column takes a dozen of them. The columns that nobody needs cost less than that."""

_kept: dict[tuple[str, int, str], bytes] = {}
"""The one object whose footer was read last: what it tells decides how the rest is read, from here."""


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, copied only where it is in several pieces (combine_chunks() always copies)."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


@contextmanager
def opened_parquet(file: Location, opener: Callable[[], BinaryIO] | None = None) -> Iterator[GuardedParquetFile]:
    """Open a Parquet file for streamed reading; what is wrong with it, there or inside the block, becomes one error.

    `opener` opens it in another way than as a stream from storage.

    Raises
    ------
    PartitionError
        Kind ``"missing"``, ``"forbidden"``, or ``"unreadable"`` (cut short, not Parquet, a bad page, a bomb).
    OSError
        The storage failed; another try may do.
    """
    where = str(file)
    try:
        with (
            _open_stream(file) if opener is None else opener() as stream,
            GuardedParquetFile(
                stream,
                buffer_size=_LOCAL_BUFFER if file.is_local else _REMOTE_BUFFER,
                pre_buffer=False,
                page_checksum_verification=True,
            ) as parquet,
        ):
            yield parquet
    except FileNotFoundError:
        raise PartitionError(
            kind="missing", expected="a Parquet file", got="no file", where=where, fix="put it back, or list anew"
        ) from None
    except PermissionError as error:
        reason = refusal(file, error)
        raise PartitionError(
            kind=kind_of(reason),
            expected="a Parquet file that may be read",
            got=str(reason),
            where=where,
            fix="allow reading it, or renew the credentials",
        ) from error
    except OversizedError as error:
        raise PartitionError(
            kind="unreadable",
            expected=error.expected,
            got=error.got,
            where=where,
            fix="shorten or leave out the column",
        ) from error
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # Arrow reports damaged content as OSError too, but without an error number: those with one are the storage's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PartitionError(
            kind="unreadable",
            expected="a whole Parquet file",
            got=str(error) or type(error).__name__,
            where=where,
            fix="write the file again, or remove it",
        ) from error


def parquet_files(folder: Location) -> list[FileInfo]:
    """List the Parquet files below a folder, by key, without those in or under names that begin with _ or a dot.

    Raises
    ------
    InputError
        A key has an empty name in it.
    """
    found = folder.files(".parquet")
    check_names(folder, found)
    return [info for info in found if not any(part[0] in "_." for part in info.key.split("/"))]


def check_finished(folder: Location, what: str) -> None:
    """Refuse a folder whose writing was not finished.

    Raises
    ------
    InputError
        It holds the mark of an unfinished writing.
    """
    if (folder / UNFINISHED).is_file():
        raise InputError(
            expected=f"a finished {what}",
            got=f"one whose writing was interrupted or is going on (it holds {UNFINISHED})",
            where=str(folder),
            fix="wait for it, or remove the folder and write it again",
        )


def _open_stream(file: Location) -> BinaryIO:
    if file.is_local:
        return file.open_input()
    # fsspec's own read-ahead would be thrown away and fetched again at each step from one column to the next.
    stream: BinaryIO = file.fs.open(file.path, "rb", cache_type="none")
    return stream


def as_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows, which may hold mappings for map columns, as a table."""
    # Arrow takes a map column as lists of pairs.
    plain = [
        {name: list(value.items()) if isinstance(value, Mapping) else value for name, value in row.items()}
        for row in rows
    ]
    return pa.Table.from_pylist(plain, schema=schema)


def write_table(
    location: Location, rows: pa.Table | Iterable[Mapping[str, Any]], schema: pa.Schema, *, exclusive: bool = False
) -> None:
    """Write one of a run's tables atomically; rows that are no table yet, and may be none, some at a time.

    Raises
    ------
    FileExistsError
        With `exclusive`: it is there already.
    """
    with (
        location.atomic_output(exclusive=exclusive) as sink,
        pq.ParquetWriter(sink, schema, compression="zstd") as writer,
    ):
        if isinstance(rows, pa.Table):
            writer.write_table(rows)
            return
        left = iter(rows)
        while some := list(islice(left, ROWS_AT_ONCE)):
            writer.write_table(as_table(some, schema))


def read_table(location: Location) -> pa.Table:
    """Read one of a run's tables. Raises FileNotFoundError."""
    # Not by `pq.read_table`, which loads pandas: that takes longer than everything else of a question to a catalog.
    with location.open_input() as stream, pq.ParquetFile(stream) as file:
        return file.read()


def open_fetched(file: Location, size: int, version: str, *, keep: bool) -> BinaryIO:
    """Fetch an object whole and open it for reading.

    `size` [bytes, at most `WHOLE`] and `version` are those of the listing. With `keep` this process will open the
    same object again: it keeps one, until that is opened.

    Raises
    ------
    OSError
        FileNotFoundError, PermissionError, or the storage failed.
    """
    key = (str(file), size, version)
    content = _kept.pop(key, None)
    if content is None:
        content = bytes(file.fs.cat_file(file.path))
    if keep:
        _kept.clear()
        _kept[key] = content
    return BytesIO(content)
