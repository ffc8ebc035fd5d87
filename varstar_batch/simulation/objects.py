"""Simulate the light curves of variable stars of the six classes, as a survey like ASAS-SN would observe them.

Object i depends on (seed, i) and the options alone: not on how many objects are made, in which order, or in how many
partitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.compiling import entry, source_checksum
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.simulation import random
from varstar_batch.simulation.cadence import Nights, plan_nights, plan_visits
from varstar_batch.simulation.eclipses import eclipsing_binary
from varstar_batch.simulation.giants import mira, semi_regular
from varstar_batch.simulation.photometry import observe
from varstar_batch.simulation.pulsators import cepheid, delta_scuti, rr_lyrae
from varstar_batch.simulation.random import Floats, reseed, uniform

TIME_SYSTEM = "HJD"
"""Time system of every simulated survey."""

MAX_SEED = 2**63 - 1

# Part of the key under which Numba keeps the machine code of the entry kernels; see compiling.entry.
_SOURCES = source_checksum(__file__)


@dataclass(frozen=True, kw_only=True)
class SimulationOptions:
    """What a simulated survey is made of.

    Raises
    ------
    ValueError
        If a value is outside its range.
    """

    class_fractions: tuple[float, ...] = (0.12, 0.12, 0.26, 0.12, 0.22, 0.16)
    """Relative frequencies in the order of `CLASSES`, >= 0, not all 0; they need not add up to 1."""
    n_nights: int = 1900
    """Length of the survey [d], 2 to 20,000."""
    exposures: int = 1
    """Dithered exposures of a visit, minutes apart, 1 to 3."""
    no_period_fraction: float = 0.01
    """Objects whose period the catalogue lacks, in [0, 1]."""
    outlier_fraction: float = 0.004
    """Observations that are off by 0.3 to 1.5 mag, in [0, 1]."""
    sentinel_fraction: float = 0.01
    """Observations that are 99.99 besides those too faint, in [0, 1]."""
    noise: float = 1.0
    """Factor on the noise, >= 0; 1 is ASAS-SN's, 0 none."""

    def __post_init__(self) -> None:
        fractions = np.asarray(self.class_fractions, dtype=np.float64)
        if fractions.shape != (len(CLASSES),) or not np.all(fractions >= 0.0) or not 0.0 < fractions.sum() < np.inf:
            raise ValueError(
                f"class_fractions: expected {len(CLASSES)} numbers >= 0, one for each of {', '.join(CLASSES)}, "
                f"not all 0, got {self.class_fractions}"
            )
        ranges: dict[str, tuple[float, float]] = {
            "n_nights": (2, 20_000),
            "exposures": (1, 3),
            "no_period_fraction": (0.0, 1.0),
            "outlier_fraction": (0.0, 1.0),
            "sentinel_fraction": (0.0, 1.0),
            "noise": (0.0, 100.0),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class SimulatedObjects:
    """Simulated objects with their light curves."""

    object_id: NDArray[np.int64]
    """Int64 (n,). Positive, unique in a survey, ascending."""
    ra: Floats
    dec: Floats
    """Float64 (n,). [deg], uniform on the sphere."""
    period: Floats
    """Float64 (n,). The period a catalogue would give [d]; NaN where it gives none."""
    class_code: NDArray[np.uint8]
    """Uint8 (n,). True class, an index into `CLASSES`."""
    light_curves: LightCurves
    """Times HJD [d], ascending within an object; magnitudes and errors float32 [mag], 99.99 for upper limits."""

    def __len__(self) -> int:
        return len(self.object_id)


class _Settings(NamedTuple):
    cumulative: Floats
    exposures: int
    no_period: float
    outliers: float
    sentinels: float
    noise: float


class _Objects(NamedTuple):
    ra: Floats
    dec: Floats
    period: Floats
    class_code: NDArray[np.uint8]
    offsets: NDArray[np.int64]


def simulate_objects(
    first: int, n: int, seed: int, options: SimulationOptions = SimulationOptions()
) -> SimulatedObjects:
    """Simulate objects `first` to ``first + n - 1`` of the survey of `seed`.

    Parameters
    ----------
    first, n : int
        Number of the first object, from 0, and how many; memory is about 4 kB for each.
    seed : int
        0 to 2**63 - 1.
    options : SimulationOptions

    Returns
    -------
    SimulatedObjects

    Raises
    ------
    ValueError
        If `first`, `n` or `seed` is outside its range.
    """
    if first < 0 or n < 0:
        raise ValueError(f"first, n: expected numbers >= 0, got {first}, {n}")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed: expected 0 to 2**63 - 1, got {seed}")
    fractions = np.asarray(options.class_fractions, dtype=np.float64)
    settings = _Settings(
        cumulative=np.cumsum(fractions / fractions.sum()),
        exposures=int(options.exposures),
        no_period=float(options.no_period_fraction),
        outliers=float(options.outlier_fraction),
        sentinels=float(options.sentinel_fraction),
        noise=float(options.noise),
    )
    nights = plan_nights(seed, options.n_nights)
    objects = _Objects(np.empty(n), np.empty(n), np.empty(n), np.empty(n, np.uint8), np.zeros(n + 1, np.int64))
    time = _draw_objects(first, seed, settings, nights, objects)
    columns = (time, np.empty(len(time), np.float32), np.empty(len(time), np.float32))
    _draw_light_curves(first, seed, settings, nights, objects, columns)
    light_curves = LightCurves(objects.offsets, *columns)
    object_id = np.arange(first + 1, first + n + 1, dtype=np.int64)
    return SimulatedObjects(object_id, objects.ra, objects.dec, objects.period, objects.class_code, light_curves)


@entry
def _draw_objects(
    first: int, seed: int, settings: _Settings, nights: Nights, objects: _Objects, sources: int = _SOURCES
) -> Floats:
    """Draw class, position and visits; return the times of all."""
    rng = np.empty(1, np.uint64)
    longest = settings.exposures * (nights.sun_ra.size // 2 + 2)
    # One night in seven is a typical share of visits; where it is not enough, the buffer doubles.
    times = np.empty(longest + objects.ra.size * settings.exposures * nights.sun_ra.size // 7)
    for i in range(objects.ra.size):
        reseed(rng, seed, first + i, random.STREAM_OBJECT)
        code = 0
        kind = uniform(rng)
        while code < settings.cumulative.size - 1 and kind >= settings.cumulative[code]:
            code += 1
        objects.class_code[i] = code
        objects.ra[i] = 360.0 * uniform(rng)
        objects.dec[i] = np.degrees(np.arcsin(2.0 * uniform(rng) - 1.0))
        # Marked here, kept where it is set, overwritten with the period elsewhere.
        objects.period[i] = np.nan if uniform(rng) < settings.no_period else 0.0
        reseed(rng, seed, first + i, random.STREAM_VISITS)
        begin = objects.offsets[i]
        if begin + longest > times.size:
            times = np.concatenate((times[:begin], np.empty(times.size + longest)))
        count = plan_visits(rng, objects.ra[i], objects.dec[i], settings.exposures, nights, times[begin:])
        objects.offsets[i + 1] = begin + count
    return times[: objects.offsets[-1]].copy()


@entry
def _draw_light_curves(
    first: int,
    seed: int,
    settings: _Settings,
    nights: Nights,
    objects: _Objects,
    columns: tuple[Floats, NDArray[np.float32], NDArray[np.float32]],
    sources: int = _SOURCES,
) -> None:
    """Draw periods and magnitudes at the times of `columns`."""
    rng = np.empty(1, np.uint64)
    scratch = np.empty(settings.exposures * (nights.sun_ra.size // 2 + 2))
    shares = (settings.outliers, settings.sentinels, settings.noise)
    for i in range(objects.ra.size):
        here = slice(objects.offsets[i], objects.offsets[i + 1])
        time, mag, mag_err = columns[0][here], columns[1][here], columns[2][here]
        work = scratch[: time.size]
        reseed(rng, seed, first + i, random.STREAM_SHAPE)
        # In the order of CLASSES; in place, since a function more between would be compiled with all these once more.
        code = objects.class_code[i]
        if code == 0:
            period, amplitude = cepheid(rng, time, work)
        elif code == 1:
            period, amplitude = delta_scuti(rng, time, work)
        elif code == 2:
            period, amplitude = eclipsing_binary(rng, time, work)
        elif code == 3:
            period, amplitude = mira(rng, time, work)
        elif code == 4:
            period, amplitude = rr_lyrae(rng, time, work)
        else:
            period, amplitude = semi_regular(rng, time, work)
        if not np.isnan(objects.period[i]):
            objects.period[i] = period
        reseed(rng, seed, first + i, random.STREAM_NOISE)
        observe(rng, amplitude, shares, nights, time, (work, mag, mag_err))
