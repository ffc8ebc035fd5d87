"""Light curves of the regular pulsators: RR Lyrae, Cepheids and delta Scuti stars, as Fourier series.

Every function writes magnitudes about zero (positive is fainter) for the given times and returns (period [d],
amplitude [mag, peak to peak]). Series are ``sum_k A_k cos(2 pi k phase + phi_k)``, described as usual by R_k1 = A_k /
A_1 and phi_k1 = phi_k - k phi_1.

Source
------
Simon & Lee 1981, ApJ 248, 291 (Fourier parameters and the Hertzsprung progression); Hertzsprung 1926, BAN 3, 115 (the
bump moves with the period); Cacciari, Corwin & Carney 2005, AJ 129, 267 (period-amplitude relation of RRab);
Soszynski et al. 2014-2016, Acta Astronomica (Fourier parameters in the OGLE collections); Petersen 1973, A&A 27, 89
(period ratios of double-mode pulsators); McNamara 2000, ASPC 210, 373 (high-amplitude delta Scuti stars).
"""

from __future__ import annotations

import numpy as np

from varstar_batch.arithmetic.compiling import helper
from varstar_batch.arithmetic.simulate_random import (
    Floats,
    Random,
    between,
    clipped_normal,
    lognormal,
    normal,
    uniform,
)

TWO_PI = 2.0 * np.pi
N_HARMONICS = 8
_T_REF = 2458000.0
_GRID = 128

CEPHEID_LOG_PERIOD = np.array([0.0, 0.3, 0.6, 0.8, 0.9, 0.97, 1.03, 1.1, 1.2, 1.35, 1.8])
# One row for a harmonic k = 2..5: R_k1 and phi_k1 [rad], the latter unwrapped along the period.
CEPHEID_RATIO = np.array(
    [
        [0.40, 0.46, 0.45, 0.34, 0.26, 0.15, 0.12, 0.20, 0.35, 0.45, 0.42],
        [0.18, 0.28, 0.23, 0.12, 0.11, 0.12, 0.13, 0.15, 0.20, 0.25, 0.22],
        [0.08, 0.15, 0.10, 0.06, 0.08, 0.08, 0.06, 0.05, 0.07, 0.14, 0.12],
        [0.04, 0.08, 0.05, 0.04, 0.05, 0.04, 0.03, 0.03, 0.04, 0.08, 0.06],
    ]
)
CEPHEID_PHASE = np.array(
    [
        [4.1, 4.2, 4.4, 4.65, 4.9, 5.2, 4.3, 4.0, 4.35, 4.7, 5.1],
        [1.9, 2.2, 2.6, 3.3, 4.6, 5.6, 6.5, 7.2, 7.9, 8.4, 9.0],
        [6.0, 6.4, 7.1, 8.6, 9.6, 10.4, 11.2, 11.9, 12.2, 12.5, 13.2],
        [4.0, 4.6, 5.8, 8.0, 8.8, 9.4, 10.0, 10.8, 11.6, 12.4, 13.2],
    ]
)


@helper
def series(coefficients: Floats, turns: float) -> float:
    """Return ``sum_k a_k cos(k x) + b_k sin(k x)`` at x = 2 pi `turns`; `coefficients` is float64 (2, n_harmonics)."""
    x = TWO_PI * (turns - np.floor(turns))
    c, s = np.cos(x), np.sin(x)
    ck, sk, total = c, s, 0.0
    for k in range(coefficients.shape[1]):
        total += coefficients[0, k] * ck + coefficients[1, k] * sk
        ck, sk = ck * c - sk * s, sk * c + ck * s
    return total


@helper
def set_series(coefficients: Floats, ratios: Floats, phases: Floats, amplitude: float) -> None:
    """Set the coefficients from R_k1 and phi_k1 (the first being 1 and 0) and a peak-to-peak amplitude [mag]."""
    coefficients[:] = 0.0
    for k in range(ratios.size):
        coefficients[0, k] = ratios[k] * np.cos(phases[k])
        coefficients[1, k] = -ratios[k] * np.sin(phases[k])
    low, high = 0.0, 0.0
    for j in range(_GRID):
        value = series(coefficients, j / _GRID)
        low, high = min(low, value), max(high, value)
    coefficients *= amplitude / (high - low)


