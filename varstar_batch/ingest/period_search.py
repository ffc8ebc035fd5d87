"""Periods of objects that have none: the highest peaks of a periodogram, and a choice among what they may stand for.

Sources: Deeming 1975, Ap&SS 36, 137 (the periodogram); VanderPlas 2018, ApJS 236, 16 (grids, aliases); Barnett et al.
2019, SIAM J. Sci. Comput. 41, C479 (finufft); Baluev 2008, MNRAS 385, 1279 (false-alarm probability).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.errors import InputError
from varstar_batch.files.parquet import one_chunk
from varstar_batch.ingest.objects import with_new_periods
from varstar_batch.light_curves import periods
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rivals import BINS
from varstar_batch.light_curves.rules import Limits, Preprocessing, good_observations
from varstar_batch.model.periods import judge_inputs, read_judge
from varstar_batch.parallel import in_order
from varstar_batch.survey.bands import Bands
from varstar_batch.survey.columns import FOUND

SIGNIFICANCE, ALIAS = "period_significance", "period_alias"
"""Columns of a survey: minus the decimal logarithm of its false-alarm probability; why it
may be an alias (``"1 d"``, ``"P/2 as good"``, ``"2P as good"``), null where nothing says so."""

SEARCH = "Lomb-Scargle search of varstar ingest"
"""In the column period_source of a survey, where it has one."""

# Observations that a period is searched in, and the smallest false-alarm probability that is told.
_LEAST = 20
_FLOOR = 1e-300

# Highest peaks that are looked at, and those of frequencies [1/d] below which a star is slow.
_PEAKS, _SLOW_PEAKS, _SLOW = 8, 5, 0.05
# A part of a periodogram with fewer samples has no peak.
_LEAST_SAMPLES = 4
# What a series may leave of the variance, in units of what the best one leaves.
_WORSE = 1.5
# As the small network has seen its stars, but for the number of observations.
_RULES = Preprocessing(outliers="grouped", scale="none", min_observations=_LEAST)
_OF_THREAD = threading.local()

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FoundPeriod:
    """The best of the highest peaks of a periodogram and their aliases."""

    period: float
    """Days; NaN where there are fewer than 20 good observations, or none of them vary."""
    significance: float
    """-log10 of the false-alarm probability of the highest peak, at most 300; NaN without a period."""
    alias: str | None
    """As `ALIAS` says."""


_NOTHING = FoundPeriod(float("nan"), float("nan"), None)


def find_period(time: Array, mag: Array, mag_err: Array | None) -> FoundPeriod:
    """Search 1 hour to the length of the light curve, on a grid of 5 points a peak.

    Each of the highest peaks, half, a third and twice its frequency is folded; the small network that questions periods
    says how likely each is, and that, over the square of the dispersion that it leaves, chooses.

    Parameters
    ----------
    time, mag : float64 array (m,)
        Good observations: days, magnitudes.
    mag_err : float64 array (m,) or None
        All positive, or None for equal weights.
    """
    baseline = float(np.ptp(time)) if len(time) else 0.0
    if len(time) < _LEAST or np.ptp(mag) == 0 or baseline * periods.MAX_FREQUENCY <= 1:
        return _NOTHING
    time = time - (time.min() + baseline / 2)
    error: Array = np.ones(len(time)) if mag_err is None else mag_err
    weight: Array = error**-2.0
    weight /= weight.sum()
    scaled = mag - weight @ mag
    scaled /= np.sqrt(weight @ scaled**2)
    data = (time, scaled, weight)
    peaks = _peaks(*data, baseline)
    frequency = _most_likely(mag, *data, peaks, baseline)
    reach = 0.5 / (periods.SAMPLES_PER_PEAK * baseline)
    frequency = periods.refined(*data, frequency, reach)
    power = float(periods.harmonic_powers(*data, peaks, 1).max())
    chance = _false_alarm(time, mag, error, power)
    doubt = periods.doubt(*data, frequency, baseline)
    return FoundPeriod(1 / frequency, -float(np.log10(max(chance, _FLOOR))), doubt)


def _peaks(time: Array, scaled: Array, weight: Array, baseline: float) -> Array:
    """Return the frequencies of the highest peaks, those of slow stars apart: aliases of theirs are as high."""
    step, lowest = 1 / (periods.SAMPLES_PER_PEAK * baseline), 1 / baseline
    count = int((periods.MAX_FREQUENCY - lowest) / step) + 1
    plan = _plan(_round_size(count))
    # A transform has frequencies around 0, so the middle one is moved there.
    middle = lowest + step * (plan.n_modes[0] // 2)
    angle = 2 * np.pi * step * time
    plan.setpts(((angle + np.pi) % (2 * np.pi) - np.pi).astype(np.float32))
    transform = plan.execute((weight * scaled * np.exp(2j * np.pi * middle * time)).astype(np.complex64))[:count]
    power = transform.real**2 + transform.imag**2
    slow = int(np.clip((_SLOW - lowest) / step, 0, count))
    places = [
        start + periods.top_peaks(power[start:stop], most)
        for start, stop, most in ((slow, count, _PEAKS), (0, slow, _SLOW_PEAKS))
        if stop - start >= _LEAST_SAMPLES
    ]
    return lowest + step * np.concatenate(places)


def _round_size(count: int) -> int:
    """Return a size at most a quarter larger, of few that there are: a plan takes longer than its transform."""
    quarter = 1 << max(count.bit_length() - 3, 0)
    return -(-count // quarter) * quarter


def _plan(size: int) -> Any:
    """Return this thread's plan for transforms of a size."""
    import finufft  # type: ignore[import-untyped]

    plans = _OF_THREAD.__dict__.setdefault("plans", {})
    if size not in plans:
        plans.clear()
        plans[size] = finufft.Plan(1, (size,), eps=1e-4, isign=1, dtype="complex64", nthreads=1, upsampfac=1.25)
    return plans[size]


