"""Parquet files that may be damaged or may be bombs, read without the process dying of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MAX_TABLE = 2**30
"""Bytes that a table which is read whole may always have."""

MAX_RATIO = 100
"""Of the bytes of a larger one to those that it has on storage: identifiers and magnitudes do not shrink so far."""

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}


class GuardedParquetFile(pq.ParquetFile):  # type: ignore[misc]
    """A Parquet file whose column chunks can be asked for whatever the footer holds, and whose texts are bounded.

    `RowGroupMetaData.column` of pyarrow (26.0) calls a C++ constructor that throws on a damaged footer, and nothing
    catches that: the process aborts. The same constructor, called on the way to reading the column, raises OSError. So
    reading is begun first, and stopped where it would touch the storage: there the file seems to end. (An exception of
    our own would do too, but Arrow leaks some 1.5 kB with each that passes through it.)
    """

    def __init__(self, stream: BinaryIO, **options: Any) -> None:
        self._guard = _GuardedStream(stream)
        self._options = options
        self._checked: dict[tuple[int, str], int] = {}
        super().__init__(self._guard, **options)

    def iter_batches(
        self,
        batch_size: int = 65536,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        **options: Any,
    ) -> Iterator[pa.RecordBatch]:
        """Stream as pyarrow does, once it is known that the texts of a batch have a bearable size.

        Raises
        ------
        OversizedError
            The texts of a column do not.
        """
        groups = range(self.num_row_groups) if row_groups is None else row_groups
        texts = {path: k for path, k in self._leaves(columns).items() if self._kind(k) not in _WIDTHS}
        for group in groups if texts else ():
            self._check_texts(group, texts, batch_size)
        yield from super().iter_batches(batch_size=batch_size, row_groups=list(groups), columns=columns, **options)

    def read(self, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        """Read whole as pyarrow does, but no bomb; as `decoded_sizes` says."""
        self.decoded_sizes(columns)
        return super().read(columns=columns, **options)

    def decoded_sizes(self, columns: Sequence[str] | None = None) -> list[int]:
        """Return about the bytes of some columns, or of all, once decoded, for each row group.

        Raises
        ------
        OversizedError
            The file is a bomb: of kilobytes, with gigabytes in it.
        OSError
            It is damaged.
        """
        leaves = self._leaves(columns)
        sizes: list[int] = []
        stored = 0
        for group in range(self.num_row_groups):
            held = 0
            for path, chunk in self.column_chunks(group, leaves).items():
                stored += chunk.total_compressed_size
                width = self._width(leaves[path])
                held += decoded_bytes(self._text(group, path, chunk)) if width is None else chunk.num_values * width
            sizes.append(held)
            if sum(sizes) > max(MAX_TABLE, MAX_RATIO * stored):
                raise OversizedError(
                    f"a table of at most {MAX_TABLE} bytes, or of {MAX_RATIO} times those on storage",
                    f"at least {sum(sizes)} bytes out of {stored}: a bomb?",
                )
        return sizes

    def column_chunks(self, row_group: int, columns: Mapping[str, int]) -> dict[str, Any]:
        """Return pyarrow's ColumnChunkMetaData by path of some columns of a row group.

        Parameters
        ----------
        row_group : int
            Which.
        columns : mapping of str to int
            Index of the Parquet column by its path.

        Raises
        ------
        OSError
            The footer is damaged.
        """
        self._guard.is_closed_for_reading, self._guard.was_asked = True, False
        try:
            next(super().iter_batches(batch_size=1, row_groups=[row_group], columns=list(columns)), None)
        except OSError:
            if not self._guard.was_asked:
                raise
        finally:
            self._guard.is_closed_for_reading = False
        group = self.metadata.row_group(row_group)
        return {path: group.column(k) for path, k in columns.items()}

    def _leaves(self, columns: Iterable[str] | None) -> dict[str, int]:
        """Return the index of each Parquet column that some columns, or all, are made of, by its path."""
        paths = {self.schema.column(k).path: k for k in range(len(self.schema.names))}
        if columns is None:
            return paths
        wanted = list(columns)
        return {
            path: k for path, k in paths.items() if any(path == name or path.startswith(f"{name}.") for name in wanted)
        }

    def _kind(self, k: int) -> str:
        return str(self.schema.column(k).physical_type)

    def _width(self, k: int) -> int | None:
        column = self.schema.column(k)
        return column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS.get(column.physical_type)

    def _text(self, group: int, path: str, chunk: Any) -> TextChunk:
        def reopen(encoded: Sequence[str]) -> pq.ParquetFile:
            return pq.ParquetFile(self._guard, metadata=self.metadata, read_dictionary=list(encoded), **self._options)

        return TextChunk(reopen, group, path, chunk)

    def _check_texts(self, group: int, texts: Mapping[str, int], rows: int) -> None:
        new = {path: k for path, k in texts.items() if self._checked.get((group, path), 0) < rows}
        if not new:
            return
        for path, chunk in self.column_chunks(group, new).items():
            check_texts(self._text(group, path, chunk), rows, self._width(new[path]))
            self._checked[group, path] = rows


class _GuardedStream:
    """A file for reading that can seem to be at its end, and says whether it was asked then."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.is_closed_for_reading = self.was_asked = False

    def read(self, size: int = -1) -> bytes:
        if self.is_closed_for_reading:
            self.was_asked = True
            return b""
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self._stream.close()

    @property
    def closed(self) -> bool:
        return self._stream.closed


