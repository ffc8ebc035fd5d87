"""Which format a table has by its columns, and those of them that the format wants."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from varstar_batch.storage.archives.content import OBSERVATIONS, FileContent, Format, UnreadableFileError
from varstar_batch.storage.archives.nested import exploded, spread


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
    columns = [_cast(rows[name], kind) for name, kind in types.items()]
    return form, pa.table(columns, names=list(types)).replace_schema_metadata(table.schema.metadata)


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


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == kind else column.cast(kind)
