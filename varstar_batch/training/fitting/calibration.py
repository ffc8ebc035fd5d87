"""What held-out light curves calibrate: temperatures, and how probable a parent must be to belong to a set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.model.answers import Float64, class_logits, parent_logits
from varstar_batch.model.family import LEVELS, Calibration, Outputs, ParentSets, SubclassHead
from varstar_batch.training.fitting.subclass_head import FEWEST_TO_FIT, fit_head

STRICTER = 0.8 ** np.arange(16)
"""Factors of the share of stars whose parent may be missed, tried one after the other; the last is a thirtieth."""

ENOUGH_OF_PARENT = 50
"""Objects of a parent that a group needs to have a say in how its classes are told apart."""

Codes = npt.NDArray[np.integer]
Allowed = npt.NDArray[np.bool_]


def fit_calibration(
    outputs: Outputs,
    logits: Float64,
    features: npt.NDArray[np.floating] | None,
    truth: Codes,
    allowed: Allowed,
    group: Codes,
) -> Calibration:
    """Fit the temperatures of parents and of classes given their parent, and what tells subclasses apart.

    What holds for one large survey need not hold for the next. So a group of objects counts by the square root of their
    number; and what divides a parent is a definition, which surveys draw elsewhere, so that there the group decides
    that is the most in doubt.

    Parameters
    ----------
    outputs : Outputs
        With a family.
    logits : float64 (n, n_leaves)
        Of held-out objects, n >= 1, finite.
    features : float (n, f) or None
        Of the same objects; None for a network without features.
    truth : integer (n,)
        Indices of the true classes.
    allowed : bool (n, n_leaves)
        Leaves that the labels allow.
    group : integer (n,)
        Objects that were held out together: those of a survey.
    """
    classes = class_logits(outputs, logits)
    parent, weight = outputs.parent_of[truth], 1 / np.sqrt(np.bincount(group)[group].astype(np.float64))
    by_parent = {}
    for name in outputs.several:
        members = outputs.members(name)
        rows = np.isin(truth, members)
        by_parent[name] = _most_doubtful(classes[rows][:, members], members == truth[rows][:, None], group[rows])
    by_class: dict[str, float | SubclassHead] = {}
    for code in outputs.divided:
        of_class = slice(*outputs.bounds[code:][:2])
        rows = (truth == code) & ~allowed[:, of_class].all(axis=1)
        own, labels = logits[rows, of_class], allowed[rows, of_class]
        by_class[outputs.classes[code]] = (
            fit_temperature(own, labels)
            if features is None or len(own) < FEWEST_TO_FIT
            else fit_head(own, features[rows], labels)
        )
    return Calibration(
        temperature=fit_temperature(
            parent_logits(outputs, classes), np.arange(len(outputs.parents)) == parent[:, None], weight
        ),
        classes=by_parent,
        subclasses=by_class,
    )


def _most_doubtful(logits: Float64, allowed: Allowed, group: Codes) -> float:
    """Return the greatest of the temperatures of groups that are large enough; that of all where none is."""
    groups = [code for code in np.unique(group) if (group == code).sum() >= ENOUGH_OF_PARENT]
    if not groups:
        return fit_temperature(logits, allowed)
    return max(fit_temperature(logits[group == code], allowed[group == code]) for code in groups)


def fit_temperature(logits: Float64, allowed: Allowed, weight: Float64 | None = None) -> float:
    """Return the temperature that minimises the negative log likelihood of held-out objects, in [0.2, 20].

    Held-out objects that are all right would drive it to zero and every later answer to certainty: hence the bound.

    Parameters
    ----------
    logits : float64 (n, k)
        Finite. With no object the temperature is 1.
    allowed : bool (n, k)
        What is true of each object: one of the k, or one of several.
    weight : float64 (n,), optional
        What each object counts; all alike by default.

    Notes
    -----
    Source: Guo et al. 2017, arXiv:1706.04599. With one truth an object the loss is convex in 1 / temperature: any
    search finds its minimum.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    if not len(logits):
        return 1.0
    true = np.where(allowed, logits, -np.inf)

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.average(_log_sum(logits * scale) - _log_sum(true * scale), weights=weight))

    found = minimize_scalar(loss, bounds=np.log([0.2, 20.0]), method="bounded", options={"xatol": 1e-10})
    return round(float(np.exp(found.x)), 6)


def fit_parent_sets(outputs: Outputs, parents: Float64, truth: Codes, group: Codes) -> ParentSets:
    """Fit how probable a parent must be, so that sets hold the true one as often as their level says, parent by parent.

    What holds for the stars that it is fitted on need not hold for the next survey. So the least probability is lowered
    until those fitted without a group hold for its stars too: with each of ten surveys left out the sets of 99 % held
    98.8 % of the parents instead of 98.5, and those of the worst survey 97.5 instead of 93.2.

    Parameters
    ----------
    outputs : Outputs
        With a family.
    parents : float64 (n, n_parents)
        Calibrated probabilities of held-out objects.
    truth : integer (n,)
        Indices of the true classes.
    group : integer (n,)
        Objects that were held out together.
    """
    parent = outputs.parent_of[truth]
    least = {}
    for level in LEVELS:
        missed = 1 - int(level) / 100
        least[level] = {
            name: _least_probability(parents[parent == code, code], group[parent == code], missed)
            for code, name in enumerate(outputs.parents)
        }
    return ParentSets(least=least)


def _least_probability(values: Float64, group: Codes, missed: float) -> float:
    """Return what few of the values are below, and, in each group, few where it is fitted on the others."""
    groups = np.unique(group)
    for share in missed * STRICTER if len(groups) > 1 else [missed]:
        held = sum((values[group == k] >= _lower_bound(values[group != k], share)).sum() for k in groups)
        if held >= (1 - missed) * len(values):
            break
    return _lower_bound(values, share)


def _lower_bound(values: Float64, missed: float) -> float:
    """Return what a further value of the same kind is below in at most a share `missed`.

    0 where there are too few to know, 1 where there is none: what was never seen is in no set.
    """
    if not len(values):
        return 1.0
    place = int(missed * (len(values) + 1))
    return float(f"{np.sort(values)[place - 1]:.6g}") if place else 0.0


def _log_sum(logits: Float64) -> Float64:
    top = logits.max(axis=1)
    summed: Float64 = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return summed
