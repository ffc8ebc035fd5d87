"""Finding a survey's columns in an Arrow schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from pyarrow import types

from varstar_batch.sky import HEALPIX_COLUMN
from varstar_batch.survey.column_types import (
    SchemaMismatchError,
    check_observed,
    check_present,
    check_scalars,
    get_type,
    is_label,
    is_list,
    is_text,
    missing_column,
    nearest,
    object_id_type,
    short_type,
)
from varstar_batch.survey.columns import PERIOD_ORIGIN, TIME_SYSTEM_KEY, SurveyConfig, first_of
from varstar_batch.survey.declared_units import plain_name
from varstar_batch.survey.good import Good

Form = Literal["nested", "lists", "structs", "long"]

_LONG_FIX = (
    "one row for each observation: varstar ingest OBSERVATIONS SURVEY --objects TABLE (with object_id and period) "
    "makes a survey of it; or name the columns in the survey's column names (period = ...)"
)

_OBJECT_ROLES = ("object_id", "period", "ra", "dec", "class_", "lightcurve")
_OBSERVED_ROLES = ("time", "mag", "mag_err", "band", "flux", "flux_err")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Column names of a survey as they were found in it; None where it has no such column.

    `time`, `mag` and `mag_err` are the fields of `lightcurve` (forms nested, structs) or top-level columns (lists,
    long, where `lightcurve` is None).
    """

    object_id: str
    period: str | None
    ra: str | None
    dec: str | None
    class_: str | None
    healpix: str | None
    lightcurve: str | None
    time: str
    mag: str
    mag_err: str | None
    band: str | None = None
    flags: tuple[str, ...] = ()
    """Fields that say which observations are good."""
    is_flux: bool = False
    """Whether `mag` and `mag_err` are fluxes and their errors."""
    period_origin: str | None = None

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the columns with one value an object (in the long form: one a row)."""
        named = (self.object_id, self.period, self.ra, self.dec, self.class_, self.healpix, self.period_origin)
        return tuple(name for name in named if name is not None)

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the fields or columns with the observations' values."""
        names = (self.time, self.mag, self.mag_err, self.band, *self.flags)
        return tuple(dict.fromkeys(name for name in names if name is not None))


def find_columns(schema: pa.Schema, chosen: SurveyConfig) -> tuple[Form, Columns]:
    """Find out which form a survey has and which of the columns that may be missing it has.

    Raises
    ------
    SchemaMismatchError
        A column is missing, doubled or of a type that cannot be read.
    """
    if TIME_SYSTEM_KEY.encode() in (schema.metadata or {}):
        chosen = _as_ingested(chosen, schema)
    form = _find_form(schema, as_spelled(chosen, schema.names))
    there = schema.names
    config = as_spelled(chosen, there, _OBJECT_ROLES)
    inside = _observed(schema, form, config.lightcurve)
    config = as_spelled(config, inside.names, _OBSERVED_ROLES)
    is_flux = config.flux is not None and config.flux in inside.names and config.mag not in inside.names
    columns = Columns(
        object_id=config.object_id,
        period=config.period,
        ra=config.ra if config.ra in there else None,
        dec=config.dec if config.dec in there else None,
        # No light curve needs its label: one that cannot be read is none.
        class_=config.class_ if config.class_ in there and is_label(schema.field(config.class_).type) else None,
        # Nor is a column of that name that holds no cells one of them.
        healpix=HEALPIX_COLUMN if HEALPIX_COLUMN in there and _is_cell(schema.field(HEALPIX_COLUMN).type) else None,
        lightcurve=config.lightcurve if form in ("nested", "structs") else None,
        time=config.time,
        mag=config.flux if is_flux and config.flux else config.mag,
        mag_err=config.flux_err if is_flux else find_mag_err(config, inside.names),
        period_origin=_period_origin(schema),
        band=find_band_column(inside, form, config.band, is_chosen="|" not in (chosen.band or "")),
        flags=flags_of(config, inside.names),
        is_flux=is_flux,
    )
    needed = {"object_id": columns.object_id, "period": columns.period}
    in_lists = {"time": columns.time, "mag": columns.mag}
    if form == "long":
        check_present(needed | in_lists, there, _LONG_FIX if columns.object_id in there else "")
    check_present(needed | (in_lists if form == "lists" else {}), there)
    if form in ("nested", "structs"):
        check_present(in_lists, inside.names)
    check_columns(schema, form, columns)
    return form, columns


def _as_ingested(chosen: SurveyConfig, schema: pa.Schema) -> SurveyConfig:
    """Return the canonical names where those that somebody chose are not there: an ingest has given them."""
    canonical = SurveyConfig()
    nested = _observed(schema, "nested", canonical.lightcurve).names
    changes = {}
    for roles, there in ((_OBJECT_ROLES, schema.names), (_OBSERVED_ROLES, [*nested, *schema.names])):
        lower = {name.casefold() for name in there}
        for role in roles:
            named, own = getattr(chosen, role), getattr(canonical, role)
            if named and own in there and not {each.casefold() for each in named.split("|")} & lower:
                changes[role] = own
    return chosen.model_copy(update=changes)


