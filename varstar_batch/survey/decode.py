"""From Arrow record batches to light curves, without copying what is there already, and to folded ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import PartitionError
from varstar_batch.light_curves.fold import Folded, fold
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.light_curves.status import DropReason, Status
from varstar_batch.sky import HEALPIX_COLUMN
from varstar_batch.survey.bands import BandCounts, Bands, split
from varstar_batch.survey.choose import Chosen, choose
from varstar_batch.survey.columns import PERIOD_ORIGIN, SURVEY
from varstar_batch.survey.open import Source
from varstar_batch.survey.units import magnitudes

LEAST_OBSERVATIONS = 10
"""Of an object as memory is counted: identifier, position, curve and result take as much where it has fewer."""

LONGEST = 2**20
"""Observations that one object may have however little memory there is. Source: folding them takes 120 MiB."""


@dataclass(frozen=True)
class SurveyBatch:
    """Some consecutive objects of a partition, in its order."""

    objects: pa.Table
    """Columns object_id (int64, uint64 or large_string), ra, dec [deg], period [d] (float64, null where missing),
    period_origin, class (large_string, null where missing), and _healpix_29 (int64) where the survey has it; n rows."""
    light_curves: LightCurves
    """Of the same n objects."""
    period: npt.NDArray[np.float64]
    """Float64 array (n,). Days; NaN where missing. Zero, negative and infinite values are kept as they are."""
    left_out: npt.NDArray[np.int32] | None = None
    """Int32 (n, 2). Observations that are not among the light curves: not good, and good but of other bands; None where
    all are."""
    bands: Bands | None = None
    """Of the observations, where each band is to be folded by itself."""

    by_band: BandCounts | None = None
    """Observations of each object, before anything was left out; None where the survey does not say their bands."""

    @classmethod
    def make(cls, objects: pa.Table, chosen: Chosen, period: npt.NDArray[np.float64]) -> SurveyBatch:
        """Return a batch of what was chosen of the objects' observations."""
        return cls(objects, chosen.light_curves, period, chosen.left_out, chosen.bands, chosen.by_band)

    def with_periods(self, rows: npt.NDArray[np.intp], period: npt.NDArray[np.float64]) -> SurveyBatch:
        """Return m of the objects, `rows`, copied, with other periods, float64 (m,) [d]."""
        bands = self.bands and self.bands.take(self.light_curves.places(rows))
        left_out = None if self.left_out is None else self.left_out[rows]
        return SurveyBatch(self.objects.take(rows), self.light_curves.take(rows), period, left_out, bands)

    def slice(self, start: int, stop: int) -> SurveyBatch:
        """Return the objects start <= i < stop, sharing memory."""
        objects = self.objects.slice(start, stop - start)
        offsets = self.light_curves.offsets
        bands = self.bands and self.bands.take(slice(offsets[start], offsets[stop]))
        light_curves = self.light_curves.slice(start, stop)
        left_out = None if self.left_out is None else self.left_out[start:stop]
        by_band = self.by_band and self.by_band.slice(start, stop)
        return SurveyBatch(objects, light_curves, self.period[start:stop], left_out, bands, by_band)


def decode_lists(source: Source, record: pa.RecordBatch, where: str) -> SurveyBatch:
    """Decode rows of a form with one row per object (nested, lists, structs).

    Raises
    ------
    PartitionError
        As `choose` says.
    """
    columns = source.columns
    if source.form == "nested":
        field_names = [field.name for field in record.schema.field(columns.lightcurve).type]
        # flatten(), not field(): it hands the structs' own nulls and slice on to the lists.
        lists = dict(zip(field_names, record.column(columns.lightcurve).flatten(), strict=True))
    elif source.form == "structs":
        lists = lists_of_fields(record.column(columns.lightcurve))
    else:
        lists = {name: record.column(name) for name in columns.observed}
    mag_err = lists[columns.mag_err] if columns.mag_err is not None else None
    light_curves = LightCurves.from_arrow(lists[columns.time], lists[columns.mag], mag_err)
    objects, period = decode_objects(source, record)
    beside = {name: lists[name] for name in (columns.band, *columns.flags) if name is not None}
    if beside:
        light_curves, beside = _flattened(light_curves, beside)
    chosen = choose(source, in_canonical_units(light_curves, source), beside, where)
    return SurveyBatch.make(objects, chosen, period)


