"""The period of a light curve: peaks of a periodogram, judged by how well Fourier series of several terms fit there.

A periodogram of one sine finds half of the period of most eclipsing binaries, whose two minima look alike to it, and a
day's alias of many others. So its highest peaks, half and twice their frequency and the frequencies a day apart are
fitted with more terms, and the information criterion of Schwarz 1978, Ann. Statist. 6, 461 chooses among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.harmonics import harmonic_powers

Array = npt.NDArray[np.float64]

MAX_FREQUENCY = 24.0
"""Cycles a day: the shortest period that is searched is an hour."""

SAMPLES_PER_PEAK = 5
_PEAKS = 5
_TERMS = (1, 2, 4, 6)
_DAYS = (1.0, 1.00274)
_NEARLY = 0.95
_ONE_WAVE = 0.7
# Of what four terms explain, one explains more than this where a turn has one wave.
_TAIL = 0.35
_SHORT = 3.0
# Days: the giants' waves come in all shapes.


@dataclass(frozen=True)
class Candidate:
    """A frequency and how well it fits."""

    frequency: float
    """Cycles a day."""
    power: float
    """Share of the variance that the best series explains."""
    score: float
    """Less is better: the criterion, in units of minus twice the logarithm of the likelihood."""


@dataclass(frozen=True)
class Choice:
    """The frequency that was chosen, and what casts doubt on it."""

    best: Candidate
    alias: str | None
    """``"1 d"`` near a whole number of cycles a day, ``"P/2 as good"``, ``"2P as good"``; None without a doubt."""


def top_peaks(power: Array, count: int = _PEAKS) -> npt.NDArray[np.int64]:
    """Return the indices of the highest local maxima of a periodogram, the highest first."""
    inner = np.flatnonzero((power[1:-1] >= power[:-2]) & (power[1:-1] > power[2:])) + 1
    if len(inner) == 0:
        return np.array([int(np.argmax(power))])
    if len(inner) > count:
        inner = inner[np.argpartition(power[inner], -count)[-count:]]
    return inner[np.argsort(-power[inner])]


def choose_frequency(time: Array, mag: Array, weight: Array, peaks: Array, baseline: float) -> Choice:
    """Choose among the peaks of a periodogram and their aliases.

    Parameters
    ----------
    time : float64 array (m,)
        Days since the middle of the light curve.
    mag, weight : float64 array (m,)
        As `harmonic_powers` wants them.
    peaks : float64 array (k,)
        Frequencies, the highest peak first.
    baseline : float
        Days from the first to the last observation.
    """
    data = (time, mag, weight)
    tried = [_fit(data, frequency, baseline) for frequency in _with_aliases(peaks, baseline)]
    whole = [one for one in tried if not _is_day(one.frequency, baseline)]
    best = min(whole or tried, key=lambda one: one.score)
    if whole and min(tried, key=lambda one: one.score).score < best.score - 0.1 * len(time):
        best = min(tried, key=lambda one: one.score)
    half = _fit(data, best.frequency / 2, baseline)
    if half.frequency > 1 / baseline and half.score < best.score:
        best = half
    if _is_day(best.frequency, baseline):
        return Choice(best, "1 d")
    if _fit(data, best.frequency * 2, baseline).power > _NEARLY * best.power:
        return Choice(best, "P/2 as good")
    at = np.array([best.frequency])
    sine, series = (float(harmonic_powers(time, mag, weight, at, terms)[0]) for terms in (1, 4))
    if sine < _ONE_WAVE * series:
        return Choice(best, None)
    if best.frequency / 2 > 1 / baseline and 1 / best.frequency < _SHORT and _faint_tail(mag, weight) > _TAIL:
        # One wave with a tail to the faint side, as eclipses have it and pulsations have not: two alike make a turn.
        return Choice(Candidate(best.frequency / 2, best.power, best.score), "P/2 as good")
    # A curve that is hardly more than a sine may be two equal waves of a binary.
    return Choice(best, "2P as good" if sine > _NEARLY * series else None)


def _faint_tail(mag: Array, weight: Array) -> float:
    """Return the skewness of magnitudes, those beyond 3 sigma brought to it: positive for a tail to the faint side."""
    near = np.clip(mag, -3, 3)
    near = near - weight @ near
    return float(weight @ near**3 / (weight @ near**2) ** 1.5)


def _with_aliases(peaks: Array, baseline: float) -> list[float]:
    first = float(peaks[0])
    others = [first / 2, first * 2, *(abs(first + sign * day) for day in _DAYS for sign in (-1, 1))]
    return [f for f in [*peaks.tolist(), *others] if 1 / baseline < f <= MAX_FREQUENCY]


def _is_day(frequency: float, baseline: float) -> bool:
    whole = round(frequency)
    near = min(abs(frequency - whole), abs(frequency - 1.00274 * whole))
    return 1 <= whole <= 4 and near < max(2 / baseline, 0.002)


def _fit(data: tuple[Array, Array, Array], frequency: float, baseline: float) -> Candidate:
    """Fit series of 1, 2, 4 and 6 terms near a frequency, and return the best of them."""
    n = len(data[0])
    best: Candidate | None = None
    center, reach = frequency, 0.5 / (SAMPLES_PER_PEAK * baseline) * 1.2
    for terms in _TERMS:
        if n < 5 * (2 * terms + 1):
            break
        # The more terms, the narrower the peak.
        near = center + np.linspace(-1, 1, 9 if terms > 1 else 7) * reach
        near = near[near > 0]
        powers = harmonic_powers(*data, near, terms)
        place = int(np.argmax(powers))
        power = float(powers[place])
        score = n * float(np.log(max(1 - power, 1e-9))) + (2 * terms + 2) * float(np.log(n))
        if best is None or score < best.score:
            best = Candidate(float(near[place]), power, score)
        center, reach = float(near[place]), reach / 2
    assert best is not None
    return best
