"""Time systems of surveys: declared, never guessed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from string import whitespace

# 1800-01-01 and 2100-01-01, 0 h: no light curve with a date is older than photography or from the next century.
FIRST_JD = 2378496.5
LAST_JD = 2488069.5

_MJD_ZERO = 2400000.5
# Reference positions by their names in the IVOA vocabulary (VOTable TIMESYS, refposition).
_REFERENCES = {"": "TOPOCENTER", "H": "HELIOCENTER", "B": "BARYCENTER"}
_SCALES = "(?:UTC|UT1|TAI|TT|TDB|TCB|TCG)"
# As in BJD_TDB, MJD UTC, MJD (UTC); before or after an offset.
_SCALE = rf"(?:_|\s+){_SCALES}|\s*\({_SCALES}\)"
_PATTERN = re.compile(
    rf"\s*(?P<reference>[HB]?)(?P<modified>M?)JD(?P<scale>{_SCALE})?"
    rf"(?:\s*[-\u2212\u2013]\s*(?P<offset>\d+(?:\.\d*)?))?(?P<scale_after>{_SCALE})?\s*",
    re.IGNORECASE,
)


_ALIASES = {"BTJD": "BJD_TDB-2457000", "BKJD": "BJD_TDB-2454833", "TJD": "JD-2440000.5", "RJD": "JD-2400000"}
"""Names of TESS, Kepler and others, in capitals."""


@dataclass(frozen=True)
class TimeSystem:
    """What the numbers of a survey's time column mean."""

    text: str
    """As declared."""
    jd_offset: float | None
    """Julian date minus time [d]: 0 for JD, 2400000.5 for MJD, 2450000 for HJD-2450000. None where `text` is free
    text: folding needs only days, so such a survey is carried as it is."""
    reference: str | None
    """Where the light is timed; TOPOCENTER (as observed) for JD and MJD."""
    scale: str | None
    """Time scale in capitals, such as ``"TDB"``, where declared."""

    @property
    def limits(self) -> tuple[float, float]:
        """First and last possible time [d, in this system]: 1800-01-01 to 2100-01-01, unlimited for free text."""
        if self.jd_offset is None:
            return -math.inf, math.inf
        return FIRST_JD - self.jd_offset, LAST_JD - self.jd_offset


def parse_time_system(text: str) -> TimeSystem:
    """Read a declaration such as ``MJD``, ``HJD-2450000``, ``BJD_TDB``, ``BJD - 2455197.5 (TCB)``; capitals or not.

    Anything else, also text that only contains such a name, is free text: its `jd_offset` is None.
    """
    match = _PATTERN.fullmatch(_ALIASES.get(text.strip().upper(), text))
    if match is None or (match["scale"] and match["scale_after"]):
        return TimeSystem(text, None, None, None)
    scale = (match["scale"] or match["scale_after"] or "").strip(whitespace + "_()").upper() or None
    jd_offset = (_MJD_ZERO if match["modified"] else 0.0) + float(match["offset"] or 0)
    return TimeSystem(text, jd_offset, _REFERENCES[match["reference"].upper()], scale)


def is_same_system(one: str | None, other: str | None) -> bool:
    """Whether two declarations mean the same numbers, as ``MJD`` and ``JD-2400000.5`` do."""
    first, second = (parse_time_system(each or "") for each in (one, other))
    if first.jd_offset is None or second.jd_offset is None:
        return "".join((one or "").split()) == "".join((other or "").split())
    return (first.jd_offset, first.reference, first.scale) == (second.jd_offset, second.reference, second.scale)
