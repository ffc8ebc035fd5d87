"""Parquet files that may be damaged or may be bombs, read without the process dying of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.storage.parquet_texts import OversizedError, TextChunk, check_texts, decoded_bytes

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
