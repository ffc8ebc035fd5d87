"""How good and how honest answers are: the paper's measures, the calibration, the score of objects of other kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from varstar_batch.model.answers import Float64, parent_probabilities
from varstar_batch.model.family import Family, Outputs
from varstar_batch.survey.labels import parent_of
from varstar_batch.training.judging.family_measures import set_measures, subclass_measures
from varstar_batch.training.stars.labelled import LabelledLightCurves
from varstar_batch.training.stars.subclasses import allowed_leaves

MEASURES = ("accuracy", "precision", "recall", "f1")
"""By class, in the order of the paper's table; `accuracy` is that of its equation 1."""

SURE = 0.9
"""Probability above which an answer is taken for sure."""

N_BINS = 15
"""Bins of probability of the expected calibration error."""

Codes = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """What networks say of labelled objects that they have not seen."""

    objects: LabelledLightCurves
    """n objects with a class."""
    probabilities: Float64
    """Float64 (n, n_classes). Calibrated, by a network and a temperature that know nothing of the object."""
    fold: npt.NDArray[np.int64]
    """Int64 (n,). Which network it was, from 0."""
    ood_score: Float64
    """Float64 (n,). The higher, the less familiar; comparable within a fold."""
    outputs: Outputs | None = None
    """Of the networks, with their family; None where it is not known."""
    leaf: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    """Integer (n,) with a family. Most probable leaf of the most probable class, or -1 where it has no subclasses."""
    parent_sets: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0, 0), np.bool_))
    """Bool (n, levels, n_parents) with a family. By thresholds that know nothing of the object."""
    others: LabelledLightCurves | None = None
    """m objects of other kinds."""
    other_probabilities: Float64 = field(default_factory=lambda: np.zeros((1, 0, 0)))
    """Float64 (folds, m, n_classes). By each of the networks."""
    other_score: Float64 = field(default_factory=lambda: np.zeros((1, 0)))
    """Float64 (folds, m). Their out-of-distribution scores."""
    histories: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    """Of each fit, by name; see `varstar_batch.training.fitting.fit.History`."""

    @property
    def truth(self) -> Codes:
        """True classes, int8 (n,)."""
        return self.objects.class_code

    @property
    def predicted(self) -> Codes:
        """Most probable classes, (n,)."""
        codes: Codes = self.probabilities.argmax(axis=1)
        return codes


def judge(evidence: Evidence, classes: Sequence[str]) -> dict[str, JsonValue]:
    """Return every measure of some evidence, ready for JSON.

    Returns
    -------
    dict
        What `class_metrics` gives for all objects together; ``folds``, see `spread_over_folds`; ``confusion``, rows
        of `confusion_matrix`; what `honesty` gives; ``parent_sets`` and ``subclasses``, where the networks have a
        family, see `set_measures` and `subclass_measures`; ``ood_auroc``
        and ``n_others`` (the former is mean and deviation over the folds, None without objects of other kinds);
        ``by_survey`` and ``by_period_source``, `class_metrics`, `honesty` and ``parent_sets`` of each.
    """
    truth, predicted = evidence.truth, evidence.predicted
    folds = [evidence.fold == number for number in np.unique(evidence.fold)]
    areas = [auroc(evidence.ood_score[rows], other) for rows, other in zip(folds, evidence.other_score, strict=True)]
    outputs = evidence.outputs or _told_by_names(classes)
    parts = {"by_survey": evidence.objects.survey, "by_period_source": evidence.objects.period_source}
    return {
        **class_metrics(truth, predicted, classes),
        "folds": spread_over_folds([class_metrics(truth[rows], predicted[rows], classes) for rows in folds]),
        "confusion": confusion_matrix(truth, predicted, len(classes)).tolist(),
        **honesty(evidence.probabilities, truth, outputs),
        **_of_sets(evidence, np.ones(len(truth), np.bool_)),
        **_of_subclasses(evidence),
        "n_others": evidence.other_score.shape[1],
        "ood_auroc": None if np.isnan(areas).any() else _summary(areas),
        **{
            name: {
                str(key or "not told"): {
                    **class_metrics(truth[column == key], predicted[column == key], classes),
                    **honesty(evidence.probabilities[column == key], truth[column == key], outputs),
                    **_of_sets(evidence, column == key),
                }
                for key in sorted(set(column))
            }
            for name, column in parts.items()
        },
    }


def honesty(probabilities: Float64, truth: Codes, outputs: Outputs) -> dict[str, JsonValue]:
    """Return what of some answers may be believed.

    Returns
    -------
    dict
        ``parents``, the share whose most probable parent is right; ``calibration_error``, and that of the parents,
        ``parents_calibration_error``; ``sure_and_wrong``, the share of wrong answers with a probability above `SURE`.
    """
    parents, parent = parent_probabilities(outputs, probabilities), outputs.parent_of[truth]
    predicted, n = probabilities.argmax(axis=1), max(len(truth), 1)
    return {
        "parents": rounded((parents.argmax(axis=1) == parent).sum() / n),
        "calibration_error": calibration_error(probabilities, truth),
        "parents_calibration_error": calibration_error(parents, parent),
        "sure_and_wrong": rounded(((predicted != truth) & (probabilities.max(axis=1) > SURE)).sum() / n),
    }


def _told_by_names(classes: Sequence[str]) -> Outputs:
    return Outputs(tuple(classes), Family(parents={name: parent_of(name) for name in classes}))


