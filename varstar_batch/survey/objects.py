"""Single light curves out of a survey, for looking at: only the row groups that hold them are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError
from varstar_batch.files.parquet import opened_parquet
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Preprocessing, good_observations
from varstar_batch.survey.open import Partition, Source, Survey
from varstar_batch.survey.read import BATCH_OBSERVATIONS, SurveyBatch, read_batches


@dataclass(frozen=True)
class LightCurve:
    """One light curve without its sentinels and impossible times, which a picture has no place for."""

    object_id: int | str
    time: npt.NDArray[np.float64]
    """Float64 array (m,). Days, in the survey's time system, ascending."""
    mag: npt.NDArray[np.float64]
    """Float64 array (m,). Magnitudes."""
    used: npt.NDArray[np.bool_]
    """Bool array (m,). What the network sees; the others have too large errors, or are outliers."""


@dataclass(frozen=True)
class FoundObject:
    """One object of a survey."""

    batch: SurveyBatch
    """Of this object alone."""
    partition: str
    """Key of its partition."""


def light_curves_of(
    source: Source, partition: Partition, object_ids: Sequence[int | str], preprocessing: Preprocessing
) -> Iterator[LightCurve]:
    """Yield the light curves of some objects of one partition, in its order; those that are not there are left out.

    Raises
    ------
    PartitionError, OSError
        The partition cannot be read.
    """
    for one in _objects(source, partition, pa.array(object_ids, pa.type_for_alias(source.object_id_type))):
        curves = one.light_curves
        mag = curves.mag.astype(np.float64)
        used = fold(curves, one.period, preprocessing, source.limits, mark_used=True).used
        shown = np.flatnonzero(good_observations(curves.time, mag, None, source.limits))
        shown = shown[np.argsort(curves.time[shown], kind="stable")]
        yield LightCurve(one.objects["object_id"][0].as_py(), curves.time[shown], mag[shown], used[shown])


def find_object(survey: Survey, object_id: str) -> FoundObject:
    """Find an object by its identifier.

    Raises
    ------
    InputError
        The survey has no such object, or the text cannot be one of its identifiers.
    PartitionError, OSError
        A partition cannot be read.
    """
    source = survey.source
    partitions = survey.partitions
    try:
        wanted = pa.array([object_id], pa.string()).cast(pa.type_for_alias(source.object_id_type))
    except pa.ArrowInvalid:
        partitions = ()
    for partition in partitions:
        for one in _objects(source, partition, wanted):
            return FoundObject(one, partition.key)
    raise InputError(
        expected=f"an object of the survey ({source.object_id_type} identifiers)",
        got=repr(object_id),
        where=source.url,
        fix="check the identifier; `varstar inspect` shows what the survey holds",
    )


def _objects(source: Source, partition: Partition, wanted: pa.Array) -> Iterator[SurveyBatch]:
    """Yield some objects of a partition, each alone, out of the row groups that hold them."""
    row_groups = None
    if source.form != "long":  # there an object may cross from one row group into the next
        column = source.columns.object_id
        with opened_parquet(source.location / partition.key) as file:
            held = [
                any(_holds(record, wanted) for record in file.iter_batches(row_groups=[number], columns=[column]))
                for number in range(file.num_row_groups)
            ]
        row_groups = [int(number) for number in np.flatnonzero(held)]
        if not row_groups:
            return
    for batch in read_batches(source, partition, row_groups, BATCH_OBSERVATIONS):
        for row in np.flatnonzero(pc.is_in(batch.objects["object_id"], wanted).to_numpy()):
            yield batch.slice(int(row), int(row) + 1)


def _holds(record: pa.RecordBatch, wanted: pa.Array) -> bool:
    return bool(pc.any(pc.is_in(record.column(0).cast(wanted.type), wanted)).as_py())
