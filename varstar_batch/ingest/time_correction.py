"""The system that times are in, and times of one system in another: light travel time, and time scales.

Sources: Eastman, Siverd & Gaudi 2010, PASP 122, 935; Earth's position by Bretagnon & Francou's VSOP2000 as in ERFA's
`epv00` (within 5 km, 15 microseconds of light), which needs no file. The observer is taken to be at the centre of the
Earth, which is at most 21 ms wrong.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError
from varstar_batch.ingest.objects import all_positions
from varstar_batch.ingest.observations import Observations
from varstar_batch.ingest.options import IngestOptions
from varstar_batch.ingest.plan import IntArray
from varstar_batch.light_curves.times import FIRST_JD, LAST_JD, TimeSystem, parse_time_system
from varstar_batch.sky import unit_vectors

LIGHT_DAYS_OF_AU = 499.004783836 / 86400
"""Light takes this long [d] for an astronomical unit."""

# Days between positions of the Earth: straight lines between them are within 14 km, 50 microseconds of light.
_STEP = 0.05

# From 1993 to 2035 within 6 s.
_TDB_AHEAD_OF_UTC = 66 / 86400

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TimeCorrection:
    """Turns times of one system into another one's, by the positions of n objects."""

    source: TimeSystem
    target: TimeSystem
    directions: Array
    """Float64 (n, 3). Unit vectors, ICRS."""

    @classmethod
    def make(cls, source: str, target: str, objects: pa.Table) -> TimeCorrection:
        """Check that the correction can be had.

        Raises
        ------
        InputError
            A system in free text, a scale that is not declared or that is UT1, an object without a position.
        """
        systems = parse_time_system(source), parse_time_system(target)
        for system in systems:
            if system.jd_offset is None:
                raise _refused("JD, HJD, BJD, MJD, ... with an optional -NUMBER", f"{system.text!r}", "name it so")
        scales = [system.scale for system in systems]
        if scales[1] is not None and scales[0] is None:
            raise _refused(
                f"the time scale of {source}, to turn it into {scales[1]}",
                "none",
                f"say it if you know it, as in --time-system '{source} (UTC)', or leave the scale out: "
                f"--correct-to {target.replace(f'_{scales[1]}', '')}",
            )
        if scales[0] != scales[1] and "UT1" in scales:
            raise _refused("a time scale other than UT1, whose tables would have to be downloaded", "UT1", "use UTC")
        if systems[0].reference == systems[1].reference:
            return cls(*systems, np.zeros((len(objects), 3)))
        positions = all_positions(objects, f"to turn {source} into {target}", "--correct-to")
        return cls(*systems, unit_vectors(*positions))

    def apply(self, index: IntArray, times: Array) -> Array:
        """Return the times [d] in the target system; impossible ones and those of no object come back as they are.

        Parameters
        ----------
        index : int64 array (m,)
            Of each observation's object, -1 for none.
        times : float64 array (m,)
            In the source system.
        """
        first, last = self.source.limits
        with np.errstate(invalid="ignore"):
            possible = (index >= 0) & (times >= first) & (times <= last)
        if not possible.any():
            return times
        direction = self.directions[index[possible]]
        offset = self.source.jd_offset or 0.0
        # The Earth moves 2,000 km, 7 ms of light, in the minute by which its theory's time is ahead of UTC.
        ahead = offset + (_TDB_AHEAD_OF_UTC if self.source.scale in (None, "UTC", "UT1", "TAI") else 0.0)
        start = times[possible]
        # Everything is added to small numbers: a Julian date in one float64 is good to 40 microseconds only.
        seen = start.copy()
        if self.source.reference != self.target.reference:
            if self.source.reference != "TOPOCENTER":
                for _ in range(3):
                    seen = start - _light_travel(seen + ahead, direction, self.source.reference)
            if self.target.reference != "TOPOCENTER":
                seen = seen + _light_travel(seen + ahead, direction, self.target.reference)
        if self.target.scale is not None and self.target.scale != self.source.scale:
            seen = seen + _scale_difference(seen + offset, str(self.source.scale), self.target.scale)
        corrected = times.copy()
        corrected[possible] = seen + (offset - (self.target.jd_offset or 0.0))
        return corrected

    def of_rows(self, index: IntArray, rows: pa.Table) -> pa.Table:
        """Return observations with the times of the target system; `index` is as in `apply`."""
        times = self.apply(index, rows["time"].fill_null(float("nan")).to_numpy())
        return rows.set_column(rows.column_names.index("time"), "time", pa.array(times))


