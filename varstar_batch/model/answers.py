"""From a network's logits to calibrated probabilities of classes, parents and subclasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.classes import MIRA, SEMIREGULAR
from varstar_batch.model.family import LEVELS, Calibration, Outputs, ParentSets, SubclassHead

Float64 = npt.NDArray[np.float64]


FEATURE_BOUND = 3.0
"""Standard deviations beyond which a feature says no more of a subclass."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network says of n light curves, calibrated."""

    logs: Float64
    """Float64 (n, n_classes). Logarithms of the probabilities of the classes, to a constant of each row: they part
    what rounds to the same."""
    classes: Float64
    """Float64 (n, n_classes). Probabilities of the classes; a row sums to 1."""
    divided: Float64
    """Float64 (n, n_leaves). Logarithms of the probabilities of the leaves, each given its class: 0 where a class is
    not divided."""


def temperature_softmax(logits: Float64, temperature: float) -> Float64:
    """Return softmax(logits / temperature) over the last axis, float64 (n, n_classes)."""
    scaled = logits / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: Float64 = weights / weights.sum(axis=1, keepdims=True)
    return probabilities


def log_softmax(logits: Float64) -> Float64:
    """Return the logarithm of the softmax over the last axis, float64 (n, k)."""
    from_top = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    logs: Float64 = from_top - np.log(np.exp(from_top).sum(axis=1, keepdims=True))
    return logs


def class_logits(outputs: Outputs, logits: Float64) -> Float64:
    """Return logits of the classes, float64 (n, n_classes), whose softmax sums that of the leaves."""
    if not outputs.divided:
        return logits
    summed: Float64 = np.logaddexp.reduceat(logits, outputs.bounds[:-1], axis=1)
    return summed


def parent_logits(outputs: Outputs, classes: Float64) -> Float64:
    """Return logits of the parents, float64 (n, n_parents), whose softmax sums that of the classes."""
    order = np.argsort(outputs.parent_of, kind="stable")
    starts = np.searchsorted(outputs.parent_of[order], np.arange(len(outputs.parents)))
    summed: Float64 = np.logaddexp.reduceat(classes[:, order], starts, axis=1)
    return summed


def answers_of(
    outputs: Outputs, calibration: Calibration, logits: Float64, features: npt.NDArray[np.floating] | None
) -> Answers:
    """Calibrate logits, float64 (n, n_leaves), level by level; see `Calibration`.

    `features`, float (n, f), are the contract's, None where it has none.
    """
    classes = class_logits(outputs, logits)
    if outputs.family is None:
        scaled = classes / calibration.temperature
        return Answers(scaled, temperature_softmax(classes, calibration.temperature), np.zeros_like(logits))
    logs = log_softmax(parent_logits(outputs, classes) / calibration.temperature)[:, outputs.parent_of]
    for parent, temperature in calibration.classes.items():
        members = outputs.members(parent)
        logs[:, members] += log_softmax(classes[:, members] / temperature)
    divided = np.zeros_like(logits)
    for name, head in calibration.subclasses.items():
        of_class = slice(*outputs.bounds[outputs.classes.index(name) :][:2])
        divided[:, of_class] = log_softmax(_subclass_logits(head, logits[:, of_class], features))
    return Answers(logs, np.exp(logs), divided)


def normalised_divisions(outputs: Outputs, divided: Float64) -> Float64:
    """Return logarithms of probabilities of the leaves, each given its class, of some that do not sum to 1."""
    normalised = np.zeros_like(divided)
    for code in outputs.divided:
        of_class = slice(*outputs.bounds[code:][:2])
        normalised[:, of_class] = log_softmax(divided[:, of_class])
    return normalised


def most_probable_leaf(outputs: Outputs, classes: npt.NDArray[np.intp], divided: Float64) -> npt.NDArray[np.intp]:
    """Return the most probable leaf of a class of each row, (n,), given classes (n,) and `Answers.divided`."""
    leaves: npt.NDArray[np.intp] = np.where(outputs.class_of == classes[:, None], divided, -np.inf).argmax(axis=1)
    return leaves


def divide_by_amplitude(outputs: Outputs, answers: Answers, is_mira: npt.NDArray[np.bool_]) -> Answers:
    """Give what M and SR have together to M where `is_mira`, bool (n,), says so, and to SR elsewhere."""
    pair = [outputs.classes.index(name) for name in (MIRA, SEMIREGULAR)]
    logs, classes = answers.logs.copy(), answers.classes.copy()
    chosen = np.stack([is_mira, ~is_mira], axis=1)
    together = np.logaddexp.reduce(answers.logs[:, pair], axis=1)[:, None]
    logs[:, pair] = np.where(chosen, together, -np.inf)
    classes[:, pair] = np.where(chosen, answers.classes[:, pair].sum(axis=1, keepdims=True), 0.0)
    return Answers(logs, classes, answers.divided)


def head_inputs(head: SubclassHead, logits: Float64, features: npt.NDArray[np.floating]) -> Float64:
    """Return the inputs of a head, float64 (n, k + 2 f), of logits (n, k) and features (n, f)."""
    bounded = np.clip((features - np.array(head.mean)) / np.array(head.scale), -FEATURE_BOUND, FEATURE_BOUND)
    return np.concatenate([logits, bounded, bounded**2], axis=1)


def _subclass_logits(head: float | SubclassHead, logits: Float64, features: npt.NDArray[np.floating] | None) -> Float64:
    if not isinstance(head, SubclassHead):
        return logits / head
    if features is None:
        raise ValueError("features: expected those of the contract, which its subclasses rest on, got none")
    mapped: Float64 = head_inputs(head, logits, features) @ np.array(head.weights).T + np.array(head.bias)
    return mapped


def parent_probabilities(outputs: Outputs, classes: Float64) -> Float64:
    """Return the sums of the probabilities of each parent's classes, float64 (n, n_parents)."""
    belongs = np.equal.outer(outputs.parent_of, np.arange(len(outputs.parents)))
    sums: Float64 = classes @ belongs.astype(np.float64)
    return sums


def sets_of_parents(outputs: Outputs, sets: ParentSets, parents: Float64) -> npt.NDArray[np.bool_]:
    """Return which parents a star's may be, bool (n, levels, n_parents): the most probable is always one of them."""
    least = np.array([[sets.least[level][name] for name in outputs.parents] for level in LEVELS])
    best = parents == parents.max(axis=1, keepdims=True, initial=0.0)
    belongs: npt.NDArray[np.bool_] = (parents[:, None, :] >= least) | best[:, None, :]
    return belongs
