"""The table of objects of an ingest, read with the survey's column names and handed on with the canonical ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.archives.fits_votable import kind_of, read_with_astropy
from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.location import Location, locate
from varstar_batch.files.parquet import opened_parquet, parquet_files
from varstar_batch.sky import match_positions
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


def list_files(url: str | os.PathLike[str], what: str) -> list[Location]:
    """Return the Parquet files of a table, by name.

    Parameters
    ----------
    url : str or path
        A file, or a folder of them.
    what : str
        What the reader of an error calls the table.

    Raises
    ------
    InputError
        There is none.
    """
    place = locate(url, what=what)
    if place.is_file():
        return [place]
    files = [place / info.key for info in parquet_files(place)] if place.exists() else []
    if not files:
        raise InputError(
            expected=f"the {what} (a Parquet file, or a folder with some)",
            got="no Parquet file (*.parquet) in it" if place.exists() else "nothing there",
            where=str(place),
            fix="check the path",
        )
    return files


@contextmanager
def opened(file: Location) -> Iterator[pq.ParquetFile]:
    """Open an input: what is wrong with it ends the ingest, since nobody can say which objects it would have been.

    Raises
    ------
    InputError
        It is missing, may not be read, is damaged or a bomb, or lacks a column.
    OSError
        The storage failed.
    """
    try:
        with opened_parquet(file) as parquet:
            yield parquet
    except PartitionError as error:
        raise InputError(expected=error.expected, got=error.got, where=error.where, fix=error.fix) from error
    except SchemaMismatchError as error:
        raise InputError(expected=error.expected, got=error.got, where=str(file), fix=error.fix) from error


def cast_column(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """Return a column as it is read to; integers beyond 2^53 are rounded where that is a number of 64 bits."""
    # That is no reason to refuse a table. Other casts cannot lose anything.
    return column if column.type == kind else column.cast(kind, safe=False)


_FIX = "give Parquet, CSV with names in the first line, ECSV, FITS or VOTable"


def read_small_table(file: Location, config: SurveyConfig) -> pa.Table | None:
    """Read a table of objects that is no Parquet; None where it is Parquet.

    Identifiers in CSV are read as texts, so that leading zeros stay.

    Raises
    ------
    InputError
        It is of no known form, damaged, or has no column.
    """
    content = file.read_bytes()
    if content.startswith(b"PAR1"):
        return None
    kind = kind_of(content, file.name)
    try:
        if kind is not None:
            return read_with_astropy(content, kind).replace_schema_metadata(None)
        if b"\0" in content[:65536] or b"," not in content[:65536]:
            raise UnreadableFileError("a table of objects", "something else")
        return _read_csv(content, config)
    except (UnreadableFileError, pa.ArrowException) as error:
        expected, got = (
            (error.expected, error.got) if isinstance(error, UnreadableFileError) else ("a CSV table", str(error))
        )
        raise InputError(expected=expected, got=got, where=str(file), fix=_FIX) from error


def _read_csv(content: bytes, config: SurveyConfig) -> pa.Table:
    texts = {config.object_id: pa.large_string()} | ({config.class_: pa.large_string()} if config.class_ else {})
    return pv.read_csv(
        pa.BufferReader(content),
        pv.ReadOptions(use_threads=False, block_size=min(len(content) + 1, 2**30)),
        convert_options=pv.ConvertOptions(column_types=texts, strings_can_be_null=True),
    )


@dataclass(frozen=True, kw_only=True)
class PeriodsMatched:
    """What a table of periods gave."""

    matched: int
    """Objects that have a row in it."""
    taken: int
    """Of these, those whose period is now the table's; the others have none there."""
    ambiguous: int = 0
    """Objects with more than one row within the radius; the nearest was taken."""
    shared: int = 0
    """Rows that belong to more than one object."""


def with_periods(
    objects: pa.Table, url: str, config: SurveyConfig, radius: float | None
) -> tuple[pa.Table, PeriodsMatched]:
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
        ra, dec, other_ra, other_dec = (
            table[axis].to_numpy() for table in (objects, periods) for axis in ("ra", "dec")
        )
        match = match_positions(ra, dec, other_ra, other_dec, radius / 3600)
        row, ambiguous, shared = match.row, int(match.ambiguous.sum()), match.shared
    there = np.append(periods["period"].to_numpy().astype(np.float64), np.nan)[row]
    taken = np.isfinite(there)
    own = objects["period"].to_numpy().astype(np.float64)
    merged = pa.array(np.where(taken, there, own), pa.float64(), from_pandas=True)
    counts = PeriodsMatched(matched=int((row >= 0).sum()), taken=int(taken.sum()), ambiguous=ambiguous, shared=shared)
    return objects.set_column(objects.column_names.index("period"), "period", merged), counts