def _most_likely(mag: Array, time: Array, scaled: Array, weight: Array, peaks: Array, baseline: float) -> float:
    """Return the frequency, of the peaks and what they may be mistaken for, that looks most like that of a star."""
    tried = np.concatenate([peaks, peaks / 2, peaks * 2, peaks / 3])
    tried = tried[(tried > 1 / baseline) & (tried <= periods.MAX_FREQUENCY)]
    left = 1 - periods.harmonic_powers(time, scaled, weight, tried, periods.TERMS)
    tried = tried[left <= _WORSE * left.min()]
    n, m = len(tried), len(time)
    curves = LightCurves(np.arange(n + 1) * m, np.tile(time, n), np.tile(mag.astype(np.float32), n))
    folded = fold(curves, 1 / tried, _RULES, Limits(), features="rivals")
    ok = np.flatnonzero(folded.ok)
    if not len(ok):
        return float(peaks[0])
    likely = read_judge().probabilities(judge_inputs(folded, ok))[:, 0]
    dispersion = folded.dispersion[ok, BINS.index(32)]
    return float(tried[ok[np.argmax(np.log(likely + 1e-6) - 2 * np.log(np.maximum(dispersion, 0.01)))]])


def _false_alarm(time: Array, mag: Array, error: Array, power: float) -> float:
    from astropy.timeseries import LombScargle

    search = LombScargle(time, mag, error)
    chance = search.false_alarm_probability(min(power, 1 - 1e-12), maximum_frequency=periods.MAX_FREQUENCY)
    return float(chance)


@dataclass(frozen=True)
class PeriodSearch:
    """Finds periods for the objects of a partition that have none."""

    limits: Limits
    """Of the survey."""
    workers: int = 1
    """Threads for each partition."""

    def __call__(
        self, objects: pa.Table, offsets: npt.NDArray[np.int64], rows: pa.Table, band: str | None = None
    ) -> pa.Table:
        """Return n objects with the periods that were found in their observations, which `offsets` (n + 1,) parts.

        `band` is their column of bands, where they have one.
        """
        columns = {
            name: rows[name].fill_null(float("nan")).to_numpy().astype(np.float64)
            for name in ("time", "mag", "mag_err")
            if name in rows.column_names
        }
        time, mag, mag_err = columns["time"], columns["mag"], columns.get("mag_err")
        good = good_observations(time, mag, mag_err, self.limits)
        if mag_err is not None:
            # Weights are inverse squares of errors.
            good &= mag_err > 0
        if band is not None:
            mag = _from_medians(mag, good, Bands.read(one_chunk(rows[band]), band), offsets)

        def search(i: int) -> FoundPeriod:
            used = int(offsets[i]) + np.flatnonzero(good[offsets[i] : offsets[i + 1]])
            return find_period(time[used], mag[used], None if mag_err is None else mag_err[used])

        wanted = np.flatnonzero(np.isnan(objects["period"].to_numpy()))
        return with_found(objects, wanted, list(in_order(search, wanted.tolist(), self.workers)))


def _from_medians(mag: Array, good: npt.NDArray[np.bool_], bands: Bands, offsets: npt.NDArray[np.int64]) -> Array:
    """Return magnitudes (m,) less the median of the good ones of the object in the band.

    A star has one period in all bands, and another magnitude in each (VanderPlas & Ivezic 2015, ApJ 812, 18).
    """
    count = len(bands.names)
    group = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * count + bands.codes
    order = np.lexsort((mag, group))
    order = order[good[order]]
    sizes = np.bincount(group[order], minlength=(len(offsets) - 1) * count)
    middle = np.cumsum(sizes) - sizes + sizes // 2
    medians = np.zeros(len(sizes))
    medians[sizes > 0] = mag[order[middle[sizes > 0]]]
    shifted: Array = mag - medians[group]
    return shifted


def with_found(objects: pa.Table, searched: npt.NDArray[np.int64], found: Sequence[FoundPeriod]) -> pa.Table:
    """Return n objects with the periods that were found, and where they are from, `SIGNIFICANCE` and `ALIAS`.

    Parameters
    ----------
    objects : pa.Table
        n rows with columns period and period_origin.
    searched : int64 array (m,)
        Those that were searched, by index.
    found : sequence of FoundPeriod
        m of them.

    Raises
    ------
    InputError
        The objects have one of these columns already.
    """
    taken = [name for name in (SIGNIFICANCE, ALIAS) if name in objects.column_names]
    if taken:
        raise InputError(
            expected=f"a table of objects without the column {taken[0]}, which the search for periods writes",
            got="one with it",
            where="--find-periods",
            fix="rename the column",
        )
    n = len(objects)
    period, significance = objects["period"].to_numpy().copy(), np.full(n, np.nan)
    alias = np.full(n, None, object)
    period[searched] = [one.period for one in found]
    significance[searched] = [one.significance for one in found]
    alias[searched] = [one.alias for one in found]
    is_found = np.zeros(n, np.bool_)
    is_found[searched] = np.isfinite(period[searched])
    return (
        with_new_periods(objects, period, is_found, FOUND, SEARCH)
        .append_column(SIGNIFICANCE, pa.array(significance, pa.float64(), from_pandas=True))
        .append_column(ALIAS, pa.array(alias.tolist(), pa.large_string()))
    )
