"""When a survey like ASAS-SN looks at a star, and how well it sees it.

Five stations around the Earth return to a field every two to three days. A visit is lost while the Sun is near the
star (the seasonal gap, which closes towards the poles of the ecliptic), when a bright Moon stands beside it, when the
station's sky is covered (spells of several nights, shared by all stars of that station), or for the field's own
reasons.

Source
------
Kochanek et al. 2017, PASP 129, 104502, and Jayasinghe et al. 2018, MNRAS 477, 3145 (stations, cadence, depth of ASAS-
SN); Meeus 1998, "Astronomical Algorithms", chapters 25 and 47 (mean elements of the Sun and the Moon).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from varstar_batch.light_curves.compiling import helper
from varstar_batch.simulation.random import Floats, Random, between, uniform

FIRST_NIGHT = 2458000.5
"""HJD of the first night: September 2017, when ASAS-SN began to observe in g."""

SUN_LIMIT = np.cos(np.radians(50.0))
MOON_LIMIT = np.cos(np.radians(25.0))
_STATION_MIDNIGHT = np.array([0.40, 0.19, 0.28, 0.93, 0.66])
"""Fraction of the UT day at local midnight: Hawaii, Chile, Texas, South Africa, China."""


class Nights(NamedTuple):
    """What is common to all stars: for each night the Sun, the Moon and the weather.

    `sun` and `moon` are float64 (n_nights, 3) unit vectors, equatorial; `sun_ra` float64 (n_nights,) in turns [0, 1);
    `moonlight` float64 (n_nights,), the lit fraction of the Moon in [0, 1]; `clear` bool (n_stations, n_nights).
    """

    sun: Floats
    moon: Floats
    sun_ra: Floats
    moonlight: Floats
    clear: NDArray[np.bool_]


def _equatorial(longitude: Floats, latitude: Floats) -> Floats:
    """Return equatorial unit vectors (n, 3) from ecliptic coordinates in degrees."""
    lon, lat, tilt = np.radians(longitude), np.radians(latitude), np.radians(23.439)
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    return np.stack([x, y * np.cos(tilt) - z * np.sin(tilt), y * np.sin(tilt) + z * np.cos(tilt)], axis=1)


@lru_cache(maxsize=4)
def plan_nights(seed: int, n_nights: int) -> Nights:
    """Return the nights of a survey; the weather depends on `seed`, the Sun and the Moon do not."""
    day = FIRST_NIGHT - 2451545.0 + np.arange(n_nights, dtype=np.float64)
    anomaly = np.radians(357.528 + 0.9856003 * day)
    sun_longitude = 280.46 + 0.9856474 * day + 1.915 * np.sin(anomaly)
    moon_longitude = 218.316 + 13.176396 * day + 6.289 * np.sin(np.radians(134.963 + 13.064993 * day))
    moon_latitude = 5.128 * np.sin(np.radians(93.272 + 13.229350 * day))
    sun = _equatorial(sun_longitude, np.zeros(n_nights))
    moonlight = 0.5 * (1.0 - np.cos(np.radians(moon_longitude - sun_longitude)))
    # Weather comes in spells: smoothed noise against a threshold, worse in one half of the year.
    noise = np.random.default_rng([seed, n_nights]).normal(size=(_STATION_MIDNIGHT.size, n_nights + 4))
    spells = sum(weight * noise[:, k : k + n_nights] for k, weight in enumerate((0.3, 0.6, 0.6, 0.3, 0.2)))
    season = 0.5 * np.cos(2.0 * np.pi * (day / 365.25 + np.arange(_STATION_MIDNIGHT.size)[:, None] / 5.0))
    return Nights(
        sun=sun,
        moon=_equatorial(moon_longitude, moon_latitude),
        sun_ra=np.arctan2(sun[:, 1], sun[:, 0]) / (2.0 * np.pi) % 1.0,
        moonlight=moonlight,
        clear=spells + season < 0.6,
    )


@helper
def plan_visits(rng: Random, ra: float, dec: float, exposures: int, nights: Nights, time: Floats) -> int:
    """Write the times [d, HJD] at which one star is observed, ascending, and return their number.

    Parameters
    ----------
    rng : uint64 (1,)
        Generator at the start of the star's own stream.
    ra, dec : float
        Position in degrees.
    exposures : int
        Dithered exposures of a visit, two minutes apart.
    nights : Nights
    time : float64 (at least ``exposures * (n_nights // 2 + 1)``,)
        Receives the times.
    """
    n_nights = nights.sun_ra.size
    cos_dec = np.cos(np.radians(dec))
    x, y, z = cos_dec * np.cos(np.radians(ra)), cos_dec * np.sin(np.radians(ra)), np.sin(np.radians(dec))
    gap = between(rng, 2.0, 2.8)
    # Fields join the survey over the years, and some lie where few cameras point.
    joins = between(rng, 0.0, 0.12) if uniform(rng) < 0.7 else between(rng, 0.0, 0.92)
    efficiency = between(rng, 0.35, 1.0)
    station = int(uniform(rng) * _STATION_MIDNIGHT.size)
    night = joins * n_nights
    count = 0
    while True:
        night += gap + uniform(rng) - 0.3 if gap > 2.3 else gap + uniform(rng)
        if night >= n_nights:
            return count
        k = int(night)
        if uniform(rng) < 0.35:
            station = int(uniform(rng) * _STATION_MIDNIGHT.size)
        lost = uniform(rng) > efficiency or not nights.clear[station, k]
        sun = nights.sun[k]
        moon = nights.moon[k]
        lost = lost or sun[0] * x + sun[1] * y + sun[2] * z > SUN_LIMIT
        lost = lost or (nights.moonlight[k] > 0.4 and moon[0] * x + moon[1] * y + moon[2] * z > MOON_LIMIT)
        if lost:
            continue
        # Hours from midnight to the star's culmination, within what the night leaves.
        culmination = ra / 360.0 - nights.sun_ra[k] - 0.5
        culmination -= np.round(culmination)
        hour = min(max(culmination + between(rng, -0.1, 0.1), -0.18), 0.18)
        start = FIRST_NIGHT + k + _STATION_MIDNIGHT[station] + hour + between(rng, -0.005, 0.005)
        for j in range(exposures):
            time[count] = start + j * 0.0014
            count += 1


@helper
def moonlight_at(time: float, nights: Nights) -> float:
    """Return the lit fraction of the Moon in the night of `time`."""
    return float(nights.moonlight[min(max(int(time - FIRST_NIGHT), 0), nights.moonlight.size - 1)])