MAX_TEXTS = 2**28
"""Bytes of the texts of one column that are decoded at once: 256 each where a million are."""


_STEP = 2**16


_SMALL = 2**20


class OversizedError(Exception):
    """Content that would not fit into memory: what was expected, and what there is."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected, self.got = expected, got


@dataclass(frozen=True)
class TextChunk:
    """The texts of one column in one row group."""

    reopen: Callable[[Sequence[str]], pq.ParquetFile]
    """Callable. Returns the file anew, with the columns of some paths as dictionaries."""
    group: int
    """The row group."""
    path: str
    """Of the Parquet column."""
    metadata: Any

    @property
    def is_by_prefixes(self) -> bool:
        """Whether texts are stored by what they have in common with the one before: no dictionary is to be had then."""
        return any(encoding.startswith("DELTA") for encoding in self.metadata.encodings)

    def longest(self) -> int:
        """Return an upper bound of the bytes of a text that is repeated."""
        if self.is_by_prefixes:
            return int(self.metadata.total_uncompressed_size)
        first = next(self._records(1), None)
        texts = None if first is None else _leaf(first.column(0))
        if texts is None or not pa.types.is_dictionary(texts.type) or not len(texts.dictionary):
            return 0
        return int(pc.max(pc.binary_length(texts.dictionary)).as_py() or 0)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Yield rows and the bytes of their texts, in the order of the file."""
        # By prefixes no text is longer than all that is stored, so that this many are no more than the bound.
        step = max(1, MAX_TEXTS // max(1, self.longest())) if self.is_by_prefixes else _STEP
        for record in self._records(min(step, _STEP)):
            yield record.num_rows, _bytes_of(_leaf(record.column(0)))

    def _records(self, rows: int) -> Iterator[pa.RecordBatch]:
        file = self.reopen([] if self.is_by_prefixes else [self.path])
        yield from file.iter_batches(batch_size=rows, row_groups=[self.group], columns=[self.path], use_threads=False)


def check_texts(chunk: TextChunk, rows: int, width: int | None) -> None:
    """Refuse texts of which some consecutive rows would be too large.

    Parameters
    ----------
    chunk : TextChunk
    rows : int
        That are decoded at once.
    width : int or None
        Bytes of each, where all have the same.

    Raises
    ------
    OversizedError
        They have more than `MAX_TEXTS` bytes.
    """
    values, stored = chunk.metadata.num_values, chunk.metadata.total_uncompressed_size
    if "." not in chunk.path:
        values = min(values, rows)
    if width is not None:
        if values * width > MAX_TEXTS:
            raise _oversized(chunk, rows, values * width)
        return
    # First what costs nothing, then a look at the dictionary, and only then a count.
    if values * stored <= MAX_TEXTS or stored + values * chunk.longest() <= MAX_TEXTS:
        return
    met = held = 0
    for count, size in chunk.sizes():
        met, held = met + count, held + size
        if held > MAX_TEXTS:
            raise _oversized(chunk, rows, held)
        if met >= rows:
            met = held = 0


def decoded_bytes(chunk: TextChunk) -> int:
    """Return the bytes of all texts of a chunk, or an upper bound where that is small."""
    values, stored = chunk.metadata.num_values, chunk.metadata.total_uncompressed_size
    if values * stored <= _SMALL:
        return int(values * stored)
    bound = stored + values * chunk.longest()
    return int(bound) if bound <= MAX_TEXTS else sum(size for _, size in chunk.sizes())


def _oversized(chunk: TextChunk, rows: int, size: int) -> OversizedError:
    return OversizedError(
        f"at most {MAX_TEXTS} bytes of texts in {rows} rows of column {chunk.path!r}", f"at least {size}: a bomb?"
    )


def _leaf(column: pa.Array) -> pa.Array:
    """Return the values in lists and structs, of which only one field was read."""
    while True:
        if pa.types.is_struct(column.type):
            column = column.flatten()[0]
        elif isinstance(column, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
            column = column.flatten()
        else:
            return column


def _bytes_of(texts: pa.Array) -> int:
    if not pa.types.is_dictionary(texts.type):
        return int(pc.sum(pc.binary_length(texts)).as_py() or 0)
    texts.validate(full=True)  # in a damaged file a text may be none of the dictionary's
    lengths = pc.binary_length(texts.dictionary).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = np.bincount(texts.indices.drop_null().to_numpy(zero_copy_only=False), minlength=len(lengths))
    return int(counts @ lengths)