def time_system_of(options: IngestOptions, objects: pa.Table, observations: Observations, where: str) -> str:
    """Return the time system that somebody, the table of objects, or the observations declare.

    Raises
    ------
    InputError
        None of them does, or they contradict each other.
    """
    there = "time_system" in objects.column_names
    values = pc.unique(objects["time_system"].cast(pa.large_string())).drop_null().to_pylist() if there else []
    said = {"the configuration": options.time_system or options.columns.time_system, "the observations": None}
    said["the observations"] = observations.time_system
    # Objects of several systems need somebody who says what their times are in now.
    said["the table of objects"] = str(values[0]) if len(values) == 1 else None
    told = {who: system for who, system in said.items() if system}
    first = next(iter(told), None)
    if first is None:
        raise InputError(
            expected="one time system",
            got=", ".join(map(repr, values[:5])) if values else "none: no column time_system with a value",
            where=where,
            fix="say which the times are in, as in --time-system HJD-2450000"
            + (", or ingest the objects of each system by themselves" if values else ""),
        )
    for who, system in told.items():
        if _contradict(told[first], system):
            raise InputError(
                expected=f"one time system; {first} says {told[first]}",
                got=f"{system} in {who}",
                where=where,
                fix="leave the wrong one out (--time-system, or the column time_system of the objects)",
            )
    return told[first]


def _contradict(one: str, other: str) -> bool:
    """Whether times cannot be in both; free text contradicts nothing, nor does a scale that only one of them says."""
    first, second = parse_time_system(one), parse_time_system(other)
    if first.jd_offset is None or second.jd_offset is None:
        return False
    scales = {first.scale, second.scale} - {None}
    return (first.jd_offset, first.reference) != (second.jd_offset, second.reference) or len(scales) > 1


def _light_travel(jd: Array, direction: Array, reference: str | None) -> Array:
    """Return how much later light from a direction arrives at the Sun or the barycentre than here [d]."""
    from erfa import epv00  # type: ignore[import-untyped]

    place = (jd - FIRST_JD) / _STEP
    node = np.floor(place).astype(np.int64)
    nodes, where = np.unique(node, return_inverse=True)
    wanted = np.unique(np.concatenate([nodes, nodes + 1]))
    with warnings.catch_warnings():
        # Beyond 1900 to 2100 it warns; the error is still far below the one of neglecting it.
        warnings.simplefilter("ignore")
        heliocentric, barycentric = epv00(FIRST_JD, wanted * _STEP)
    earth = (heliocentric if reference == "HELIOCENTER" else barycentric)["p"]
    low = np.searchsorted(wanted, nodes)[where]
    part = (place - node)[:, None]
    position = earth[low] * (1 - part) + earth[low + 1] * part
    delay: Array = LIGHT_DAYS_OF_AU * np.einsum("ij,ij->i", position, direction)
    return delay


def _scale_difference(jd: Array, source: str, target: str) -> Array:
    """Return target minus source [d] at these dates."""
    from astropy.time import Time
    from astropy.utils import iers

    with warnings.catch_warnings(), iers.conf.set_temp("auto_download", False):
        warnings.simplefilter("ignore")  # of UTC before 1960 and in years to come
        whole = np.floor(np.clip(jd, FIRST_JD, LAST_JD))
        before = Time(whole, jd - whole, format="jd", scale=source.lower())
        after = getattr(before, target.lower())
    difference: Array = np.asarray((after.jd1 - before.jd1) + (after.jd2 - before.jd2))
    return difference


def _refused(expected: str, got: str, fix: str) -> InputError:
    return InputError(expected=expected, got=got, where="--correct-to", fix=fix)
