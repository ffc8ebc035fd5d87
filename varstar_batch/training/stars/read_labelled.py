"""Reading labelled light curves of surveys: labels of all objects first, then only the light curves wanted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.parquet import opened_parquet
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Limits, good_observations
from varstar_batch.survey.bands import FUSE
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.decode import optional_column, to_float64
from varstar_batch.survey.labels import LabelReader
from varstar_batch.survey.open import Partition, Survey, open_survey
from varstar_batch.survey.read import partition_shape, read_batches
from varstar_batch.training.stars.label_table import given_labels
from varstar_batch.training.stars.labelled import NO_CLASS, LabelledLightCurves, Rows, survey_names

BATCH_OBSERVATIONS = 2**20

DESCRIPTIONS = ("class_original", "band", "period_source")
"""Columns of texts that are taken along where a survey has them."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which objects to take."""

    max_per_class: int | None = None
    """Most objects of a class, of all surveys together; each survey gives its share, at random. None for all."""
    seed: int = 1
    """Of the choice."""
    others: bool = False
    """Also take objects without a class that have a period: at most as many as of a class."""
    classes: tuple[str, ...] = CLASSES
    """What labels are read as."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Meanings of labels, before those of all known catalogs; see `LabelReader`."""
    given: Mapping[str, str] | None = None
    """Labels by object_id, as text, in the place of those that the surveys have."""


@dataclass(frozen=True, eq=False)
class _Labels:
    """What is known of every object of a partition, without its light curve; rows as in the file."""

    survey: int
    partition: Partition
    classes: tuple[str, ...]
    class_code: npt.NDArray[np.int8]
    period: npt.NDArray[np.float64]
    texts: Mapping[str, Any]
    left_out: Counter[str]
    """Objects by label that means no class."""


def read_labelled(
    urls: Sequence[str | os.PathLike[str]],
    configs: Sequence[SurveyConfig] | None = None,
    selection: Selection | None = None,
    progress: Callable[[int], None] | None = None,
) -> LabelledLightCurves:
    """Read the labelled objects of some surveys that have a period: their labels first, then what is chosen.

    Parameters
    ----------
    urls : sequence of str or path
        Surveys.
    configs : sequence of SurveyConfig, optional
        Of each survey; canonical by default.
    selection : Selection, optional
        All labelled objects by default.
    progress : callable, optional
        Takes the number of chosen light curves that were read since its last call.

    Raises
    ------
    InputError
        A survey that is not there or cannot be read, no object with a label that means a class.
    """
    selection = selection or Selection()
    reader = LabelReader(selection.classes, selection.labels)
    surveys = [
        open_survey(url, config) for url, config in zip(urls, configs or [SurveyConfig()] * len(urls), strict=True)
    ]
    names = survey_names(urls)
    for survey, name in zip(surveys, names, strict=True):
        if survey.source.bands == FUSE:
            raise InputError(
                expected="one band to learn from",
                got=f"--bands {FUSE}, which combines answers",
                where=name,
                fix="name the band, as in --band r",
            )
    try:
        labels = [
            _read_labels(number, survey, partition, reader, selection.given)
            for number, survey in enumerate(surveys)
            for partition in survey.partitions
        ]
        left_out = sum((each.left_out for each in labels), Counter[str]())
        _check_labelled(labels, names, reader, left_out)
        chosen = _choose(labels, selection)
        parts = [
            part
            for each, rows in zip(labels, chosen, strict=True)
            if len(rows)
            for part in _read_rows(surveys[each.survey], names[each.survey], each, rows, progress)
        ]
    except PartitionError as error:
        # Nobody can say which objects the partition holds, so whatever was trained would not be what was asked for.
        raise InputError(expected=error.expected, got=error.got, where=error.where, fix=error.fix) from error
    return replace(LabelledLightCurves.concat(parts), left_out=dict(left_out))


def _read_labels(
    number: int, survey: Survey, partition: Partition, reader: LabelReader, given: Mapping[str, str] | None
) -> _Labels:
    source = survey.source
    columns = source.columns
    labels: list[pa.Array] = []
    ids: list[pa.Array] = []
    periods: list[npt.NDArray[np.float64]] = []
    texts: dict[str, list[Any]] = {name: [] for name in DESCRIPTIONS}
    if source.form == "long":
        # One object is many rows there, so that only reading tells the objects apart.
        for batch in read_batches(source, partition, None, BATCH_OBSERVATIONS):
            labels += batch.objects["class"].chunks
            ids += batch.objects["object_id"].chunks
            periods.append(batch.period)
        texts = {name: [""] * sum(map(len, labels)) for name in DESCRIPTIONS}
    else:
        with opened_parquet(source.location / partition.key) as parquet:
            there = parquet.schema_arrow.names
            wanted = [name for name in (columns.period, columns.class_) if name is not None]
            wanted += [name for name in DESCRIPTIONS if name in there and name not in wanted]
            wanted += [columns.object_id] * (given is not None and columns.object_id not in wanted)
            for record in parquet.iter_batches(columns=wanted):
                labels.append(optional_column(record, columns.class_, pa.large_string()))
                ids += [] if given is None else [record.column(columns.object_id)]
                none = np.full(len(record), np.nan)
                periods.append(to_float64(record.column(columns.period)) if columns.period else none)
                for name, values in texts.items():
                    found = record.column(name).to_pylist() if name in there else [None] * len(record)
                    values += ["" if value is None else str(value) for value in found]
    label = pa.chunked_array(labels, pa.large_string())
    period = np.concatenate([np.zeros(0), *periods])
    if given is not None:
        label = given_labels(ids, given)
        texts["class_original"] = [""] * len(label)
        # Nobody asks for light curves that the table does not have.
        period = np.where(label.is_valid().to_numpy(), period, np.nan)
    codes = reader.codes(label)
    known = {name: np.array(values, np.object_) for name, values in texts.items()}
    known["label"] = np.array(label.fill_null("").to_pylist(), np.object_)
    known["class_original"] = _originals(known["label"], known["class_original"], reader)
    return _Labels(
        number,
        partition,
        reader.classes,
        codes,
        period,
        known,
        Counter(text for text in known["label"][codes == NO_CLASS] if text.strip()),
    )


