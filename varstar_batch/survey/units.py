"""The one place that brings values to days, degrees and magnitudes, whatever unit a file or a person says they have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.light_curves.fluxes import SENTINEL, magnitude_errors
from varstar_batch.light_curves.times import parse_time_system
from varstar_batch.survey.column_types import SchemaMismatchError
from varstar_batch.survey.columns import TIME_SYSTEM_KEY, SurveyConfig
from varstar_batch.survey.declared_units import GIVEN_KEY, OURS_KEY, UNIT_KEY, bracketed, declared_units

Array = npt.NDArray[np.float64]
Role = Literal["period", "ra", "dec", "time", "mag", "mag_err"]
Kind = Literal["factor", "inverse", "power", "flux"]

CANONICAL: Mapping[str, str] = {"period": "d", "ra": "deg", "dec": "deg", "time": "d", "mag": "mag", "mag_err": "mag"}
"""What values of each role are brought to."""

_EXAMPLES = {
    "period": "d, h, min, s or 1/d",
    "ra": "deg, rad or hourangle",
    "dec": "deg or rad",
    "time": "d or s",
    "mag": "mag, mmag or nJy",
    "mag_err": "mag, mmag or nJy",
}
_OPTIONS = {"ra": "position_unit", "dec": "position_unit", "mag_err": "mag_unit"}
_HOURS = ("hourangle", "h", "hr", "hour", "hours")
_SEXAGESIMAL = ("h:m:s", "d:m:s", "hms", "dms", "hh:mm:ss", "dd:mm:ss", "sexagesimal")
_ANGLE = (
    r"^(?P<sign>[+-]?)(?P<whole>\d+)(?P<mark>[:hd]|\s)\s*(?P<min>\d+)(?:[:m']|\s)\s*(?P<sec>\d+(?:\.\d*)?)\s*[s\"]?$"
)
_WORDS = {
    **{"days": "d", "hours": "h", "hrs": "h", "minutes": "min", "seconds": "s", "sec": "s", "years": "yr"},
    **{"degrees": "deg", "degs": "deg", "radians": "rad", "mags": "mag", "magnitude": "mag", "magnitudes": "mag"},
    **{"counts": "ct", "e-": "electron", "electrons": "electron", "c": "cycle", "cycles": "cycle"},
}


@dataclass(frozen=True)
class Conversion:
    """How values in a unit become values in the canonical one of their role."""

    unit: str
    """As declared."""
    kind: Kind
    """Multiplied; the factor by them (frequencies); ten to their power, multiplied; fluxes to magnitudes."""
    factor: float
    zero: float = 0.0
    """Magnitude of a flux of 1 once multiplied."""

    @property
    def changes(self) -> bool:
        """Whether values are not canonical already."""
        return self.kind != "factor" or self.factor != 1.0

    def apply(self, values: Array) -> Array:
        """Return canonical values: days, degrees, magnitudes; NaN where there are none."""
        if self.kind == "factor":
            return values if self.factor == 1.0 else values * self.factor
        with np.errstate(all="ignore"):
            if self.kind == "inverse":
                return self.factor / values
            if self.kind == "power":
                return np.asarray(10.0**values * self.factor, np.float64)
            mag = self.zero - 2.5 * np.log10(values * self.factor)
        # A flux that is not known stays so; one that is not positive has no magnitude.
        return np.where(values > 0, mag, np.where(np.isnan(values), np.nan, SENTINEL))


def magnitudes(mag: Array, mag_err: Array | None, conversions: Mapping[str, Conversion]) -> tuple[Array, Array | None]:
    """Return magnitudes and their errors of values in the units of `mag` and `mag_err`.

    An error in a unit of fluxes is one of a flux: 2.5 / ln 10 * error / flux, to first order.
    """
    of_mag, of_err = conversions.get("mag"), conversions.get("mag_err")
    if mag_err is not None and of_err is not None:
        if of_err.kind != "flux":
            mag_err = of_err.apply(mag_err)
        elif of_mag is not None:
            mag_err = magnitude_errors(mag * of_mag.factor, mag_err * of_err.factor)
    if of_mag is not None:
        if of_mag.kind == "flux" and mag_err is not None:
            mag_err = np.where(mag > 0, mag_err, SENTINEL)
        mag = of_mag.apply(mag)
    return mag, mag_err


def conversions_of(
    schema: pa.Schema,
    columns: Mapping[str, str | None],
    config: SurveyConfig,
    inside: str | None = None,
    *,
    is_flux: bool = False,
) -> dict[str, Conversion]:
    """Return how the columns of a file become canonical, by role; roles that nothing says a unit of are left out.

    Parameters
    ----------
    schema : pa.Schema
        Of the file.
    columns : mapping of str to str or None
        Name by role.
    config : SurveyConfig
        Its units are those of columns of which the file says none.
    inside : str, optional
        Column whose fields time, mag and mag_err are.
    is_flux : bool
        The columns of `mag` and `mag_err` hold fluxes.

    Raises
    ------
    SchemaMismatchError
        A unit that is unknown or impossible, or another one in the configuration than in the file.
    """
    declared = declared_units(schema)
    # What a survey of ours was made of, a configuration may still say; its own values are canonical.
    is_ours = OURS_KEY in (schema.metadata or {})
    found: dict[str, Conversion] = {}
    for role, name in columns.items():
        if name is None or role not in CANONICAL:
            continue
        told = None
        for key in (name, f"{inside}.{name}") if inside and role in ("time", "mag", "mag_err") else (name,):
            told = declared.get(key, told)
        told = unit_in_name(name) if told is None else None if told.strip("\"' ").lower() in _SEXAGESIMAL else told
        option = "flux_unit" if is_flux and role in ("mag", "mag_err") else _OPTIONS.get(role, f"{role}_unit")
        said = getattr(config, option)
        # Where right ascensions are hours, declinations are degrees.
        by_hours = role == "dec" and said is not None and said.strip().lower() in _HOURS
        by_config = None if said is None or is_ours or by_hours else conversion(said, role, name, option)
        in_file = _of_file(told, role, name, option, by_config)
        if in_file and by_config and (in_file.kind, in_file.factor) != (by_config.kind, by_config.factor):
            raise SchemaMismatchError(
                expected=f"one unit of {name!r}; the file says {told!r}",
                got=f"{said!r} in the configuration",
                fix=f"leave {option} out of the configuration, or correct the file",
            )
        chosen = in_file or by_config
        if chosen is not None:
            found[role] = chosen
    if is_flux and found.get("mag", _PLAIN).kind != "flux":
        raise SchemaMismatchError(
            expected=f"a unit of fluxes of column {columns['mag']!r}",
            got=repr(found["mag"].unit) if "mag" in found else "none",
            fix="say it, as in --set survey.flux_unit=nJy",
        )
    # An error without a unit has that of what it is the error of.
    if "mag" in found and "mag_err" not in found and columns.get("mag_err") is not None:
        found["mag_err"] = found["mag"]
    if found.get("mag_err", _PLAIN).kind == "flux" and found.get("mag", _PLAIN).kind != "flux":
        raise SchemaMismatchError(
            expected=f"a unit of fluxes of {columns['mag']!r}, too, as its errors have it",
            got=repr(found["mag"].unit) if "mag" in found else "none",
            fix="say it (mag_unit = ...), or correct the file",
        )
    return found


_PLAIN = Conversion("", "factor", 1.0)


def _of_file(told: str | None, role: str, name: str, option: str, by_config: Conversion | None) -> Conversion | None:
    if told is None:
        return None
    try:
        return conversion(told, role, name, option)
    except SchemaMismatchError:
        # What the file says is no unit at all, and somebody has said which it is.
        if by_config is not None:
            return None
        raise


def told_conversions(conversions: Mapping[str, Conversion]) -> dict[str, str]:
    """Return what is converted, for people: the unit as given and the canonical one, by role."""
    return {role: f"{one.unit} to {CANONICAL[role]}" for role, one in conversions.items() if one.changes}


def canonical_field(field: pa.Field, role: str, given: Conversion | None = None) -> pa.Field:
    """Return a field that carries its canonical unit, and the one its values came in."""
    metadata = {UNIT_KEY: CANONICAL[role].encode()}
    if given is not None and given.changes:
        metadata[GIVEN_KEY] = given.unit.encode()
    return field.with_metadata(metadata)


def conversion(text: str, role: str, name: str, option: str) -> Conversion:
    """Return how values in a unit become canonical ones of a role; `option` of the configuration says it, too.

    Raises
    ------
    SchemaMismatchError
        The unit is unknown, or no such values can have it.
    """
    text = text.strip()
    if text == CANONICAL[role]:
        return Conversion(text, "factor", 1.0)
    # As TESS has it: "BJD - 2457000, days".
    if role == "time" and parse_time_system(text.split(",")[0]).jd_offset is not None:
        return Conversion(text, "factor", 1.0)
    known = False
    for unit in _parsed(text):
        known = True
        found = _convert(unit, role)
        if found is not None:
            return Conversion(text, *found)
    raise SchemaMismatchError(
        expected=f"a unit of the {role} in column {name!r}, such as {_EXAMPLES[role]}",
        got=f"{text!r}" + ("" if known else ", which is no unit that astropy knows"),
        fix=f"correct it in the file, or say --set survey.{option}=UNIT" + (" beside it" if known else ""),
    )


def told_time_system(schema: pa.Schema, name: str) -> str | None:
    """Return the system that a file declares of a column of times: for all of it, or in the place of its unit."""
    stored = (schema.metadata or {}).get(TIME_SYSTEM_KEY.encode())
    if stored:
        return str(stored.decode(errors="replace"))
    text = (declared_units(schema).get(name) or bracketed(name) or "").split(",")[0].strip()
    return text if parse_time_system(text).jd_offset is not None else None


def unit_in_name(name: str) -> str | None:
    """Return the unit in the name of a column, as in ``period [h]`` or ``mag (mmag)``: what is no unit is none."""
    text = bracketed(name)
    if text is None or text.upper() in ("AB", "ST"):  # magnitudes' systems, and units of fluxes, too
        return None
    if parse_time_system(text.split(",")[0]).jd_offset is not None:
        return text
    roles = ("period", "ra", "time", "mag")
    return text if any(_convert(unit, role) for unit in _parsed(text) for role in roles) else None


def degrees_of(texts: pa.ChunkedArray, role: str, name: str) -> pa.ChunkedArray:
    """Return angles in texts [deg]: numbers, or hours or degrees with minutes and seconds, as in ``05:20:10.5``.

    Raises
    ------
    SchemaMismatchError
        Something else.
    """
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(texts.cast(pa.string()))
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    parts = pc.extract_regex(texts, _ANGLE)
    if texts.null_count == parts.null_count:
        sign = pc.if_else(pc.equal(pc.struct_field(parts, "sign"), "-"), -1.0, 1.0)
        hours = pc.if_else(pc.or_(pc.equal(pc.struct_field(parts, "mark"), "d"), role == "dec"), 1.0, 15.0)
        whole, minutes, seconds = (pc.struct_field(parts, each).cast(pa.float64()) for each in ("whole", "min", "sec"))
        sizes = (pc.divide(minutes, 60.0), pc.divide(seconds, 3600.0))
        return pc.multiply(pc.multiply(sign, hours), pc.add(whole, pc.add(*sizes)))
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise SchemaMismatchError(
            expected=f"angles in {name!r}: numbers, or texts such as 05:20:10.5",
            got=str(error).splitlines()[0],
            fix=f"write them so, or leave them out with --set survey.{role}=''",
        ) from None


def is_unit(text: str) -> bool:
    """Whether a text is a unit, or a time system, which stands in the place of one."""
    return parse_time_system(text).jd_offset is not None or any(True for _ in _parsed(text))


def _parsed(text: str) -> Iterator[Any]:
    """Yield the units that a text may mean, the likeliest first."""
    import warnings

    from astropy import units

    words = re.sub(r"e-(?=/|\s|$)|[a-z]+", lambda word: _WORDS.get(word[0], word[0]), text.lower())
    for spelling, syntax in ((text, None), (text, "vounit"), (text, "cds"), (words, None)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield units.Unit(spelling, format=syntax)
            except (ValueError, TypeError):
                continue


def _convert(unit: Any, role: str) -> tuple[Any, ...] | None:
    """Return kind, factor and zero of a conversion, or None where a unit is impossible in a role."""
    from astropy import units

    target = units.Unit(CANONICAL[role])
    if role in ("mag", "mag_err"):
        return _convert_brightness(unit)
    if isinstance(unit, units.function.FunctionUnitBase):
        is_log = role == "period" and unit.function_unit == units.dex and unit.physical_unit.is_equivalent(target)
        return ("power", float(unit.physical_unit.to(target))) if is_log else None
    if unit.is_equivalent(target):
        return "factor", float(unit.to(target))
    if role == "ra" and unit == units.h:
        return "factor", 15.0
    for frequency in (unit, unit / units.cycle) if role == "period" else ():
        if frequency.is_equivalent(1 / units.d):
            return "inverse", 1 / float(frequency.to(1 / units.d))
    return None


def _convert_brightness(unit: Any) -> tuple[Any, ...] | None:
    from astropy import units

    in_mag = unit.function_unit if isinstance(unit, units.function.FunctionUnitBase) else unit
    if in_mag.is_equivalent(units.mag):
        factor = float(in_mag.to(units.mag))
        return ("factor", factor) if factor > 0 else None
    if unit is not in_mag:
        return None
    for per, zero in ((units.AB, 0.0), (units.ST, 0.0), (units.mgy, 0.0)):
        if unit.is_equivalent(per):
            return "flux", float(unit.to(per)), zero
    # Of detectors: magnitudes on the instrument's own scale.
    for counted in (units.electron, units.ct, units.adu, units.ph):
        for one in (counted, counted / units.s):
            if unit.is_equivalent(one):
                return "flux", float(unit.to(one)), 0.0
    return None


def impossible_times(time_system: str, first: float, last: float) -> SchemaMismatchError:
    """Return the error of times [d] of which none can be in the declared system."""
    low, high = parse_time_system(time_system).limits
    fitting = [name for name in ("JD", "MJD", "HJD-2450000") if all(_is_possible(name, time) for time in (first, last))]
    hint = f" ({' or '.join(fitting)} could be: --time-system of an ingest, or survey.time_system)" if fitting else ""
    return SchemaMismatchError(
        expected=f"times that {time_system} can have, {low:.1f} to {high:.1f} (the years 1800 to 2100)",
        got=f"{first:.1f} to {last:.1f}",
        fix=f"declare the system that they are in{hint}",
    )


def _is_possible(time_system: str, time: float) -> bool:
    low, high = parse_time_system(time_system).limits
    return low <= time <= high
