"""What is in a survey, for a person to look at: its counts, and single objects of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import PartitionError
from varstar_batch.files.parquet import opened_parquet
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.light_curves.status import STATUS_LABELS, DropReason
from varstar_batch.survey.bands import FUSE
from varstar_batch.survey.columns import PERIOD_ORIGIN
from varstar_batch.survey.decode import fold_batch
from varstar_batch.survey.open import Partition, Survey
from varstar_batch.survey.read import BATCH_OBSERVATIONS, SurveyBatch, read_batches
from varstar_batch.survey.units import told_conversions

NO_LABEL = "none"
"""What objects without a label are counted as."""


@dataclass
class Summary:
    """What a survey holds."""

    partitions: int = 0
    objects: int = 0
    """In the partitions that can be read."""
    observations: int = 0
    """Of these objects."""
    layout: str = ""
    form: str = ""
    object_id_type: str = ""
    time_system: str | None = None
    time: tuple[float, float] | None = None
    """First and last possible time [d, in the survey's system]."""
    mag: tuple[float, float] | None = None
    """Brightest and faintest magnitude that is no sentinel."""
    observations_of_objects: tuple[float, float, float] = (0, 0, 0)
    """Least, median and greatest number."""
    periods: tuple[float, float, float] | None = None
    """Shortest, median and longest [d]; None without any."""
    with_position: int = 0
    """Objects that have one."""
    with_period: int = 0
    """Objects that have one."""
    period_origins: Counter[str] = field(default_factory=Counter)
    """Objects with a period by where it is from."""
    converted: dict[str, str] = field(default_factory=dict)
    """Units that the values have in the files and here, by role."""
    classes: Counter[str] = field(default_factory=Counter)
    """Objects by the survey's label."""
    bands: Counter[str] = field(default_factory=Counter)
    """Observations by band; objects, where only these have one."""
    in_several_bands: int = 0
    """Objects with observations in more than one band."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Objects by what a run would say of them before the network."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Observations by the reason a run would drop them for."""
    failures: list[str] = field(default_factory=list)
    """Partitions that cannot be read, one line each."""


def summarise(survey: Survey, preprocessing: Preprocessing) -> Summary:
    """Read a whole survey and count.

    Raises
    ------
    OSError
        The storage failed.
    """
    # Whoever looks wants to know of all bands, and has not chosen yet.
    source = replace(survey.source, bands=survey.source.bands or FUSE)
    summary = Summary(
        partitions=len(survey.partitions),
        layout=source.layout,
        form=source.form,
        object_id_type=source.object_id_type,
        time_system=source.time_system,
        converted=told_conversions(source.conversions),
    )
    counts, periods = [np.zeros(0, np.int32)], [np.zeros(0)]
    for partition in survey.partitions:
        try:
            if source.columns.band is None:
                summary.bands.update(bands_of_objects(survey, partition))
            for batch in read_batches(source, partition, None, BATCH_OBSERVATIONS):
                counts.append(_add(summary, batch, source.limits, preprocessing))
                periods.append(batch.period[np.isfinite(batch.period)])
        except PartitionError as error:
            summary.failures.append(str(error))
    all_counts, all_periods = np.concatenate(counts), np.concatenate(periods)
    if len(all_counts):
        summary.observations_of_objects = _spread(all_counts)
    summary.periods = _spread(all_periods) if len(all_periods) else None
    return summary


def _add(summary: Summary, batch: SurveyBatch, limits: Limits, preprocessing: Preprocessing) -> npt.NDArray[np.int32]:
    """Count a batch, and return the observations of each of its objects."""
    curves = batch.light_curves
    summary.objects += len(batch.period)
    used = slice(int(curves.offsets[0]), int(curves.offsets[-1]))
    time, mag = curves.time[used], curves.mag[used]
    with np.errstate(invalid="ignore"):
        time = time[(time >= limits.time_min) & (time <= limits.time_max) & np.isfinite(time)]
        mag = mag[(mag > limits.mag_min) & (mag < limits.mag_max)]
    summary.time = _wider(summary.time, time)
    summary.mag = _wider(summary.mag, mag)
    summary.with_period += int(np.isfinite(batch.period).sum())
    there = [np.isfinite(batch.objects[axis].to_numpy()) for axis in ("ra", "dec")]
    summary.with_position += int((there[0] & there[1]).sum())
    summary.period_origins.update(_tally(batch.objects[PERIOD_ORIGIN].drop_null(), "none"))
    summary.classes.update(_tally(batch.objects["class"], NO_LABEL))
    if batch.by_band is not None:
        summary.bands.update(batch.by_band.total())
        summary.in_several_bands += int(((batch.by_band.table > 0).sum(axis=1) > 1).sum())
    folded = fold_batch(batch, preprocessing, limits).of_objects()
    summary.statuses.update({STATUS_LABELS[k]: int(n) for k, n in enumerate(np.bincount(folded.status)) if n})
    summary.dropped.update(
        {DropReason(k).label: int(n) for k, n in enumerate(folded.dropped.sum(axis=0, dtype=np.int64)) if n}
    )
    summary.observations += int(folded.n_obs.sum())
    return folded.n_obs


def bands_of_objects(survey: Survey, partition: Partition) -> Counter[str]:
    """Count objects by band, where their table tells it."""
    counts: Counter[str] = Counter()
    with opened_parquet(survey.source.location / partition.key) as file:
        schema = file.schema_arrow
        if "band" in schema.names and not pa.types.is_list(schema.field("band").type):
            for record in file.iter_batches(columns=["band"]):
                counts.update(_tally(record.column(0), "unknown"))
    return counts


def _tally(column: Any, missing: str) -> dict[str, int]:
    counts = pc.value_counts(column).to_pylist()
    return {missing if one["values"] is None else str(one["values"]): one["counts"] for one in counts}


def _spread(values: Any) -> tuple[float, float, float]:
    return float(values.min()), float(np.median(values)), float(values.max())


def _wider(span: tuple[float, float] | None, values: Any) -> tuple[float, float] | None:
    if not len(values):
        return span
    low, high = float(values.min()), float(values.max())
    return (low, high) if span is None else (min(span[0], low), max(span[1], high))
