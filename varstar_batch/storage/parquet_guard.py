"""Column chunks of a Parquet footer that may be damaged, without the process dying of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import pyarrow.parquet as pq


class GuardedParquetFile(pq.ParquetFile):  # type: ignore[misc]
    """A Parquet file whose column chunks can be asked for whatever the footer holds.

    `RowGroupMetaData.column` of pyarrow (26.0) calls a C++ constructor that throws on a damaged footer, and nothing
    catches that: the process aborts. The same constructor, called on the way to reading the column, raises OSError. So
    reading is begun first, and stopped where it would touch the storage: there the file seems to end. (An exception of
    our own would do too, but Arrow leaks some 1.5 kB with each that passes through it.)
    """

    def __init__(self, stream: BinaryIO, **options: Any) -> None:
        self._guard = _GuardedStream(stream)
        super().__init__(self._guard, **options)

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
            next(self.iter_batches(batch_size=1, row_groups=[row_group], columns=list(columns)), None)
        except OSError:
            if not self._guard.was_asked:
                raise
        finally:
            self._guard.is_closed_for_reading = False
        group = self.metadata.row_group(row_group)
        return {path: group.column(k) for path, k in columns.items()}


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
