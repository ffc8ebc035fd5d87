"""Arrow list columns as offsets and flat NumPy values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Lists:
    """Lists that may lie anywhere in `values`: list i is ``values[starts[i]:starts[i] + lengths[i]]``."""

    starts: IntArray
    lengths: IntArray
    values: npt.NDArray[Any]


def flatten_lists(
    columns: Sequence[tuple[str, pa.Array | pa.ChunkedArray]],
) -> tuple[IntArray, list[npt.NDArray[Any]], npt.NDArray[np.bool_] | None]:
    """Flatten list columns of equal row counts to shared offsets and one flat array of values per column.

    Parameters
    ----------
    columns : sequence of (name, array)
        Of type list, large_list or fixed_size_list of numbers; the names are for messages, and ``"time"`` must not be
        float32 or float16. A null list is an empty one, a null element is NaN.

    Returns
    -------
    offsets : int64, shape (n + 1,)
    values : list of float64 or float32, shape (offsets[-1],)
        Sharing the Arrow memory where possible.
    malformed : bool, shape (n,), or None
        Rows whose lists differ in length, left empty in `offsets`; None if there are none.

    Raises
    ------
    TypeError
        If a column is not a list of numbers.
    ValueError
        If the columns differ in their number of rows.
    """
    lists = [_read_column(name, column) for name, column in columns]
    rows = [len(column.lengths) for column in lists]
    if len(set(rows)) > 1:
        got = ", ".join(f"{name} {n}" for (name, _), n in zip(columns, rows, strict=True))
        raise ValueError(f"light curve columns: expected equal numbers of lists, got {got}")
    lengths = lists[0].lengths
    malformed = np.zeros(len(lengths), np.bool_)
    for column in lists[1:]:
        malformed |= column.lengths != lengths
    if malformed.any():
        lengths = np.where(malformed, 0, lengths)
    offsets = make_offsets(lengths)
    values = [_gather(column, lengths, offsets) for column in lists]
    return offsets, values, malformed if malformed.any() else None


def make_offsets(lengths: npt.NDArray[np.integer[Any]]) -> IntArray:
    """Return int64 offsets, shape (n + 1,), of lists of these lengths, whatever integers the lengths are."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    return offsets


def _gather(column: _Lists, lengths: IntArray, offsets: IntArray) -> npt.NDArray[Any]:
    """Return the values of all lists, cut to `lengths`, end to end: a view where they lie so already."""
    filled = lengths > 0
    if not filled.any():
        return column.values[:0]
    shift = (column.starts - offsets[:-1])[filled]
    if (shift == shift[0]).all():
        return column.values[shift[0] : shift[0] + offsets[-1]]
    index = np.arange(offsets[-1]) + np.repeat(shift, lengths[filled])
    gathered: npt.NDArray[Any] = column.values[index]
    return gathered


def _read_column(name: str, column: pa.Array | pa.ChunkedArray) -> _Lists:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise TypeError(f"{name}: expected a list, large_list or fixed_size_list of numbers, got {kind}")
    dtype = _value_dtype(name, kind.value_type)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_read_chunk(chunk, dtype) for chunk in chunks]
    if len(parts) == 1:
        return parts[0]
    # Chunks are joined by hand: combine_chunks() of int32 offsets fails beyond 2^31 values.
    bases = make_offsets(np.array([len(part.values) for part in parts], np.int64))
    starts = [part.starts + base for part, base in zip(parts, bases[:-1], strict=True)]
    return _Lists(
        np.concatenate([np.zeros(0, np.int64), *starts]),
        np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)]),
        np.concatenate([np.zeros(0, dtype), *(part.values for part in parts)]),
    )


def _read_chunk(chunk: pa.Array, dtype: np.dtype[Any]) -> _Lists:
    # `chunk.values` is the child as stored: neither the slice's offset nor null lists are taken off it.
    if pa.types.is_fixed_size_list(chunk.type):
        size = chunk.type.list_size
        edges = (chunk.offset + np.arange(len(chunk) + 1, dtype=np.int64)) * size
    else:
        edges = chunk.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    lengths = np.diff(edges)
    if chunk.null_count:
        lengths[chunk.is_null().to_numpy(zero_copy_only=False)] = 0
    values = chunk.values.slice(edges[0], edges[-1] - edges[0])
    return _Lists(edges[:-1] - edges[0], lengths, _to_numpy(values, dtype))


def _to_numpy(values: pa.Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan, dtype)
    array: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array.astype(dtype, copy=False)


def _value_dtype(name: str, kind: pa.DataType) -> np.dtype[Any]:
    """Return the dtype that holds values of this Arrow type without loss (integers beyond 2^53 excepted)."""
    is_time = name == "time"
    if pa.types.is_float64(kind) or pa.types.is_integer(kind):
        return np.dtype(np.float64)
    # A column without any value has the type null, which says nothing about precision.
    if pa.types.is_null(kind):
        return np.dtype(np.float64 if is_time else np.float32)
    if pa.types.is_floating(kind) and not is_time:
        return np.dtype(np.float32)
    why = ", which is spaced 0.25 d at JD 2458515" if pa.types.is_floating(kind) else ""
    raise TypeError(f"{name}: expected lists of {'float64' if is_time else 'float64 or float32'}, got {kind}{why}")
