"""Light curves that somebody holds, as one Arrow table: arrays, or a table of pandas, polars, Arrow or astropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError, one_line
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.declared_units import UNIT_KEY
from varstar_batch.survey.long_form import run_starts

WHERE = "light curves"

OBSERVED = ("time", "mag", "mag_err", "band")


def table_of_arrays(columns: Mapping[str, Any], period: Any, object_id: Any) -> tuple[pa.Table, bool]:
    """Return light curves as a table with a list of each kind for each object, and whether it is a single one.

    Parameters
    ----------
    columns : mapping of str to array_like, or to a sequence of them
        Of `OBSERVED`, those that there are, in the order of this mapping: for one object, or one array an object.
    period : array_like or None
        Days, one an object.
    object_id : array_like or None
        One an object; counted from 0 where there are none.

    Raises
    ------
    InputError
        Lengths differ, or something is no array of numbers.
    """
    # An empty list is one of no arrays, unless there is one period: then it is a star without observations.
    nothing = period is None or np.ndim(plain(period)) > 0 or isinstance(period, Mapping)
    lists = {
        name: ([], False) if nothing and _is_empty(values) else _lists(name, values) for name, values in columns.items()
    }
    is_single = all(single for _, single in lists.values())
    arrays = {name: parts for name, (parts, _) in lists.items()}
    number = len(arrays["time"])
    lengths = np.array([len(part) for part in arrays["time"]], np.int64)
    for name, parts in arrays.items():
        _check_lengths(name, lengths, parts)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    made: dict[str, pa.Array] = {"object_id": pa.array(np.arange(number))}
    if object_id is not None:
        try:
            made["object_id"] = pa.array([object_id] if is_single else plain(object_id))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                expected="integers or texts", got=one_line(error), where="object_id", fix="make all of them texts"
            ) from None
        _check_number("object_id", len(made["object_id"]), number)
        check_once(made["object_id"], "object_id")
    for name, parts in arrays.items():
        made[name] = pa.LargeListArray.from_arrays(offsets, _joined(parts))
    table = pa.table(made)
    # An index of pandas names no star where the stars have no names.
    period = plain(period) if object_id is None and hasattr(period, "iloc") else period
    period = [] if period is None and not number else period
    return (table if period is None else with_period(table, period, SurveyConfig())), is_single


def table_of(source: Any, config: SurveyConfig) -> tuple[pa.Table, SurveyConfig]:
    """Return a table as Arrow, the rows of each object together, and the names in it.

    Parameters
    ----------
    source : pandas, polars, Arrow or astropy table, or astropy time series
        One row an object with nested or list columns, or one row an observation. Without identifiers its rows are
        observations of one object.
    config : SurveyConfig

    Raises
    ------
    InputError
        It is no table.
    """
    if _is_of(source, "astropy"):
        table = _of_astropy(source)
    elif hasattr(source, "reset_index") and config.object_id == getattr(source.index, "name", None):
        table = _arrow(source.reset_index())
    elif hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
        table = _arrow(source)
    else:
        raise InputError(
            expected="arrays, or a table of pandas, polars, Arrow or astropy",
            got=type(source).__name__,
            where=WHERE,
            fix="give time, mag and mag_err as arrays, or a table with these columns",
        )
    # Polars' texts are of a type that nothing else reads.
    fields = [each.with_type(pa.large_string()) if each.type == pa.string_view() else each for each in table.schema]
    table = table.cast(pa.schema(fields, table.schema.metadata))
    if "mag" not in table.column_names and "flux" in table.column_names and config.flux is None:
        config = config.model_copy(update={"flux": "flux", "flux_err": "flux_err"})
    if config.object_id not in table.column_names and not pa.types.is_nested(_type_of(table, config.time)):
        table = table.append_column(config.object_id, pa.array(np.zeros(len(table), np.int64)))
    return _together(table, config), config


def _arrow(source: Any) -> pa.Table:
    try:
        return pa.table(source)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise InputError(
            expected="a table whose columns have one name and one type each",
            got=one_line(error),
            where=WHERE,
            fix="name and convert its columns",
        ) from None


def with_period(table: pa.Table, period: Any, config: SurveyConfig) -> pa.Table:
    """Return a table with other periods.

    Parameters
    ----------
    table : pa.Table
        The rows of each object together.
    period : float, array_like of float, or mapping of identifiers to them
        Days: for every object, one an object in the order of the table, or by object.
    config : SurveyConfig
        Names of the columns.

    Raises
    ------
    InputError
        There are more or fewer periods than objects, or they are no days, or of none of the objects.
    """
    if config.object_id not in table.column_names:
        raise InputError(
            expected=f"a column {config.object_id!r} or flat columns {config.time!r} and {config.mag!r}",
            got=", ".join(table.column_names[:12]) or "none",
            where=WHERE,
            fix="say what they are called, as in columns={'object_id': 'star', 'time': 'jd'}",
        )
    ids = table[config.object_id].combine_chunks()
    starts = run_starts(ids)
    number = len(starts)
    if isinstance(period, Mapping) or (hasattr(period, "index") and hasattr(period, "to_dict")):
        of = dict(period.items())
        named = ids.take(pa.array(starts)).to_pylist()
        if named and of and of.keys().isdisjoint(named):
            raise InputError(
                expected=f"periods of these objects, such as {named[0]!r}",
                got=f"those of {', '.join(map(repr, list(of)[:3]))}",
                where="period",
                fix="name the objects as the light curves do, or give the periods as an array in their order",
            )
        values = days([of.get(each, np.nan) for each in named])
    else:
        values = days(period)
        values = np.full(number, values) if values.ndim == 0 else values
        _check_number("period", len(values), number)
    column = np.repeat(values, np.diff(np.append(starts, len(table))))
    name = config.period or "period"
    if name in table.column_names:
        table = table.drop_columns([name])
    return table.append_column(name, pa.array(column))


def days(period: Any) -> npt.NDArray[np.float64]:
    """Return periods in days, whatever holds them; NaN where there is none. Raises InputError."""
    # A TimeDelta's own numbers may be seconds.
    given = period.jd if hasattr(period, "jd1") else period
    try:
        return np.asarray(plain(_unmasked(given), "d"), np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            expected="periods in days", got=one_line(error), where="period", fix="give numbers, or a quantity of time"
        ) from None


def plain(values: Any, unit: str = "") -> Any:
    """Return times, quantities, masked arrays and columns of tables as plain arrays; other things as they are."""
    if hasattr(values, "jd1"):  # astropy's Time: its own numbers where it has any, such as a TESS light curve's
        own = np.asarray(values.value)
        return own.astype(np.float64) if own.dtype.kind in "fiu" else np.asarray(values.jd, np.float64)
    if getattr(values, "unit", None) is not None and hasattr(values, "to_value"):
        values = values.to_value(unit or values.unit)
    if isinstance(values, np.ma.MaskedArray):
        values = values.filled(np.nan) if values.dtype.kind == "f" else values.data
    if isinstance(values, pa.Array):
        return values.to_numpy(zero_copy_only=False)
    return values.to_numpy() if hasattr(values, "to_numpy") else values


def _unmasked(values: Any) -> Any:
    """Return integers some of which are masked as floats, NaN there; other things as they are."""
    if not isinstance(values, np.ma.MaskedArray) or values.dtype.kind not in "iu" or not np.ma.is_masked(values):
        return values
    return np.ma.filled(values.astype(np.float64), np.nan)


UNITS = {"time": "d", "mag": "mag", "mag_err": "mag", "band": ""}


def _in_its_unit(name: str, values: Any) -> Any:
    # AB and ST magnitudes are magnitudes of a known zero, which a fold does not need.
    if name in ("mag", "mag_err") and str(getattr(getattr(values, "unit", None), "function_unit", "")) == "mag":
        values = values.value
    try:
        return plain(_unmasked(values), UNITS[name])
    except ValueError as error:  # astropy's UnitConversionError is one
        raise InputError(
            expected=f"a unit like {UNITS[name]}",
            got=one_line(error),
            where=name,
            fix="give magnitudes, or a table with time, flux and flux_err whose units it says",
        ) from None


def _lists(name: str, values: Any) -> tuple[list[npt.NDArray[Any]], bool]:
    """Return an array for each object, and whether there is only one object, whose array was given as such."""
    values = _in_its_unit(name, values)
    first = next(iter(values), None) if hasattr(values, "__iter__") and not isinstance(values, str | bytes) else None
    is_many = np.ndim(values) == 2 if isinstance(values, np.ndarray) and values.dtype != object else _is_array(first)
    parts = [np.asarray(_in_its_unit(name, each)) for each in (values if is_many else [values])]
    for k, part in enumerate(parts):
        kinds = "OUS" if name == "band" else "fiu"
        if part.ndim != 1 or (part.dtype.kind not in kinds and len(part)):
            raise InputError(
                expected=f"a one-dimensional array of {'names' if name == 'band' else 'numbers'}",
                got=f"{part.ndim} dimensions of {part.dtype}",
                where=name + (f" of light curve {k}" if is_many else ""),
                fix="give time, mag and mag_err of one star as arrays, or a list of such arrays",
            )
    return parts, not is_many


def _is_empty(values: Any) -> bool:
    return isinstance(values, list | tuple) and not values


def check_once(ids: pa.Array | pa.ChunkedArray, name: str) -> None:
    """Refuse identifiers of which one stands twice, one for each object. Raises InputError."""
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise InputError(
            expected="every object once",
            got=f"{len(repeated):,} of them more than once, such as {repeated[0]['values'].as_py()!r}",
            where=name,
            fix="join the observations of an object, or give its light curves names of their own",
        )


def _joined(parts: Sequence[npt.NDArray[Any]]) -> pa.Array:
    if not parts:
        return pa.array([], pa.float64())
    joined = np.concatenate(parts)
    if joined.dtype.kind in "iu" or joined.dtype == np.float16 or (joined.dtype.kind == "f" and joined.itemsize > 8):
        joined = joined.astype(np.float64)
    return pa.array(joined if joined.dtype.isnative else joined.astype(joined.dtype.newbyteorder("=")))


def _check_lengths(name: str, lengths: npt.NDArray[np.int64], parts: Sequence[npt.NDArray[Any]]) -> None:
    _check_number(name, len(parts), len(lengths))
    unlike = np.flatnonzero(lengths != np.array([len(part) for part in parts], np.int64))
    if len(unlike):
        k = int(unlike[0])
        raise InputError(
            expected=f"as many values as times, {lengths[k]:,}",
            got=f"{len(parts[k]):,}",
            where=name + (f" of light curve {k}" if len(lengths) > 1 else ""),
            fix="give one value an observation",
        )


def _check_number(name: str, got: int, number: int) -> None:
    if got != number:
        raise InputError(
            expected=f"one for each of {number:,} light curves", got=f"{got:,}", where=name, fix="give one an object"
        )


def _together(table: pa.Table, config: SurveyConfig) -> pa.Table:
    """Return a table with the rows of each object together, in the order in which the objects first come."""
    if config.object_id not in table.column_names or pa.types.is_nested(_type_of(table, config.time)):
        return table
    codes = pc.dictionary_encode(table[config.object_id].combine_chunks()).indices
    codes = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    if np.all(codes[1:] >= codes[:-1]):
        return table
    return table.take(pa.array(np.argsort(codes, kind="stable")))


def _type_of(table: pa.Table, name: str) -> pa.DataType:
    """Return the type of a column, of lists where there is none of that name: it is in a nested one."""
    return table.schema.field(name).type if name in table.column_names else pa.list_(pa.null())


def _of_astropy(source: Any) -> pa.Table:
    columns, fields = [], []
    for name in source.colnames:
        column = source[name]
        unit = str(getattr(column, "unit", None) or "")
        values = plain(column)
        mask = np.asarray(getattr(column, "mask", False))
        if getattr(values, "ndim", 1) > 1 or getattr(getattr(values, "dtype", None), "kind", "") == "O":
            array = pa.array([np.asarray(plain(each)) for each in values])
        else:
            values = np.asarray(values)
            native = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
            array = pa.array(native, mask=mask if mask.shape == native.shape and native.dtype.kind != "f" else None)
        columns.append(array)
        fields.append(pa.field(name, array.type, metadata={UNIT_KEY: unit.encode()} if unit else None))
    return pa.table(columns, schema=pa.schema(fields))


def _is_of(value: Any, package: str) -> bool:
    return any(cls.__module__.partition(".")[0] == package for cls in type(value).__mro__)


def _is_array(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes | Mapping)
