"""Periods that a wrong one is mistaken for, and how well a light curve repeats with each of them.

The fold kernel computes the dispersion in the same pass (`light_curves.kernel.disperse`), from the observations that
are left after cleaning and the removal of outliers: coarse, but twelve times as fast as folding with each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDEREAL_DAY = 0.99726957
"""Days."""

RIVALS = (
    *("P", "2P", "P/2", "3P"),
    *("1/P - 1", "1/P + 1", "1/P - 1 sidereal", "1/P + 1 sidereal"),
    *("1/P - 2", "1/P + 2", "1/P - 2 sidereal", "1/P + 2 sidereal"),
)
"""The period itself, multiples of it, and the aliases of observing once or twice a day and a sidereal day [1/d]."""

_DAY = 1 / SIDEREAL_DAY
FACTORS = np.array([1, 1 / 2, 2, 1 / 3, 1, 1, 1, 1, 1, 1, 1, 1])
SHIFTS = np.array([0, 0, 0, 0, -1, 1, -_DAY, _DAY, -2, 2, -2 * _DAY, 2 * _DAY])
"""Float64 (len(RIVALS),). The frequency of a rival is |factor / P + shift| [1/d]."""

BINS = (64, 32, 16, 8)
"""Numbers of bins of phase that the dispersion is measured in."""


def rival_periods(period: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the periods [d] that each of n may be mistaken for, float64 (n, len(RIVALS)); inf for no frequency."""
    with np.errstate(divide="ignore"):
        rivals: npt.NDArray[np.float64] = 1 / np.abs(FACTORS / period[:, None] + SHIFTS)
    return rivals
