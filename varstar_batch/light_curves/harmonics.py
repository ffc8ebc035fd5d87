"""How well a light curve repeats with a frequency: least-squares fits of Fourier series.

Sources: Schwarzenberg-Czerny 1996, ApJ 460, L107 (periodograms of several harmonics); VanderPlas 2018, ApJS 236, 16.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.compiling import entry, helper

Array = npt.NDArray[np.float64]

_RIDGE = 1e-9


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
