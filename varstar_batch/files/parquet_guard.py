"""Parquet files that may be damaged or may be bombs, read without the process dying of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MAX_TABLE = 2**30
"""Bytes that a table which is read whole may always have."""

MAX_RATIO = 100
"""Of the bytes of a larger one to those that it has on storage: identifiers and magnitudes do not shrink so far."""

MAX_TEXTS = 2**28
"""Bytes of the texts of one column that are decoded at once: 256 each where a million are."""

_SMALL = 2**20
"""Bytes that texts may have at the most, by what is stored of them, so that nobody counts them."""

_COUNTED_ROWS = 2**16
"""Rows whose texts are counted at once."""

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}


class OversizedError(Exception):
    """Content that would not fit into memory: what was expected, and what there is."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected, self.got = expected, got


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
        texts = {
            path: k for path, k in self._leaves(columns).items() if self.schema.column(k).physical_type not in _WIDTHS
        }
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
            chunks = self.column_chunks(group, leaves)
            stored += sum(chunk.total_compressed_size for chunk in chunks.values())
            sizes.append(sum(self._decoded_size(group, path, chunk, leaves[path]) for path, chunk in chunks.items()))
            if sum(sizes) > max(MAX_TABLE, MAX_RATIO * stored):
                raise OversizedError(
                    f"a table of at most {MAX_TABLE} bytes, or of {MAX_RATIO} times those on storage",
                    f"at least {sum(sizes)} bytes out of {stored}: a bomb?",
                )
        return sizes

    def column_chunks(self, row_group: int, columns: Mapping[str, int]) -> dict[str, Any]:
        """Return pyarrow's ColumnChunkMetaData by path of some columns of a row group; `columns` has their indices.

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

    def _width(self, k: int) -> int | None:
        column = self.schema.column(k)
        return column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS.get(column.physical_type)

    def _decoded_size(self, group: int, path: str, chunk: Any, k: int) -> int:
        """Return the bytes of a column chunk once decoded, or an upper bound where that is small."""
        width, bound = self._width(k), chunk.num_values * chunk.total_uncompressed_size
        if width is not None:
            return int(chunk.num_values * width)
        return int(bound) if bound <= _SMALL else sum(size for _, size in self._text_sizes(group, path, chunk))

    def _check_texts(self, group: int, texts: Mapping[str, int], rows: int) -> None:
        """Refuse texts of a row group of which some consecutive rows, decoded at once, would be too large."""
        new = {path: k for path, k in texts.items() if self._checked.get((group, path), 0) < rows}
        for path, chunk in self.column_chunks(group, new).items() if new else ():
            width = self._width(new[path])
            values = chunk.num_values if "." in path else min(chunk.num_values, rows)
            # No text is longer than all that is stored, so that few of them need no count.
            if width is not None or values * chunk.total_uncompressed_size <= MAX_TEXTS:
                counted: Iterable[tuple[int, int]] = [(rows, values * (width or 0))]
            else:
                counted = self._text_sizes(group, path, chunk, min(rows, _COUNTED_ROWS))
            met = held = 0
            for count, size in counted:
                met, held = met + count, held + size
                if held > MAX_TEXTS:
                    raise OversizedError(
                        f"at most {MAX_TEXTS} bytes of texts in {rows} rows of column {path!r}",
                        f"at least {held}: a bomb?",
                    )
                if met >= rows:
                    met = held = 0
            self._checked[group, path] = rows

    def _text_sizes(self, group: int, path: str, chunk: Any, rows: int = _COUNTED_ROWS) -> Iterator[tuple[int, int]]:
        """Yield rows and the bytes of their texts, in the order of the file; a text that is repeated is held once."""
        dictionary = [path]
        if any(encoding.startswith("DELTA") for encoding in chunk.encodings):
            # What a text has in common with the one before is not stored: such a column has no dictionary. But no text
            # is longer than all that is stored, so that this many are within the bound.
            dictionary, rows = [], max(1, min(rows, MAX_TEXTS // max(1, chunk.total_uncompressed_size)))
        file = pq.ParquetFile(self._guard, metadata=self.metadata, read_dictionary=dictionary, **self._options)
        for number, record in enumerate(
            file.iter_batches(batch_size=rows, row_groups=[group], columns=[path], use_threads=False)
        ):
            texts = _leaf(record.column(0))
            if dictionary and number == 0 and pa.types.is_dictionary(texts.type):
                # A text is the dictionary's, or is stored once: mostly that alone says that there is nothing to count.
                longest = int(pc.max(pc.binary_length(texts.dictionary)).as_py() or 0)
                bound = chunk.total_uncompressed_size + chunk.num_values * longest
                if bound <= MAX_TEXTS:
                    yield chunk.num_values, bound
                    return
            yield record.num_rows, _bytes_of(texts)


class _GuardedStream:
    """A file for reading that can seem to be at its end, and says whether it was asked then."""

    def __init__(self, stream: BinaryIO) -> None:
        self.is_closed_for_reading = self.was_asked = False
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if self.is_closed_for_reading:
            self.was_asked = True
            return b""
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _leaf(column: pa.Array) -> pa.Array:
    """Return the values in lists and structs, of which only one field was read."""
    while isinstance(column, pa.StructArray | pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        column = column.flatten()[0] if isinstance(column, pa.StructArray) else column.flatten()
    return column


def _bytes_of(texts: pa.Array) -> int:
    if not pa.types.is_dictionary(texts.type):
        return int(pc.sum(pc.binary_length(texts)).as_py() or 0)
    texts.validate(full=True)  # in a damaged file a text may be none of the dictionary's
    lengths = pc.binary_length(texts.dictionary).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = np.bincount(texts.indices.drop_null().to_numpy(zero_copy_only=False), minlength=len(lengths))
    return int(counts @ lengths)
