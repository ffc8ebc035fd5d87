"""Parquet as this project reads and writes it: one way to open a file, one set of writer settings for surveys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.location import FileInfo, Location, refusal
from varstar_batch.files.object_store import kind_of
from varstar_batch.files.parquet_guard import GuardedParquetFile, OversizedError

ROW_GROUP_OBSERVATIONS = 2**20
"""Observations in a row group of a survey: about 7 MB on storage and 16 MiB in memory."""

ROW_GROUP_ROWS = 2**17
"""Objects in a row group of a survey, however few observations they have."""

UNFINISHED = "_unfinished.json"
"""A folder that holds this file is still being written, or its writing was interrupted: it is no survey."""

# Read ahead of decoding, of each column: with it a row group is streamed, without it its columns are loaded whole. What
# an object store is asked for should take longer to send than to ask for.
_LOCAL_BUFFER = 2**20
_REMOTE_BUFFER = 2**23


def survey_write_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the keyword arguments of `pyarrow.parquet.ParquetWriter` for a survey.

    Notes
    -----
    Measured on crts-south, ogle-lmc and 3-decimal magnitudes, one core: float64 (times) split by bytes, for which a
    dictionary is useless; a dictionary for everything else, which pays for magnitudes of few decimals and gives itself
    up elsewhere; zstd level 1, since level 3 saves 3 % and costs a third of the writing speed. 6.6 bytes an observation
    for crts-south, 2.5 for ogle-lmc (snappy with dictionaries, the default: 9.2 and 3.6). Page checksums cost 7 %
    of the reading speed, and turn a flipped bit into an error instead of a magnitude. Elements that cannot be null
    (`list_type`) are read a third faster. Altogether 200,000 light curves/s of 230 observations on one core.
    """
    leaves = dict(_leaves(schema))
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [path for path, kind in leaves.items() if not pa.types.is_float64(kind)],
        "column_encoding": {path: "BYTE_STREAM_SPLIT" for path, kind in leaves.items() if pa.types.is_float64(kind)},
        "write_page_checksum": True,
    }


def list_type(value: pa.DataType) -> pa.DataType:
    """Return the type of a light curve's field: lists whose elements are never null, which decode a third faster."""
    return pa.list_(pa.field("element", value, nullable=False))


def nested_light_curves(offsets: npt.NDArray[np.integer[Any]], columns: Mapping[str, Any]) -> pa.StructArray:
    """Build the canonical column ``lightcurve: struct<time: list<double>, mag: list<float>, ...>``.

    Parameters
    ----------
    offsets : integer array (n + 1,)
        Of n objects, from 0 to m; m < 2^31.
    columns : mapping of str to array (m,)
        NumPy or Arrow, by field name in their order. Nulls of numbers become NaN; other types keep theirs.

    Returns
    -------
    StructArray of n structs, without nulls.

    Raises
    ------
    ValueError
        Too many observations for 32-bit offsets.
    """
    if offsets[-1] >= 2**31:
        raise ValueError(f"light curves of one table: expected fewer than 2^31 observations, got {offsets[-1]}")
    offsets32 = pa.array(np.asarray(offsets).astype(np.int32, copy=False))
    lists = []
    for values in columns.values():
        flat = pa.array(values) if isinstance(values, np.ndarray) else values
        if pa.types.is_floating(flat.type):
            flat = flat.fill_null(float("nan")) if flat.null_count else flat
            lists.append(pa.ListArray.from_arrays(offsets32, flat, type=list_type(flat.type)))
        else:
            lists.append(pa.ListArray.from_arrays(offsets32, flat))
    fields = [pa.field(name, array.type, nullable=False) for name, array in zip(columns, lists, strict=True)]
    return pa.StructArray.from_arrays(lists, fields=fields)


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, copied only where it is in several pieces (combine_chunks() always copies)."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def write_survey_file(target: Location, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write one partition of a survey atomically, cut into row groups of bounded size.

    Parameters
    ----------
    target : Location
        The file.
    schema : pa.Schema
        Of all tables, with its metadata (`TIME_SYSTEM_KEY`).
    tables : iterable of pa.Table
        Consecutive rows. No row group spans two tables.
    """
    with (
        target.atomic_output() as sink,
        pq.ParquetWriter(sink, schema, **survey_write_options(schema)) as writer,
    ):
        for table in tables:
            for start, stop in _row_groups(table):
                writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)


@contextmanager
def opened_parquet(file: Location, opener: Callable[[], BinaryIO] | None = None) -> Iterator[GuardedParquetFile]:
    """Open a Parquet file for streamed reading; what is wrong with it, there or inside the block, becomes one error.

    Parameters
    ----------
    file : Location
    opener : callable, optional
        Opens it in another way than as a stream from storage.

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
    """List the Parquet files below a folder, by key, without those in or under names that begin with _ or a dot."""
    return [info for info in folder.files(".parquet") if not any(part[0] in "_." for part in info.key.split("/"))]


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


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    for field in schema:
        yield from _leaves_of(field.name, field.type)


def _leaves_of(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves_of(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves_of(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind


def _row_groups(table: pa.Table) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of row groups that exceed the bounds only where a single object does."""
    ends = _observation_ends(table)
    start = 0
    while start < table.num_rows:
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + ROW_GROUP_OBSERVATIONS, side="right"))
        stop = min(max(stop, start + 1), start + ROW_GROUP_ROWS, table.num_rows)
        yield start, stop
        start = stop


def _observation_ends(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the cumulated number of observations, int64 (n,), by the first list in the table's light curves."""
    lengths = pc.list_value_length(pc.struct_field(table["lightcurve"], [0])).fill_null(0)
    return np.cumsum(lengths.to_numpy(), dtype=np.int64)


ROWS_AT_ONCE = 10_000
"""Made into columns, and a row group of their own."""


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


WHOLE = 16 * 2**20
"""Bytes up to which an object is fetched whole. A request costs some 3 ms of a core here, and the store's; a partition
that is read column by column takes a dozen of them. The columns that nobody needs cost less than that."""


_kept: dict[tuple[str, int, str], bytes] = {}
"""The one object whose footer was read last: what it tells decides how the rest is read, from here."""


def open_fetched(file: Location, size: int, version: str, *, keep: bool) -> BinaryIO:
    """Fetch an object whole and open it for reading.

    Parameters
    ----------
    file : Location
    size : int
        Bytes that it had when it was listed, at most `WHOLE`.
    version : str
        Its version then.
    keep : bool
        Whether this process is about to open the same object again. It keeps one, until that is opened.

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
