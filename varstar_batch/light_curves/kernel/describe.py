"""Steps of the fold kernel: the features of an object, see `varstar_batch.light_curves.features`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.compiling import helper, inlined, summation
from varstar_batch.light_curves.features import FEATURES
from varstar_batch.light_curves.kernel.data import Floats, Scratch

# Places of the features, as plain integers: they compile faster than enumerations.
LOG_PERIOD, LOG_AMPLITUDE, LOG_RANGE, SKEWNESS, LOG_KURTOSIS = range(5)
BRIGHT_QUARTER, MEDIAN_PLACE, FAINT_QUARTER, PHASE_SMOOTHNESS, TIME_SMOOTHNESS = range(5, 10)
RATIO_21 = FEATURES.index("ratio_21")
COS_PHI_21 = FEATURES.index("cos_phi_21")
ODD_POWER, SCATTER, FAINT_SHARE, FAINT_WIDTH, RISE = range(len(FEATURES) - 5, len(FEATURES))

N_HARMONICS = 4
# Percentiles that the features need.
_LEVELS = (0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98)
# Bins of the histogram that gives the percentiles: to a 256th of the range, where sorting would cost ten times as much.
_N_BINS = 256
_LEAST_AMPLITUDE = 1e-4
# Of a range and of a share: the smallest that is told from none.
_TINY = 1e-200
# In units of the squared range the variance of n magnitudes is at least 1 / 4n.
_LEAST_VARIANCE = 1e-12


@inlined
def describe_observations(n: int, period: float, low: float, high: float, scratch: Scratch, out: Floats) -> None:
    """Write the features of the n used observations, magnitudes from low to high > low, into a row of float64.

    Sums are taken in units of the range: magnitudes that differ in their last digits only do not underflow.
    """
    unit = 1.0 / max(high - low, _TINY)
    variance, third, fourth, steps, n_faint = _moments(n, low, unit, scratch.sorted_mag)
    variance = max(variance, _LEAST_VARIANCE)
    out[LOG_PERIOD] = np.log10(period)
    out[SKEWNESS] = third / variance**1.5
    out[LOG_KURTOSIS] = np.log10(max(fourth / variance**2, 1.0))
    out[PHASE_SMOOTHNESS] = steps / (2.0 * n * variance)
    out[FAINT_SHARE] = n_faint / n
    # The variance, until the harmonics are known.
    out[SCATTER] = variance
    _percentiles(n, low, unit, scratch, out)
    out[TIME_SMOOTHNESS] = _steps_in_time(n, unit, scratch) / (2.0 * max(n - 1, 1) * variance)


@summation
def _moments(n: int, low: float, unit: float, mag: Floats) -> tuple[float, float, float, float, int]:
    """Return the central moments 2 to 4, the squared steps around the cycle, and how many are above the mean.

    The magnitudes stand in order of phase from index 1 on.
    """
    mean = 0.0
    for j in range(1, n + 1):
        mean += (mag[j] - low) * unit
    mean /= n
    second = third = fourth = steps = 0.0
    n_faint = 0
    for j in range(1, n + 1):
        deviation = (mag[j] - low) * unit - mean
        square = deviation * deviation
        second += square
        third += square * deviation
        fourth += square * square
        n_faint += deviation > 0.0
    for j in range(1, n):
        steps += ((mag[j + 1] - mag[j]) * unit) ** 2
    steps += ((mag[1] - mag[n]) * unit) ** 2
    return second / n, third / n, fourth / n, steps, n_faint


@helper
def _percentiles(n: int, low: float, unit: float, scratch: Scratch, out: Floats) -> None:
    """Write what the percentiles tell; within a bin of the histogram the magnitudes count as evenly spread."""
    counts, mag = scratch.histogram, scratch.sorted_mag
    for b in range(_N_BINS):
        counts[b] = 0
    scale = _N_BINS * unit
    for j in range(1, n + 1):
        counts[np.uint32(min((mag[j] - low) * scale, _N_BINS - 1.0))] += 1
    level, below = scratch.levels, 0
    k = 0
    for b in range(_N_BINS):
        count = counts[b]
        while k < len(_LEVELS) and below + count >= _LEVELS[k] * n:
            level[k] = (b + (_LEVELS[k] * n - below) / count) / scale
            k += 1
        below += count
    p2, p5, p25, p50, p75, p95, p98 = level[0], level[1], level[2], level[3], level[4], level[5], level[6]
    span = max(p95 - p5, _LEAST_AMPLITUDE)
    out[LOG_AMPLITUDE] = np.log10(span)
    out[LOG_RANGE] = np.log10(max(p98 - p2, _LEAST_AMPLITUDE))
    out[BRIGHT_QUARTER] = (p25 - p5) / span
    out[MEDIAN_PLACE] = (p50 - p5) / span
    out[FAINT_QUARTER] = (p95 - p75) / span


@helper
def _steps_in_time(n: int, unit: float, scratch: Scratch) -> float:
    """Return the sum of the squared steps between neighbours in time; of equal times the brighter comes first."""
    time, mag = scratch.time, scratch.mag
    total = 0.0
    for i in range(1, n):
        if not time[i] > time[i - 1]:
            return _steps_unsorted(n, unit, scratch)
        total += ((mag[i] - mag[i - 1]) * unit) ** 2
    return total


@helper
def _steps_unsorted(n: int, unit: float, scratch: Scratch) -> float:
    """Do the same for observations delivered in any order; `phase` and `slope` are free to sort in.

    Source: Knuth, The Art of Computer Programming 3, 5.2.1 (Shell's sort, gaps 1, 4, 13, 40, ...).
    """
    time, mag = scratch.phase, scratch.slope
    for i in range(n):
        time[i], mag[i] = scratch.time[i], scratch.mag[i]
    gap = 1
    while 3 * gap + 1 < n:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, n):
            t, m, j = time[i], mag[i], i
            while j >= gap and (time[j - gap] > t or (time[j - gap] == t and mag[j - gap] > m)):
                time[j], mag[j] = time[j - gap], mag[j - gap]
                j -= gap
            time[j], mag[j] = t, m
        gap //= 3
    total = 0.0
    for i in range(1, n):
        total += ((mag[i] - mag[i - 1]) * unit) ** 2
    return total


@helper
def describe_curve(low: float, high: float, scratch: Scratch, out: Floats) -> None:
    """Write the features of the interpolated curve; the variance in units of the range stands in `SCATTER`."""
    waves, curve = scratch.waves, scratch.coarse
    n = curve.size
    _coarsen(low, 1.0 / max(high - low, _TINY), scratch.curve, curve)
    weights = scratch.weights
    for h in range(2 * N_HARMONICS):
        weights[h] = _product(curve, waves[h]) * 2.0 / n
    power = odd = 0.0
    for k in range(N_HARMONICS):
        squared = weights[2 * k] ** 2 + weights[2 * k + 1] ** 2
        power += squared
        odd += squared * (k % 2 == 0)
    out[ODD_POWER] = odd / max(power, _TINY)
    out[SCATTER] = np.sqrt(max(0.0, 1.0 - 0.5 * power / out[SCATTER]))
    first = np.hypot(weights[0], weights[1])
    # (c, s) of a harmonic is the complex number c - i s; to its k-th power by repeated multiplication.
    c1, s1 = weights[0] / max(first, _TINY), weights[1] / max(first, _TINY)
    c, s = c1, s1
    for k in range(1, N_HARMONICS):
        c, s = c * c1 - s * s1, c * s1 + s * c1
        a, b = weights[2 * k], weights[2 * k + 1]
        size = np.hypot(a, b)
        out[RATIO_21 + k - 1] = size / max(first + size, _TINY)
        out[COS_PHI_21 + 2 * (k - 1)] = (a * c + b * s) / max(size, _TINY)
        out[COS_PHI_21 + 2 * (k - 1) + 1] = (a * s - b * c) / max(size, _TINY)
    _describe_shape(weights, waves, curve, out)


@helper
def _describe_shape(weights: Floats, waves: npt.NDArray[np.float64], curve: Floats, out: Floats) -> None:
    """Write width and rise of the curve of the first harmonics, which is put in place of the curve."""
    n = curve.size
    for j in range(n):
        curve[j] = 0.0
    for h in range(2 * N_HARMONICS):
        for j in range(n):
            curve[j] += weights[h] * waves[h, j]
    low = high = curve[0]
    rise = fall = 0.0
    for j in range(n):
        low, high = min(low, curve[j]), max(high, curve[j])
        step = curve[j] - curve[j - 1]
        rise, fall = max(rise, -step), max(fall, step)
    middle = 0.5 * (low + high)
    n_faint = 0
    for j in range(n):
        n_faint += curve[j] > middle
    out[FAINT_WIDTH] = n_faint / n
    out[RISE] = rise / max(rise + fall, _TINY)


@inlined
def _coarsen(low: float, unit: float, curve: Floats, coarse: Floats) -> None:
    """Average runs of points, in units of the range: a quarter of the arithmetic for the harmonics."""
    run = curve.size // coarse.size
    for j in range(coarse.size):
        total = 0.0
        for k in range(run):
            total += curve[np.uint64(j * run + k)] - low
        coarse[j] = total * unit / run


@summation
def _product(a: Floats, b: Floats) -> float:
    total = 0.0
    for j in range(a.size):
        total += a[j] * b[j]
    return total
