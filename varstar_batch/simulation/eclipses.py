"""Light curves of eclipsing binaries: detached (EA), close (EB) and contact (EW).

EA and EB are two limb-darkened discs on a Keplerian orbit, with the stars' tidal stretching (ellipsoidal variation)
and mutual heating (reflection); masses, radii and the orbit's size follow from one another, so that eclipses shorten
as periods grow. EW follow the cosine series that W UMa light curves obey.

Source
------
Jayasinghe et al. 2019, MNRAS 486, 1907 (types and periods in ASAS-SN); Rucinski 1993, PASP 105, 1433 (cosine
coefficients of contact binaries); Eggleton 1983, ApJ 268, 368 (Roche lobe); Morris 1985, ApJ 295, 143 (ellipsoidal
variation).
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
    lognormal,
    normal,
    uniform,
)

_R1, _R2, _LIGHT_1, _LIGHT_2, _SIN2_I, _TIDE_1, _TIDE_2, _HEAT_1, _HEAT_2, _LIMB, _ECC, _OMEGA = range(12)
_N_PARAMETERS = 12


@helper
def eclipsing_binary(rng: Random, time: Floats, mag: Floats) -> tuple[float, float]:
    """Simulate an eclipsing binary: 40 % EA, 15 % EB, 45 % EW; return its orbital period [d] and depth [mag]."""
    kind = uniform(rng)
    if kind < 0.45:
        return _contact(rng, time, mag)
    parameters = np.zeros(_N_PARAMETERS)
    period = _draw_detached(rng, parameters) if kind < 0.85 else _draw_close(rng, parameters)
    out_of_eclipse = max(_flux(parameters, 0.25), _flux(parameters, 0.75))
    depth = -2.5 * np.log10(_deepest(parameters) / out_of_eclipse)
    zero = uniform(rng)
    for i in range(time.size):
        turns = (time[i] - T_REF) / period + zero
        mag[i] = -2.5 * np.log10(_flux(parameters, turns - np.floor(turns)) / out_of_eclipse)
    return period, depth


@helper
def _contact(rng: Random, time: Floats, mag: Floats) -> tuple[float, float]:
    period = lognormal(rng, 0.36, 0.22, 0.22, 1.0)
    a2 = -between(rng, 0.06, 0.28)
    # Rucinski's relation is the limit of stars in contact: their fourth harmonic is weaker, that of others stronger.
    a4 = a2 * (0.125 - a2) * between(rng, 0.4, 1.0)
    a6 = -0.35 * a2 * a2
    a1 = -abs(0.018 * normal(rng))
    a3 = 0.3 * a1
    b1 = 0.009 * normal(rng)
    zero = uniform(rng)
    for i in range(time.size):
        x = TWO_PI * ((time[i] - T_REF) / period + zero)
        c, s = np.cos(x), np.sin(x)
        c2 = 2.0 * c * c - 1.0
        c4 = 2.0 * c2 * c2 - 1.0
        even = 1.0 + a2 * c2 + a4 * c4 + a6 * (2.0 * c4 - 1.0) * c2
        flux = even + a1 * c + a3 * c * (2.0 * c2 - 1.0) + b1 * s
        mag[i] = -2.5 * np.log10(flux / (1.0 - a2 + a4 - a6))
    return period, -2.5 * np.log10((1.0 + a1 + a2 + a3 + a4 + a6) / (1.0 - a2 + a4 - a6))


@helper
def _draw_detached(rng: Random, parameters: Floats) -> float:
    """Draw an EA: two main-sequence stars, or an Algol, whose cool, evolved star fills its Roche lobe."""
    period = lognormal(rng, 2.4, 0.9, 0.45, 50.0)
    mass = lognormal(rng, 1.4, 0.4, 0.6, 4.0)
    algol = 0.9 < period < 15.0 and uniform(rng) < 0.4
    q = between(rng, 0.18, 0.5) if algol else 1.0 - 0.6 * uniform(rng) ** 1.5
    axis = 4.21 * (mass * (1.0 + q) * period * period) ** (1.0 / 3.0)
    r1 = min(mass**0.85 * between(rng, 1.0, 1.7) / axis, 0.33)
    if algol:
        r2 = 0.98 * _roche_lobe(q)
        # Cool, and fainter than the star it feeds however large it has grown.
        brightness = min(between(rng, 0.03, 0.25), 0.5 * (r1 / r2) ** 2)
    else:
        r2 = min((mass * q) ** 0.85 * between(rng, 1.0, 1.4) / axis, 0.30)
        brightness = min(max(q**2.2 + 0.05 * normal(rng), 0.05), 1.1)
    _set_stars(parameters, r1, r2, q, brightness)
    parameters[_LIMB] = between(rng, 0.3, 0.7)
    if period > 3.0 and not algol and uniform(rng) < 0.5:
        parameters[_ECC] = min(between(rng, 0.0, 0.5), 0.9 * (1.0 - 1.5 * (r1 + r2))) * min(period / 12.0, 1.0)
        parameters[_OMEGA] = between(rng, 0.0, TWO_PI)
    _incline(rng, parameters, 0.08)
    return period


@helper
def _draw_close(rng: Random, parameters: Floats) -> float:
    """Draw an EB: two unequal stars near their Roche lobes."""
    period = lognormal(rng, 0.75, 0.55, 0.33, 8.0)
    q = between(rng, 0.3, 0.9)
    _set_stars(
        parameters, between(rng, 0.9, 1.0) * _roche_lobe(1.0 / q), between(rng, 0.85, 1.0) * _roche_lobe(q), q, 1.0
    )
    parameters[_LIGHT_2] *= between(rng, 0.15, 0.75)
    parameters[_LIMB] = between(rng, 0.3, 0.7)
    _incline(rng, parameters, 0.15)
    return period


@helper
def _roche_lobe(q: float) -> float:
    """Return the radius of the Roche lobe over the orbit's axis, of the star with `q` times the mass of the other."""
    q23 = q ** (2.0 / 3.0)
    return float(0.49 * q23 / (0.6 * q23 + np.log(1.0 + q ** (1.0 / 3.0))))