@helper
def rr_lyrae(rng: Random, time: Floats, mag: Floats) -> tuple[float, float]:
    """Simulate an RR Lyrae star: 72 % RRab, 24 % RRc, 4 % RRd; a quarter of the RRab with the Blazhko effect."""
    coefficients = np.zeros((2, N_HARMONICS))
    kind = uniform(rng)
    if kind < 0.72:
        return _rrab(rng, time, mag, coefficients)
    period = clipped_normal(rng, 0.32, 0.045, 0.21, 0.43)
    amplitude = clipped_normal(rng, 0.42 - 1.6 * (period - 0.32) ** 2, 0.08, 0.15, 0.62)
    if kind >= 0.96:
        period = clipped_normal(rng, 0.36, 0.02, 0.33, 0.42)
    ratios = np.array([1.0, between(rng, 0.06, 0.2), between(rng, 0.02, 0.09), between(rng, 0.0, 0.04)])
    phases = np.array([0.0, between(rng, 4.3, 5.3), between(rng, 2.5, 4.0), between(rng, 0.5, 3.0)])
    set_series(coefficients, ratios, phases, amplitude)
    zero, zero_0 = uniform(rng), uniform(rng)
    # The fundamental of an RRd; Petersen's period ratio.
    period_0 = period / clipped_normal(rng, 0.7445, 0.001, 0.742, 0.748)
    amplitude_0 = 0.5 * amplitude * between(rng, 0.25, 0.7) if kind >= 0.96 else 0.0
    for i in range(time.size):
        t = time[i] - _T_REF
        mag[i] = series(coefficients, t / period + zero)
        if amplitude_0 > 0.0:
            mag[i] += amplitude_0 * np.cos(TWO_PI * (t / period_0 + zero_0))
    return period, amplitude


@helper
def _rrab(rng: Random, time: Floats, mag: Floats, coefficients: Floats) -> tuple[float, float]:
    oosterhoff_2 = uniform(rng) < 0.25
    period = clipped_normal(rng, 0.63, 0.065, 0.48, 0.95) if oosterhoff_2 else clipped_normal(rng, 0.55, 0.06, 0.4, 0.8)
    x = np.log10(period) - (0.06 if oosterhoff_2 else 0.0)
    # Left of its vertex the parabola of Cacciari et al. turns down; real amplitudes stay high.
    x = max(x, -0.357)
    amplitude = clipped_normal(rng, -2.627 - 22.046 * x - 30.876 * x * x, 0.12, 0.2, 1.5)
    # Small amplitudes go with rounder curves.
    sharp = min(max((amplitude - 0.2) / 0.9, 0.0), 1.0)
    ratios = np.ones(N_HARMONICS)
    phases = np.zeros(N_HARMONICS)
    ratios[1] = 0.40 + 0.08 * sharp + 0.02 * normal(rng)
    ratios[2] = 0.16 + 0.19 * sharp + 0.015 * normal(rng)
    fade = 0.45 + 0.25 * sharp
    step = 2.55 + 0.9 * (period - 0.55) + 0.04 * normal(rng)
    phases[1] = 3.95 + 1.2 * (period - 0.55) + 0.06 * normal(rng)
    phases[2] = 1.90 + 3.0 * (period - 0.55) + 0.10 * normal(rng)
    for k in range(3, N_HARMONICS):
        ratios[k] = ratios[k - 1] * fade
        phases[k] = phases[k - 1] + step + 1.571
    set_series(coefficients, ratios, phases, amplitude)
    blazhko = between(rng, 0.05, 0.25) if uniform(rng) < 0.25 else 0.0
    cycle = lognormal(rng, 60.0, 0.6, 15.0, 300.0)
    zero, zero_b, drift = uniform(rng), uniform(rng), between(rng, 0.0, 0.03)
    for i in range(time.size):
        t = time[i] - _T_REF
        turns = t / period + zero
        if blazhko > 0.0:
            b = TWO_PI * (t / cycle + zero_b)
            mag[i] = (1.0 + blazhko * np.cos(b)) * series(coefficients, turns + drift * np.sin(b))
        else:
            mag[i] = series(coefficients, turns)
    return period, amplitude


