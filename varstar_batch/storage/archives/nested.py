"""Tables with one row for each object and arrays in its columns, as tables with one row for each observation."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.storage.archives.content import UnreadableFileError

MAX_REPEATED = 2**30
"""Bytes of a text's repetitions beside the elements of arrays: short names of many millions of observations."""


def is_list(kind: pa.DataType) -> bool:
    """Whether values of a type are arrays."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def spread(table: pa.Table) -> pa.Table:
    """Return a table whose structs of arrays (HATS's nested columns) are columns of their own, where names allow."""
    columns = {name: table[name] for name in table.column_names}
    for field in table.schema:
        if pa.types.is_struct(field.type) and all(is_list(one.type) for one in field.type):
            del columns[field.name]
            parts = table[field.name].combine_chunks().flatten()
            new = {one.name: part for one, part in zip(field.type, parts, strict=True)}
            columns |= {name: part for name, part in new.items() if name not in columns}
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def exploded(table: pa.Table) -> pa.Table:
    """Return a table with one row for each element of its arrays, beside which the other columns repeat.

    Raises
    ------
    UnreadableFileError
        The arrays of a row differ in length, or a long text would be repeated for each of many elements.
    """
    lists = [field.name for field in table.schema if is_list(field.type)]
    if not lists:
        return table
    arrays = {name: _as_list(table[name].combine_chunks()) for name in lists}
    lengths = {name: pc.list_value_length(array).fill_null(0) for name, array in arrays.items()}
    first = lists[0]
    for name in lists[1:]:
        if not lengths[name].equals(lengths[first]):
            raise UnreadableFileError("arrays of one length in each row", f"{first} and {name} of different ones")
    for name in table.column_names:
        _check_repeated(name, table[name], lengths[first])
    parents = pc.list_parent_indices(arrays[first])
    columns = {
        name: pc.list_flatten(arrays[name]) if name in arrays else table[name].combine_chunks().take(parents)
        for name in table.column_names
    }
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def _check_repeated(name: str, column: pa.ChunkedArray, times: pa.ChunkedArray) -> None:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        size = pc.sum(pc.multiply(pc.binary_length(column).cast(pa.int64()), times.cast(pa.int64()))).as_py() or 0
        if size > MAX_REPEATED:
            raise UnreadableFileError(f"at most {MAX_REPEATED} bytes of {name}, once for each observation", str(size))


def _as_list(array: pa.Array) -> pa.Array:
    return array.cast(pa.large_list(array.type.value_type))
