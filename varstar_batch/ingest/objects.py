"""The table of objects of an ingest, with canonical names for its columns: identifiers, positions, periods."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.input_tables import cast_column, list_files, read_whole, refused
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location
from varstar_batch.ingest.written import converted
from varstar_batch.sky import HEALPIX_COLUMN, cells_of, match_positions
from varstar_batch.survey.column_types import (
    SchemaMismatchError,
    check_present,
    check_scalars,
    is_text,
    object_id_type,
)
from varstar_batch.survey.columns import PERIOD_ORIGIN, SECOND_TABLE, SurveyConfig
from varstar_batch.survey.decode import origins
from varstar_batch.survey.schema import as_spelled
from varstar_batch.survey.units import CANONICAL, canonical_field, conversions_of, degrees_of

Array = npt.NDArray[np.float64]


def read_objects(url: str | os.PathLike[str], config: SurveyConfig, *, by_position: bool = False) -> pa.Table:
    """Read a table of objects, with the canonical names for the columns that have one.

    Parameters
    ----------
    url : str or path
    config : SurveyConfig
    by_position : bool
        The objects need no identifier: where there is none they are numbered.

    Raises
    ------
    InputError
        A file that is missing or cannot be read, a missing or mistyped column, no object, an object_id that is null or
        there twice.
    """
    tables = [_read_file(file, config, by_position) for file in list_files(url, "table of objects")]
    try:
        objects = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(
            expected="files of objects with the same columns and types",
            got=str(error),
            where=str(url),
            fix="write them alike",
        ) from error
    if not by_position:
        _check_ids(objects["object_id"], str(url))
    return objects.combine_chunks()


def _read_file(file: Location, config: SurveyConfig, by_position: bool) -> pa.Table:
    table = read_whole(file, [name for name in (config.object_id, config.class_) if name])
    config = as_spelled(config, table.column_names)
    if config.period is None:  # the survey has none, as the configuration says
        table = table.append_column("period", pa.nulls(table.num_rows, pa.float64()))
        config = config.model_copy(update={"period": "period"})
    if by_position and config.object_id not in table.column_names:
        table = table.append_column(config.object_id, pa.array(range(table.num_rows), pa.int64()))
    with refused(file):
        return _canonical(table, config)


def _canonical(table: pa.Table, config: SurveyConfig) -> pa.Table:
    """Give the columns that have a role its name and type."""
    there = table.column_names
    check_present({"object_id": config.object_id, "period": config.period}, there)
    named = {"period": config.period, "ra": config.ra, "dec": config.dec, "class": config.class_}
    roles = {role: name for role, name in named.items() if name is not None and (name in there or role == "period")}
    for axis in ("ra", "dec"):
        if there.count(roles.get(axis, "")) == 1 and is_text(table.schema.field(roles[axis]).type):
            place = there.index(roles[axis])
            field = table.schema.field(place).with_type(pa.float64()).with_metadata(None)
            table = table.set_column(place, field, degrees_of(table[place], axis, roles[axis]))
    check_scalars(table.schema, roles)
    kinds = {name: pa.large_string() if role == "class" else pa.float64() for role, name in roles.items()}
    kinds[config.object_id] = getattr(pa, object_id_type(table.schema, config.object_id))()
    names = {config.object_id: "object_id"} | {name: role for role, name in roles.items()}
    renamed = [names.get(name, name) for name in there]
    doubled = [name for name in renamed if renamed.count(name) > 1]
    if doubled or "lightcurve" in renamed:
        raise SchemaMismatchError(
            expected="columns of the objects with different names, none of them 'lightcurve'",
            got=f"{(doubled or ['lightcurve'])[0]!r}" + (" twice, by itself and for another column" if doubled else ""),
            fix="rename it in the table",
        )
    conversions = conversions_of(table.schema, roles, config)
    role_of = {name: role for role, name in roles.items()}
    columns, fields = [], []
    for name, new in zip(there, renamed, strict=True):
        column = cast_column(table[name], kinds.get(name, table.schema.field(name).type))
        role = role_of.get(name, "")
        field = table.schema.field(name).with_name(new).with_type(column.type)
        if role in CANONICAL:
            given = conversions.get(role)
            if given is not None and given.changes:
                values = given.apply(column.to_numpy().astype(np.float64))
                column = pa.chunked_array([pa.array(values, from_pandas=True)])
            field = canonical_field(field, role, given)
        columns.append(column)
        fields.append(field)
    made = pa.table(columns, schema=pa.schema(fields))
    if "dec" in roles and pc.any(pc.greater(pc.abs(made["dec"]), 90.0)).as_py():
        raise SchemaMismatchError(
            expected=f"declinations in {roles['dec']!r} of -90 to 90 deg",
            got=f"{pc.min(made['dec']).as_py():g} to {pc.max(made['dec']).as_py():g}",
            fix="say the unit (--set survey.position_unit=rad), or correct them",
        )
    return made


def _check_ids(ids: pa.ChunkedArray, where: str) -> None:
    if len(ids) == 0:
        raise InputError(expected="at least one object", got="none", where=where, fix="check the table of objects")
    if ids.null_count:
        raise InputError(
            expected="an object_id of every object",
            got=f"{ids.null_count} nulls",
            where=where,
            fix="fill them or leave these rows out",
        )
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        shown = ", ".join(repr(name) for name in twice.slice(0, 3).to_pylist()) + (", ..." if len(twice) > 3 else "")
        raise InputError(
            expected="every object_id once",
            got=f"{len(twice)} of them more than once: {shown}",
            where=where,
            fix="leave out the repetitions, or make the identifiers different",
        )


def positions_of(objects: pa.Table) -> tuple[Array, Array]:
    """Return right ascensions and declinations [deg] of n objects, float64 (n,); NaN where they are not known."""
    ra, dec = (
        objects[axis].to_numpy() if axis in objects.column_names else np.full(len(objects), np.nan)
        for axis in ("ra", "dec")
    )
    return ra, dec


def all_positions(objects: pa.Table, purpose: str, option: str) -> tuple[Array, Array]:
    """Return what `positions_of` does, where every object has a position.

    Parameters
    ----------
    objects : pa.Table
    purpose : str
        What needs them, for an error.
    option : str
        Asks for it.

    Raises
    ------
    InputError
        An object has none.
    """
    ra, dec = positions_of(objects)
    lost = np.flatnonzero(~(np.isfinite(ra) & (np.abs(dec) <= 90)))
    if len(lost):
        raise InputError(
            expected=f"the position of every object, {purpose}",
            got=f"{len(lost)} of {len(objects)} without, the first {objects['object_id'][int(lost[0])].as_py()!r}",
            where="table of objects",
            fix=f"complete ra and dec in the table of objects, or leave {option} out",
        )
    return ra, dec


def with_cells(objects: pa.Table) -> pa.Table:
    """Return the objects with the column of their HEALPix cells of order 29 in front. Raises as `all_positions`."""
    cells = cells_of(*all_positions(objects, "which HATS needs", "--hats"), 29)
    if HEALPIX_COLUMN in objects.column_names:
        objects = objects.drop_columns([HEALPIX_COLUMN])
    return objects.add_column(0, pa.field(HEALPIX_COLUMN, pa.int64(), nullable=False), pa.array(cells))


def with_periods(
    objects: pa.Table, url: str, config: SurveyConfig, radius: float | None
) -> tuple[pa.Table, dict[str, int]]:
    """Return objects with the periods of another table; where that has none, their own stay.

    Parameters
    ----------
    objects : pa.Table
        With canonical names.
    url : str
        Parquet, CSV, ECSV, FITS or VOTable.
    config : SurveyConfig
        Names of the columns of the other table.
    radius : float or None
        Arcseconds within which positions belong together; None to match by identifier.

    Returns
    -------
    pa.Table, dict of str to int
        The counts: `matched` objects have a row in the table, of which `taken` have a period there; `ambiguous` ones
        have more than one row within the radius (the nearest was taken); `shared` rows belong to several objects.

    Raises
    ------
    InputError
        The table cannot be read, has an identifier twice, or positions are missing.
    """
    periods = read_objects(url, config, by_position=radius is not None)
    ambiguous = shared = 0
    if radius is None:
        ids = periods["object_id"].cast(pa.large_string()).combine_chunks()
        row = pc.index_in(objects["object_id"].cast(pa.large_string()), ids).fill_null(-1).to_numpy()
    else:
        for table, where in ((objects, "the table of objects"), (periods, url)):
            if not {"ra", "dec"} <= set(table.column_names):
                raise InputError(
                    expected="columns ra and dec, to match by position",
                    got="none",
                    where=where,
                    fix="leave --periods-radius out, and objects are matched by identifier",
                )
        match = match_positions(*positions_of(objects), *positions_of(periods), radius / 3600)
        row, ambiguous, shared = match.row, int(match.ambiguous.sum()), match.shared
    there = np.append(periods["period"].to_numpy().astype(np.float64), np.nan)[row]
    taken = np.isfinite(there)
    counts = {"matched": int((row >= 0).sum()), "taken": int(taken.sum()), "ambiguous": ambiguous, "shared": shared}
    counts |= {
        f"{change} of {url.rpartition('/')[2]}": counts["taken"] for change in converted(periods.select(["period"]))
    }
    sources = None
    if "period_source" in periods.column_names:
        sources = periods["period_source"].take(pa.array(row, mask=row < 0))
    new = np.where(taken, there, objects["period"].to_numpy())
    return with_new_periods(objects, new, taken, SECOND_TABLE, sources or url.rpartition("/")[2]), counts


def with_origins(objects: pa.Table) -> pa.Table:
    """Return objects with a column that says where their periods are from, as they tell it, else from themselves."""
    there = PERIOD_ORIGIN in objects.column_names
    told = objects[PERIOD_ORIGIN].cast(pa.large_string()) if there else pa.nulls(len(objects), pa.large_string())
    told = pa.chunked_array([told]) if isinstance(told, pa.Array) else told
    period = objects["period"].to_numpy()
    column = origins(told.combine_chunks(), period)
    if there:
        return objects.set_column(objects.column_names.index(PERIOD_ORIGIN), PERIOD_ORIGIN, column)
    return objects.append_column(PERIOD_ORIGIN, column)


def with_new_periods(
    objects: pa.Table, periods: Array, is_new: npt.NDArray[np.bool_], origin: str, source: str | pa.ChunkedArray
) -> pa.Table:
    """Return n objects with other periods, and what that means for `PERIOD_ORIGIN` and their column period_source.

    Parameters
    ----------
    objects : pa.Table
        As `with_origins` returns them.
    periods : float64 array (n,)
        [d]; null where they are NaN.
    is_new : bool array (n,)
        Whose period is of this origin.
    origin, source : str
        What `PERIOD_ORIGIN` and, where there is such a column, period_source say of the new ones.
    """
    changes = {PERIOD_ORIGIN: origin, "period": pa.array(periods, pa.float64(), from_pandas=True)}
    if "period_source" in objects.column_names and pa.types.is_large_string(objects["period_source"].type):
        changes["period_source"] = source
    for name, new in changes.items():
        field = objects.schema.field(name)
        value = pa.scalar(new, field.type) if isinstance(new, str) else new.cast(field.type)
        column = value if name == "period" else pc.if_else(pa.array(is_new), value, objects[name])
        objects = objects.set_column(objects.column_names.index(name), field, column)
    return objects