def in_canonical_units(light_curves: LightCurves, source: Source) -> LightCurves:
    """Return light curves in days and magnitudes; as they are where they were."""
    conversions = {role: one for role, one in source.conversions.items() if one.changes}
    time, mag, mag_err = light_curves.time, light_curves.mag, light_curves.mag_err
    if "time" in conversions:
        time = conversions["time"].apply(time)
    if "mag" in conversions or "mag_err" in conversions:
        error = None if mag_err is None else mag_err.astype(np.float64)
        bright, error = magnitudes(mag.astype(np.float64), error, source.conversions)
        is_single = mag.dtype == np.float32
        mag = bright.astype(np.float32) if is_single else bright
        mag_err = error.astype(np.float32) if is_single and error is not None else error
    return replace(light_curves, time=time, mag=mag, mag_err=mag_err) if conversions else light_curves


def _flattened(light_curves: LightCurves, lists: Mapping[str, pa.Array]) -> tuple[LightCurves, dict[str, pa.Array]]:
    """Return other lists of the same objects end to end, and the light curves without those whose lists differ."""
    lengths = {
        name: np.asarray(pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
        for name, column in lists.items()
    }
    malformed = light_curves.malformed
    malformed = np.zeros(len(light_curves), np.bool_) if malformed is None else malformed
    unlike = np.any([length != light_curves.n_obs for length in lengths.values()], axis=0) | malformed
    flat = {name: column.flatten() for name, column in lists.items()}
    if not unlike.any():
        return light_curves, flat
    kept = np.repeat(~unlike, light_curves.n_obs)
    light_curves = LightCurves(
        np.concatenate([[0], np.cumsum(np.where(unlike, 0, light_curves.n_obs))]).astype(np.int64),
        light_curves.time[kept],
        light_curves.mag[kept],
        None if light_curves.mag_err is None else light_curves.mag_err[kept],
        unlike,
    )
    return light_curves, {
        name: column.filter(pa.array(np.repeat(~unlike, lengths[name]))) for name, column in flat.items()
    }


def decode_objects(source: Source, record: pa.RecordBatch) -> tuple[pa.Table, npt.NDArray[np.float64]]:
    """Return the table of objects and their periods [d], NaN where missing, of rows that are one object each."""
    columns = source.columns
    period = periods_of(source, record)
    arrays = {
        "object_id": _decoded(record.column(columns.object_id)).cast(getattr(pa, source.object_id_type)()),
        "ra": _position(source, record, "ra"),
        "dec": _position(source, record, "dec"),
        "period": pa.array(period, mask=np.isnan(period)),
        PERIOD_ORIGIN: origins(optional_column(record, columns.period_origin, pa.large_string()), period),
        "class": optional_column(record, columns.class_, pa.large_string()),
    }
    if columns.healpix is not None:
        arrays[HEALPIX_COLUMN] = record.column(columns.healpix).cast(pa.int64())
    return pa.table(arrays), period


def split_batch(batch: SurveyBatch, max_observations: int, where: str) -> Iterator[SurveyBatch]:
    """Yield a batch in runs of objects that exceed the bound only where a single object does.

    Raises
    ------
    PartitionError
        As `check_longest` says.
    """
    n = len(batch.light_curves)
    check_longest(int(batch.light_curves.n_obs.max(initial=0)), max_observations, where)
    for start, stop in bounded_runs(batch.light_curves.offsets, max_observations, most_objects(max_observations)):
        yield batch if stop - start == n else batch.slice(start, stop)


def most_objects(max_observations: int) -> int:
    """Return how many objects a batch of at most `max_observations` may have."""
    return max(1, max_observations // LEAST_OBSERVATIONS)


def check_longest(observations: int, max_observations: int, where: str) -> None:
    """Refuse an object that alone takes more memory than a chunk may: folding takes 120 bytes of each observation.

    Raises
    ------
    PartitionError
        Kind ``"too_long"``.
    """
    longest = max(LONGEST, 4 * max_observations)
    if observations > longest:
        raise PartitionError(
            kind="too_long",
            expected=f"at most {longest:,} observations of an object, which --chunk-memory bounds",
            got=f"at least {observations:,}",
            where=where,
            fix=f"give --chunk-memory {-(-observations // 2**23)}GiB or more, or cut the light curve short",
        )


def bounded_runs(offsets: npt.NDArray[np.int64], max_observations: int, max_objects: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of runs of objects that exceed the bound of observations only where a single object does.

    Parameters
    ----------
    offsets : int64 array (n + 1,)
        Where the observations of n objects begin and end.
    max_observations, max_objects : int
        Of a run.
    """
    start, n = 0, len(offsets) - 1
    while start < n:
        stop = int(np.searchsorted(offsets, offsets[start] + max_observations, side="right")) - 1
        stop = min(max(stop, start + 1), start + max_objects, n)
        yield start, stop
        start = stop


def to_float64(array: pa.Array) -> npt.NDArray[np.float64]:
    """Return numbers as float64, NaN where null; integers beyond 2^53 are rounded."""
    values: npt.NDArray[np.float64] = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def origins(told: pa.Array, period: npt.NDArray[np.float64]) -> pa.Array:
    """Return where periods [d] are from: as told, else the survey; null where there is no period."""
    return pc.if_else(pa.array(np.isnan(period)), pa.scalar(None, pa.large_string()), told.fill_null(SURVEY))


def periods_of(source: Source, record: pa.RecordBatch) -> npt.NDArray[np.float64]:
    """Return the periods [d] of rows, NaN where null."""
    if source.columns.period is None:
        return np.full(record.num_rows, np.nan)
    values = to_float64(record.column(source.columns.period))
    return source.conversions["period"].apply(values) if "period" in source.conversions else values


def _position(source: Source, record: pa.RecordBatch, axis: str) -> pa.Array:
    array = optional_column(record, getattr(source.columns, axis), pa.float64())
    if axis not in source.conversions or not source.conversions[axis].changes:
        return array
    return pa.array(source.conversions[axis].apply(to_float64(array)), from_pandas=True)


def optional_column(record: pa.RecordBatch, name: str | None, kind: pa.DataType) -> pa.Array:
    """Return a column as values of a type, nulls where there is no such column."""
    if name is None:
        return pa.nulls(record.num_rows, kind)
    column = _decoded(record.column(name))
    is_bytes = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    if any(test(column.type) for test in is_bytes):
        return _texts_of_bytes(column, kind)
    return column.cast(kind, safe=False)


def _texts_of_bytes(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return bytes as texts; what is no UTF-8 is written as escapes, so that it is told, not lost."""
    coded = column.dictionary_encode()
    texts = pa.array([value.decode("utf-8", "backslashreplace") for value in coded.dictionary.to_pylist()], kind)
    return texts.take(coded.indices)


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def lists_of_fields(column: pa.Array) -> dict[str, pa.Array]:
    """Turn a list of structs into one list per field."""
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_field))
    kind = pa.LargeListArray if pa.types.is_large_list(column.type) else pa.ListArray
    # A null list may still cover elements; with the null taken out of the offsets it cannot.
    if column.null_count:
        column = pc.if_else(column.is_valid(), column, pa.scalar([], column.type))
    structs = column.values
    names = [field.name for field in structs.type]
    return {
        name: kind.from_arrays(column.offsets, values) for name, values in zip(names, structs.flatten(), strict=True)
    }


def fold_batch(
    batch: SurveyBatch,
    preprocessing: Preprocessing,
    limits: Limits,
    *,
    features: bool | Literal["rivals"] = False,
    n_threads: int = 1,
) -> Folded:
    """Fold a batch, as `fold`.

    Returns
    -------
    Folded
        Observations that reading left out are among `n_obs` and `dropped`. Where bands are to be folded each by itself,
        one row for each of them: see `Folded.objects`.
    """
    light_curves, period, objects = batch.light_curves, batch.period, None
    if batch.bands is not None:
        light_curves, objects = split(light_curves, batch.bands)
        period = np.repeat(period, np.diff(objects))
    folded = fold(light_curves, period, preprocessing, limits, features=features, n_threads=n_threads)
    if batch.left_out is not None:
        first = np.arange(len(folded)) if objects is None else objects[:-1]
        total = batch.left_out.sum(axis=1, dtype=np.int32)
        folded.n_obs[first] += total
        folded.dropped[first, DropReason.FLAGGED] = batch.left_out[:, 0]
        folded.dropped[first, DropReason.OTHER_BAND] = batch.left_out[:, 1]
        # The light curve is not empty as delivered.
        emptied = first[(total > 0) & (folded.status[first] == Status.NO_OBSERVATIONS)]
        folded.status[emptied] = Status.TOO_FEW_OBSERVATIONS
    return replace(folded, objects=objects)
