"""The period of a light curve: peaks of a periodogram, judged by how well Fourier series of several terms fit there.

A periodogram of one sine finds half of the period of most eclipsing binaries, whose two minima look alike to it, and a
day's alias of many others. So its highest peaks, half and twice their frequency and the frequencies a day apart are
fitted with more terms, and the information criterion of Schwarz 1978, Ann. Statist. 6, 461 chooses among them. How well
a light curve repeats with a frequency is a least-squares fit of a Fourier series.

Sources: Schwarzenberg-Czerny 1996, ApJ 460, L107 (periodograms of several harmonics); VanderPlas 2018, ApJS 236, 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.compiling import entry, helper

Array = npt.NDArray[np.float64]

MAX_FREQUENCY = 24.0
"""Cycles a day: the shortest period that is searched is an hour."""

SAMPLES_PER_PEAK = 5
_PEAKS = 5
_TERMS = (1, 2, 4, 6)
_DAYS = (1.0, 1.00274)
_NEARLY = 0.95
# Of what four terms explain, one explains more than this where a turn has one wave.
_ONE_WAVE = 0.7
# Skewness to the faint side from which a light curve has eclipses.
_TAIL = 0.35
# Days: the giants' waves come in all shapes.
_SHORT = 3.0
_RIDGE = 1e-9


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


@helper
def _solve(matrix: Array, vector: Array, n: int) -> None:
    """Replace the first n of `vector` by the solution of a symmetric positive system, which is overwritten."""
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                matrix[i, i] = np.sqrt(max(total, 1e-300))
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(n):
        for k in range(i):
            vector[i] -= matrix[i, k] * vector[k]
        vector[i] /= matrix[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            vector[i] -= matrix[k, i] * vector[k]
        vector[i] /= matrix[i, i]


@entry
def harmonic_powers(time: Array, mag: Array, weight: Array, frequencies: Array, n_harmonics: int) -> Array:
    """Return the share of the variance that Fourier series explain, float64 (k,), from 0 to 1.

    Parameters
    ----------
    time : float64 array (m,)
        Days, from about 0: the phase is taken of it as it is.
    mag : float64 array (m,)
        Of weighted mean 0 and weighted variance 1.
    weight : float64 array (m,)
        Of sum 1.
    frequencies : float64 array (k,)
        Cycles a day.
    n_harmonics : int
        Terms of the series, at least 1.
    """
    n = 2 * n_harmonics + 1
    powers = np.empty(len(frequencies))
    row, vector, right = np.empty(n), np.empty(n), np.empty(n)
    matrix = np.empty((n, n))
    for number in range(len(frequencies)):
        matrix[:] = 0.0
        vector[:] = 0.0
        for i in range(len(time)):
            angle = 2 * np.pi * ((time[i] * frequencies[number]) % 1.0)
            cosine, sine = np.cos(angle), np.sin(angle)
            row[0], row[1], row[2] = 1.0, cosine, sine
            for k in range(2, n_harmonics + 1):
                row[2 * k - 1] = row[2 * k - 3] * cosine - row[2 * k - 2] * sine
                row[2 * k] = row[2 * k - 3] * sine + row[2 * k - 2] * cosine
            for a in range(n):
                weighted = weight[i] * row[a]
                vector[a] += weighted * mag[i]
                for b in range(a + 1):
                    matrix[a, b] += weighted * row[b]
        for a in range(n):
            right[a] = vector[a]
            # Where the observations leave gaps in the phase, the series stays calm in them.
            matrix[a, a] += _RIDGE if a == 0 else 1e-5 * ((a + 1) // 2) ** 2
        _solve(matrix, vector, n)
        power = 0.0
        for a in range(n):
            power += right[a] * vector[a]
        powers[number] = min(max(power, 0.0), 1.0)
    return powers