def as_spelled(
    config: SurveyConfig, there: Sequence[str], roles: Sequence[str] = (*_OBJECT_ROLES, *_OBSERVED_ROLES)
) -> SurveyConfig:
    """Return column names as a survey spells them: of a choice the first that is there, by all letters but capitals."""
    lower: dict[str, list[str]] = {}
    for name in there:
        for each in {name.casefold(), plain_name(name)}:
            lower.setdefault(each, []).append(name)

    def spelled(name: str) -> str:
        found = lower.get(name.casefold(), [])
        return found[0] if name not in there and len(found) == 1 else name

    named = {role: getattr(config, role) for role in roles}
    return config.model_copy(
        update={
            role: first_of([spelled(one) for one in names.split("|")], there) for role, names in named.items() if names
        }
    )


def check_columns(schema: pa.Schema, form: Form, columns: Columns) -> None:
    """Check that a schema holds these columns, each of a type that can be read.

    Raises
    ------
    SchemaMismatchError
        A column is missing, doubled or of a type that cannot be read.
    """
    object_id_type(schema, columns.object_id)
    scalars: dict[str, str | None] = {
        "period": columns.period,
        "ra": columns.ra,
        "dec": columns.dec,
        "class": columns.class_,
    }
    scalars[HEALPIX_COLUMN] = columns.healpix
    check_scalars(schema, {role: name for role, name in scalars.items() if name is not None})
    if columns.lightcurve is not None:
        get_type(schema, "lightcurve", columns.lightcurve)
    inside = _observed(schema, form, columns.lightcurve)
    for role in ("time", "mag", "mag_err"):
        name = getattr(columns, role)
        if name is not None:
            check_observed(get_type(inside, role, name), role, name, listed=form in ("nested", "lists"))
    for role, names in (("band", [columns.band] if columns.band else []), ("good", columns.flags)):
        for name in names:
            kind = get_type(inside, role, name)
            if is_list(kind) != (form in ("nested", "lists")):
                raise SchemaMismatchError(
                    expected=f"one value of {name!r} for each observation",
                    got=short_type(kind),
                    fix=f"name another column ({role} = ...)",
                )


def find_mag_err(config: SurveyConfig, there: list[str]) -> str | None:
    """Return the name of the errors' column, None where there is none.

    Raises
    ------
    SchemaMismatchError
        The column was named and is not there, or one of a similar name is.
    """
    name = config.mag_err
    if name is None or name in there:
        return name
    # A survey without errors is accepted, but not one whose errors merely have another name: sentinels would stay.
    if name == SurveyConfig().mag_err and nearest(name, there, cutoff=0.8) is None:
        return None
    error = missing_column("mag_err", name, there)
    error.fix += ", or mag_err = '' if there are no errors"
    raise error


def flags_of(config: SurveyConfig, there: Sequence[str]) -> tuple[str, ...]:
    """Return the fields that say which observations are good, those that are there.

    Raises
    ------
    SchemaMismatchError
        One that has to be there is not.
    """
    if config.good is None:
        return ()
    good = Good(config.good)
    for name in good.needed:
        if name not in there:
            error = missing_column("good", name, there)
            error.fix = f"correct good = {config.good!r}; flag({name}) is false where there is no such column"
            raise error
    return tuple(name for name in good.columns if name in there)


def find_band_column(inside: pa.Schema, form: Form, name: str | None, *, is_chosen: bool) -> str | None:
    """Return the column of the observations' bands: one that nobody chose has to look like it, too."""
    if name is None or is_chosen:
        return name
    kind = inside.field(name).type
    listed = form in ("nested", "lists")
    if is_list(kind) != listed:
        return None  # of the object, not of its observations
    value = kind.value_type if listed else kind
    # One called F may be a flux.
    is_code = len(name) > 1 and bool(types.is_integer(value))
    return name if is_code or is_text(value) else None


def is_leaf_of(path: str, columns: Columns, name: str) -> bool:
    """Whether a Parquet path is the one of the values of an observed column or field."""
    # struct of lists: lightcurve.time.list.element; list of structs: lightcurve.list.element.time; else
    # time.list.element or time. Writers differ in what they call `list` and `element`.
    if columns.lightcurve is None:
        return path == name or path.startswith(f"{name}.")
    return path.startswith(f"{columns.lightcurve}.{name}.") or (
        path.startswith(f"{columns.lightcurve}.") and path.endswith(f".{name}")
    )


def _period_origin(schema: pa.Schema) -> str | None:
    there = PERIOD_ORIGIN in schema.names and is_text(schema.field(PERIOD_ORIGIN).type)
    return PERIOD_ORIGIN if there else None


def _find_form(schema: pa.Schema, config: SurveyConfig) -> Form:
    if config.lightcurve in schema.names:
        kind = get_type(schema, "lightcurve", config.lightcurve)
        if types.is_struct(kind):
            return "nested"
        if is_list(kind) and types.is_struct(kind.value_type):
            return "structs"
        raise SchemaMismatchError(
            expected=f"a struct of lists, or a list of structs, in column {config.lightcurve!r}",
            got=short_type(kind),
            fix="name the column that holds the light curves (lightcurve = ...)",
        )
    if config.time not in schema.names:
        raise missing_column("lightcurve", config.lightcurve, schema.names)
    return "lists" if is_list(get_type(schema, "time", config.time)) else "long"


def _observed(schema: pa.Schema, form: Form, lightcurve: str | None) -> pa.Schema:
    """Return the light curve's fields (lists, in the forms that have them), or all columns."""
    if form in ("long", "lists"):
        return schema
    kind = schema.field(lightcurve).type if lightcurve in schema.names else pa.null()
    if form == "structs" and is_list(kind):
        kind = kind.value_type
    return pa.schema(list(kind) if types.is_struct(kind) else [])


def _is_cell(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind))