@helper
def cepheid(rng: Random, time: Floats, mag: Floats) -> tuple[float, float]:
    """Simulate a Cepheid: 75 % fundamental mode with the bump of the Hertzsprung progression, 25 % overtone."""
    coefficients = np.zeros((2, N_HARMONICS))
    ratios = np.ones(5)
    phases = np.zeros(5)
    if uniform(rng) < 0.25:
        period = lognormal(rng, 2.2, 0.5, 0.5, 6.5)
        amplitude = clipped_normal(rng, 0.38, 0.09, 0.12, 0.6)
        dip = 1.0 - 0.7 * np.exp(-0.5 * ((np.log10(period) - 0.4) / 0.12) ** 2)
        ratios[1] = between(rng, 0.14, 0.24) * dip
        phases[1] = between(rng, 4.0, 4.6) + 0.6 * (np.log10(period) - 0.3)
        for k in range(2, 5):
            ratios[k] = ratios[k - 1] * between(rng, 0.2, 0.45)
            phases[k] = phases[k - 1] + between(rng, 3.6, 4.6)
    else:
        x = clipped_normal(rng, 0.75, 0.30, 0.0, 1.8)
        period = 10.0**x
        # Amplitudes dip where the bump sits on the maximum, near 10 d.
        mean = 0.75 + 0.30 * min(max((x - 1.0) / 0.3, 0.0), 1.0) - 0.15 * np.exp(-0.5 * ((x - 0.98) / 0.08) ** 2)
        amplitude = clipped_normal(rng, mean, 0.15, 0.2, 1.5)
        for k in range(1, 5):
            ratios[k] = np.interp(x, CEPHEID_LOG_PERIOD, CEPHEID_RATIO[k - 1]) * (1.0 + 0.08 * normal(rng))
            phases[k] = np.interp(x, CEPHEID_LOG_PERIOD, CEPHEID_PHASE[k - 1]) + 0.07 * k * normal(rng)
    set_series(coefficients, ratios, phases, amplitude)
    zero = uniform(rng)
    for i in range(time.size):
        mag[i] = series(coefficients, (time[i] - _T_REF) / period + zero)
    return period, amplitude


@helper
def delta_scuti(rng: Random, time: Floats, mag: Floats) -> tuple[float, float]:
    """Simulate a delta Scuti star: 40 % high-amplitude and skewed, the others with two to six modes."""
    coefficients = np.zeros((2, N_HARMONICS))
    high = uniform(rng) < 0.4
    if high:
        period = lognormal(rng, 0.09, 0.4, 0.04, 0.25)
        amplitude = clipped_normal(rng, 0.42, 0.14, 0.2, 0.8)
        n_modes = 2 if uniform(rng) < 0.3 else 1
        skew = between(rng, 0.25, 0.45)
    else:
        period = lognormal(rng, 0.075, 0.45, 0.03, 0.25)
        amplitude = lognormal(rng, 0.09, 0.7, 0.01, 0.35)
        n_modes = 2 + int(5.0 * uniform(rng))
        skew = between(rng, 0.0, 0.2)
    ratios = np.array([1.0, skew, skew * skew * 1.2, skew**3 * 1.3])
    phases = np.array([0.0, between(rng, 3.7, 4.3), between(rng, 1.5, 2.4), between(rng, 5.3, 6.5)])
    set_series(coefficients, ratios, phases, amplitude)
    zero = uniform(rng)
    for i in range(time.size):
        mag[i] = series(coefficients, (time[i] - _T_REF) / period + zero)
    for _ in range(1, n_modes):
        # First overtone over fundamental for the double-mode stars; else any neighbouring, non-radial mode.
        other = period * (clipped_normal(rng, 0.772, 0.003, 0.76, 0.785) if high else between(rng, 0.6, 1.5))
        half = 0.5 * amplitude * (between(rng, 0.1, 0.35) if high else between(rng, 0.1, 0.6))
        shift = uniform(rng)
        for i in range(time.size):
            mag[i] += half * np.cos(TWO_PI * ((time[i] - _T_REF) / other + shift))
    return period, amplitude
