"""Columns that have to be there, and whether each is of a type that can be read; what is told where one is not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyarrow import types

from varstar_batch.sky import HEALPIX_COLUMN

_SHOWN_COLUMNS = 12


class SchemaMismatchError(Exception):
    """A schema that cannot be read as asked: what was expected, what it holds, what to do about it."""

    def __init__(self, *, expected: str, got: str, fix: str) -> None:
        super().__init__(expected, got, fix)
        self.expected, self.got, self.fix = expected, got, fix


def object_id_type(schema: pa.Schema, name: str) -> str:
    """Return the Arrow type that identifiers are read to: ``"int64"``, ``"uint64"`` or ``"large_string"``.

    Raises
    ------
    SchemaMismatchError
        The column is missing, or holds neither integers nor texts.
    """
    kind = get_type(schema, "object_id", name)
    if types.is_integer(kind):
        return "uint64" if types.is_uint64(kind) else "int64"
    if is_text(kind) and not types.is_null(kind):
        return "large_string"
    raise SchemaMismatchError(
        expected=f"integers or texts in column {name!r}",
        got=short_type(kind),
        fix="name the column that identifies an object (object_id = ...)",
    )


def check_scalars(schema: pa.Schema, roles: Mapping[str, str]) -> None:
    """Check columns with one value per object: period, ra, dec (numbers), class (any text or number), cells (integers).

    Raises
    ------
    SchemaMismatchError
        A column is missing, doubled or of a type that cannot be read.
    """
    others = {"class": (is_label, "texts or codes"), HEALPIX_COLUMN: (types.is_integer, "integers")}
    for role, name in roles.items():
        fits, what = others.get(role, (_is_number, "numbers"))
        kind = get_type(schema, role, name)
        if not fits(kind):
            raise SchemaMismatchError(
                expected=f"{what} in column {name!r}",
                got=short_type(kind),
                fix=f"write it as {what}, or name another column ({role} = ...)"
                + (f", or none (--set survey.{role}='')" if role in ("ra", "dec") else ""),
            )


def check_observed(kind: pa.DataType, role: str, name: str, *, listed: bool) -> None:
    """Check the type of an observation's time, mag or mag_err, or of the lists of them.

    Raises
    ------
    SchemaMismatchError
        It is of a type that cannot be read.
    """
    what, fits = ("float64", _is_time) if role == "time" else ("float or double", _is_number)
    value = kind.value_type if listed and is_list(kind) else kind
    if fits(value) and (is_list(kind) or not listed):
        return
    got = short_type(kind)
    if role == "time" and types.is_floating(value):
        got += " (float32 is spaced 0.25 d at JD 2458515)"
    what = f"lists of {what}" if listed else what
    raise SchemaMismatchError(
        expected=f"{what} in {name!r}", got=got, fix=f"write it as {what}, or name another column ({role} = ...)"
    )


def check_present(roles: Mapping[str, str | None], there: Sequence[str], fix: str = "") -> None:
    """Refuse a table that lacks columns: all of them at once.

    Parameters
    ----------
    roles : mapping of str to str or None
        Names of columns that must be there, by their roles; None for one that need not be.
    there : sequence of str
    fix : str
        What to do about it; by default to name the columns.

    Raises
    ------
    SchemaMismatchError
        Naming every column that is missing, and the nearest name for each.
    """
    missing = {role: name for role, name in roles.items() if name is not None and name not in there}
    if not missing:
        return
    first = missing_column(*next(iter(missing.items())), there)
    if len(missing) == 1:
        raise SchemaMismatchError(expected=first.expected, got=first.got, fix=fix or first.fix)
    near = {role: nearest(name, there) for role, name in missing.items()}
    meant = ", ".join(f"{role} = {name!r}" for role, name in near.items() if name)
    said = f"did you mean {meant}? say so" if meant else f"name them ({' = ..., '.join(missing)} = ...)"
    raise SchemaMismatchError(
        expected="columns " + ", ".join(repr(name) for name in missing.values()),
        got=first.got,
        fix=fix or f"{said} in the survey's column names",
    )


def missing_column(role: str, name: str, there: Sequence[str]) -> SchemaMismatchError:
    """Return the error for a column that is not there, with what is, and the nearest name."""
    shown = ", ".join(there[:_SHOWN_COLUMNS])
    if len(there) > _SHOWN_COLUMNS:
        shown += f", ... ({len(there)} in all)"
    near = nearest(name, there)
    fix = f"did you mean {near!r}? say {role} = {near!r}" if near else f"name the column that holds it ({role} = ...)"
    return SchemaMismatchError(
        expected=f"a column {name!r}",
        got=f"columns {shown}" if there else "no columns",
        fix=f"{fix} in the survey's column names",
    )


def nearest(name: str, there: Sequence[str], cutoff: float = 0.6) -> str | None:
    """Return the name that resembles `name` most, capitals aside, or None."""
    lower = {other.lower(): other for other in there}
    matches = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=cutoff)
    return lower[matches[0]] if matches else None


def short_type(kind: pa.DataType) -> str:
    """Return an Arrow type as text that fits into an error."""
    text = str(kind)
    return text if len(text) <= 100 else f"{text[:97]}..."


def is_list(kind: pa.DataType) -> bool:
    """Whether the values are lists of any kind that the arithmetic layer reads."""
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def get_type(schema: pa.Schema, role: str, name: str) -> pa.DataType:
    """Return the type of a column.

    Raises
    ------
    SchemaMismatchError
        There is no column of that name, or more than one.
    """
    count = schema.names.count(name)
    if count == 1:
        return schema.field(name).type
    if count == 0:
        raise missing_column(role, name, schema.names)
    raise SchemaMismatchError(
        expected=f"one column {name!r}", got=f"{count} of that name", fix="rename or remove the others"
    )


def _is_number(kind: pa.DataType) -> bool:
    # A column without any value may have the type null.
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_null(kind) or types.is_decimal(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(types.is_float64(kind) or types.is_integer(kind) or types.is_null(kind))


def is_label(kind: pa.DataType) -> bool:
    """Whether values are texts, or numbers and bytes, which have a text."""
    return not types.is_nested(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts, or all null."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)
    )
