"""Periods of objects that have none: Lomb-Scargle periodograms by astropy, with what casts doubt on them.

Sources: Lomb 1976, Ap&SS 39, 447; Scargle 1982, ApJ 263, 835; VanderPlas 2018, ApJS 236, 16 (grids, aliases); Baluev
2008, MNRAS 385, 1279 (false-alarm probability).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.arithmetic.rules import Limits
from varstar_batch.errors import InputError

CATALOG, FOUND = "catalog", "lomb-scargle"
"""Where a period is from: the table of objects, or this search."""

ORIGIN, SIGNIFICANCE, ALIAS = "period_origin", "period_significance", "period_alias"
"""Columns of a survey: where the period is from; minus the decimal logarithm of its false-alarm probability; why it
may be an alias (``"1 d"``, ``"P/2 as good"``, ``"2P as good"``), null where nothing says so."""

_MAX_FREQUENCY = 24.0
_SAMPLES = 5
_LEAST = 20
_FLOOR = 1e-300
_NEARLY = 0.9
_TOGETHER = 64

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FoundPeriod:
    """The highest peak of a periodogram.

    Attributes
    ----------
    period : float
        Days; NaN where there are fewer than 20 good observations, or none of them vary.
    significance : float
        -log10 of the false-alarm probability, at most 300; NaN without a period.
    alias : str or None
        As `ALIAS` says.
    """

    period: float
    significance: float
    alias: str | None


def find_period(time: Array, mag: Array, mag_err: Array | None) -> FoundPeriod:
    """Search 1 hour to the length of the light curve, on a grid of 5 points a peak.

    Parameters
    ----------
    time, mag : float64 array (m,)
        Good observations: days, magnitudes.
    mag_err : float64 array (m,) or None
        All positive, or None for equal weights.
    """
    from astropy.timeseries import LombScargle

    nothing = FoundPeriod(float("nan"), float("nan"), None)
    if len(time) < _LEAST or np.ptp(mag) == 0 or np.ptp(time) == 0:
        return nothing
    search = LombScargle(time, mag, mag_err, fit_mean=True)
    baseline = float(np.ptp(time))
    lowest = 1.0 / baseline
    if lowest >= _MAX_FREQUENCY:
        return nothing
    frequency = np.arange(lowest, _MAX_FREQUENCY, 1.0 / (_SAMPLES * baseline))
    power = search.power(frequency, method="fast", assume_regular_frequency=True)
    best = float(frequency[int(np.argmax(power))])
    # Five times finer around the peak: the phase of the last cycle depends on it.
    near = best + np.linspace(-1, 1, 101) / (2 * baseline)
    near = near[near > 0]
    fine = search.power(near, method="slow", assume_regular_frequency=True)
    best, height = float(near[int(np.argmax(fine))]), float(fine.max())
    chance = float(search.false_alarm_probability(min(height, 1 - 1e-12), maximum_frequency=_MAX_FREQUENCY))
    return FoundPeriod(1.0 / best, -float(np.log10(max(chance, _FLOOR))), _alias(search, best, height, baseline))


def _alias(search: object, best: float, height: float, baseline: float) -> str | None:
    """Say why a frequency may not be the star's own: the Earth's turn, or half and double periods that fit as well."""
    whole = round(best)
    if 1 <= whole <= 4 and abs(best - whole) < max(2 / baseline, 0.005):
        return "1 d"
    for factor, name in ((2.0, "P/2"), (0.5, "2P")):
        other = best * factor + np.linspace(-1, 1, 41) / (2 * baseline)
        other = other[other > 0]
        if len(other) and float(search.power(other, method="slow").max()) > _NEARLY * height:  # type: ignore[attr-defined]
            return f"{name} as good"
    return None


def find_periods(
    offsets: npt.NDArray[np.int64],
    columns: dict[str, Array],
    wanted: npt.NDArray[np.bool_],
    limits: Limits,
    workers: int,
) -> list[FoundPeriod]:
    """Search the wanted ones of n light curves, in processes.

    Parameters
    ----------
    offsets : int64 array (n + 1,)
    columns : dict
        time, mag and, where there are any, mag_err; flat, float64.
    wanted : bool array (n,)
    limits : Limits
        Beyond them, and with errors that are no errors, an observation is not used.
    workers : int
        Processes, at least 1.

    Returns
    -------
    list of FoundPeriod
        Of the wanted ones, in their order.
    """
    time, mag = columns["time"], columns["mag"]
    mag_err = columns.get("mag_err")
    with np.errstate(invalid="ignore"):
        good = (time >= limits.time_min) & (time <= limits.time_max) & np.isfinite(time)
        good &= (mag > limits.mag_min) & (mag < limits.mag_max)
        if mag_err is not None:
            good &= (mag_err > 0) & (mag_err < 99)
    curves = []
    for i in np.flatnonzero(wanted):
        part = slice(int(offsets[i]), int(offsets[i + 1]))
        used = good[part]
        curves.append((time[part][used], mag[part][used], None if mag_err is None else mag_err[part][used]))
    if workers == 1 or len(curves) < 2 * _TOGETHER:
        return _search(curves)
    batches = [curves[start : start + _TOGETHER] for start in range(0, len(curves), _TOGETHER)]
    with ProcessPoolExecutor(workers) as pool:
        return [found for batch in pool.map(_search, batches) for found in batch]


def _search(curves: list[tuple[Array, Array, Array | None]]) -> list[FoundPeriod]:
    return [find_period(*curve) for curve in curves]


@dataclass(frozen=True)
class PeriodSearch:
    """Finds periods for the objects of a partition that have none.

    Attributes
    ----------
    workers : int
        Processes.
    limits : Limits
        Of the survey.
    """

    workers: int
    limits: Limits

    def __call__(self, objects: pa.Table, offsets: npt.NDArray[np.int64], rows: pa.Table) -> pa.Table:
        """Return n objects with the periods that were found in their observations, which `offsets` (n + 1,) parts."""
        wanted = np.isnan(objects["period"].fill_null(float("nan")).to_numpy())
        columns = {
            name: rows[name].fill_null(float("nan")).to_numpy().astype(np.float64)
            for name in ("time", "mag", "mag_err")
            if name in rows.column_names
        }
        return with_found(objects, wanted, find_periods(offsets, columns, wanted, self.limits, self.workers))


def with_found(objects: pa.Table, wanted: npt.NDArray[np.bool_], found: list[FoundPeriod]) -> pa.Table:
    """Return objects with the periods that were found where they had none, and `ORIGIN`, `SIGNIFICANCE`, `ALIAS`.

    Parameters
    ----------
    objects : pa.Table
        n rows with a column period.
    wanted : bool array (n,)
        Those that were searched.
    found : list of FoundPeriod
        As many as are wanted.

    Raises
    ------
    InputError
        The objects have one of these columns already.
    """
    taken = [name for name in (ORIGIN, SIGNIFICANCE, ALIAS) if name in objects.column_names]
    if taken:
        raise InputError(
            expected=f"a table of objects without the column {taken[0]}, which the search for periods writes",
            got="one with it",
            where="--find-periods",
            fix="rename the column",
        )
    n = len(objects)
    period = objects["period"].to_numpy().astype(np.float64)
    significance = np.full(n, np.nan)
    origin = np.full(n, CATALOG, object)
    origin[np.isnan(period)] = None
    alias = np.full(n, None, object)
    rows = np.flatnonzero(wanted)
    has = np.array([np.isfinite(one.period) for one in found], np.bool_)
    period[rows] = [one.period for one in found]
    significance[rows] = [one.significance for one in found]
    alias[rows] = [one.alias for one in found]
    origin[rows[has]] = FOUND
    objects = objects.set_column(
        objects.column_names.index("period"), "period", pa.array(period, pa.float64(), from_pandas=True)
    )
    return (
        objects.append_column(ORIGIN, pa.array(origin.tolist(), pa.large_string()))
        .append_column(SIGNIFICANCE, pa.array(significance, pa.float64(), from_pandas=True))
        .append_column(ALIAS, pa.array(alias.tolist(), pa.large_string()))
    )
