"""From Arrow record batches to light curves, without copying what is there already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.sky import HEALPIX_COLUMN
from varstar_batch.survey.open import Source


@dataclass(frozen=True)
class SurveyBatch:
    """Some consecutive objects of a partition, in its order."""

    objects: pa.Table
    """Columns object_id (int64, uint64 or large_string), ra, dec [deg], period [d] (float64, null where missing), class
    (large_string, null where missing), and _healpix_29 (int64) where the survey has it; n rows."""
    light_curves: LightCurves
    """Of the same n objects."""
    period: npt.NDArray[np.float64]
    """Float64 array (n,). Days; NaN where missing. Zero, negative and infinite values are kept as they are."""

    def slice(self, start: int, stop: int) -> SurveyBatch:
        """Return the objects start <= i < stop, sharing memory."""
        objects = self.objects.slice(start, stop - start)
        return SurveyBatch(objects, self.light_curves.slice(start, stop), self.period[start:stop])


def decode_lists(source: Source, record: pa.RecordBatch) -> SurveyBatch:
    """Decode rows of a form with one row per object (nested, lists, structs)."""
    columns = source.columns
    if source.form == "nested":
        field_names = [field.name for field in record.schema.field(columns.lightcurve).type]
        # flatten(), not field(): it hands the structs' own nulls and slice on to the lists.
        lists = dict(zip(field_names, record.column(columns.lightcurve).flatten(), strict=True))
    elif source.form == "structs":
        lists = _lists_of_fields(record.column(columns.lightcurve))
    else:
        lists = {name: record.column(name) for name in columns.observed}
    mag_err = lists[columns.mag_err] if columns.mag_err is not None else None
    light_curves = LightCurves.from_arrow(lists[columns.time], lists[columns.mag], mag_err)
    objects, period = decode_objects(source, record)
    return SurveyBatch(objects, light_curves, period)


def decode_objects(source: Source, record: pa.RecordBatch) -> tuple[pa.Table, npt.NDArray[np.float64]]:
    """Return the table of objects and their periods [d], NaN where missing, of rows that are one object each."""
    columns = source.columns
    period = to_float64(record.column(columns.period))
    arrays = {
        "object_id": _decoded(record.column(columns.object_id)).cast(getattr(pa, source.object_id_type)()),
        "ra": _optional(record, columns.ra, pa.float64()),
        "dec": _optional(record, columns.dec, pa.float64()),
        "period": pa.array(period, mask=np.isnan(period)),
        "class": _optional(record, columns.class_, pa.large_string()),
    }
    if columns.healpix is not None:
        arrays[HEALPIX_COLUMN] = record.column(columns.healpix).cast(pa.int64())
    return pa.table(arrays), period


def split_batch(batch: SurveyBatch, max_observations: int) -> Iterator[SurveyBatch]:
    """Yield a batch in runs of objects that exceed the bound only where a single object does."""
    n = len(batch.light_curves)
    for start, stop in bounded_runs(batch.light_curves.offsets, max_observations, n):
        yield batch if stop - start == n else batch.slice(start, stop)


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


def _optional(record: pa.RecordBatch, name: str | None, kind: pa.DataType) -> pa.Array:
    return pa.nulls(record.num_rows, kind) if name is None else _decoded(record.column(name)).cast(kind, safe=False)


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _lists_of_fields(column: pa.Array) -> dict[str, pa.Array]:
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
