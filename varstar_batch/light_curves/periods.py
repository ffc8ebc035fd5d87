"""The period of a light curve: peaks of a periodogram, and how well Fourier series repeat with a frequency.

Sources: Schwarzenberg-Czerny 1996, ApJ 460, L107 (periodograms of several harmonics); VanderPlas 2018, ApJS 236, 16.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.compiling import entry, helper

Array = npt.NDArray[np.float64]

MAX_FREQUENCY = 24.0
"""Cycles a day: the shortest period that is searched is an hour."""

SAMPLES_PER_PEAK = 5
TERMS = 4
"""Of the series that a frequency is refined and doubted with."""

_NEARLY = 0.95
_RIDGE = 1e-9


def top_peaks(power: npt.NDArray[np.floating], count: int) -> Array:
    """Return the places of the highest local maxima of a periodogram, the highest first, between its samples."""
    inner = np.flatnonzero((power[1:-1] >= power[:-2]) & (power[1:-1] > power[2:])) + 1
    if len(inner) == 0:
        return np.array([float(np.argmax(power))])
    if len(inner) > count:
        inner = inner[np.argpartition(power[inner], -count)[-count:]]
    inner = inner[np.argsort(-power[inner])]
    # The top of the parabola through three samples of the amplitude.
    before, at, after = (np.sqrt(power[inner + step].astype(np.float64)) for step in (-1, 0, 1))
    places: Array = inner + 0.5 * (before - after) / np.minimum(before - 2 * at + after, -1e-30)
    return places


def refined(time: Array, mag: Array, weight: Array, frequency: float, reach: float) -> float:
    """Return the frequency [1/d] within `reach` of another that a series of several terms fits best.

    The arrays are as `harmonic_powers` wants them.
    """
    for _ in range(2):
        near = np.maximum(frequency + np.linspace(-1, 1, 7) * reach, 1e-6)
        frequency = float(near[np.argmax(harmonic_powers(time, mag, weight, near, TERMS))])
        reach /= 3
    return frequency


def doubt(time: Array, mag: Array, weight: Array, frequency: float, baseline: float) -> str | None:
    """Return what casts doubt on a frequency [1/d], for arrays as `harmonic_powers` wants them.

    ``"1 d"`` near a whole or half number of cycles a day, ``"P/2 as good"``, ``"2P as good"``; None without a doubt.
    """
    if _is_day(frequency, baseline) or _is_day(2 * frequency, baseline):
        return "1 d"
    series, twice = harmonic_powers(time, mag, weight, np.array([frequency, 2 * frequency]), TERMS)
    if twice > _NEARLY * series:
        return "P/2 as good"
    sine = harmonic_powers(time, mag, weight, np.array([frequency]), 1)[0]
    # A curve that is hardly more than a sine may be two equal waves of a binary.
    return "2P as good" if sine > _NEARLY * series else None


def _is_day(frequency: float, baseline: float) -> bool:
    whole = round(frequency)
    near = min(abs(frequency - whole), abs(frequency - 1.00274 * whole))
    return 1 <= whole <= 4 and near < max(2 / baseline, 0.002)


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
