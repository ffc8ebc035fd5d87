"""The long form, one row per observation sorted by object, as light curves: objects cross every boundary there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import PartitionError
from varstar_batch.files.parquet import one_chunk
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.survey.choose import choose
from varstar_batch.survey.decode import (
    SurveyBatch,
    check_longest,
    decode_objects,
    in_canonical_units,
    periods_of,
    split_batch,
    to_float64,
)
from varstar_batch.survey.open import Source


def decode_long(
    source: Source, stream: Iterable[pa.RecordBatch], max_observations: int, where: str
) -> Iterator[SurveyBatch]:
    """Join the rows of each object, across batches, and yield whole objects.

    An object's position, period and class are those of its first row; one whose rows name different periods is marked
    malformed.

    Raises
    ------
    PartitionError
        Kind ``"null_object_id"``; kind ``"unsorted"`` when an object comes back after another one, which is known for
        certain at the end; kind ``"too_long"`` as `check_longest` says.
    """
    name = source.columns.object_id
    seen: list[pa.Array] = []
    held: list[pa.RecordBatch] = []
    # Held in all, and of the object that is held last.
    rows = longest = 0
    for record in stream:
        if record.num_rows == 0:
            continue
        ids = record.column(name)
        # More of the object that is held last is only kept, so that an object of any length is joined just once.
        last = int(run_starts(ids)[-1])
        goes_on = bool(held) and last == 0 and ids[0].as_py() == held[-1].column(name)[-1].as_py()
        longest = record.num_rows - last + (longest if goes_on else 0)
        check_longest(longest, max_observations, where)
        held.append(record)
        rows += record.num_rows
        if rows < max_observations or goes_on:
            continue
        joined = pa.concat_batches(held)
        last = int(run_starts(joined.column(name))[-1])
        held, rows = [joined.slice(last)], joined.num_rows - last
        if last:
            yield from _emit(source, joined.slice(0, last), max_observations, seen, where)
    if rows:
        yield from _emit(source, pa.concat_batches(held), max_observations, seen, where)
    _check_sorted(seen, where)


def _emit(
    source: Source, record: pa.RecordBatch, max_observations: int, seen: list[pa.Array], where: str
) -> Iterator[SurveyBatch]:
    batch = _decode_objects_of(source, record, where)
    seen.append(one_chunk(batch.objects["object_id"]))
    yield from split_batch(batch, max_observations, where)


def run_starts(ids: pa.Array) -> npt.NDArray[np.int64]:
    """Return where each run of equal values begins, int64, ascending; the first is 0 unless there is nothing."""
    if len(ids) == 0:
        return np.zeros(0, np.int64)
    if not pa.types.is_integer(ids.type):
        ids = (ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()).indices
    values = ids.to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])


def _decode_objects_of(source: Source, record: pa.RecordBatch, where: str) -> SurveyBatch:
    columns = source.columns
    starts = run_starts(record.column(columns.object_id))
    offsets = np.append(starts, record.num_rows)
    names = [name for name in record.schema.names if name in columns.scalars]
    objects, period = decode_objects(source, record.select(names).take(pa.array(starts)))
    light_curves = LightCurves(
        offsets,
        to_float64(record.column(columns.time)),
        _magnitudes(record.column(columns.mag)),
        None if columns.mag_err is None else _magnitudes(record.column(columns.mag_err)),
    )
    if columns.period is not None:
        periods = periods_of(source, record)
        expected = np.repeat(period, np.diff(offsets))
        contradicts = (periods != expected) & ~(np.isnan(periods) & np.isnan(expected))
        if contradicts.any():
            malformed = np.add.reduceat(contradicts, starts) > 0
            light_curves = replace(light_curves, malformed=malformed)
    beside = {name: record.column(name) for name in (columns.band, *columns.flags) if name is not None}
    chosen = choose(source, in_canonical_units(light_curves, source), beside, where)
    return SurveyBatch.make(objects, chosen, period)


def _magnitudes(array: pa.Array) -> npt.NDArray[np.float32] | npt.NDArray[np.float64]:
    if pa.types.is_float32(array.type):
        values: npt.NDArray[np.float32] = array.to_numpy(zero_copy_only=False)
        return values
    return to_float64(array)


def _check_sorted(seen: list[pa.Array], where: str) -> None:
    if not seen:
        return
    ids = pa.chunked_array(seen)
    counts = pc.value_counts(ids)
    again = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(again):
        raise PartitionError(
            kind="unsorted",
            expected="the rows of each object together (sorted by object)",
            got=f"{len(again)} objects that come back, the first {again[0]['values'].as_py()!r}",
            where=where,
            fix="sort the file by object, or make a survey of it with `varstar ingest`",
        )
