"""Which format a table has by its columns, and those of them that the format wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.content import (
    OBSERVATIONS,
    Column,
    FileContent,
    Format,
    UnreadableFileError,
    first_positions,
    first_values,
    numbers,
)
from varstar_batch.survey.column_types import SchemaMismatchError, is_list
from varstar_batch.survey.declared_units import declared_units, plain_name, unit_metadata
from varstar_batch.survey.decode import lists_of_fields
from varstar_batch.survey.good import GoodError
from varstar_batch.survey.units import (
    Conversion,
    conversions_of,
    magnitudes,
    told_conversions,
    unit_in_name,
)

MAX_REPEATED = 2**30
"""Bytes of a text's repetitions beside the elements of arrays: short names of many millions of observations."""


def wanted_columns(form: Format, names: Sequence[str]) -> dict[str, pa.DataType]:
    """Return the types of those columns, of some names, that a format has a use for."""
    own = {**form.columns, **form.optional}
    asked = {} if form.good is None else {name.casefold(): kind for name, kind in form.good.kinds().items()}
    kinds = {name: own.get(name, asked.get(name.casefold())) for name in [*own, *names] if name in names}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def of_table(table: pa.Table, formats: Sequence[Format], name: Column) -> tuple[Format, FileContent]:
    """Return the format of a table and what it holds.

    Parameters
    ----------
    table : pa.Table
        One row for each observation, or for each object with arrays.
    formats : sequence of Format
    name : array (n,) or str
        Of the file, which names the object where no column does.

    Raises
    ------
    UnreadableFileError
        It has none of the formats, arrays of different lengths in a row, or values that no light curve has.
    pa.ArrowException
        A column has another type.
    """
    table = spread(table)
    form, names = find_format(table.column_names, formats)
    # Renaming forgets the metadata.
    called = dict(zip(table.column_names, names, strict=True))
    units = units_in_names(table.column_names, names)
    units |= {called.get(name, name): unit for name, unit in declared_units(table.schema).items()}
    metadata = {**(table.schema.metadata or {}), **unit_metadata(units)}
    table = table.rename_columns(names).replace_schema_metadata(metadata or None)
    return form, content_of(form, table.select(list(wanted_columns(form, names))), name)


def units_in_names(names: Sequence[str], called: Sequence[str]) -> dict[str, str]:
    """Return the units in the names of columns, as in ``time [s]``, by what a format calls them."""
    pairs = [(new, unit_in_name(name)) for name, new in zip(names, called, strict=True) if new != name]
    return {new: unit for new, unit in pairs if unit is not None}


def content_of(form: Format, table: pa.Table, name: Column) -> FileContent:
    """Return what a table with the columns of a format holds; the parameters and errors are those of `of_table`."""
    table = _one_of_each(table, form)
    rows, is_empty = exploded(table)
    kinds = wanted_columns(form, table.column_names)
    columns = {each: rows[each].cast(kind) for each, kind in kinds.items()}
    conversions = _conversions(form, table)
    notes = _convert(columns, form, conversions)
    rows = pa.table(columns).replace_schema_metadata(table.schema.metadata)
    content = _good_content(form, rows, name)
    content = replace(content, notes={**content.notes, **notes})
    named = form.object_id is not None and form.object_id in table.column_names
    ids = table[form.object_id].cast(pa.large_string()) if named else name
    if set(form.position) <= set(table.column_names) and form.position:
        ra, dec = (
            _canonical(table[name], conversions.get(axis))
            for axis, name in zip(("ra", "dec"), form.position, strict=True)
        )
        content = replace(content, positions={**content.positions, **first_positions(ids, ra, dec)})
    said = {role: name for role, name in form.per_object.items() if name in table.column_names}
    if said:
        values = {}
        for role, column_name in said.items():
            column = table[column_name].cast(kinds[column_name])
            values[role] = first_values(ids, _canonical(column, conversions[role]) if role in conversions else column)
        content = replace(content, of_objects=values)
    if is_empty.any() and named:
        empty = ids.filter(pa.array(is_empty))
        content = replace(
            content,
            empty_objects=(*content.empty_objects, *empty.drop_null().unique().to_pylist()),
            nameless=empty.null_count,
        )
    return _with_objects(content)


