"""The geometry of ADQL as SQL: points, circles, boxes and polygons on the sphere, all in degrees.

A shape is a small object; `contains` makes the condition, and `cone` the circle around it by which an index is asked.
Source: ADQL 2.1 (IVOA REC-ADQL), section 4.2; haversine and gnomonic projection as in any textbook of map projections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varstar_batch.catalog.cone import Cone
from varstar_batch.errors import InputError

POLYGON_REACH = 80.0
"""Degrees from a polygon's centre within which its corners lie: near 90 the plane that it is drawn on has no end."""


@dataclass(frozen=True)
class Point:
    """A position: SQL of two numbers."""

    ra: str
    dec: str


@dataclass(frozen=True)
class Circle:
    """A circle: SQL of three numbers."""

    centre: Point
    radius: str


@dataclass(frozen=True)
class Box:
    """What lies within half a width in right ascension and half a height in declination of a centre: numbers."""

    ra: float
    dec: float
    width: float
    height: float


@dataclass(frozen=True)
class Polygon:
    """What lies within great circles between corners: numbers, (n, 2)."""

    corners: tuple[tuple[float, float], ...]


Shape = Circle | Box | Polygon


def distance(a: Point, b: Point) -> str:
    """Return SQL of the distance of two points, as `catalog.cone.Cone.separation` has it."""
    haversine = (
        f"power(sin(radians(({a.dec}) - ({b.dec})) / 2), 2) + cos(radians({a.dec})) * cos(radians({b.dec}))"
        f" * power(sin(radians(({a.ra}) - ({b.ra})) / 2), 2)"
    )
    return f"degrees(2 * asin(sqrt(least({haversine}, 1.0))))"


def contains(shape: Shape, point: Point) -> str:
    """Return SQL of whether a point lies in a shape, edges included."""
    if isinstance(shape, Circle):
        return f"({distance(point, shape.centre)} <= ({shape.radius}))"
    if isinstance(shape, Box):
        off = f"abs(mod(mod(({point.ra}) - {shape.ra!r} + 180.0, 360.0) + 360.0, 360.0) - 180.0)"
        return f"(abs(({point.dec}) - {shape.dec!r}) <= {shape.height / 2!r} AND {off} <= {shape.width / 2!r})"
    return _in_polygon(shape, point)


def cone(shape: Shape, numbers: Sequence[float | None]) -> Cone | None:
    """Return a cone that holds a shape, or None where it is not known beforehand; `numbers` are those of a circle."""
    if isinstance(shape, Circle):
        if any(number is None or not math.isfinite(number) for number in numbers):
            return None
        ra, dec, radius = (float(number or 0.0) for number in numbers)
        return Cone(ra % 360.0, dec, min(radius, 180.0)) if abs(dec) <= 90.0 and radius > 0.0 else None
    if isinstance(shape, Box):
        reach = math.hypot(shape.width, shape.height) / 2
        return Cone(shape.ra % 360.0, shape.dec, reach) if 0.0 < reach <= 180.0 else None
    ra, dec = _centre(shape)
    corners = np.array(shape.corners)
    return Cone(ra, dec, float(Cone(ra, dec, 1.0).separation(corners[:, 0], corners[:, 1]).max()) * 1.000001)


def _centre(polygon: Polygon) -> tuple[float, float]:
    ra, dec = np.radians(np.array(polygon.corners)).T
    x, y, z = (np.cos(dec) * np.cos(ra)).sum(), (np.cos(dec) * np.sin(ra)).sum(), np.sin(dec).sum()
    if math.hypot(x, y, z) < 1e-9:
        raise _too_wide()
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.atan2(z, math.hypot(x, y)))


def _in_polygon(polygon: Polygon, point: Point) -> str:
    """Count the edges that a line from the point crosses, where great circles are lines: on a gnomonic plane."""
    ra0, dec0 = _centre(polygon)
    corners = np.array(polygon.corners)
    if Cone(ra0, dec0, 1.0).separation(corners[:, 0], corners[:, 1]).max() > POLYGON_REACH:
        raise _too_wide()
    off, dec = np.radians(corners[:, 0] - ra0), np.radians(corners[:, 1])
    sin0, cos0 = math.sin(math.radians(dec0)), math.cos(math.radians(dec0))
    towards = sin0 * np.sin(dec) + cos0 * np.cos(dec) * np.cos(off)
    xs = np.cos(dec) * np.sin(off) / towards
    ys = (cos0 * np.sin(dec) - sin0 * np.cos(dec) * np.cos(off)) / towards
    p_off, p_dec = f"radians(({point.ra}) - {ra0!r})", f"radians({point.dec})"
    front = f"({sin0!r} * sin({p_dec}) + {cos0!r} * cos({p_dec}) * cos({p_off}))"
    x = f"(cos({p_dec}) * sin({p_off}) / {front})"
    y = f"(({cos0!r} * sin({p_dec}) - {sin0!r} * cos({p_dec}) * cos({p_off})) / {front})"
    crossed = []
    for x1, y1, x2, y2 in zip(*(map(float, side) for side in (xs, ys, np.roll(xs, -1), np.roll(ys, -1))), strict=True):
        if y1 != y2:
            where = f"{x1!r} + ({y} - {y1!r}) * {(x2 - x1) / (y2 - y1)!r}"
            crossed.append(f"CASE WHEN ({y} < {y1!r}) <> ({y} < {y2!r}) AND {x} < {where} THEN 1 ELSE 0 END")
    return f"({front} > 0 AND ({' + '.join(crossed) or '0'}) % 2 = 1)"


def _too_wide() -> InputError:
    return InputError(
        expected=f"a POLYGON whose corners lie within {POLYGON_REACH:g} degrees of its centre",
        got="a wider one",
        where="ADQL",
        fix="ask for parts of it, or for a CIRCLE",
    )