def _of_sets(evidence: Evidence, rows: npt.NDArray[np.bool_]) -> dict[str, JsonValue]:
    if evidence.outputs is None or not evidence.parent_sets.size:
        return {}
    return {"parent_sets": set_measures(evidence.outputs, evidence.parent_sets[rows], evidence.truth[rows])}


def _of_subclasses(evidence: Evidence) -> dict[str, JsonValue]:
    if evidence.outputs is None or not evidence.outputs.divided:
        return {}
    allowed = allowed_leaves(evidence.objects, evidence.outputs)
    return {"subclasses": subclass_measures(evidence.outputs, evidence.leaf, allowed)}


def confusion_matrix(truth: Codes, predicted: Codes, n_classes: int) -> npt.NDArray[np.int64]:
    """Return the number of objects by true class (row) and predicted class (column), int64 (n_classes, n_classes)."""
    cells = truth.astype(np.int64) * n_classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def class_metrics(truth: Codes, predicted: Codes, classes: Sequence[str]) -> dict[str, JsonValue]:
    """Return the paper's measures, by class and as their plain average over the classes that occur.

    Parameters
    ----------
    truth, predicted : integer (n,)
        Indices into `classes`.
    classes : sequence of str

    Returns
    -------
    dict
        ``n_objects``; ``accuracy``, the share of right answers; ``macro`` and ``by_class``, each with
        ``accuracy`` ((TP + TN) / n: right about "this class or not"), ``precision`` (TP / (TP + FP)),
        ``recall`` (TP / (TP + FN)) and ``f1`` (2 TP / (2 TP + FP + FN)), in [0, 1]; by class also ``n_objects``. A
        ratio whose denominator is zero is 0. The average leaves out classes without a single true object.

    Notes
    -----
    Source: arXiv:2508.11964, equations 1-4 and, for the averages, 5-8. The column "accuracy" that its table prints
    agrees with the recall and not with its equation 1; both are here.
    """
    confusion = confusion_matrix(truth, predicted, len(classes))
    n = int(confusion.sum())
    right, actual, claimed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    measures = {
        "accuracy": (n - actual - claimed + 2 * right) / max(n, 1),
        "precision": right / np.maximum(claimed, 1),
        "recall": right / np.maximum(actual, 1),
        "f1": 2 * right / np.maximum(claimed + actual, 1),
    }
    there = actual > 0
    return {
        "n_objects": n,
        "accuracy": rounded(right.sum() / max(n, 1)),
        "macro": {name: rounded(values[there].mean()) if n else 0.0 for name, values in measures.items()},
        "by_class": {
            label: {"n_objects": int(actual[i]), **{name: rounded(values[i]) for name, values in measures.items()}}
            for i, label in enumerate(classes)
        },
    }


def spread_over_folds(metrics: Sequence[dict[str, Any]]) -> dict[str, JsonValue]:
    """Return mean and standard deviation over folds of what `class_metrics` gave for each, in the same arrangement.

    Every number becomes ``{"mean": ..., "std": ...}``; the deviation is that of the sample (n - 1), 0 of one fold. By
    class only folds count in which the class occurs.
    """

    labels = list(metrics[0]["by_class"])
    return {
        "folds": len(metrics),
        "accuracy": _summary([each["accuracy"] for each in metrics]),
        "macro": {name: _summary([each["macro"][name] for each in metrics]) for name in MEASURES},
        "by_class": {
            label: {
                name: _summary(
                    [each["by_class"][label][name] for each in metrics if each["by_class"][label]["n_objects"]]
                )
                for name in MEASURES
            }
            for label in labels
        },
    }


def reliability(probabilities: Float64, truth: Codes, n_bins: int = N_BINS) -> Float64:
    """Return, for equal bins of the largest probability, float64 (n_bins, 3): objects, mean probability, share right.

    Mean and share of an empty bin are NaN.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins).astype(np.float64)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=n_bins) / count for values in (confidence, right)]
    return np.stack([count, *means], axis=1)


def calibration_error(probabilities: Float64, truth: Codes, n_bins: int = N_BINS) -> float:
    """Return the expected calibration error, in [0, 1], over `n_bins` equal bins of the largest probability.

    Notes
    -----
    Source: Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    count, confidence, right = reliability(probabilities, truth, n_bins).T
    return rounded(np.nansum(count * np.abs(confidence - right)) / max(len(truth), 1))


def auroc(familiar: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """Return the chance that a score of `other` is above one of `familiar` (ties count half), in [0, 1].

    NaN where either is empty. This is the area under the receiver's curve, by the rank statistic of Mann and Whitney.
    """
    if not (len(familiar) and len(other)):
        return float("nan")
    both = np.concatenate([familiar, other])
    _, code, count = np.unique(both, return_inverse=True, return_counts=True)
    # Ties share the mean of their ranks, from 1.
    rank = np.cumsum(count) - (count - 1) / 2
    m = len(other)
    return rounded((rank[code[len(familiar) :]].sum() - m * (m + 1) / 2) / (m * len(familiar)))


def rounded(value: np.floating | float) -> float:
    """Return a measure with five digits, which is more than any of them means."""
    return round(float(value), 5)


def _summary(values: Sequence[float]) -> dict[str, JsonValue]:
    if not values:
        return {"mean": 0.0, "std": 0.0}
    return {"mean": rounded(np.mean(values)), "std": rounded(np.std(values, ddof=1) if len(values) > 1 else 0.0)}
