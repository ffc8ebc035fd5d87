"""The two tables of an ingest, read with the survey's column names and handed on with the canonical ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.errors import InputError, PartitionError
from varstar_batch.storage.columns import SurveyConfig
from varstar_batch.storage.files import Location, locate
from varstar_batch.storage.ingest_plan import IntArray
from varstar_batch.storage.ingest_positions import Positions
from varstar_batch.storage.object_tables import read_small_table
from varstar_batch.storage.parquet import opened_parquet, parquet_files
from varstar_batch.storage.schemas import (
    SchemaMismatchError,
    check_observed,
    check_scalars,
    find_mag_err,
    get_type,
    object_id_type,
)

BATCH_ROWS = 2**20
UNIT_ROWS = 2**21

_FIELDS = ("time", "mag", "mag_err")


@dataclass(frozen=True)
class Unit:
    """A run of row groups of one file, which is read, and after an interruption read again, as a whole.

    Attributes
    ----------
    file : Location
    row_groups : tuple of int
    rows : int
        In them: about `UNIT_ROWS`, or those of a single row group.
    """

    file: Location
    row_groups: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class Observations:
    """Parquet files in the long form, all alike.

    Attributes
    ----------
    files : tuple of Location
        In the order they are read in.
    object_id, id_type : str
        Column of identifiers and the type they are read to.
    columns : dict
        Name in the files by name in the light curves: time, mag, mag_err if there is one, then all others.
    types : dict
        Arrow type by name in the light curves.
    units : tuple of Unit
        All row groups of all files, in the order they are read in.
    renamed : dict of str to str
        Identifiers that the table of objects calls by another name.
    """

    files: tuple[Location, ...]
    object_id: str
    id_type: str
    columns: dict[str, str]
    types: dict[str, pa.DataType]
    units: tuple[Unit, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, url: str | os.PathLike[str], config: SurveyConfig) -> Observations:
        """Look at every footer.

        Raises
        ------
        InputError
            A file that is missing or cannot be read, a missing or mistyped column, files that differ.
        """
        files = _list_files(url, "table of observations")
        first = cls._open_one(files[0], config)
        units = list(first.units)
        for file in files[1:]:
            other = cls._open_one(file, config)
            if str(other) != str(first):
                raise InputError(
                    expected=f"the columns and types of {files[0].name} ({first})",
                    got=str(other),
                    where=str(file),
                    fix="write all files alike",
                )
            units += other.units
        return replace(first, files=tuple(files), units=tuple(units))

    @classmethod
    def _open_one(cls, file: Location, config: SurveyConfig) -> Observations:
        with _opened(file) as parquet:
            schema = parquet.schema_arrow
            id_type = object_id_type(schema, config.object_id)
            columns = _observed_columns(schema, config)
            types = {field: _stored_type(field, schema.field(name).type) for field, name in columns.items()}
            counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)]
            return cls((file,), config.object_id, id_type, columns, types, _units(file, counts))

    @property
    def total(self) -> int:
        """Rows of all files."""
        return sum(unit.rows for unit in self.units)

    @property
    def nothing(self) -> pa.Table:
        """The columns of the light curves, without any row."""
        return pa.table({name: pa.array([], kind) for name, kind in self.types.items()})

    def __str__(self) -> str:
        return ", ".join([f"{self.object_id} {self.id_type}", *(f"{name} {kind}" for name, kind in self.types.items())])

    def beside(self, objects: pa.Table) -> Observations:
        """Return these observations without the columns that the objects have, once for all, as well.

        Raises
        ------
        InputError
            The two tables have identifiers of different types.
        """
        kind = str(objects.schema.field("object_id").type)
        if self.id_type != kind:
            raise InputError(
                expected=f"{kind} in {self.object_id!r}, as in the table of objects",
                got=self.id_type,
                where=str(self.files[0]),
                fix="write both tables with the same type of identifiers",
            )
        return self.without(objects.column_names)

    def positions(self, positions: Positions, unit: Unit) -> Iterator[tuple[IntArray, tuple[str, ...]]]:
        """Yield, of consecutive observations, the index of their object and some identifiers that have none."""
        for record in _stream(unit, [self.object_id]):
            yield positions.find(self._ids(record))

    def rows(self, positions: Positions, unit: Unit) -> Iterator[tuple[IntArray, pa.Table]]:
        """Yield, of consecutive observations, the index of their object and the columns of the light curves.

        Raises
        ------
        InputError
            There are fewer or more of them than there were.
        """
        met = 0
        for record in _stream(unit, [self.object_id, *self.columns.values()]):
            index, _ = positions.find(self._ids(record))
            columns = {name: _cast(record.column(self.columns[name]), kind) for name, kind in self.types.items()}
            met += len(index)
            yield index, pa.table(columns)
        if met != unit.rows:
            raise changed_meanwhile()

    def _ids(self, record: pa.RecordBatch) -> pa.Array:
        ids = record.column(self.object_id)
        if not self.renamed:
            return ids
        encoded = ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()
        names = [self.renamed.get(name, name) for name in encoded.dictionary.to_pylist()]
        return pa.array(names, encoded.dictionary.type).take(encoded.indices)

    def without(self, names: Sequence[str]) -> Observations:
        """Return these observations without some of the columns that come along."""
        kept = [name for name in self.columns if name in _FIELDS or name not in names]
        return replace(
            self, columns={name: self.columns[name] for name in kept}, types={name: self.types[name] for name in kept}
        )


def changed_meanwhile() -> InputError:
    """Return the error of observations that are not those that were counted."""
    return InputError(
        expected="the same observations in both passes",
        got="other ones: a file was written meanwhile",
        where="ingest",
        fix="ingest again when nobody writes to the table of observations",
    )


def _units(file: Location, counts: Sequence[int]) -> tuple[Unit, ...]:
    units: list[Unit] = []
    groups: list[int] = []
    for number in range(len(counts)):
        groups.append(number)
        held = sum(counts[i] for i in groups)
        following = counts[number + 1] if number + 1 < len(counts) else UNIT_ROWS
        if held + following > UNIT_ROWS:
            units.append(Unit(file, tuple(groups), held))
            groups = []
    return tuple(units)


def _stream(unit: Unit, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with _opened(unit.file) as parquet:
        if unit.row_groups[-1] >= parquet.metadata.num_row_groups:
            raise changed_meanwhile()
        for record in parquet.iter_batches(batch_size=BATCH_ROWS, columns=columns, row_groups=list(unit.row_groups)):
            record.validate(full=True)  # Arrow does not look whether texts are UTF-8 before somebody reads them
            yield record


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
    tables = [_read_table(file, config, by_position) for file in _list_files(url, "table of objects")]
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
        with _opened(file) as parquet:
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
    columns = [_cast(table[name], kinds.get(name, table.schema.field(name).type)) for name in there]
    return pa.table(columns, names=renamed)


def _observed_columns(schema: pa.Schema, config: SurveyConfig) -> dict[str, str]:
    mag_err = find_mag_err(config, schema.names)
    columns = {"time": config.time, "mag": config.mag} | ({"mag_err": mag_err} if mag_err else {})
    for name in schema.names:
        get_type(schema, name, name)  # that of a name that is there once
    for role, name in columns.items():
        check_observed(get_type(schema, role, name), role, name, listed=False)
    taken = {config.object_id, *columns.values()}
    others = {name: name for name in schema.names if name not in taken}
    doubled = [name for name in others if name in columns]
    if doubled:
        raise SchemaMismatchError(
            expected=f"no column {doubled[0]!r} beside {columns[doubled[0]]!r}, which is to have that name",
            got="both",
            fix="rename or leave out one of them",
        )
    return columns | others


def _stored_type(field: str, kind: pa.DataType) -> pa.DataType:
    if field == "time":
        return pa.float64()
    if field in _FIELDS:
        return pa.float32() if pa.types.is_float32(kind) or pa.types.is_float16(kind) else pa.float64()
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _cast(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    # Not safe: an integer beyond 2^53 is rounded, and no reason to refuse a table. Other casts cannot lose anything.
    return column if column.type == kind else column.cast(kind, safe=False)


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


def _list_files(url: str | os.PathLike[str], what: str) -> list[Location]:
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
def _opened(file: Location) -> Iterator[pq.ParquetFile]:
    """Open an input: what is wrong with it ends the ingest, since nobody can say which objects it would have been."""
    try:
        with opened_parquet(file) as parquet:
            yield parquet
    except PartitionError as error:
        raise InputError(expected=error.expected, got=error.got, where=error.where, fix=error.fix) from error
    except SchemaMismatchError as error:
        raise InputError(expected=error.expected, got=error.got, where=str(file), fix=error.fix) from error
