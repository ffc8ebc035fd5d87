"""Steps of the fold kernel: which observations of a light curve are used, and when its phase is 0."""

from __future__ import annotations

import numpy as np

from varstar_batch.light_curves.compiling import helper, inlined, reduction
from varstar_batch.light_curves.kernel.data import (
    OUTLIERS_GLOBAL,
    OUTLIERS_GROUPED,
    Columns,
    Floats,
    Results,
    Rules,
    Scratch,
)
from varstar_batch.light_curves.status import DropReason

# Plain integers compile faster than enumerations.
_TIME_NOT_FINITE, _TIME_IMPOSSIBLE, _MAG_NOT_FINITE, _MAG_SENTINEL, _MAG_ERR_INVALID, _OUTLIER = map(
    int, tuple(DropReason)[:6]
)


@inlined
def clean(columns: Columns, first: int, last: int, rules: Rules, scratch: Scratch) -> int:
    """Copy the good ones of the observations first <= i < last, list the bad ones in `order`; count the good."""
    n = n_bad = 0
    for i in range(first, last):
        time, mag = columns.time[np.uint64(i)], np.float64(columns.mag[np.uint64(i)])
        # NaN fails every comparison.
        good = (time >= rules.time_min) & (time <= rules.time_max) & (mag > rules.mag_min) & (mag < rules.mag_max)
        if rules.has_errors:
            mag_err = np.float64(columns.mag_err[np.uint64(i)])
            good &= (mag_err >= 0.0) & (mag_err < rules.max_mag_err)
        # Written always and kept by moving on: no branch to mispredict.
        scratch.time[np.uint64(n)] = time
        scratch.mag[np.uint64(n)] = mag
        scratch.order[np.uint64(n_bad)] = i - first
        n += good
        n_bad += not good
    return n


@helper
def mark_used(i: int, columns: Columns, rules: Rules, scratch: Scratch, results: Results) -> None:
    """Write which observations of an object are left, once its outliers are gone."""
    first, last = columns.offsets[i], columns.offsets[i + 1]
    has_outliers = results.dropped[i, _OUTLIER] > 0
    good = 0
    for j in range(first, last):
        results.used[j] = drop_reason(j, columns, rules) < 0
        if results.used[j]:
            if has_outliers:
                results.used[j] = scratch.keep[good]
            good += 1


@helper
def drop_reason(i: int, columns: Columns, rules: Rules) -> int:
    """Return the first reason that applies to an observation, -1 for a good one."""
    time, mag = columns.time[i], np.float64(columns.mag[i])
    if not np.isfinite(time):
        return _TIME_NOT_FINITE
    if time < rules.time_min or time > rules.time_max:
        return _TIME_IMPOSSIBLE
    if not np.isfinite(mag):
        return _MAG_NOT_FINITE
    if mag <= rules.mag_min or mag >= rules.mag_max:
        return _MAG_SENTINEL
    if rules.has_errors and not 0.0 <= np.float64(columns.mag_err[i]) < rules.max_mag_err:
        return _MAG_ERR_INVALID
    return -1


@reduction
def extent(values: Floats, first: int, last: int) -> tuple[float, float]:
    """Return the minimum and maximum of the values first <= i < last, of which there is at least one."""
    low = high = values[first]
    for i in range(first + 1, last):
        low = min(low, values[i])
        high = max(high, values[i])
    return low, high


@helper
def _mean_and_std(values: Floats, first: int, last: int) -> tuple[float, float]:
    """Return mean and population standard deviation, each from a sum of four interleaved parts."""
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


@inlined
def drop_outliers(n: int, rules: Rules, scratch: Scratch) -> int:
    """Take the outliers out of the sorted and of the delivered order, and return how many observations are left."""
    mean, std = _mean_and_std(scratch.sorted_mag, 1, n + 1)
    limit = rules.sigma * std
    low, high = extent(scratch.sorted_mag, 1, n + 1)
    # Equal magnitudes may differ from their mean, by rounding.
    if low == high or not (mean - low > limit or high - mean > limit):
        return n
    brightest = low
    if rules.outliers == OUTLIERS_GROUPED and mean - low > limit:
        brightest = min(_brightest_of_a_star(scratch.sorted_mag[1 : n + 1]), mean - limit)
    return _drop_beyond(n, mean, limit, brightest, rules.outliers == OUTLIERS_GLOBAL, scratch)


@helper
def _brightest_of_a_star(mag: Floats) -> float:
    """Return the smallest magnitude that a star reaches: its 5th percentile less what lies between that and its 95th.

    An eclipse may be deep and short, a maximum may not.
    """
    tail = (mag.size - 1) // 20
    bright = np.partition(mag, tail)[tail]
    faint = np.partition(mag, mag.size - 1 - tail)[mag.size - 1 - tail]
    return float(bright - (faint - bright))


@helper
def _drop_beyond(n: int, mean: float, limit: float, brightest: float, anywhere: bool, scratch: Scratch) -> int:
    """Drop what is beyond `limit` of the mean, anywhere or where both neighbours are within, and what is brighter than
    `brightest`; count what is left."""
    mag, phase, keep = scratch.sorted_mag, scratch.sorted_phase, scratch.keep
    mag[0], mag[n + 1] = mag[n], mag[1]
    left = 0
    beyond_before, beyond = abs(mag[0] - mean) > limit, abs(mag[1] - mean) > limit
    for j in range(1, n + 1):
        beyond_after = abs(mag[j + 1] - mean) > limit
        is_outlier = mag[j] < brightest or (beyond and (anywhere or not (beyond_before or beyond_after)))
        keep[scratch.order[j]] = not is_outlier
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
def time_of_maximum(n: int, scratch: Scratch) -> float:
    """Return the time of the smallest magnitude, of several the earliest."""
    brightest, time = scratch.mag[0], scratch.time[0]
    for i in range(1, n):
        if scratch.mag[i] < brightest or (scratch.mag[i] == brightest and scratch.time[i] < time):
            brightest, time = scratch.mag[i], scratch.time[i]
    return float(time)
