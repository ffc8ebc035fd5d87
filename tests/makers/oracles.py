"""Brute-force NumPy versions of the arithmetic, one object at a time, written from the rules and not from the code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from varstar_batch.light_curves import DropReason, Limits, Preprocessing, Status


@dataclass(kw_only=True)
class OracleFold:
    """One row of `Folded`, with the used observations, and whether it hangs on rounding."""

    status: Status
    n_obs: int
    dropped: np.ndarray
    time: np.ndarray
    mag: np.ndarray
    curve: np.ndarray
    amplitude: float = np.nan
    ambiguous: bool = False


def drop_reasons(time, mag, mag_err, preprocessing, limits):
    """Return the first `DropReason` of each observation that applies, -1 for none."""
    reason = np.full(len(time), -1)
    checks = [
        (DropReason.TIME_NOT_FINITE, ~np.isfinite(time)),
        (DropReason.TIME_IMPOSSIBLE, (time < limits.time_min) | (time > limits.time_max)),
        (DropReason.MAG_NOT_FINITE, ~np.isfinite(mag)),
        (DropReason.MAG_SENTINEL, (mag <= limits.mag_min) | (mag >= limits.mag_max)),
    ]
    if mag_err is not None:
        bad = np.isnan(mag_err) | (mag_err < 0) | (mag_err >= preprocessing.max_mag_err)
        checks.append((DropReason.MAG_ERR_INVALID, bad))
    for code, applies in checks:
        reason[(reason == -1) & applies] = code
    return reason


def fold_phase(time, t_ref, period):
    """Return ((t - t_ref) / P) mod 1 in [0, 1)."""
    with np.errstate(all="ignore"):
        phase = np.mod((time - t_ref) / period, 1.0)
    return np.where(phase == 1.0, 0.0, phase)


def find_outliers(time, mag, period, preprocessing):
    """Return the mask of the outliers, and whether it hangs on rounding."""
    if preprocessing.outliers == "none" or mag.min() == mag.max():
        return np.zeros(len(mag), bool), False
    deviation, limit = np.abs(mag - mag.mean()), preprocessing.sigma * mag.std()
    ambiguous = bool(np.any(np.abs(deviation - limit) <= 1e-9 * limit + 1e-12))
    beyond = deviation > limit
    if preprocessing.outliers == "global":
        return beyond, ambiguous
    order = np.lexsort((mag, fold_phase(time, time.min(), period)))
    in_order = beyond[order]
    outlier = np.zeros(len(mag), bool)
    outlier[order] = in_order & ~np.roll(in_order, 1) & ~np.roll(in_order, -1)
    if preprocessing.outliers == "grouped":
        ranked, tail = np.sort(mag), (len(mag) - 1) // 20
        brightest = ranked[tail] - (ranked[-1 - tail] - ranked[tail])
        outlier |= beyond & (mag < mag.mean()) & (mag < brightest)
        ambiguous |= bool(np.any(np.abs(mag - brightest) <= 1e-12))
    return outlier, ambiguous


def interpolate(phase, mag, n_phase):
    """Return numpy.interp of the curve, on averages where a phase repeats."""
    phases, which = np.unique(phase, return_inverse=True)
    averages = np.bincount(which, mag) / np.bincount(which)
    return np.interp(np.arange(n_phase) / n_phase, phases, averages, period=1)


def fold_object(time, mag, mag_err, period, preprocessing: Preprocessing, limits: Limits) -> OracleFold:
    """Clean, fold and interpolate one light curve."""
    time, mag = np.asarray(time, np.float64), np.asarray(mag).astype(np.float64)
    mag_err = None if mag_err is None else np.asarray(mag_err).astype(np.float64)
    reason = drop_reasons(time, mag, mag_err, preprocessing, limits)
    dropped = np.bincount(reason[reason >= 0], minlength=len(DropReason))
    good = reason == -1
    result = OracleFold(
        status=Status.OK,
        n_obs=len(time),
        dropped=dropped,
        time=time[good],
        mag=mag[good],
        curve=np.full(preprocessing.n_phase, np.nan),
    )
    if np.isnan(period):
        result.status = Status.NO_PERIOD
    elif not 0 < period < np.inf or not _has_finite_phases(result.time, period):
        result.status = Status.BAD_PERIOD
    elif len(time) == 0:
        result.status = Status.NO_OBSERVATIONS
    elif len(result.time) < preprocessing.min_observations:
        result.status = Status.TOO_FEW_OBSERVATIONS
    else:
        _fold_clean(result, period, preprocessing)
    return result


def _has_finite_phases(time, period):
    with np.errstate(all="ignore"):
        return len(time) == 0 or np.isfinite((time.max() - time.min()) / period)


def _fold_clean(result, period, preprocessing):
    outlier, result.ambiguous = find_outliers(result.time, result.mag, period, preprocessing)
    result.dropped[DropReason.OUTLIER] = outlier.sum()
    result.time, result.mag = result.time[~outlier], result.mag[~outlier]
    if len(result.time) == 0:
        result.status = Status.TOO_FEW_OBSERVATIONS
        return
    if result.mag.min() == result.mag.max():
        result.status = Status.NO_VARIATION
        return
    if preprocessing.phase_zero == "first":
        t_ref = result.time.min()
    else:
        t_ref = result.time[result.mag == result.mag.min()].min()
    curve = interpolate(fold_phase(result.time, t_ref, period), result.mag, preprocessing.n_phase)
    if preprocessing.scale == "center":
        curve = curve - np.median(result.mag)
    elif preprocessing.scale == "minmax":
        span = curve.max() - curve.min()
        # A span of the size of rounding errors is one or none at all; with a single phase there are no such errors.
        n_phases = len(np.unique(fold_phase(result.time, t_ref, period)))
        result.ambiguous |= n_phases > 1 and span < 1e-8 * np.abs(curve).max()
        if span == 0:
            result.status = Status.NO_VARIATION
            return
        curve = (curve - curve.min()) / span
    result.curve = curve
    result.amplitude = result.mag.max() - result.mag.min()
