"""Fitting what turns logits into honest numbers: the temperature."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.model.bundle import Calibration
from varstar_batch.model.classify import Float64

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
        top = scaled.max(axis=1)
        norm = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float(np.mean(norm - scaled[np.arange(len(truth)), truth]))

    low, high = np.log(0.2), np.log(20.0)
    for _ in range(_SEARCH_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return Calibration(temperature=round(float(np.exp((low + high) / 2)), 6))
