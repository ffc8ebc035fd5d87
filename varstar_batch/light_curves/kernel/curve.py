"""Steps of the fold kernel: from sorted observations to the curve on the grid of phases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.compiling import helper, inlined
from varstar_batch.light_curves.kernel.clean import extent
from varstar_batch.light_curves.kernel.data import SCALE_CENTER, SCALE_MINMAX, Floats, Rules, Scratch


@inlined
def average_ties(n: int, scratch: Scratch) -> int:
    """Put the mean magnitude in place of observations of one phase, and return the number of phases."""
    ties = 0
    for j in range(1, n):
        ties += scratch.sorted_phase[j] == scratch.sorted_phase[j + 1]
    return n if ties == 0 else _average(n, scratch)


@helper
def _average(n: int, scratch: Scratch) -> int:
    phase, mag = scratch.sorted_phase, scratch.sorted_mag
    m, j = 0, 1
    while j <= n:
        first, total = j, mag[j]
        while j < n and phase[j + 1] == phase[first]:
            j += 1
            total += mag[j]
        m += 1
        phase[m] = phase[first]
        mag[m] = total / (j - first + 1)
        j += 1
    return m


@inlined
def interpolate(n: int, scratch: Scratch) -> None:
    """Interpolate the n > 0 different phases linearly and periodically onto the grid."""
    phase, mag, slope = scratch.sorted_phase, scratch.sorted_mag, scratch.slope
    grid, counts = scratch.grid, scratch.counts
    n_phase = grid.size
    phase[0], mag[0] = phase[n] - 1.0, mag[n]
    phase[n + 1], mag[n + 1] = phase[1] + 1.0, mag[1]
    for j in range(n + 1):
        slope[j] = (mag[j + 1] - mag[j]) / (phase[j + 1] - phase[j])
    for k in range(n_phase):
        counts[k] = 0
    for j in range(1, n + 1):
        # The product may round to the other side of a grid point, and near-equal phases leave no room for that.
        cell = min(np.uint32(phase[j] * n_phase), np.uint32(n_phase - 1))
        cell -= np.uint32(phase[j] < grid[cell])
        counts[cell] += 1
    left = np.uint64(0)
    for k in range(n_phase):
        scratch.curve[k] = mag[left] + (grid[k] - phase[left]) * slope[left]
        left += np.uint64(counts[k])


@helper
def _median(values: Floats, n: int, work: Floats) -> float:
    """Return the median of the first n values, by selection in `work`.

    Source: Hoare 1961, Algorithm 65 (Find), CACM 4, 321.
    """
    for i in range(n):
        work[i] = values[i]
    middle = n // 2
    low, high = 0, n - 1
    while low < high:
        pivot = work[middle]
        i, j = low, high
        while i <= j:
            while work[i] < pivot:
                i += 1
            while work[j] > pivot:
                j -= 1
            if i <= j:
                work[i], work[j] = work[j], work[i]
                i += 1
                j -= 1
        if j < middle:
            low = i
        if i > middle:
            high = j
    upper = float(work[middle])
    return upper if n % 2 == 1 else 0.5 * (extent(work, 0, middle)[1] + upper)


@inlined
def write_curve(n: int, rules: Rules, scratch: Scratch, i: int, curves: npt.NDArray[np.float32]) -> bool:
    """Scale the interpolated curve into row i; return whether that can be done."""
    shift, span = 0.0, 1.0
    if rules.scale == SCALE_CENTER:
        shift = _median(scratch.mag, n, scratch.slope)
    elif rules.scale == SCALE_MINMAX:
        shift, high = extent(scratch.curve, 0, scratch.curve.size)
        span = high - shift
    for k in range(scratch.curve.size):
        curves[np.uint64(i), k] = (scratch.curve[k] - shift) / span
    return span > 0.0
