"""Light curves of the regular pulsators: RR Lyrae, Cepheids and delta Scuti stars, as Fourier series.

Every function writes magnitudes about zero (positive is fainter) for the given times and returns (period [d],
amplitude [mag, peak to peak]). Series are ``sum_k A_k cos(2 pi k phase + phi_k)``, described as usual by R_k1 = A_k /
A_1 and phi_k1 = phi_k - k phi_1.

Source
------
Simon & Lee 1981, ApJ 248, 291 (Fourier parameters and the Hertzsprung progression); Hertzsprung 1926, BAN 3, 115 (the
bump moves with the period); Cacciari, Corwin & Carney 2005, AJ 129, 267 (period-amplitude relation of RRab);
Soszynski et al. 2015, Acta Astronomica 65, 297 (the OGLE collection of Cepheids); Drake et al. 2017, MNRAS 469, 3688
(RR Lyrae and delta Scuti of the Catalina survey); Petersen 1973, A&A 27, 89 (period ratios of double-mode pulsators);
McNamara 2000, ASPC 210, 373 (high-amplitude delta Scuti stars).
"""

from __future__ import annotations

import numpy as np

from varstar_batch.light_curves.compiling import helper
from varstar_batch.simulation.random import (
    T_REF,
    TWO_PI,
    Floats,
    Random,
    between,
    clipped_normal,
    lognormal,
    normal,
    uniform,
)

N_HARMONICS = 8
_GRID = 128

