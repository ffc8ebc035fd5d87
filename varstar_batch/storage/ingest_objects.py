"""The table of objects of an ingest, read with the survey's column names and handed on with the canonical ones."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError
from varstar_batch.files.location import Location
from varstar_batch.storage.ingest_files import cast_column, list_files, opened
from varstar_batch.storage.object_tables import read_small_table
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.schema import SchemaMismatchError, check_scalars, object_id_type


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
    tables = [_read_table(file, config, by_position) for file in list_files(url, "table of objects")]
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


def _read_table(file: Location, config: SurveyConfig, by_position: bool) -> pa.Table:
    table = read_small_table(file, config)
    if table is None:
        with opened(file) as parquet:
            table = parquet.read().replace_schema_metadata(None)
            table.validate(full=True)
    if by_position and config.object_id not in table.column_names:
        table = table.append_column(config.object_id, pa.array(range(table.num_rows), pa.int64()))
    try:
        return _canonical(table, config)
    except SchemaMismatchError as error:
        raise InputError(expected=error.expected, got=error.got, where=str(file), fix=error.fix) from error


def _canonical(table: pa.Table, config: SurveyConfig) -> pa.Table:
    """Give the columns that have a role its name and type."""
    there = table.column_names
    named = {"period": config.period, "ra": config.ra, "dec": config.dec, "class": config.class_}
    roles = {role: name for role, name in named.items() if name is not None and (name in there or role == "period")}
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
    columns = [cast_column(table[name], kinds.get(name, table.schema.field(name).type)) for name in there]
    return pa.table(columns, names=renamed)


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
