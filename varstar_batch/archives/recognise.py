"""Which format a table has by its columns, and those of them that the format wants."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.content import OBSERVATIONS, FileContent, Format, UnreadableFileError
from varstar_batch.survey.schema import is_list

MAX_REPEATED = 2**30
"""Bytes of a text's repetitions beside the elements of arrays: short names of many millions of observations."""


def wanted_columns(form: Format, names: Sequence[str]) -> dict[str, pa.DataType]:
    """Return the types of those columns, of some names, that a format has a use for."""
    return {name: kind for name, kind in {**form.columns, **form.optional}.items() if name in names}


def of_table(table: pa.Table, formats: Sequence[Format]) -> tuple[Format, pa.Table]:
    """Return the format of a table and those of its columns that it wants, with one row for each observation.

    Raises
    ------
    UnreadableFileError
        It has none of the formats, or arrays of different lengths in a row.
    pa.ArrowException
        A column has another type.
    """
    table = spread(table)
    form = find_table_format(table.column_names, formats)
    types = wanted_columns(form, table.column_names)
    rows = exploded(table.select(list(types)))
    columns = {name: rows[name].cast(kind) for name, kind in types.items()}
    return form, pa.table(columns).replace_schema_metadata(table.schema.metadata)


def find_table_format(names: Sequence[str], formats: Sequence[Format]) -> Format:
    """Return the first format that a table with these columns has. Raises UnreadableFileError."""
    for form in formats:
        if set(form.columns) <= set(names) and not form.headerless:
            return form
    raise unknown_format(tuple(names), formats)


def checked(content: FileContent) -> FileContent:
    """Return a content as it is. Raises UnreadableFileError where it is not what it should be."""
    table = content.observations
    if table["object_id"].null_count:
        raise UnreadableFileError("an object of every observation", f"{table['object_id'].null_count} without one")
    if table.schema != OBSERVATIONS:
        raise UnreadableFileError(str(OBSERVATIONS), str(table.schema))
    return content


def unknown_format(names: Sequence[str], formats: Sequence[Format]) -> UnreadableFileError:
    """Return the error of a file whose columns fit to no format."""
    wanted = (
        "; ".join(f"{form.name}: {', '.join(form.columns)}" for form in formats)
        if len(formats) == 1
        else ("a known format (" + ", ".join(form.name for form in formats) + ")")
    )
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return UnreadableFileError(wanted, shown[:300])


def is_nested(kind: pa.DataType) -> bool:
    """Whether values of a type are structs of arrays: HATS's nested columns."""
    return pa.types.is_struct(kind) and all(is_list(one.type) for one in kind)


def spread(table: pa.Table) -> pa.Table:
    """Return a table whose nested columns are columns of their own, where names allow."""
    columns = {name: table[name] for name in table.column_names}
    for field in table.schema:
        if is_nested(field.type):
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
    arrays = {name: table[name].cast(pa.large_list(table[name].type.value_type)).combine_chunks() for name in lists}
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
