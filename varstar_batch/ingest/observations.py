"""The observations of an ingest, read with the survey's column names and handed on with the canonical ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.archives.folder import ALL_BANDS
from varstar_batch.archives.input_tables import cast_column, list_files, opened
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location
from varstar_batch.ingest.object_lookup import Positions
from varstar_batch.ingest.plan import IntArray
from varstar_batch.light_curves.times import is_same_system, parse_time_system
from varstar_batch.survey.bands import Bands, band_not_there
from varstar_batch.survey.choose import check_one_band
from varstar_batch.survey.column_types import (
    SchemaMismatchError,
    check_observed,
    check_present,
    get_type,
    object_id_type,
)
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.decode import to_float64
from varstar_batch.survey.good import Good, GoodError
from varstar_batch.survey.schema import (
    as_spelled,
    find_band_column,
    find_mag_err,
    flags_of,
)
from varstar_batch.survey.units import (
    Conversion,
    conversions_of,
    impossible_times,
    magnitudes,
    told_conversions,
    told_time_system,
)

UNIT_ROWS = 2**21
"""Observations that are read in one go, and scattered to one file."""

BATCH_ROWS = 2**20
"""Of these, so many are in memory at once."""

_FIELDS = ("time", "mag", "mag_err")

# Times of a unit that tell whether they can be in the declared system, and units that are asked.
_SAMPLED = 65_536
_ASKED = 16


@dataclass(frozen=True)
class Unit:
    """A run of row groups of one file, which is read, and after an interruption read again, as a whole."""

    file: Location
    row_groups: tuple[int, ...]
    rows: int
    """In them: about `UNIT_ROWS`, or those of a single row group."""


@dataclass(frozen=True)
class Observations:
    """Parquet files in the long form, all alike."""

    files: tuple[Location, ...]
    """In the order they are read in."""
    object_id: str
    """Column of identifiers."""
    id_type: str
    """Arrow type that they are read to."""
    columns: dict[str, str]
    """Name in the files by name in the light curves: time, mag, mag_err if there is one, then all others."""
    types: dict[str, pa.DataType]
    """Arrow type by name in the light curves."""
    conversions: Mapping[str, Conversion]
    """How times and magnitudes become canonical, by name in the light curves; none of what is so already."""
    units: tuple[Unit, ...]
    """All row groups of all files, in the order they are read in."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Identifiers that the table of objects calls by another name."""
    band_column: str | None = None
    """In the files."""
    flags: tuple[str, ...] = ()
    """Columns that say which observations are good."""
    good: str | None = None
    """How, as `Good` has it; the others are left out."""
    band: str | None = None
    """The only band that is not left out, or `FUSE`; None where nobody chose."""
    time_system: str | None = None
    """That the files declare."""

    @classmethod
    def open(cls, url: str | os.PathLike[str], config: SurveyConfig) -> Observations:
        """Look at every footer.

        Raises
        ------
        InputError
            A file that is missing or cannot be read, a missing or mistyped column, files that differ.
        """
        files = list_files(url, "table of observations")
        first = cls._open_one(files[0], config)
        units = list(first.units)
        for file in files[1:]:
            other = cls._open_one(file, config)
            if str(other) != str(first) or not is_same_system(other.time_system, first.time_system):
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
        with opened(file) as parquet:
            schema = parquet.schema_arrow
            is_chosen = "|" not in (config.band or "")
            config = as_spelled(config, schema.names)
            needed = {"object_id": config.object_id, "time": config.time, "mag": config.mag}
            check_present(needed, schema.names)
            id_type = object_id_type(schema, config.object_id)
            columns = _observed_columns(schema, config)
            types = {field: _stored_type(field, schema.field(name).type) for field, name in columns.items()}
            observed = {field: columns.get(field) for field in _FIELDS}
            conversions = conversions_of(schema, observed, config)
            conversions = {field: one for field, one in conversions.items() if one.changes}
            counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)]
            band = None if config.band is None else find_band_column(schema, "long", config.band, is_chosen=is_chosen)
            if band is not None:
                get_type(schema, "band", band)
            return cls(
                (file,),
                config.object_id,
                id_type,
                columns,
                types,
                conversions,
                _units(file, counts),
                band_column=band,
                flags=flags_of(config, schema.names),
                good=config.good,
                time_system=told_time_system(schema, config.time),
            )

    @property
    def band_field(self) -> str | None:
        """Column of the bands among those of the light curves; None where there is none."""
        return self.band_column if self.band_column in self.types else None

    @property
    def total(self) -> int:
        """Rows of all files."""
        return sum(unit.rows for unit in self.units)

    @property
    def converted(self) -> dict[str, int]:
        """Values that came in another unit, by column and units."""
        return {f"{role} from {change}": self.total for role, change in told_conversions(self.conversions).items()}

    @property
    def nothing(self) -> pa.Table:
        """The columns of the light curves, without any row."""
        return pa.table({name: pa.array([], kind) for name, kind in self.types.items()})

    def __str__(self) -> str:
        system = [f"times in {self.time_system}"] if self.time_system else []
        return ", ".join([f"{self.object_id} {self.id_type}", *(self._told(name) for name in self.types), *system])

    def _told(self, name: str) -> str:
        unit = f" in {self.conversions[name].unit}" if name in self.conversions else ""
        return f"{name} {self.types[name]}{unit}"

    def beside(self, objects: pa.Table) -> Observations:
        """Return these observations without the columns that the objects have, once for all, as well; bands stay.

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
        return self.without([name for name in objects.column_names if name != self.band_column])

    def without(self, names: Sequence[str]) -> Observations:
        """Return these observations without some of the columns that come along."""
        kept = [name for name in self.columns if name in _FIELDS or name not in names]
        columns, types = ({name: one[name] for name in kept} for one in (self.columns, self.types))
        return replace(self, columns=columns, types=types)

    def positions(self, positions: Positions, unit: Unit) -> list[tuple[IntArray, tuple[str, ...]]]:
        """Return, of consecutive observations, the index of their object and some identifiers that have none."""
        return [positions.find(self._ids(record)) for record, _ in self._chosen(unit, [self.object_id])]

    def rows(self, positions: Positions, unit: Unit) -> Iterator[tuple[IntArray, pa.Table]]:
        """Yield, of consecutive observations, the index of their object and the columns of the light curves.

        Raises
        ------
        InputError
            There are fewer or more of them than there were.
        """
        met = 0
        for record, rows in self._chosen(unit, [self.object_id, *self.columns.values()]):
            index, _ = positions.find(self._ids(record))
            columns = {name: cast_column(record.column(self.columns[name]), kind) for name, kind in self.types.items()}
            met += rows
            yield index, pa.table(self._canonical(columns))
        if met != unit.rows:
            raise changed_meanwhile()

    def check_bands(self, positions: Positions) -> None:
        """Refuse light curves in several bands where none was chosen, by the first observations.

        Raises
        ------
        InputError
            There are some.
        """
        if self.band_column is None or not self.units or self.band in ALL_BANDS:
            return
        if self.band is not None:
            self._check_chosen()
            return
        record, _ = next(self._chosen(self.units[0], [self.object_id]))
        index, _ = positions.find(self._ids(record))
        known = index >= 0
        order = np.argsort(index[known], kind="stable")
        bands = Bands.read(record.column(self.band_column), self.band_column).take(known).take(order)
        starts = np.flatnonzero(np.diff(index[known][order], prepend=-1))
        check_one_band(bands, np.append(starts, len(order)), str(self.files[0]))

    def _check_chosen(self) -> None:
        """Refuse a band of which there is nothing among the first observations of some units. Raises InputError."""
        seen: Counter[str] = Counter()
        for unit in self.units[:: max(1, len(self.units) // _ASKED)]:
            record = next(_stream(unit, [str(self.band_column)]))
            seen.update(Bands.read(record.column(0), str(self.band_column)).counts())
            if seen[str(self.band)]:
                return
        raise band_not_there(str(self.band), seen, str(self.files[0]))

    def _chosen(self, unit: Unit, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield the observations of a unit that are not left out, and how many there were with the others."""
        asked = self.good is not None or self.band_column is not None
        beside = [name for name in (self.band_column, *self.flags) if name is not None] if asked else []
        for record in _stream(unit, list(dict.fromkeys([*columns, *beside]))):
            kept = np.ones(record.num_rows, np.bool_)
            if self.good is not None:
                kept = self._good(record)
            if self.band_column is not None and self.band not in (None, *ALL_BANDS):
                bands = Bands.read(record.column(self.band_column), self.band_column)
                kept &= bands.codes == (bands.names.index(self.band) if self.band in bands.names else -1)
            yield record if kept.all() else record.filter(pa.array(kept)), record.num_rows

    def _good(self, record: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        good = Good(self.good or "")
        try:
            return good.evaluate({name: record.column(name) for name in self.flags}, record.num_rows)
        except GoodError as error:
            raise InputError(
                expected="observations that good = ... can be asked of",
                got=str(error),
                where=str(self.files[0]),
                fix="correct it, or leave it out with --set survey.good=''",
            ) from None

    def _canonical(self, columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
        """Return columns in days and magnitudes."""
        if not self.conversions:
            return columns
        values = {name: to_float64(columns[name]) for name in _FIELDS if name in columns}
        if "time" in self.conversions:
            values["time"] = self.conversions["time"].apply(values["time"])
        mag, mag_err = magnitudes(values["mag"], values.get("mag_err"), self.conversions)
        values |= {"mag": mag} | ({} if mag_err is None else {"mag_err": mag_err})
        return columns | {name: pa.array(array).cast(self.types[name]) for name, array in values.items()}

    def times(self, unit: Unit) -> npt.NDArray[np.float64]:
        """Return the first times [d] of a unit."""
        for record in _stream(unit, [self.columns["time"]]):
            times = to_float64(record.column(0).slice(0, _SAMPLED))
            return self.conversions["time"].apply(times) if "time" in self.conversions else times
        return np.zeros(0)

    def _ids(self, record: pa.RecordBatch) -> pa.Array:
        ids = record.column(self.object_id)
        if not self.renamed:
            return ids
        encoded = ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()
        names = [self.renamed.get(name, name) for name in encoded.dictionary.to_pylist()]
        return pa.array(names, encoded.dictionary.type).take(encoded.indices)


def check_times(observations: Observations, time_system: str, where: str) -> None:
    """Refuse observations most of whose times cannot be in the declared system, by a sample.

    Raises
    ------
    InputError
        They cannot.
    """
    low, high = parse_time_system(time_system).limits
    units = observations.units[:: max(1, len(observations.units) // _ASKED)]
    for unit in units:
        times = observations.times(unit)
        times = times[np.isfinite(times)]
        is_possible = (times >= low) & (times <= high)
        # Some may be sentinels.
        if len(times) and is_possible.mean() < 0.5:
            first, last = np.quantile(times[~is_possible], [0.05, 0.95])
            error = impossible_times(time_system, float(first), float(last))
            raise InputError(expected=error.expected, got=error.got, where=where, fix=error.fix)


def changed_meanwhile() -> InputError:
    """Return the error of observations that are not those that were counted."""
    return InputError(
        expected="the same observations in both passes",
        got="other ones: a file was written meanwhile",
        where="ingest",
        fix="ingest again when nobody writes to the table of observations",
    )


def _units(file: Location, counts: Sequence[int]) -> tuple[Unit, ...]:
    """Cut row groups of so many rows into units: each takes what fits, and one row group at least."""
    units: list[Unit] = []
    for group, rows in enumerate(counts):
        if units and units[-1].rows + rows <= UNIT_ROWS:
            units[-1] = Unit(file, (*units[-1].row_groups, group), units[-1].rows + rows)
        elif rows:
            units.append(Unit(file, (group,), rows))
    return tuple(units)


def _stream(unit: Unit, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with opened(unit.file) as parquet:
        if unit.row_groups[-1] >= parquet.metadata.num_row_groups:
            raise changed_meanwhile()
        for record in parquet.iter_batches(batch_size=BATCH_ROWS, columns=columns, row_groups=list(unit.row_groups)):
            record.validate(full=True)  # Arrow does not look whether texts are UTF-8 before somebody reads them
            yield record


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
