"""The fold kernel: one pass over each light curve, from raw observations to the interpolated curve.

Steps of an object: clean -> phases -> sort by phase -> drop outliers -> (sort again if phase zero moved) -> average equal
phases -> interpolate -> scale. Everything between works in scratch arrays of one thread, sized to the longest light curve.
After the outliers, `Scratch.time` and `Scratch.mag` hold the used observations as delivered and `Scratch.sorted_*` the same
in order of phase: what summaries of an object need.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from varstar_batch.arithmetic.compiling import entry, helper, reduction
from varstar_batch.arithmetic.kernel_data import (
    OUTLIERS_GLOBAL,
    OUTLIERS_NONE,
    SCALE_CENTER,
    SCALE_MINMAX,
    Columns,
    Floats,
    Ints,
    Results,
    Rules,
)
from varstar_batch.arithmetic.status import DropReason, Status

# Enumerations as plain integers, which compile faster.
OK, NO_PERIOD, BAD_PERIOD, NO_OBSERVATIONS, TOO_FEW, NO_VARIATION, MALFORMED = map(int, list(Status)[:7])
_TIME_NOT_FINITE, _TIME_IMPOSSIBLE, _MAG_NOT_FINITE, _MAG_SENTINEL, _MAG_ERR_INVALID, _OUTLIER = map(int, DropReason)

# Bins of the sort: never more than fit into the second-level cache.
_MAX_BINS = 1 << 16
# A bin with more observations than this is sorted coarsely first, or insertion would take the square of its size.
_LONG_BIN = 24


class Scratch(NamedTuple):
    """Working memory of one thread."""

    time: Floats
    mag: Floats
    phase: Floats
    keep: npt.NDArray[np.bool_]
    order: Ints
    # In order of phase from index 1 on; the ends are for the neighbours across phase 0.
    sorted_phase: Floats
    sorted_mag: Floats
    slope: Floats
    counts: Ints
    grid: Floats
    curve: Floats


@helper
def _new_scratch(longest: int, n_phase: int) -> Scratch:
    n_bins = _count_bins(longest)
    return Scratch(
        np.empty(longest + 1),
        np.empty(longest + 1),
        np.empty(longest + 1),
        np.empty(longest + 1, np.bool_),
        np.empty(longest + 1, np.int32),
        np.empty(longest + 2),
        np.empty(longest + 2),
        np.empty(longest + 2),
        np.empty(max(n_bins, n_phase), np.int32),
        np.arange(n_phase) / n_phase,
        np.empty(n_phase),
    )


@helper
def _count_bins(n: int) -> int:
    """Return the power of two from n to 2n, at least 64 and at most `_MAX_BINS`."""
    n_bins = 64
    while n_bins < n and n_bins < _MAX_BINS:
        n_bins *= 2
    return n_bins


@helper
def _clean(columns: Columns, first: int, last: int, rules: Rules, scratch: Scratch) -> int:
    """Copy the good ones of the observations first <= i < last to the scratch, and return their number."""
    n = 0
    for i in range(first, last):
        time, mag = columns.time[i], np.float64(columns.mag[i])
        # Written always and kept by moving on: no branch to mispredict. NaN fails every comparison.
        scratch.time[n] = time
        scratch.mag[n] = mag
        good = (time >= rules.time_min) & (time <= rules.time_max) & (mag > rules.mag_min) & (mag < rules.mag_max)
        if rules.has_errors:
            mag_err = np.float64(columns.mag_err[i])
            good &= (mag_err >= 0.0) & (mag_err < rules.max_mag_err)
        n += good
    return n


@helper
def _count_reasons(columns: Columns, first: int, last: int, rules: Rules, dropped: Ints) -> None:
    """Count the bad observations by the first reason that applies."""
    for i in range(first, last):
        time, mag = columns.time[i], np.float64(columns.mag[i])
        if not np.isfinite(time):
            dropped[_TIME_NOT_FINITE] += 1
        elif time < rules.time_min or time > rules.time_max:
            dropped[_TIME_IMPOSSIBLE] += 1
        elif not np.isfinite(mag):
            dropped[_MAG_NOT_FINITE] += 1
        elif mag <= rules.mag_min or mag >= rules.mag_max:
            dropped[_MAG_SENTINEL] += 1
        elif rules.has_errors:
            mag_err = np.float64(columns.mag_err[i])
            if not (mag_err >= 0.0 and mag_err < rules.max_mag_err):
                dropped[_MAG_ERR_INVALID] += 1


@reduction
def _extent(values: Floats, first: int, last: int) -> tuple[float, float]:
    """Return the minimum and maximum of the values first <= i < last, of which there is at least one."""
    low = high = values[first]
    for i in range(first + 1, last):
        low = min(low, values[i])
        high = max(high, values[i])
    return low, high


@helper
def _sort_by_phase(n: int, t_ref: float, period: float, scratch: Scratch) -> None:
    """Compute phases and sort by (phase, magnitude): counting into bins, then insertion.

    The magnitude makes the order, and with it every sum, independent of the order of delivery.
    """
    phase, order, counts = scratch.phase, scratch.order, scratch.counts
    n_bins = _count_bins(n)
    counts[:n_bins] = 0
    for i in range(n):
        cycles = (scratch.time[i] - t_ref) / period
        fraction = cycles - np.floor(cycles)
        # A tiny negative number of cycles rounds to 1.
        phase[i] = fraction if fraction < 1.0 else 0.0
    for i in range(n):
        counts[np.uint64(phase[i] * n_bins)] += 1
    start = longest = np.int32(0)
    for b in range(n_bins):
        count = counts[b]
        counts[b] = start
        start += count
        longest = max(longest, count)
    sorted_phase = scratch.sorted_phase[1:]
    for i in range(n):
        b = np.uint64(phase[i] * n_bins)
        j = np.uint64(counts[b])
        counts[b] += 1
        sorted_phase[j] = phase[i]
        order[j] = i
    if longest > _LONG_BIN:
        _presort_long_bins(n_bins, scratch)
    _insert(0, n, 1, scratch)
    for j in range(n):
        scratch.sorted_mag[j + 1] = scratch.mag[order[j]]


@helper
def _insert(first: int, last: int, gap: int, scratch: Scratch) -> None:
    """Sort each `gap`-th of the positions first <= j < last by insertion."""
    sorted_phase, order, mag = scratch.sorted_phase[1:], scratch.order, scratch.mag
    for i in range(first + gap, last):
        phase = sorted_phase[i]
        if phase > sorted_phase[i - gap]:
            continue
        moved = order[i]
        j = i
        while j >= first + gap:
            other = sorted_phase[j - gap]
            if other < phase or (other == phase and mag[order[j - gap]] <= mag[moved]):
                break
            sorted_phase[j] = other
            order[j] = order[j - gap]
            j -= gap
        sorted_phase[j] = phase
        order[j] = moved


@helper
def _presort_long_bins(n_bins: int, scratch: Scratch) -> None:
    """Shell-sort crowded bins down to gaps of 4; after counting, `counts` holds the end of each bin.

    Source: Knuth, The Art of Computer Programming 3, 5.2.1 (gaps 1, 4, 13, 40, ...).
    """
    first = 0
    for b in range(n_bins):
        last = scratch.counts[b]
        gap = 1
        while 3 * gap + 1 < last - first:
            gap = 3 * gap + 1
        while gap > 1:
            _insert(first, last, gap, scratch)
            gap //= 3
        first = last


@helper
def _mean_and_std(values: Floats, first: int, last: int) -> tuple[float, float]:
    """Return mean and population standard deviation, by two sums of four interleaved parts each."""
    n = last - first
    tail = first + n // 4 * 4
    a = b = c = d = 0.0
    for i in range(first, tail, 4):
        a += values[i]
        b += values[i + 1]
        c += values[i + 2]
        d += values[i + 3]
    for i in range(tail, last):
        a += values[i]
    mean = ((a + b) + (c + d)) / n
    a = b = c = d = 0.0
    for i in range(first, tail, 4):
        a += (values[i] - mean) ** 2
        b += (values[i + 1] - mean) ** 2
        c += (values[i + 2] - mean) ** 2
        d += (values[i + 3] - mean) ** 2
    for i in range(tail, last):
        a += (values[i] - mean) ** 2
    return mean, np.sqrt(((a + b) + (c + d)) / n)


@helper
def _drop_outliers(n: int, rules: Rules, scratch: Scratch) -> int:
    """Take the outliers out of the sorted and of the delivered order, and return how many observations are left."""
    mag, phase, keep = scratch.sorted_mag, scratch.sorted_phase, scratch.keep
    mean, std = _mean_and_std(mag, 1, n + 1)
    limit = rules.sigma * std
    low, high = _extent(mag, 1, n + 1)
    if not (mean - low > limit or high - mean > limit):
        return n
    mag[0], mag[n + 1] = mag[n], mag[1]
    left = 0
    beyond_before = abs(mag[0] - mean) > limit
    beyond = abs(mag[1] - mean) > limit
    for j in range(1, n + 1):
        beyond_after = abs(mag[j + 1] - mean) > limit
        is_outlier = beyond and (rules.outliers == OUTLIERS_GLOBAL or not (beyond_before or beyond_after))
        keep[scratch.order[j - 1]] = not is_outlier
        beyond_before, beyond = beyond, beyond_after
        phase[left + 1] = phase[j]
        mag[left + 1] = mag[j]
        left += not is_outlier
    kept = 0
    for i in range(n):
        scratch.time[kept] = scratch.time[i]
        scratch.mag[kept] = scratch.mag[i]
        kept += keep[i]
    return left


@helper
def _time_of_maximum(n: int, scratch: Scratch) -> float:
    """Return the time of the smallest magnitude, of several the earliest."""
    best = 0
    for i in range(1, n):
        if scratch.mag[i] < scratch.mag[best] or (
            scratch.mag[i] == scratch.mag[best] and scratch.time[i] < scratch.time[best]
        ):
            best = i
    return scratch.time[best]


@helper
def _average_ties(n: int, scratch: Scratch) -> int:
    """Put the mean magnitude in place of observations of one phase, and return the number of phases."""
    phase, mag = scratch.sorted_phase, scratch.sorted_mag
    ties = 0
    for j in range(1, n):
        ties += phase[j] == phase[j + 1]
    if ties == 0:
        return n
    m = 0
    j = 1
    while j <= n:
        total, first = mag[j], j
        while j < n and phase[j + 1] == phase[first]:
            j += 1
            total += mag[j]
        m += 1
        phase[m] = phase[first]
        mag[m] = total / (j - first + 1)
        j += 1
    return m


@helper
def _interpolate(n: int, scratch: Scratch) -> None:
    """Interpolate the n > 0 different phases linearly and periodically onto the grid."""
    phase, mag, slope, grid, counts = (
        scratch.sorted_phase,
        scratch.sorted_mag,
        scratch.slope,
        scratch.grid,
        scratch.counts,
    )
    phase[0], mag[0] = phase[n] - 1.0, mag[n]
    phase[n + 1], mag[n + 1] = phase[1] + 1.0, mag[1]
    for j in range(n + 1):
        slope[j] = (mag[j + 1] - mag[j]) / (phase[j + 1] - phase[j])
    n_phase = grid.size
    counts[:n_phase] = 0
    for j in range(1, n + 1):
        cell = np.uint64(phase[j] * n_phase)
        # The product may round to the other side of a grid point, and near-equal phases leave no room for that.
        cell = min(cell, np.uint64(n_phase - 1))
        cell -= phase[j] < grid[cell]
        counts[cell] += 1
    j = np.uint64(0)
    for k in range(n_phase):
        scratch.curve[k] = mag[j] + (grid[k] - phase[j]) * slope[j]
        j += np.uint64(counts[k])


@helper
def _median(values: Floats, n: int, work: Floats) -> float:
    """Return the median of the first n values, by selection in `work`.

    Source: Hoare 1961, Algorithm 65 (Find), CACM 4, 321.
    """
    work[:n] = values[:n]
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
    upper = work[middle]
    if n % 2 == 1:
        return upper
    return 0.5 * (_extent(work, 0, middle)[1] + upper)


@helper
def _write_curve(n: int, rules: Rules, scratch: Scratch, out: npt.NDArray[np.float32]) -> bool:
    """Scale the interpolated curve into `out`; return whether that can be done."""
    shift, span = 0.0, 1.0
    if rules.scale == SCALE_CENTER:
        shift = _median(scratch.mag, n, scratch.slope)
    elif rules.scale == SCALE_MINMAX:
        low, high = _extent(scratch.curve, 0, scratch.curve.size)
        shift, span = low, high - low
        if not span > 0.0:
            return False
    for k in range(out.size):
        out[k] = (scratch.curve[k] - shift) / span
    return True


@helper
def _fold_used(i: int, n: int, period: float, rules: Rules, scratch: Scratch, results: Results) -> int:
    """Fold the n > 0 clean observations in the scratch; return the status."""
    t_min, t_max = _extent(scratch.time, 0, n)
    if not np.isfinite((t_max - t_min) / period):
        return BAD_PERIOD
    if n < rules.min_observations:
        return TOO_FEW
    t_sorted = np.nan
    if rules.outliers != OUTLIERS_NONE:
        t_sorted = t_min
        _sort_by_phase(n, t_sorted, period, scratch)
        left = _drop_outliers(n, rules, scratch)
        if left < n:
            results.dropped[i, _OUTLIER] = n - left
            results.n_used[i] = n = left
            if n < rules.min_observations:
                return TOO_FEW
            t_min = _extent(scratch.time, 0, n)[0]
    t_ref = _time_of_maximum(n, scratch) if rules.from_maximum else t_min
    if t_ref != t_sorted:
        _sort_by_phase(n, t_ref, period, scratch)
    low, high = _extent(scratch.mag, 0, n)
    if low == high:
        return NO_VARIATION
    _interpolate(_average_ties(n, scratch), scratch)
    if not _write_curve(n, rules, scratch, results.curve[i]):
        return NO_VARIATION
    results.amplitude[i] = high - low
    return OK


@entry
def fold_range(start: int, stop: int, longest: int, columns: Columns, rules: Rules, results: Results) -> None:
    """Fold the objects start <= i < stop, none of more than `longest` observations, into the rows of `results`."""
    scratch = _new_scratch(longest, rules.n_phase)
    for i in range(start, stop):
        first, last = columns.offsets[i], columns.offsets[i + 1]
        period = columns.period[i]
        results.dropped[i] = 0
        n = _clean(columns, first, last, rules, scratch)
        if n < last - first:
            _count_reasons(columns, first, last, rules, results.dropped[i])
        results.n_obs[i] = last - first
        results.n_used[i] = n
        if columns.malformed[i]:
            status = MALFORMED
        elif np.isnan(period):
            status = NO_PERIOD
        elif not 0.0 < period < np.inf:
            status = BAD_PERIOD
        elif first == last:
            status = NO_OBSERVATIONS
        elif n == 0:
            status = TOO_FEW
        else:
            status = _fold_used(i, n, period, rules, scratch, results)
        results.status[i] = status
        if status != OK:
            results.amplitude[i] = np.nan
            results.curve[i] = np.nan
