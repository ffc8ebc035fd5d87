"""How good and how honest probabilities are: the paper's measures, calibration, the energies of familiar objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from varstar_batch.model.bundle import Calibration, OutOfDistribution
from varstar_batch.model.classify import Float64, energy_score, temperature_softmax

N_QUANTILES = 201
"""Stored quantiles of the energy: steps of half a percent."""

# Golden-section search halves its bracket every 1.44 steps: 60 of them exhaust float64.
_SEARCH_STEPS = 60
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


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

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(-energy_score(logits, np.exp(log_temperature)) - scaled[np.arange(len(truth)), truth]))

    low, high = np.log(0.2), np.log(20.0)
    for _ in range(_SEARCH_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return Calibration(temperature=round(float(np.exp((low + high) / 2)), 6))


def fit_energy_quantiles(logits: Float64, temperature: float) -> OutOfDistribution:
    """Return the quantiles of the energy of held-out objects, logits float64 (n, n_classes), n >= 1."""
    levels = np.linspace(0.0, 1.0, N_QUANTILES)
    quantiles = np.quantile(energy_score(logits, temperature), levels)
    return OutOfDistribution(quantiles=tuple(round(float(value), 6) for value in quantiles))


def class_metrics(
    truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: Sequence[str]
) -> dict[str, JsonValue]:
    """Return accuracy and, by class and as their plain average ("macro"), precision, recall, F1 and number.

    Parameters
    ----------
    truth, predicted : integer (n,)
        Indices into `classes`.
    classes : sequence of str

    Returns
    -------
    dict
        ``n_objects``, ``accuracy``, ``macro`` and ``by_class``; a ratio whose denominator is zero is 0.

    Notes
    -----
    Source: arXiv:2508.11964, equations 2-8; accuracy is the share of right answers.
    """
    n = len(classes)
    confusion = np.bincount(truth.astype(np.int64) * n + predicted, minlength=n * n).reshape(n, n)
    right, actual, claimed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = right / np.maximum(claimed, 1), right / np.maximum(actual, 1)
    f1 = 2 * right / np.maximum(claimed + actual, 1)
    measures = {"precision": precision, "recall": recall, "f1": f1}
    return {
        "n_objects": len(truth),
        "accuracy": _rounded(right.sum() / max(len(truth), 1)),
        "macro": {name: _rounded(values.mean()) for name, values in measures.items()},
        "by_class": {
            label: {"n_objects": int(actual[i]), **{name: _rounded(values[i]) for name, values in measures.items()}}
            for i, label in enumerate(classes)
        },
    }


def calibration_error(logits: Float64, truth: npt.NDArray[np.integer], temperature: float, n_bins: int = 15) -> float:
    """Return the expected calibration error, in [0, 1], over `n_bins` equal bins of the largest probability.

    Notes
    -----
    Source: Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    probabilities = temperature_softmax(logits, temperature)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=n_bins)
    return _rounded(np.abs(gaps).sum() / max(len(truth), 1))


def _rounded(value: np.floating | float) -> float:
    return round(float(value), 5)
