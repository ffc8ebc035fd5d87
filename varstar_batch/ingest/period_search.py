"""Periods of objects that have none: Lomb-Scargle periodograms by nifty-ls, and a choice among their highest peaks.

Sources: Lomb 1976, Ap&SS 39, 447; Scargle 1982, ApJ 263, 835; VanderPlas 2018, ApJS 236, 16 (grids, aliases); Garrison
et al. 2024, RNAAS 8, 250 (nifty-ls); Baluev 2008, MNRAS 385, 1279 (false-alarm probability).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.errors import InputError
from varstar_batch.ingest.objects import with_new_periods
from varstar_batch.light_curves import periods
from varstar_batch.light_curves.rules import Limits, good_observations
from varstar_batch.parallel import in_order
from varstar_batch.survey.columns import FOUND

SIGNIFICANCE, ALIAS = "period_significance", "period_alias"
"""Columns of a survey: minus the decimal logarithm of its false-alarm probability; why it
may be an alias (``"1 d"``, ``"P/2 as good"``, ``"2P as good"``), null where nothing says so."""

SEARCH = "Lomb-Scargle search of varstar ingest"
"""In the column period_source of a survey, where it has one."""

# Observations that a period is searched in, and the smallest false-alarm probability that is told.
_LEAST = 20
_FLOOR = 1e-300

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

    Parameters
    ----------
    time, mag : float64 array (m,)
        Good observations: days, magnitudes.
    mag_err : float64 array (m,) or None
        All positive, or None for equal weights.
    """
    from nifty_ls.finufft import lombscargle  # type: ignore[import-untyped]

    baseline = float(np.ptp(time)) if len(time) else 0.0
    if len(time) < _LEAST or np.ptp(mag) == 0 or baseline * periods.MAX_FREQUENCY <= 1:
        return _NOTHING
    time = time - (time.min() + baseline / 2)
    step, lowest = 1 / (periods.SAMPLES_PER_PEAK * baseline), 1 / baseline
    count = int((periods.MAX_FREQUENCY - lowest) / step) + 1
    error: Array = np.ones(len(time)) if mag_err is None else mag_err
    power = lombscargle(time, mag, fmin=lowest, df=step, Nf=count, dy=error, nthreads=1)
    peaks = periods.top_peaks(power)
    weight: Array = error**-2.0
    weight /= weight.sum()
    scaled = mag - weight @ mag
    scaled /= np.sqrt(weight @ scaled**2)
    choice = periods.choose_frequency(time, scaled, weight, np.asarray(lowest + step * peaks, np.float64), baseline)
    chance = _false_alarm(time, mag, error, float(power[peaks[0]]))
    return FoundPeriod(1 / choice.best.frequency, -float(np.log10(max(chance, _FLOOR))), choice.alias)


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

    def __call__(self, objects: pa.Table, offsets: npt.NDArray[np.int64], rows: pa.Table) -> pa.Table:
        """Return n objects with the periods that were found in their observations, which `offsets` (n + 1,) parts."""
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

        def search(i: int) -> FoundPeriod:
            used = int(offsets[i]) + np.flatnonzero(good[offsets[i] : offsets[i + 1]])
            return find_period(time[used], mag[used], None if mag_err is None else mag_err[used])

        wanted = np.flatnonzero(np.isnan(objects["period"].to_numpy()))
        return with_found(objects, wanted, list(in_order(search, wanted.tolist(), self.workers)))


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
