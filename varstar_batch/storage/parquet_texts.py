"""How large the texts of a Parquet column are once decoded, found out without decoding them.

A dictionary holds a text once, however often it is there, and so does an encoding by common prefixes: a megabyte a
million times is a file of kilobytes. Such columns are counted by their dictionaries before they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MAX_TEXTS = 2**28
"""Bytes of the texts of one column that are decoded at once: 256 each where a million are."""

_STEP = 2**16
# Rows that are counted at once.

_SMALL = 2**20
# Bytes that are nothing to speak of.


class OversizedError(Exception):
    """Content that would not fit into memory: what was expected, and what there is."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected, self.got = expected, got


@dataclass(frozen=True)
class TextChunk:
    """The texts of one column in one row group.

    Attributes
    ----------
    reopen : callable
        Returns the file anew, with the columns of some paths as dictionaries.
    group : int
        The row group.
    path : str
        Of the Parquet column.
    metadata : pyarrow.parquet.ColumnChunkMetaData
    """

    reopen: Callable[[Sequence[str]], pq.ParquetFile]
    group: int
    path: str
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