def _good_content(form: Format, rows: pa.Table, name: Column) -> FileContent:
    """Return what the observations of a file hold that are good, with the objects of the others, and their number."""
    if form.good is None:
        return _built(form, rows, name)
    called = {each.casefold(): each for each in rows.column_names}
    spelled = {each: each if each in rows.column_names else called.get(each.casefold()) for each in form.good.columns}
    there = {each: rows[name_there] for each, name_there in spelled.items() if name_there is not None}
    try:
        is_good = form.good.evaluate(there, rows.num_rows)
    except GoodError as error:
        raise UnreadableFileError("observations that good = ... can be asked of", str(error)) from error
    if is_good.all():
        return _built(form, rows, name)
    good, others = (
        _built(form, rows.filter(pa.array(mask)), name if isinstance(name, str) else name.filter(pa.array(mask)))
        for mask in (is_good, ~is_good)
    )
    met = [*others.empty_objects, *pc.unique(others.observations["object_id"]).drop_null().to_pylist()]
    known = {*good.empty_objects, *pc.unique(good.observations["object_id"]).to_pylist()}
    return replace(
        good,
        left_out={**good.left_out, f"not good: {form.good.text}": int((~is_good).sum())},
        empty_objects=(*good.empty_objects, *(each for each in dict.fromkeys(met) if each not in known)),
    )


def _built(form: Format, rows: pa.Table, name: Column) -> FileContent:
    try:
        return form.build(rows, name)
    except pa.ArrowException:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        # Whatever a file holds, it must not end the reading of the others.
        got = f"what cannot be ({type(error).__name__}: {error})"
        raise UnreadableFileError(f"values of a light curve in the format {form.name}", got) from error


def _conversions(form: Format, table: pa.Table) -> dict[str, Conversion]:
    """Return how the columns of a table become canonical, by role. Raises UnreadableFileError."""
    there = {role: name for role, name in form.roles.items() if name in table.column_names}
    try:
        found = conversions_of(table.schema, there, form.config, is_flux=form.is_flux)
    except SchemaMismatchError as error:
        raise UnreadableFileError(error.expected, f"{error.got}; {error.fix}") from error
    return {role: one for role, one in found.items() if one.changes}


def _canonical(column: pa.ChunkedArray, conversion: Conversion | None) -> Column:
    degrees = column.cast(pa.float64())
    return degrees if conversion is None else pa.array(conversion.apply(numbers(degrees)), from_pandas=True)


def _convert(columns: dict[str, Column], form: Format, conversions: Mapping[str, Conversion]) -> dict[str, int]:
    """Bring columns to days and magnitudes; return what was done, with the observations that it concerns."""
    values = {role: numbers(columns[form.roles[role]]) for role in conversions}
    if "time" in values:
        columns[form.roles["time"]] = pa.array(conversions["time"].apply(values["time"]))
    if {"mag", "mag_err"} & values.keys():
        mag = numbers(columns[form.roles["mag"]])
        has_errors = form.roles.get("mag_err") in columns
        mag_err = numbers(columns[form.roles["mag_err"]]) if has_errors else None
        mag, mag_err = magnitudes(mag, mag_err, conversions)
        columns[form.roles["mag"]] = pa.array(mag)
        if mag_err is not None:
            columns[form.roles["mag_err"]] = pa.array(mag_err)
    told = told_conversions({role: one for role, one in conversions.items() if role in ("time", "mag")})
    return {f"{role} from {change}": len(values[role]) for role, change in told.items()}


def find_format(names: Sequence[str], formats: Sequence[Format]) -> tuple[Format, tuple[str, ...]]:
    """Return the first format that a table with these columns has, or else the only one if capitals do not matter.

    Returns
    -------
    Format, tuple of str
        The names, with the format's own for its columns.

    Raises
    ------
    UnreadableFileError
        It has none of the formats, or two columns of the same name.
    """
    for form in formats:
        found = _as_named(form, names)
        if found is not None:
            return form, found
    pairs = ((form, _as_named(form, names, ignore_case=True)) for form in formats)
    loose = [(form, found) for form, found in pairs if found is not None]
    if loose and not any(_alike(loose[0][0], form) for form, _ in loose[1:]):
        return loose[0]
    raise unknown_format(tuple(names), formats)


def _alike(form: Format, other: Format) -> bool:
    """Whether capitals alone tell two formats apart."""
    return {name.casefold() for name in form.columns} == {name.casefold() for name in other.columns}


