"""Random numbers inside Numba kernels: a generator in one word, re-seeded for every object.

The generator is SplitMix64. Its state is derived from (seed, object, stream), so that an object's light curve does not
depend on the objects simulated before it, and a change to, say, the noise leaves the shapes as they were.

Source
------
Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA '14 (SplitMix64 and its constants).
Marsaglia & Bray 1964, SIAM Review 6, 260 (normal deviates by the polar method).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from varstar_batch.light_curves.compiling import helper

Floats = NDArray[np.float64]
Random = NDArray[np.uint64]
"""State of the generator: one uint64 in an array of one, so that kernels can change it in place."""

TWO_PI = 2.0 * np.pi
T_REF = 2458000.0
"""Time of phase zero of every simulated star, but for its own random phase."""

STREAM_OBJECT, STREAM_VISITS, STREAM_SHAPE, STREAM_NOISE = 0, 1, 2, 3

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_TO_UNIT = 2.0**-53


@helper
def mix(value: np.uint64) -> np.uint64:
    """Return `value` with its bits scattered: a bijection of the 64-bit words."""
    value = (value ^ (value >> _S30)) * _MIX_1
    value = (value ^ (value >> _S27)) * _MIX_2
    return value ^ (value >> _S31)


@helper
def reseed(rng: Random, seed: int, index: int, stream: int) -> None:
    """Put the generator at the start of one stream of one object."""
    state = mix(np.uint64(seed) + _GAMMA)
    state = mix(state + (np.uint64(index) + np.uint64(1)) * _GAMMA)
    rng[0] = mix(state ^ ((np.uint64(stream) + np.uint64(1)) * _MIX_2))


@helper
def uniform(rng: Random) -> float:
    """Return a number in [0, 1)."""
    rng[0] += _GAMMA
    return float(mix(rng[0]) >> _S11) * _TO_UNIT


@helper
def between(rng: Random, low: float, high: float) -> float:
    """Return a number in [low, high)."""
    return low + (high - low) * uniform(rng)


@helper
def normal(rng: Random) -> float:
    """Return a standard normal deviate."""
    while True:
        x = 2.0 * uniform(rng) - 1.0
        y = 2.0 * uniform(rng) - 1.0
        s = x * x + y * y
        if 0.0 < s < 1.0:
            return float(x * np.sqrt(-2.0 * np.log(s) / s))


@helper
def fill_normal(rng: Random, out: Floats) -> None:
    """Fill `out` with standard normal deviates, two for the price of one."""
    i = 0
    while i < out.size:
        x = 2.0 * uniform(rng) - 1.0
        y = 2.0 * uniform(rng) - 1.0
        s = x * x + y * y
        if 0.0 < s < 1.0:
            scale = np.sqrt(-2.0 * np.log(s) / s)
            out[i] = x * scale
            if i + 1 < out.size:
                out[i + 1] = y * scale
            i += 2


@helper
def clipped_normal(rng: Random, mean: float, sigma: float, low: float, high: float) -> float:
    """Return a normal deviate of `mean` and `sigma`, drawn again while outside [low, high], at most eight times."""
    value = mean
    for _ in range(8):
        value = mean + sigma * normal(rng)
        if low <= value <= high:
            return value
    return min(max(value, low), high)


@helper
def lognormal(rng: Random, median: float, sigma: float, low: float, high: float) -> float:
    """Return a log-normal deviate, `sigma` in natural logarithms, drawn again while outside [low, high]."""
    return float(np.exp(clipped_normal(rng, np.log(median), sigma, np.log(low), np.log(high))))