@helper
def _set_stars(parameters: Floats, r1: float, r2: float, q: float, brightness: float) -> None:
    """Set what follows from radii, mass ratio and surface brightness of star 2 over star 1."""
    light = r1 * r1 + r2 * r2 * brightness
    parameters[_R1], parameters[_R2] = r1, r2
    parameters[_LIGHT_1], parameters[_LIGHT_2] = r1 * r1 / light, r2 * r2 * brightness / light
    # Morris's first term grows with r^3; the bracket stands for the next ones near the Roche lobe.
    parameters[_TIDE_1] = min(1.3 * q * r1**3 * (1.0 + 6.0 * r1 * r1), 0.2)
    parameters[_TIDE_2] = min(1.3 / q * r2**3 * (1.0 + 6.0 * r2 * r2), 0.2)
    parameters[_HEAT_1] = 0.3 * parameters[_LIGHT_2] * r1 * r1
    parameters[_HEAT_2] = 0.3 * parameters[_LIGHT_1] * r2 * r2


@helper
def _incline(rng: Random, parameters: Floats, least_depth: float) -> None:
    """Tilt the orbit at random among the tilts that eclipse, upright enough for a depth of `least_depth` mag."""
    cos_i = between(rng, 0.0, 0.85) * (parameters[_R1] + parameters[_R2])
    for _ in range(12):
        parameters[_SIN2_I] = 1.0 - cos_i * cos_i
        out_of_eclipse = max(_flux(parameters, 0.25), _flux(parameters, 0.75))
        if -2.5 * np.log10(_deepest(parameters) / out_of_eclipse) > least_depth:
            return
        cos_i *= 0.7


@helper
def _deepest(parameters: Floats) -> float:
    """Return the flux in the deeper of the two eclipses."""
    if parameters[_ECC] == 0.0:
        return min(_flux(parameters, 0.0), _flux(parameters, 0.5))
    lowest = 1.0
    for i in range(400):
        lowest = min(lowest, _flux(parameters, i / 400.0))
    return lowest


@helper
def _flux(parameters: Floats, turns: float) -> float:
    """Return the flux, near 1 outside eclipses; on a circular orbit star 1 is hidden around `turns` = 0."""
    e = parameters[_ECC]
    x = TWO_PI * turns
    distance = 1.0
    if e > 0.0:
        anomaly = x + e * np.sin(x)
        for _ in range(5):
            anomaly -= (anomaly - e * np.sin(anomaly) - x) / (1.0 - e * np.cos(anomaly))
        distance = 1.0 - e * np.cos(anomaly)
        x = (
            2.0 * np.arctan2(np.sqrt(1.0 + e) * np.sin(0.5 * anomaly), np.sqrt(1.0 - e) * np.cos(0.5 * anomaly))
            + parameters[_OMEGA]
        )
    c = np.cos(x)
    tide = (2.0 * c * c - 1.0) * parameters[_SIN2_I] / distance**3
    light_1 = parameters[_LIGHT_1] * (1.0 - parameters[_TIDE_1] * tide) + parameters[_HEAT_1] * 0.5 * (1.0 + c)
    light_2 = parameters[_LIGHT_2] * (1.0 - parameters[_TIDE_2] * tide) + parameters[_HEAT_2] * 0.5 * (1.0 - c)
    r1, r2 = parameters[_R1], parameters[_R2]
    apart2 = distance * distance * (1.0 - parameters[_SIN2_I] * c * c)
    if apart2 >= (r1 + r2) ** 2:
        return float(light_1 + light_2)
    apart = np.sqrt(apart2)
    if c > 0.0:
        return float(light_1 * (1.0 - _hidden(r1, r2, apart, parameters[_LIMB])) + light_2)
    return float(light_1 + light_2 * (1.0 - _hidden(r2, r1, apart, parameters[_LIMB])))


@helper
def _hidden(radius: float, other: float, apart: float, limb: float) -> float:
    """Return the fraction of a limb-darkened disc's light hidden by `other`, a disc whose centre is `apart` away."""
    if apart <= abs(radius - other):
        fraction = 1.0 if other >= radius else (other / radius) ** 2
    else:
        a, b, d = radius * radius, other * other, apart * apart
        u = min(max((d + a - b) / (2.0 * apart * radius), -1.0), 1.0)
        v = min(max((d + b - a) / (2.0 * apart * other), -1.0), 1.0)
        chord = max(4.0 * d * a - (d + a - b) ** 2, 0.0)
        fraction = (a * np.arccos(u) + b * np.arccos(v) - 0.5 * np.sqrt(chord)) / (np.pi * a)
    # Mean brightness where the discs overlap, taken in the middle of the overlap; a whole disc hides all its light.
    middle = 0.5 * (max(apart - other, -radius) + min(apart + other, radius)) / radius
    mu = np.sqrt(max(1.0 - middle * middle, 0.0))
    darkening = (1.0 - limb * (1.0 - mu)) / (1.0 - limb / 3.0)
    return float(min(fraction * (1.0 + (darkening - 1.0) * (1.0 - fraction)), 1.0))