def _as_named(form: Format, names: Sequence[str], *, ignore_case: bool = False) -> tuple[str, ...] | None:
    """Return names with the format's own for its columns; None where one is missing, or there twice."""
    own = {**form.columns, **form.optional}
    known = {**{each: each for each in own}, **form.aliases}
    # Columns that need not be there do not tell formats apart by capitals; a single letter may be anything.
    loose = known if ignore_case else {each: each for each in form.optional if len(each) > 1}
    plain = {plain_name(each): called for each, called in loose.items()}
    taken = own.keys() & set(names)
    found = []
    for name in names:
        called = None if name in taken else known.get(name, plain.get(plain_name(name)))
        found.append(called if called is not None and called not in taken else name)
    if not set(form.columns) <= set(found):
        return None
    if max(Counter(name for name in found if name in own).values()) > 1:
        raise UnreadableFileError("columns of different names", ", ".join(names))
    return tuple(found)


def _with_objects(content: FileContent) -> FileContent:
    """Return a content whose observations all have an object: those without one are left out, and counted.

    Raises
    ------
    UnreadableFileError
        It is not what it should be.
    """
    table = content.observations
    if table.schema != OBSERVATIONS:
        raise UnreadableFileError(str(OBSERVATIONS), str(table.schema))
    lost = table["object_id"].null_count
    if not lost:
        return content
    kept = table.filter(pc.is_valid(table["object_id"]))
    return replace(content, observations=kept, left_out={**content.left_out, "no object_id": lost})


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
    """Whether values of a type are structs of arrays, HATS's nested columns, or arrays of structs."""
    is_array = is_list(kind) and pa.types.is_struct(kind.value_type)
    return is_array or (pa.types.is_struct(kind) and all(is_list(one.type) for one in kind))


def spread(table: pa.Table) -> pa.Table:
    """Return a table whose nested columns are columns of their own, where names allow."""
    columns = {name: table[name] for name in table.column_names}
    for field in table.schema:
        if is_nested(field.type):
            del columns[field.name]
            column = table[field.name].combine_chunks()
            if pa.types.is_struct(field.type):
                new = dict(zip(field.type.names, column.flatten(), strict=True))
            else:
                new = lists_of_fields(column)
            columns |= {name: part for name, part in new.items() if name not in columns}
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def _one_of_each(table: pa.Table, form: Format) -> pa.Table:
    """Return a table with one value for each observation where its columns have several, such as apertures.

    Where the times are no arrays a row is an observation, and arrays beside them are never observations.

    Raises
    ------
    UnreadableFileError
        Nobody has said which value, or there is none of that number.
    """
    time = next(name for name, kind in form.columns.items() if pa.types.is_floating(kind))
    vectors = [field.name for field in table.schema if is_list(field.type)]
    if not vectors or is_list(table.schema.field(time).type):
        return table
    for name in vectors:
        lists = table[name].cast(pa.large_list(table[name].type.value_type)).combine_chunks()
        least = pc.min(pc.list_value_length(lists)).as_py() or 0
        if form.aperture is None or form.aperture >= least:
            raise UnreadableFileError(
                f"one value of {name} for each observation, or --aperture with its number from 0",
                f"{least}" + ("" if form.aperture is None else f" and --aperture {form.aperture}"),
            )
        place = table.column_names.index(name)
        table = table.set_column(place, name, pc.list_element(lists, form.aperture))
    return table


def exploded(table: pa.Table) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """Return a table with one row for each element of its arrays, beside which the other columns repeat.

    Returns
    -------
    pa.Table, bool array (n,)
        The table, and which of the n rows have no element.

    Raises
    ------
    UnreadableFileError
        The arrays of a row differ in length, or a long text would be repeated for each of many elements.
    """
    lists = [field.name for field in table.schema if is_list(field.type)]
    if not lists:
        return table, np.zeros(table.num_rows, np.bool_)
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
    rows = pa.table(columns).replace_schema_metadata(table.schema.metadata)
    return rows, lengths[first].to_numpy(zero_copy_only=False) == 0


def _check_repeated(name: str, column: pa.ChunkedArray, times: pa.ChunkedArray) -> None:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        size = pc.sum(pc.multiply(pc.binary_length(column).cast(pa.int64()), times.cast(pa.int64()))).as_py() or 0
        if size > MAX_REPEATED:
            raise UnreadableFileError(f"at most {MAX_REPEATED} bytes of {name}, once for each observation", str(size))
