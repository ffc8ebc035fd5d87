"""The period of each object of a batch is questioned, and what another one fits better is folded with that, too."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.catalog.columns.schema import PeriodColumns, Provenance, catalog_rows
from varstar_batch.light_curves.fold import Folded
from varstar_batch.light_curves.rules import Limits
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.classify import Classification, classify
from varstar_batch.model.engines.engine import Engine
from varstar_batch.model.periods import PeriodVerdict, question
from varstar_batch.survey.columns import BETTER, PERIOD_ORIGIN
from varstar_batch.survey.decode import fold_batch
from varstar_batch.survey.read import SurveyBatch

T = TypeVar("T", Folded, Classification)


@dataclass(frozen=True, eq=False)
class FoldedBatch:
    """n objects, folded with their periods, and those of them that others fit better."""

    batch: SurveyBatch
    folded: Folded
    verdict: PeriodVerdict
    again: Folded
    """The m objects `verdict.better`, folded with the period that fits best."""


@dataclass(frozen=True, eq=False)
class ClassifiedBatch:
    """A folded batch, and the network's answers."""

    of: FoldedBatch
    result: Classification
    """Of the n objects with their own periods."""
    again: Classification
    """Of the m objects with their best ones."""


def fold_questioned(batch: SurveyBatch, bundle: Bundle, limits: Limits, n_threads: int) -> FoldedBatch:
    """Fold a batch, question its periods, and fold again what another period fits better."""
    preprocessing, features = bundle.contract.preprocessing, bool(bundle.contract.features)
    folded = fold_batch(batch, preprocessing, limits, features="rivals", n_threads=n_threads)
    verdict = question(folded, batch.period)
    other = batch.with_periods(verdict.better, verdict.best[verdict.better])
    again = fold_batch(other, preprocessing, limits, features=features, n_threads=n_threads)
    # What nobody asks for any more is not held, or sent to another worker.
    kept = folded.features if features else folded.features[:, :0].copy()
    return FoldedBatch(
        batch, replace(folded, features=kept, dispersion=folded.dispersion[:, :0].copy()), verdict, again
    )


def classify_questioned(
    bundle: Bundle, engine: Engine, folded: FoldedBatch, mira_amplitude: float | None = None
) -> ClassifiedBatch:
    """Classify a batch with its periods, as `classify`, and what others fit better with those."""
    result, again = (classify(bundle, engine, each, mira_amplitude) for each in (folded.folded, folded.again))
    return ClassifiedBatch(folded, result, again)


def rows_of(classified: ClassifiedBatch, provenance: Provenance, *, use_best_period: bool = False) -> pa.Table:
    """Return the catalog rows of a batch, `use_best_period` with the best periods' answers where there are any."""
    periods = _period_columns(classified)
    if use_best_period:
        classified = _by_best_period(classified)
    of = classified.of
    return catalog_rows(of.batch, of.folded.of_objects(), classified.result, periods, provenance)


def _period_columns(classified: ClassifiedBatch) -> PeriodColumns:
    """Return what the catalog says of the periods of a batch; nothing of what was not classified."""
    verdict, result = classified.of.verdict, classified.result
    class_code = np.where(np.isfinite(verdict.best), result.class_code, -1).astype(np.int8)
    class_code[verdict.better] = classified.again.class_code
    return PeriodColumns(verdict.flag, verdict.best, class_code)


def _by_best_period(classified: ClassifiedBatch) -> ClassifiedBatch:
    """Put answers with the best periods, where there are any, in the place of those with the survey's."""
    of, again = classified.of, classified.again
    answered = np.flatnonzero(again.class_code >= 0)
    rows = of.verdict.better[answered]
    is_better = np.zeros(len(of.verdict.flag), np.bool_)
    is_better[rows] = True
    period = np.where(is_better, of.verdict.best, of.batch.period)
    objects, mask = of.batch.objects, pa.array(is_better)
    origin = objects[PERIOD_ORIGIN]
    columns = {
        "period": pa.array(period, pa.float64(), mask=np.isnan(period)),
        PERIOD_ORIGIN: pc.if_else(mask, pa.scalar(BETTER, origin.type), origin),
    }
    for name, column in columns.items():
        objects = objects.set_column(objects.schema.get_field_index(name), name, column)
    again_of_objects = of.again.of_objects()
    numbers = {name: getattr(again_of_objects, name)[answered] for name in ("n_used", "amplitude")}
    folded = _with_rows(of.folded.of_objects(), rows, numbers)
    answers = {each.name: getattr(again, each.name)[answered] for each in fields(again)}
    of = replace(of, batch=replace(of.batch, objects=objects, period=period), folded=folded)
    return replace(classified, of=of, result=_with_rows(classified.result, rows, answers))


def _with_rows(result: T, rows: npt.NDArray[np.intp], values: dict[str, npt.NDArray[Any]]) -> T:
    columns = {}
    for name, some in values.items():
        columns[name] = getattr(result, name).copy()
        columns[name][rows] = some
    return replace(result, **columns)
