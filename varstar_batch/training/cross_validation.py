"""What networks say of the stars that they have not seen: the evidence of a training, and what it calibrates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from varstar_batch.model.answers import Float64, answers_of, most_probable_leaf, parent_probabilities, sets_of_parents
from varstar_batch.model.bundle import ClassDensity, OutOfDistribution
from varstar_batch.model.family import Calibration, Outputs, ParentSets
from varstar_batch.model.novelty import distance, doubt_of, faintness_of, fit_density, fit_novelty, novelty
from varstar_batch.training.fitting.calibration import Allowed, fit_calibration, fit_parent_sets
from varstar_batch.training.fitting.fit import Fitted
from varstar_batch.training.fitting.inputs import Inputs
from varstar_batch.training.judging.measures import Evidence
from varstar_batch.training.stars.folds import Split
from varstar_batch.training.stars.labelled import Rows
from varstar_batch.training.stars.subclasses import allowed_leaves

if TYPE_CHECKING:
    from varstar_batch.training.plan import TrainingPlan


@dataclass(frozen=True, eq=False)
class _Fold:
    """A split's held-out light curves and those of other kinds, as its network and its density see them."""

    outputs: Outputs
    truth: npt.NDArray[np.int8]
    allowed: Allowed
    logits: Float64
    other_logits: Float64
    held: Inputs
    others: Inputs
    density: ClassDensity | None

    def distances(self, inputs: Inputs) -> Float64 | None:
        return None if self.density is None or inputs.features is None else distance(self.density, inputs.features)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What held-out light curves say of the answers to others."""

    calibration: Calibration
    parent_sets: ParentSets
    ood: OutOfDistribution


def calibrate(plan: TrainingPlan, fitted: Sequence[Fitted]) -> Calibrated:
    """Fit temperatures, sets of parents and the ranks of the out-of-distribution score on all held-out light curves.

    Parameters
    ----------
    plan : TrainingPlan
    fitted : sequence of Fitted
        One for each of `plan.splits`, in their order; more are not looked at.
    """
    folds = _folds(plan, fitted)
    return _calibrate(folds, _density(plan.data.inputs, plan.data.objects.class_code))


def split_evidence(plan: TrainingPlan, fitted: Sequence[Fitted]) -> Evidence:
    """Put together what networks say of the objects that they have not seen, each calibrated on the other splits.

    Parameters
    ----------
    plan : TrainingPlan
    fitted : sequence of Fitted
        One for each of `plan.splits`, in their order; more are of interest for their histories only.
    """
    folds = _folds(plan, fitted)
    probabilities, leaves, scores, sets, others, other_scores = [], [], [], [], [], []
    for number, fold in enumerate(folds):
        # With a single split there are no others to calibrate on: few numbers fitted on hundreds flatter little.
        rest = [other for k, other in enumerate(folds) if k != number] or [fold]
        fit = _calibrate(rest, fold.density)
        found = answers_of(fold.outputs, fit.calibration, fold.logits, fold.held.features)
        unknown = answers_of(fold.outputs, fit.calibration, fold.other_logits, fold.others.features).classes
        probabilities.append(found.classes)
        leaves.append(most_probable_leaf(fold.outputs, found.classes.argmax(axis=1), found.divided))
        scores.append(novelty(fit.ood, fold.outputs, found.classes, fold.logits, fold.held.features))
        sets.append(sets_of_parents(fold.outputs, fit.parent_sets, parent_probabilities(fold.outputs, found.classes)))
        others.append(unknown)
        other_scores.append(novelty(fit.ood, fold.outputs, unknown, fold.other_logits, fold.others.features))
    held: Rows = np.concatenate([split.held for split in plan.splits])
    order = np.argsort(held, kind="stable")
    number_of = np.repeat(np.arange(len(folds)), [len(split.held) for split in plan.splits])
    return Evidence(
        objects=plan.data.objects.take(held[order]),
        probabilities=np.concatenate(probabilities)[order],
        outputs=plan.data.outputs,
        leaf=np.concatenate(leaves)[order],
        parent_sets=np.concatenate(sets)[order],
        fold=number_of[order],
        ood_score=np.concatenate(scores)[order],
        others=plan.others,
        other_probabilities=np.stack(others),
        other_score=np.stack(other_scores),
        histories={split.name: each.history for split, each in zip(plan.fits, fitted, strict=False)},
    )


def _folds(plan: TrainingPlan, fitted: Sequence[Fitted]) -> list[_Fold]:
    return [_fold(plan, split, each) for split, each in zip(plan.splits, fitted, strict=False)]


def _fold(plan: TrainingPlan, split: Split, fitted: Fitted) -> _Fold:
    inputs, truth = plan.data.inputs, plan.data.objects.class_code
    return _Fold(
        outputs=plan.data.outputs,
        truth=truth[split.held],
        allowed=allowed_leaves(plan.data.objects.take(split.held), plan.data.outputs),
        logits=fitted.held_logits.astype(np.float64),
        other_logits=fitted.other_logits.astype(np.float64),
        held=inputs.take(split.held),
        others=plan.data.others,
        density=_density(inputs.take(split.train), truth[split.train]),
    )


def _density(inputs: Inputs, class_code: npt.NDArray[np.int8]) -> ClassDensity | None:
    return None if inputs.features is None else fit_density(inputs.features, class_code)


def _calibrate(folds: Sequence[_Fold], density: ClassDensity | None) -> Calibrated:
    """Fit on the held-out light curves of some splits; the ranks go with `density`."""
    logits = np.concatenate([fold.logits for fold in folds])
    truth, allowed = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("truth", "allowed"))
    outputs, group = folds[0].outputs, np.repeat(np.arange(len(folds)), [len(fold.truth) for fold in folds])
    held = [fold.held.features for fold in folds if fold.held.features is not None]
    features = np.concatenate(held) if held else None
    calibration = fit_calibration(outputs, logits, features, truth, allowed, group)
    classes = answers_of(outputs, calibration, logits, features).classes
    distances = [found for fold in folds if (found := fold.distances(fold.held)) is not None]
    return Calibrated(
        calibration=calibration,
        parent_sets=fit_parent_sets(outputs, parent_probabilities(outputs, classes), truth, group),
        ood=fit_novelty(
            doubt_of(outputs, classes),
            faintness_of(outputs, logits),
            density,
            np.concatenate(distances) if distances else None,
        ),
    )
