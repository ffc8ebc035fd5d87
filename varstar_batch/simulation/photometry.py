"""What a small survey telescope makes of a magnitude: noise, outliers, upper limits.

Source
------
Kochanek et al. 2017, PASP 129, 104502, and Jayasinghe et al. 2018, MNRAS 477, 3145 (depth and scatter of ASAS-SN:
0.01 to 0.02 mag for bright stars, 0.1 mag near 17 mag, upper limits written as 99.99).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from varstar_batch.light_curves.compiling import helper
from varstar_batch.simulation.cadence import Nights, moonlight_at
from varstar_batch.simulation.random import Floats, Random, between, fill_normal, normal, uniform

SENTINEL = 99.99
"""Magnitude and magnitude error of an observation that did not detect the star."""

BRIGHTEST, FAINTEST = 10.5, 17.3
_LIMIT = 17.6
"""Magnitude at which a dark sky alone makes a noise of 0.2 mag."""
_LN10 = np.log(10.0)
_WORST_ERROR = 0.33


@helper
def noise_at(mag: float, sky: float) -> float:
    """Return the standard deviation [mag] at `mag`: a floor, the star's photons, and the `sky` [mag at 14 mag]."""
    root = np.exp(0.2 * _LN10 * (mag - 14.0))
    return float(np.sqrt(0.01 * 0.01 + (0.012 * root) ** 2 + (sky * root * root) ** 2))


@helper
def _printed(value: float) -> float:
    """Return `value` with the three decimals that the survey's tables have."""
    return float(np.floor(value * 1000.0 + 0.5) / 1000.0)


@helper
def observe(
    rng: Random,
    amplitude: float,
    shares: tuple[float, float, float],
    nights: Nights,
    time: Floats,
    columns: tuple[Floats, NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """Write one star's magnitudes and errors as the survey would have measured them.

    Parameters
    ----------
    rng : uint64 (1,)
    amplitude : float
        Peak to peak [mag]; a catalogue holds no variable fainter than its amplitude can be seen.
    shares : (outliers, sentinels, noise)
        Fraction of outliers, fraction of lost detections, factor on the noise.
    nights : Nights
    time : float64 (n,)
    columns : (float64 (at least n,), float32 (n,), float32 (n,))
        Magnitudes about zero, overwritten; and the measured magnitudes and errors, of three decimals.
    """
    work, mag, mag_err = columns
    outliers, sentinels, factor = shares
    dark_sky = 0.2 * np.exp(0.4 * _LN10 * (14.0 - _LIMIT - 0.2 * normal(rng)))
    mean = BRIGHTEST + (FAINTEST - BRIGHTEST) * uniform(rng) ** 0.6
    while mean > 11.0 and noise_at(mean, dark_sky) > amplitude / 3.0:
        mean -= 0.25 + 0.5 * uniform(rng)
    mean = max(mean, BRIGHTEST - 0.5 + 0.5 * amplitude)
    honest = factor * between(rng, 0.95, 1.15)
    for i in range(time.size):
        work[i] += mean
    deviates = np.empty(time.size)
    fill_normal(rng, deviates)
    for i in range(time.size):
        # A full Moon, and haze, brighten the sky by up to 0.7 and 0.3 mag.
        moonlight = moonlight_at(time[i], nights)
        sigma = noise_at(work[i], dark_sky * (1.0 + 0.9 * moonlight * moonlight) * between(rng, 1.0, 1.32))
        fate = uniform(rng)
        if sigma > _WORST_ERROR or fate < sentinels:
            mag[i] = SENTINEL
            mag_err[i] = SENTINEL
            continue
        value = work[i] + honest * sigma * deviates[i]
        if fate >= 1.0 - outliers:
            value += between(rng, 0.3, 1.5) * (-1.0 if uniform(rng) < 0.6 else 1.0)
        mag[i] = _printed(value)
        mag_err[i] = _printed(factor * sigma * between(rng, 0.9, 1.1))
