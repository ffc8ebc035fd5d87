"""Light curves of red giants: Miras and semi-regular variables, which never repeat a cycle exactly.

Source
------
Lockwood & Wing 1971, ApJ 169, 63 and Vardya 1988, A&AS 73, 181 (shapes of Miras: rise faster than fall, humps on the
rise); Kiss et al. 1999, A&A 346, 542 (several periods of semi-regulars and their ratios); Wood et al. 1999, IAU Symp.
191, 151 (long secondary periods); Kiss, Szabo & Bedding 2006, MNRAS 372, 1721 (red noise and short-lived modes of red
supergiants); Uhlenbeck & Ornstein 1930, Phys. Rev. 36, 823 (the random process).
"""

from __future__ import annotations

import numpy as np

from varstar_batch.light_curves.compiling import helper
from varstar_batch.simulation.random import (
    TWO_PI,
    Floats,
    Random,
    between,
    clipped_normal,
    fill_normal,
    lognormal,
    normal,
    uniform,
)


@helper
def _between_knots(knots: Floats, x: float) -> float:
    """Return a smooth curve through `knots`, one at every whole number, at `x` >= 0."""
    k = min(int(x), knots.size - 2)
    u = x - k
    return float(knots[k] + (knots[k + 1] - knots[k]) * u * u * (3.0 - 2.0 * u))


@helper
def mira(rng: Random, time: Floats, mag: Floats) -> tuple[float, float]:
    """Simulate a Mira: rise faster than fall, more so at long periods, and every cycle with its own depth and delay."""
    period = lognormal(rng, 275.0, 0.35, 85.0, 700.0)
    amplitude = clipped_normal(rng, 3.6 + 0.005 * (period - 200.0), 0.8, 2.5, 7.5)
    rise = clipped_normal(rng, 0.49 - 0.0003 * (period - 200.0), 0.035, 0.28, 0.56)
    sharp = between(rng, 0.8, 1.4)
    hump = amplitude * between(rng, 0.04, 0.14) if period > 200.0 and uniform(rng) < 0.35 else 0.0
    hump_at, hump_width = rise * between(rng, 0.35, 0.65), between(rng, 0.03, 0.06)
    zero = uniform(rng)
    first = np.floor(time[0] / period) if time.size > 0 else 0.0
    n_knots = int((time[-1] - time[0]) / period) + 5 if time.size > 0 else 2
    knots = np.empty((3, n_knots))
    fill_normal(rng, knots.reshape(3 * n_knots))
    for i in range(time.size):
        x = time[i] / period - first + zero
        x += 0.5 + 0.025 * _between_knots(knots[0], x)
        level = 1.0 + 0.08 * _between_knots(knots[1], x)
        u = x - np.floor(x)
        if u < rise:
            faint = 0.5 + 0.5 * np.cos(np.pi * u / rise)
        else:
            faint = 0.5 - 0.5 * np.cos(np.pi * (u - rise) / (1.0 - rise))
        mag[i] = amplitude * level * (faint**sharp - 0.5) + 0.15 * _between_knots(knots[2], x)
        if hump > 0.0:
            mag[i] -= hump * np.exp(-0.5 * ((u - hump_at) / hump_width) ** 2)
    return period * (1.0 + 0.003 * normal(rng)), amplitude


@helper
def semi_regular(rng: Random, time: Floats, mag: Floats) -> tuple[float, float]:
    """Simulate a semi-regular: a main period whose phase wanders and amplitude swells, a second period, red noise."""
    period = lognormal(rng, 95.0, 0.6, 30.0, 500.0)
    amplitude = lognormal(rng, 0.5, 0.65, 0.1, 2.0)
    wander = between(rng, 0.02, 0.10)
    swell, swell_time = between(rng, 0.15, 0.45), period * between(rng, 3.0, 12.0)
    red, red_time = 0.5 * amplitude * between(rng, 0.1, 0.5), period * between(rng, 0.2, 2.0)
    kind = uniform(rng)
    if kind < 0.45:
        second, half_2 = period * between(rng, 0.48, 0.62), 0.5 * amplitude * between(rng, 0.15, 0.6)
    elif kind < 0.7:
        second, half_2 = period * between(rng, 7.0, 12.0), 0.5 * amplitude * between(rng, 0.3, 0.8)
    else:
        second, half_2 = period * between(rng, 0.85, 1.2), 0.5 * amplitude * between(rng, 0.15, 0.5)
    turns, turns_2 = uniform(rng), uniform(rng)
    skew = between(rng, 0.0, 0.15)
    level, noise = normal(rng), normal(rng)
    last = time[0] if time.size > 0 else 0.0
    for i in range(time.size):
        step = time[i] - last
        last = time[i]
        turns += step / period + wander * np.sqrt(step / period) * normal(rng)
        turns_2 += step / second
        keep = np.exp(-step / swell_time)
        level = keep * level + np.sqrt(1.0 - keep * keep) * normal(rng)
        keep = np.exp(-step / red_time)
        noise = keep * noise + np.sqrt(1.0 - keep * keep) * normal(rng)
        x = TWO_PI * turns
        pulse = np.cos(x) + skew * np.cos(2.0 * x + 4.2)
        mag[i] = (
            0.5 * amplitude * max(1.0 + swell * level, 0.1) * pulse + half_2 * np.cos(TWO_PI * turns_2) + red * noise
        )
    return period * (1.0 + 0.01 * normal(rng)), amplitude