def _originals(label: Any, given: Any, reader: LabelReader) -> Any:
    """Return what tells other kinds of stars: also a label that means one, and none where a label says too little."""
    why = np.array([reader.read(text).why for text in label], np.object_)
    given = np.where((why == "other") & (given == ""), label, given)
    return np.where((why == "unsaid") | (why == "unknown"), "", given)


def _check_labelled(labels: list[_Labels], names: list[str], reader: LabelReader, left_out: Mapping[str, int]) -> None:
    if not any((each.class_code != NO_CLASS).any() for each in labels):
        told = "; ".join(reader.left_out(left_out).values())
        raise InputError(
            expected="objects with a class",
            got=f"none among {sum(len(each.class_code) for each in labels):,} objects" + (f"; {told}" if told else ""),
            where=", ".join(names),
            fix=f"give the objects a column class with {', '.join(reader.classes)}, or name it: "
            "--set survey.class=COLUMN; what other labels mean is said in [labels]",
        )
    usable = [(each.class_code != NO_CLASS) & _has_period(each.period) for each in labels]
    if not any(mask.any() for mask in usable):
        raise InputError(
            expected="periods of the labelled objects",
            got="none",
            where=", ".join(names),
            fix="give a period [d] to each, or ingest with --find-periods",
        )


def _has_period(period: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.isfinite(period) & (period > 0)


def _choose(labels: list[_Labels], selection: Selection) -> list[Rows]:
    """Return the rows to read of each partition, ascending."""
    code = np.concatenate([each.class_code for each in labels]).astype(np.int64)
    usable = _has_period(np.concatenate([each.period for each in labels]))
    survey = np.repeat([each.survey for each in labels], [len(each.class_code) for each in labels])
    takes = np.zeros(len(code), np.bool_)
    random = np.random.default_rng(selection.seed)
    for number in range(NO_CLASS if selection.others else 0, len(selection.classes)):
        takes[_share(np.flatnonzero(usable & (code == number)), survey, selection.max_per_class, random)] = True
    bounds = np.cumsum([0, *(len(each.class_code) for each in labels)])
    return [np.flatnonzero(takes[start:stop]) for start, stop in pairwise(bounds)]


def _share(rows: Rows, survey: npt.NDArray[np.int64], most: int | None, random: np.random.Generator) -> Rows:
    """Return `most` of the rows, at random, of each survey in proportion to what it has."""
    if most is None or len(rows) <= most:
        return rows
    shuffled = random.permutation(rows)
    # Rows of a survey at even distances from 0 to 1: the first of all of them are each survey's share.
    place = np.empty(len(rows))
    for number in np.unique(survey[rows]):
        mine = np.flatnonzero(survey[shuffled] == number)
        place[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    return shuffled[np.argsort(place, kind="stable")[:most]]


def _read_rows(
    survey: Survey, name: str, labels: _Labels, rows: Rows, progress: Callable[[int], None] | None
) -> Iterator[LabelledLightCurves]:
    """Yield the chosen rows of a partition; only the row groups that hold some of them are read."""
    source = survey.source
    row_groups, first = _row_groups(survey, labels.partition, rows)
    start = 0
    for batch in read_batches(source, labels.partition, row_groups, BATCH_OBSERVATIONS):
        n = len(batch.light_curves)
        place = first[start : start + n]
        wanted = np.flatnonzero(np.isin(place, rows))
        start += n
        if not len(wanted):
            continue
        objects = batch.objects.take(pa.array(wanted))
        at = place[wanted]
        yield LabelledLightCurves(
            light_curves=within_limits(batch.light_curves.take(wanted), source.limits),
            period=batch.period[wanted],
            class_code=labels.class_code[at],
            survey=np.full(len(wanted), name, np.object_),
            object_id=np.array([str(value) for value in objects["object_id"].to_pylist()], np.object_),
            ra=to_float64(objects["ra"].combine_chunks()),
            dec=to_float64(objects["dec"].combine_chunks()),
            classes=labels.classes,
            **{key: values[at] for key, values in labels.texts.items()},
        )
        if progress is not None:
            progress(len(wanted))


def _row_groups(survey: Survey, partition: Partition, rows: Rows) -> tuple[list[int] | None, Rows]:
    """Return which row groups hold the rows, and the number in the file of each row that reading those will give."""
    shape = partition_shape(survey.source, partition)
    if not shape.divisible:
        return None, np.arange(sum(group.rows for group in shape.row_groups))
    bounds = np.cumsum([0, *(group.rows for group in shape.row_groups)])
    groups = np.unique(np.searchsorted(bounds, rows, side="right") - 1).tolist()
    return groups, np.concatenate([np.arange(bounds[k], bounds[k + 1]) for k in groups])


def within_limits(light_curves: LightCurves, limits: Limits) -> LightCurves:
    """Return light curves without the observations that a survey's limits exclude: the rest stands for itself.

    Surveys have different limits (their time systems differ), but a training folds all of them together.
    """
    good = good_observations(light_curves.time, light_curves.mag, None, limits)
    kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(good, dtype=np.int64)])
    return replace(
        light_curves,
        offsets=kept[light_curves.offsets],
        time=light_curves.time[good],
        mag=light_curves.mag[good],
        mag_err=None if light_curves.mag_err is None else light_curves.mag_err[good],
    )
