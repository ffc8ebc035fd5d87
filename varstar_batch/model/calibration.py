"""Fitting what turns logits into honest numbers: the temperature, and the energies of familiar objects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.model.bundle import Calibration, OutOfDistribution
from varstar_batch.model.classify import Float64, energy_score

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
