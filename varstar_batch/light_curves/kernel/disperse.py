"""Step of the fold kernel: how well observations repeat with other periods, see `varstar_batch.light_curves.rivals`.

Source: Stellingwerf 1978, ApJ 224, 953 (phase dispersion minimization).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.compiling import helper, inlined, summation
from varstar_batch.light_curves.kernel.data import Floats, Scratch
from varstar_batch.light_curves.rivals import BINS, FACTORS, SHIFTS

_N_BINS = BINS[0]
_N_LEVELS = len(BINS)
# Of a range: the smallest that is told from none. Of the squared range: the variance is at least as much.
_TINY = 1e-200
_LEAST_VARIANCE = 1e-12


@helper
def disperse(
    n: int, t_ref: float, period: float, low: float, high: float, scratch: Scratch, out: npt.NDArray[np.float32]
) -> None:
    """Write the dispersion of the n used observations, magnitudes from low to high > low, for each rival and level.

    That is the variance within bins of phase over the whole variance, both unbiased: 0 where the magnitude is a
    function of the phase, 1 where it knows nothing of it.
    """
    deviation, sums = scratch.slope, scratch.sums
    total = _deviations(n, low, 1.0 / max(high - low, _TINY), scratch.mag, deviation)
    for c in range(FACTORS.size):
        _into_bins(n, t_ref, abs(FACTORS[c] / period + SHIFTS[c]), scratch)
        n_bins = _N_BINS
        for level in range(_N_LEVELS):
            explained, occupied = _between(n_bins, sums)
            left = max(total - explained, 0.0) / max(n - occupied, 1)
            out[c * _N_LEVELS + level] = left * (n - 1) / total if n > occupied else 1.0
            n_bins //= 2
            for b in range(n_bins):
                sums[0, b] = sums[0, 2 * b] + sums[0, 2 * b + 1]
                sums[1, b] = sums[1, 2 * b] + sums[1, 2 * b + 1]


@summation
def _deviations(n: int, low: float, unit: float, mag: Floats, deviation: Floats) -> float:
    """Write the magnitudes less their mean, in units of the range; return the sum of their squares."""
    mean = 0.0
    for i in range(n):
        mean += (mag[i] - low) * unit
    mean /= n
    total = 0.0
    for i in range(n):
        deviation[i] = (mag[i] - low) * unit - mean
        total += deviation[i] ** 2
    return max(total, n * _LEAST_VARIANCE)


@inlined
def _into_bins(n: int, t_ref: float, frequency: float, scratch: Scratch) -> None:
    """Count observations, and sum deviations, by bins of phase."""
    bins, deviation, sums = scratch.bins, scratch.slope, scratch.sums
    for i in range(n):
        cycles = (scratch.time[i] - t_ref) * frequency
        # A tiny negative number of cycles rounds to 1, which the mask takes to 0.
        bins[i] = np.int32((cycles - np.floor(cycles)) * _N_BINS) & np.int32(_N_BINS - 1)
    sums[:] = 0.0
    for i in range(n):
        place = np.uint32(bins[i])
        sums[0, place] += 1.0
        sums[1, place] += deviation[i]


@summation
def _between(n_bins: int, sums: Floats) -> tuple[float, float]:
    """Return the sum of squares between bins, and how many bins have any observations."""
    explained = occupied = 0.0
    for b in range(n_bins):
        explained += sums[1, b] ** 2 / max(sums[0, b], 1.0)
        occupied += min(sums[0, b], 1.0)
    return explained, occupied
