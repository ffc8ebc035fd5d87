"""Single light curves out of a survey, for looking at: only the row groups that hold them are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError
from varstar_batch.files.parquet import opened_parquet
from varstar_batch.light_curves.rules import Limits, Preprocessing, good_observations
from varstar_batch.survey.open import Partition, Source, Survey
from varstar_batch.survey.read import BATCH_OBSERVATIONS, SurveyBatch, read_batches


@dataclass(frozen=True)
class LightCurve:
    """One light curve without the observations that cleaning drops at once: sentinels, impossible times, bad errors."""

    object_id: int | str
    time: npt.NDArray[np.float64]
    """Float64 array (m,). Days, in the survey's time system, ascending."""
    mag: npt.NDArray[np.float64]
    """Float64 array (m,). Magnitudes."""


def light_curves_of(
    source: Source, partition: Partition, object_ids: Sequence[int | str], preprocessing: Preprocessing
) -> Iterator[LightCurve]:
    """Yield the light curves of some objects of one partition, in its order; those that are not there are left out.

    Raises
    ------
    PartitionError, OSError
        The partition cannot be read.
    """
    wanted = pa.array(object_ids, pa.type_for_alias(source.object_id_type))
    row_groups = row_groups_of(source, partition, wanted)
    if row_groups is not None and not row_groups:
        return
    for batch in read_batches(source, partition, row_groups, BATCH_OBSERVATIONS):
        found = pc.is_in(batch.objects["object_id"], wanted).to_numpy()
        for row in np.flatnonzero(found):
            yield _light_curve(batch, int(row), source.limits, preprocessing)


def row_groups_of(source: Source, partition: Partition, wanted: pa.Array) -> list[int] | None:
    """Return the row groups of a partition that hold some of the wanted identifiers; None where all must be read."""
    if source.form == "long":
        return None  # an object may cross from one row group into the next
    column = source.columns.object_id
    with opened_parquet(source.location / partition.key) as file:
        return [
            number
            for number in range(file.num_row_groups)
            if pc.any(pc.is_in(file.read_row_group(number, columns=[column])[column].cast(wanted.type), wanted)).as_py()
        ]


def _light_curve(batch: SurveyBatch, row: int, limits: Limits, rules: Preprocessing) -> LightCurve:
    curves = batch.light_curves
    part = slice(int(curves.offsets[row]), int(curves.offsets[row + 1]))
    time, mag = curves.time[part], curves.mag[part].astype(np.float64)
    error = None if curves.mag_err is None else curves.mag_err[part]
    good = good_observations(time, mag, error, limits, rules.max_mag_err)
    order = np.argsort(time[good], kind="stable")
    identifier: Any = batch.objects["object_id"][row].as_py()
    return LightCurve(identifier, time[good][order], mag[good][order])


@dataclass(frozen=True)
class FoundObject:
    """One object of a survey."""

    batch: SurveyBatch
    """Of this object alone."""
    partition: str
    """Key of its partition."""


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
    try:
        wanted = pa.array([object_id], pa.string()).cast(pa.type_for_alias(source.object_id_type))
    except pa.ArrowInvalid:
        raise _no_object(survey, object_id) from None
    for partition in survey.partitions:
        row_groups = row_groups_of(source, partition, wanted)
        if row_groups is not None and not row_groups:
            continue
        for batch in read_batches(source, partition, row_groups, BATCH_OBSERVATIONS):
            (rows,) = np.nonzero(pc.is_in(batch.objects["object_id"], wanted).to_numpy())
            if len(rows):
                row = int(rows[0])
                one = SurveyBatch(
                    batch.objects.slice(row, 1),
                    batch.light_curves.slice(row, row + 1),
                    batch.period[row : row + 1],
                )
                return FoundObject(one, partition.key)
    raise _no_object(survey, object_id)


def _no_object(survey: Survey, object_id: str) -> InputError:
    return InputError(
        expected=f"an object of the survey ({survey.source.object_id_type} identifiers)",
        got=repr(object_id),
        where=survey.source.url,
        fix="check the identifier; `varstar inspect` shows what the survey holds",
    )
