"""The fold kernel: one pass over each light curve, from raw observations to the interpolated curve.

Steps of an object: clean -> sort by phase -> drop outliers (-> sort again if phase zero moved) (-> describe the
observations) -> average equal phases -> interpolate (-> describe the curve) -> scale. Everything between works in the
scratch arrays of one thread. After the outliers, `Scratch.time` and `Scratch.mag` hold the used observations as
delivered, and until the averaging `Scratch.sorted_*` hold the same in order of phase.
"""

from __future__ import annotations

import numpy as np

from varstar_batch.light_curves.compiling import entry, inlined, source_checksum
from varstar_batch.light_curves.kernel.clean import (
    clean,
    drop_outliers,
    drop_reason,
    extent,
    mark_used,
    time_of_maximum,
)
from varstar_batch.light_curves.kernel.curve import average_ties, interpolate, write_curve
from varstar_batch.light_curves.kernel.data import OUTLIERS_NONE, Columns, Results, Rules, Scratch
from varstar_batch.light_curves.kernel.describe import describe_curve, describe_observations
from varstar_batch.light_curves.kernel.disperse import disperse
from varstar_batch.light_curves.kernel.sort import sort_by_phase
from varstar_batch.light_curves.status import DropReason, Status

# Plain integers compile faster than enumerations.
OK, NO_PERIOD, BAD_PERIOD, NO_OBSERVATIONS, TOO_FEW, NO_VARIATION, MALFORMED = map(int, list(Status)[:7])
_OUTLIER = int(DropReason.OUTLIER)
_SOURCES = source_checksum(__file__)


@inlined
def _fold_clean(i: int, n: int, period: float, rules: Rules, scratch: Scratch, results: Results) -> int:
    """Fold the n > 0 clean observations in the scratch; return the status."""
    t_ref, t_max = extent(scratch.time, 0, n)
    if not np.isfinite((t_max - t_ref) / period):
        return BAD_PERIOD
    if n < rules.min_observations:
        return TOO_FEW
    outliers_are_in = rules.outliers != OUTLIERS_NONE
    while True:
        sort_by_phase(n, t_ref, period, scratch)
        n_clean = n
        if outliers_are_in:
            outliers_are_in = False
            n = drop_outliers(n, rules, scratch)
            results.dropped[i, _OUTLIER] = n_clean - n
            results.n_used[i] = n
            # Below one sigma all of them may be outliers.
            if n == 0:
                return TOO_FEW
        t_sorted = t_ref
        if rules.from_maximum:
            t_ref = time_of_maximum(n, scratch)
        elif n < n_clean:
            t_ref = extent(scratch.time, 0, n)[0]
        if t_ref == t_sorted:
            break
    low, high = extent(scratch.mag, 0, n)
    if low == high:
        return NO_VARIATION
    results.amplitude[i] = high - low
    if rules.features:
        describe_observations(n, period, low, high, scratch, scratch.described)
    if rules.rivals:
        disperse(n, t_ref, period, low, high, scratch, results.dispersion[i])
    interpolate(average_ties(n, scratch), scratch)
    if rules.features:
        describe_curve(low, high, scratch, scratch.described)
        results.features[i] = scratch.described
    return OK if write_curve(n, rules, scratch, i, results.curve) else NO_VARIATION


@entry
def fold_range(
    start: int, stop: int, columns: Columns, rules: Rules, scratch: Scratch, results: Results, _sources: int = _SOURCES
) -> None:
    """Fold the objects start <= i < stop into the rows of `results`; the scratch must fit the longest of them."""
    for i in range(start, stop):
        first, last = columns.offsets[i], columns.offsets[i + 1]
        period = columns.period[i]
        n = clean(columns, first, last, rules, scratch)
        results.n_obs[i] = last - first
        results.n_used[i] = n
        for reason in range(results.dropped.shape[1]):
            results.dropped[i, reason] = 0
        for bad in range(last - first - n):
            results.dropped[i, drop_reason(first + scratch.order[bad], columns, rules)] += 1
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
            status = _fold_clean(i, n, period, rules, scratch, results)
        if results.used.size:
            mark_used(i, columns, rules, scratch, results)
        results.status[i] = status
        if status != OK:
            results.amplitude[i] = np.nan
            results.curve[i] = np.nan
            results.features[i] = np.nan
            results.dispersion[i] = np.nan
