"""Time systems: what is understood, what stays free text, limits."""

from __future__ import annotations

import math

import pytest
from astropy.time import Time

from varstar_batch.light_curves import parse_time_system
from varstar_batch.light_curves.times import FIRST_JD, LAST_JD


@pytest.mark.parametrize(
    ("text", "jd_offset", "reference", "scale"),
    [
        ("JD", 0.0, "TOPOCENTER", None),
        ("HJD", 0.0, "HELIOCENTER", None),
        ("BJD", 0.0, "BARYCENTER", None),
        ("MJD", 2400000.5, "TOPOCENTER", None),
        ("HMJD", 2400000.5, "HELIOCENTER", None),
        ("BMJD", 2400000.5, "BARYCENTER", None),
        ("HJD-2450000", 2450000.0, "HELIOCENTER", None),
        ("HJD - 2450000.0", 2450000.0, "HELIOCENTER", None),
        ("JD\u22122440000", 2440000.0, "TOPOCENTER", None),
        ("MJD-50000", 2450000.5, "TOPOCENTER", None),
        ("BJD_TDB", 0.0, "BARYCENTER", "TDB"),
        ("BJD-2457000 (TDB)", 2457000.0, "BARYCENTER", "TDB"),
        ("BJD_TDB-2457000", 2457000.0, "BARYCENTER", "TDB"),
        ("BJD(TCB) - 2455197.5", 2455197.5, "BARYCENTER", "TCB"),
        ("MJD (UTC)", 2400000.5, "TOPOCENTER", "UTC"),
        (" mjd\tutc ", 2400000.5, "TOPOCENTER", "UTC"),
    ],
)
def test_systems_that_are_understood(text, jd_offset, reference, scale):
    system = parse_time_system(text)
    assert (system.text, system.jd_offset, system.reference, system.scale) == (text, jd_offset, reference, scale)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "days",
        "days, EROS internal epoch",
        "see notes (JD-2440000 Hipparcos; HJD-2450000 or similar OGLE)",
        "MJD or JD",
        "JD+5",
        "JD 2450000",
        "JD-24e5",
        "BJD_TDB (TDB)",
        "MJD (UTC",
        "MJDUTC",
        "XJD",
        "JD--5",
        "unix",
    ],
)
def test_everything_else_is_free_text(text):
    system = parse_time_system(text)
    assert (system.text, system.jd_offset, system.reference, system.scale) == (text, None, None, None)
    assert system.limits == (-math.inf, math.inf)


def test_limits_are_two_dates_in_the_own_days_of_a_system():
    first, last = Time(["1800-01-01", "2100-01-01"], scale="tdb").jd
    assert (first, last) == (FIRST_JD, LAST_JD)
    assert parse_time_system("JD").limits == (first, last)
    assert parse_time_system("MJD").limits == (first - 2400000.5, last - 2400000.5)
    assert parse_time_system("HJD-2450000").limits == (first - 2450000, last - 2450000)
    # A time in the real data: a sentinel from which somebody took the zero of MJD.
    low, high = parse_time_system("MJD").limits
    assert not low <= -2409998.5 <= high