# Medians over the fundamental-mode Cepheids of the OGLE collection in 17 bins of log period: one row for each of the
# harmonics k = 2..7, R_k1 and phi_k1 [rad]. Read together as complex numbers, since a phase means nothing where its
# harmonic vanishes, as the second does at 10 d.
CEPHEID_LOG_PERIOD = np.array(
    [0.11, 0.27, 0.42, 0.50, 0.60, 0.69, 0.79, 0.85, 0.90, 0.95, 0.99, 1.03, 1.09, 1.15, 1.24, 1.35, 1.45]
)
_CEPHEID_R = np.array(
    [
        [0.42, 0.45, 0.45, 0.43, 0.42, 0.41, 0.36, 0.32, 0.28, 0.20, 0.10, 0.07, 0.15, 0.17, 0.22, 0.28, 0.32],
        [0.22, 0.25, 0.23, 0.22, 0.20, 0.17, 0.09, 0.11, 0.11, 0.08, 0.05, 0.10, 0.11, 0.12, 0.12, 0.18, 0.20],
        [0.13, 0.12, 0.12, 0.10, 0.10, 0.08, 0.01, 0.01, 0.03, 0.03, 0.01, 0.02, 0.11, 0.13, 0.13, 0.14, 0.12],
        [0.07, 0.07, 0.06, 0.05, 0.04, 0.02, 0.01, 0.01, 0.01, 0.02, 0.01, 0.02, 0.07, 0.09, 0.11, 0.10, 0.09],
        [0.03, 0.03, 0.04, 0.02, 0.01, 0.00, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.02, 0.05, 0.07, 0.07, 0.06],
        [0.02, 0.02, 0.02, 0.01, 0.00, 0.00, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.03, 0.04, 0.05, 0.04],
    ]
)
_CEPHEID_PHI = np.array(
    [
        [4.12, 4.31, 4.44, 4.53, 4.63, 4.78, 4.97, 5.22, 5.41, 5.58, 5.99, 5.09, 4.90, 4.91, 5.01, 4.99, 4.94],
        [2.00, 2.46, 2.66, 2.83, 3.02, 3.27, 3.43, 3.34, 3.91, 4.75, 6.17, 7.11, 7.77, 8.18, 9.12, 9.50, 9.65],
        [6.07, 6.81, 7.04, 7.28, 7.64, 7.92, 8.58, 6.23, 6.96, 7.83, 7.45, 5.47, 6.23, 6.55, 7.38, 8.03, 8.31],
        [4.10, 4.78, 4.98, 5.43, 5.85, 6.28, 4.64, 4.72, 4.51, 5.03, 6.18, 5.64, 4.67, 5.08, 5.93, 6.51, 7.11],
        [2.04, 2.77, 3.03, 3.42, 3.97, 3.92, 2.76, 3.11, 3.52, 3.50, 3.73, 3.96, 3.18, 3.55, 4.55, 5.12, 5.68],
        [6.26, 6.83, 7.35, 7.68, 7.82, 6.72, 7.22, 7.70, 7.91, 8.56, 9.69, 9.30, 7.61, 7.88, 9.44, 9.98, 10.59],
    ]
)
CEPHEID_RE, CEPHEID_IM = _CEPHEID_R * np.cos(_CEPHEID_PHI), _CEPHEID_R * np.sin(_CEPHEID_PHI)
# Star-to-star scatter of R_k1 exp(i phi_k1), each of its two parts; about 10 d that of the first two is more.
CEPHEID_SCATTER = np.array([0.04, 0.04, 0.03, 0.02, 0.015, 0.01])


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
def _repeat(rng: Random, coefficients: Floats, period: float, time: Floats, mag: Floats) -> None:
    """Write a series that repeats with a period, from a random phase on."""
    zero = uniform(rng)
    for i in range(time.size):
        mag[i] = series(coefficients, (time[i] - T_REF) / period + zero)


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
    ratios = np.array([1.0, between(rng, 0.06, 0.22), between(rng, 0.02, 0.09), between(rng, 0.0, 0.06)])
    phases = np.array([0.0, between(rng, 4.3, 5.1), between(rng, 2.6, 4.0), between(rng, 1.2, 2.7)])
    set_series(coefficients, ratios, phases, amplitude)
    zero, zero_0 = uniform(rng), uniform(rng)
    # The fundamental of an RRd; Petersen's period ratio.
    period_0 = period / clipped_normal(rng, 0.7445, 0.001, 0.742, 0.748)
    amplitude_0 = 0.5 * amplitude * between(rng, 0.25, 0.7) if kind >= 0.96 else 0.0
    for i in range(time.size):
        t = time[i] - T_REF
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
    # Small amplitudes go with rounder curves; ratios and phases follow the RRab of the Catalina survey.
    sharp = min(max((amplitude - 0.2) / 0.9, 0.0), 1.0)
    ratios = np.ones(N_HARMONICS)
    phases = np.zeros(N_HARMONICS)
    ratios[1] = 0.40 + 0.08 * sharp + 0.02 * normal(rng)
    ratios[2] = 0.16 + 0.19 * sharp + 0.015 * normal(rng)
    fade = 0.45 + 0.25 * sharp
    step = 4.25 + 2.7 * (period - 0.55) + 0.06 * normal(rng)
    phases[1] = 4.00 + 1.6 * (period - 0.55) + 0.08 * normal(rng)
    phases[2] = 1.95 + 3.8 * (period - 0.55) + 0.15 * normal(rng)
    for k in range(3, N_HARMONICS):
        ratios[k] = ratios[k - 1] * fade
        phases[k] = phases[k - 1] + step
    set_series(coefficients, ratios, phases, amplitude)
    blazhko = between(rng, 0.05, 0.25) if uniform(rng) < 0.25 else 0.0
    cycle = lognormal(rng, 60.0, 0.6, 15.0, 300.0)
    zero, zero_b, drift = uniform(rng), uniform(rng), between(rng, 0.0, 0.03)
    for i in range(time.size):
        t = time[i] - T_REF
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
    ratios = np.ones(7)
    phases = np.zeros(7)
    if uniform(rng) < 0.25:
        period = lognormal(rng, 2.2, 0.5, 0.5, 6.5)
        amplitude = clipped_normal(rng, 0.38, 0.09, 0.12, 0.6)
        dip = 1.0 - 0.7 * np.exp(-0.5 * ((np.log10(period) - 0.4) / 0.12) ** 2)
        ratios[1] = between(rng, 0.14, 0.24) * dip
        phases[1] = between(rng, 4.0, 4.6) + 0.6 * (np.log10(period) - 0.3)
        for k in range(2, 7):
            ratios[k] = ratios[k - 1] * between(rng, 0.2, 0.45)
            phases[k] = phases[k - 1] + between(rng, 3.6, 4.6)
    else:
        x = clipped_normal(rng, 0.75, 0.30, 0.0, 1.8)
        period = 10.0**x
        # Amplitudes dip where the bump sits on the maximum, near 10 d.
        mean = 0.74 + 0.20 * min(max((x - 1.0) / 0.2, 0.0), 1.0) - 0.22 * np.exp(-0.5 * ((x - 0.97) / 0.08) ** 2)
        amplitude = clipped_normal(rng, mean, 0.17, 0.2, 1.5)
        # The resonance that makes the bump falls on a slightly different period in each star.
        wide = 1.0 + 1.5 * np.exp(-0.5 * ((x - 1.0) / 0.06) ** 2)
        x += 0.03 * normal(rng)
        for k in range(1, 7):
            scatter = CEPHEID_SCATTER[k - 1] * (wide if k < 3 else 1.0)
            re = np.interp(x, CEPHEID_LOG_PERIOD, CEPHEID_RE[k - 1]) + scatter * normal(rng)
            im = np.interp(x, CEPHEID_LOG_PERIOD, CEPHEID_IM[k - 1]) + scatter * normal(rng)
            ratios[k] = np.sqrt(re * re + im * im)
            phases[k] = np.arctan2(im, re)
    set_series(coefficients, ratios, phases, amplitude)
    _repeat(rng, coefficients, period, time, mag)
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
    ratios = np.array([1.0, skew, skew * skew * 1.3, skew**3 * 1.6])
    phases = np.array([0.0, between(rng, 3.8, 4.4), between(rng, 1.6, 2.6), between(rng, 5.4, 6.6)])
    set_series(coefficients, ratios, phases, amplitude)
    _repeat(rng, coefficients, period, time, mag)
    for _ in range(1, n_modes):
        # First overtone over fundamental for the double-mode stars; else any neighbouring, non-radial mode.
        other = period * (clipped_normal(rng, 0.772, 0.003, 0.76, 0.785) if high else between(rng, 0.6, 1.5))
        half = 0.5 * amplitude * (between(rng, 0.1, 0.35) if high else between(rng, 0.1, 0.6))
        shift = uniform(rng)
        for i in range(time.size):
            mag[i] += half * np.cos(TWO_PI * ((time[i] - T_REF) / other + shift))
    return period, amplitude
