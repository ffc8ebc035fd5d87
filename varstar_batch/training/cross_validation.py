"""What networks say of the stars that they have not seen: the evidence of a training, and what it calibrates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from varstar_batch.model.bundle import Calibration, ClassDensity, OutOfDistribution
from varstar_batch.model.classify import Float64, temperature_softmax
from varstar_batch.model.novelty import distance, entropy_of, fit_density, fit_novelty, novelty
from varstar_batch.training.fit import Fitted
from varstar_batch.training.folds import Split
from varstar_batch.training.inputs import Inputs
from varstar_batch.training.labelled import Rows
from varstar_batch.training.measures import Evidence

if TYPE_CHECKING:
    from varstar_batch.training.plan import TrainingPlan


@dataclass(frozen=True, eq=False)
class _Fold:
    """A split's held-out light curves and those of other kinds, as its network and its density see them."""

    truth: npt.NDArray[np.int8]
    logits: Float64
    other_logits: Float64
    held: Inputs
    others: Inputs
    density: ClassDensity | None

    def distances(self, inputs: Inputs) -> Float64 | None:
        return None if self.density is None or inputs.features is None else distance(self.density, inputs.features)


def calibrate(plan: TrainingPlan, fitted: Sequence[Fitted]) -> tuple[Calibration, OutOfDistribution]:
    """Fit the temperature, and the ranks of the out-of-distribution score, on all held-out light curves.

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
    probabilities, scores, others, other_scores = [], [], [], []
    for number, fold in enumerate(folds):
        # With a single split there are no others to calibrate on: few numbers fitted on hundreds flatter little.
        rest = [other for k, other in enumerate(folds) if k != number] or [fold]
        calibration, ood = _calibrate(rest, fold.density)
        found = temperature_softmax(fold.logits, calibration.temperature)
        unknown = temperature_softmax(fold.other_logits, calibration.temperature)
        probabilities.append(found)
        scores.append(novelty(ood, found, fold.held.features))
        others.append(unknown)
        other_scores.append(novelty(ood, unknown, fold.others.features))
    held: Rows = np.concatenate([split.held for split in plan.splits])
    order = np.argsort(held, kind="stable")
    number_of = np.repeat(np.arange(len(folds)), [len(split.held) for split in plan.splits])
    return Evidence(
        objects=plan.data.objects.take(held[order]),
        probabilities=np.concatenate(probabilities)[order],
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
        truth=truth[split.held],
        logits=fitted.held_logits.astype(np.float64),
        other_logits=fitted.other_logits.astype(np.float64),
        held=inputs.take(split.held),
        others=plan.data.others,
        density=_density(inputs.take(split.train), truth[split.train]),
    )


def _density(inputs: Inputs, class_code: npt.NDArray[np.int8]) -> ClassDensity | None:
    return None if inputs.features is None else fit_density(inputs.features, class_code)


def _calibrate(folds: Sequence[_Fold], density: ClassDensity | None) -> tuple[Calibration, OutOfDistribution]:
    """Fit on the held-out light curves of some splits; the ranks go with `density`."""
    logits = np.concatenate([fold.logits for fold in folds])
    calibration = fit_temperature(logits, np.concatenate([fold.truth for fold in folds]))
    entropy = entropy_of(temperature_softmax(logits, calibration.temperature))
    distances = [found for fold in folds if (found := fold.distances(fold.held)) is not None]
    return calibration, fit_novelty(entropy, density, np.concatenate(distances) if distances else None)


def fit_temperature(logits: Float64, truth: npt.NDArray[np.integer]) -> Calibration:
    """Fit the temperature that minimises the negative log likelihood of held-out objects, in [0.2, 20].

    Held-out objects that are all right would drive it to zero and every later answer to certainty: hence the bound.

    Parameters
    ----------
    logits : float64 (n, n_classes)
        n >= 1, finite.
    truth : integer (n,)
        Indices of the true classes.

    Notes
    -----
    Source: Guo et al. 2017, arXiv:1706.04599. The loss is convex in 1 / temperature: any search finds its minimum.
    """

    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=1)
        norm = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float(np.mean(norm - scaled[np.arange(len(truth)), truth]))

    found = minimize_scalar(loss, bounds=np.log([0.2, 20.0]), method="bounded", options={"xatol": 1e-10})
    return Calibration(temperature=round(float(np.exp(found.x)), 6))
