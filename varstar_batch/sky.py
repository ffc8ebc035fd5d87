"""HEALPix cells of positions and of cones (nested numbering).

Source: Gorski et al. 2005, ApJ 622, 759. Cells of positions come from healpix, which loads in 2 ms; those of a cone
from cdshealpix, which loads astropy and so takes half a second: no run needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import healpix
import numpy as np
import numpy.typing as npt

HEALPIX_COLUMN = "_healpix_29"
"""Name that HATS gives to the HEALPix index of order 29."""

SMALLEST_CONE = 1e-6
"""Degrees (4 mas): below this a cone is widened for finding cells; what is in it is decided exactly afterwards."""

LARGEST_CONE = 30.0
"""Degrees: beyond this cdshealpix leaves some cells out (seen at 137), and nearly everything has to be read anyway."""


def cells_of(ra: npt.ArrayLike, dec: npt.ArrayLike, order: int) -> npt.NDArray[np.int64]:
    """Return the cells of positions [deg], int64 (n,); -1 where there is no position.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
        Any finite right ascension, declinations from -90 to 90; everything else is no position.
    order : int
        0 to 29.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(ra) & (np.abs(dec) <= 90.0)
    cells = np.full(len(ra), -1, np.int64)
    if known.any():
        cells[known] = healpix.ang2pix(1 << order, ra[known], dec[known], nest=True, lonlat=True)
    return cells


def cone_ranges(ra: float, dec: float, radius: float) -> npt.NDArray[np.int64]:
    """Return the cells of order 29 that cover a cone [deg]: int64 (k, 2), half-open, ascending, disjoint.

    A cone larger than `LARGEST_CONE` gets the whole sky.
    """
    if radius > LARGEST_CONE:
        return np.array([[0, 12 * 4**29]])
    from astropy.coordinates import Latitude, Longitude
    from astropy.units import deg
    from cdshealpix.nested import cone_search

    radius = max(radius, SMALLEST_CONE)
    cells, depths, _ = cone_search(Longitude(ra, deg), Latitude(dec, deg), radius * deg, _depth(radius))
    shift = 2 * (29 - depths.astype(np.int64))
    begin = cells.astype(np.int64) << shift
    order = np.argsort(begin)
    begin, end = begin[order], (begin + (np.int64(1) << shift))[order]
    new = np.append(True, begin[1:] > end[:-1])
    return np.stack([begin[new], end[np.append(np.flatnonzero(new)[1:] - 1, len(end) - 1)]], axis=1)


def _depth(radius: float) -> int:
    """Return the order whose cells are some 16 times smaller than a cone: a few hundred fit it closely."""
    return int(np.clip(np.floor(np.log2(58.6 / radius)) + 4, 3, 24))


@dataclass(frozen=True)
class Match:
    """Which row of a second table belongs to each of n objects."""

    row: npt.NDArray[np.int64]
    """Int64 array (n,). -1 where there is none."""
    ambiguous: npt.NDArray[np.bool_]
    """Bool array (n,). More than one row was near enough; the nearest is taken."""
    shared: int
    """Rows that belong to more than one object."""


def match_positions(
    ra: npt.ArrayLike, dec: npt.ArrayLike, other_ra: npt.ArrayLike, other_dec: npt.ArrayLike, radius: float
) -> Match:
    """Find the nearest row of another table for each of n objects, within a radius.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
        Degrees; NaN where unknown.
    other_ra, other_dec : array_like of float, shape (m,)
        Degrees; NaN where unknown.
    radius : float
        Degrees, 0 < radius <= 1.
    """
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    if not 0 < radius <= 1:
        raise ValueError(f"radius: expected more than 0 and at most 1 degree, got {radius}")
    first, second = unit_vectors(ra, dec), unit_vectors(other_ra, other_dec)
    known, others = np.isfinite(first).all(axis=1), np.flatnonzero(np.isfinite(second).all(axis=1))
    row = np.full(len(first), -1, np.int64)
    ambiguous = np.zeros(len(first), np.bool_)
    if known.any() and len(others):
        chord = 2 * np.sin(np.radians(radius) / 2)
        # A neighbour at exactly the radius counts.
        bound = np.nextafter(chord, 1)
        distance, nearest = cKDTree(second[others]).query(first[known], k=2, distance_upper_bound=bound)
        found = np.isfinite(distance[:, 0])
        row[known] = np.where(found, others[np.where(found, nearest[:, 0], 0)], -1)
        ambiguous[known] = np.isfinite(distance[:, 1])
    taken = row[row >= 0]
    return Match(row, ambiguous, int((np.bincount(taken) > 1).sum()) if len(taken) else 0)


def unit_vectors(ra: npt.ArrayLike, dec: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the directions of n positions [deg], (n, 3)."""
    right, up = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    return np.stack([np.cos(up) * np.cos(right), np.cos(up) * np.sin(right), np.sin(up)], axis=-1)


class Places:
    """Places on the sky, among which the nearest to others is looked for again and again.

    Parameters
    ----------
    ra, dec : array_like of float, shape (m,)
        Degrees; NaN where unknown.
    """

    def __init__(self, ra: npt.ArrayLike, dec: npt.ArrayLike) -> None:
        from scipy.spatial import cKDTree

        vectors = unit_vectors(ra, dec)
        self._known = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        self._tree = cKDTree(vectors[self._known])

    def nearest(
        self, ra: npt.ArrayLike, dec: npt.ArrayLike, radius: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return which place is the nearest to each of n others within a radius, and how far it is.

        Parameters
        ----------
        ra, dec : array_like of float, shape (n,)
            Degrees; NaN where unknown.
        radius : float
            Degrees, 0 < radius <= 1.

        Returns
        -------
        row : int64 (n,)
            -1 where there is none.
        separation : float64 (n,)
            Degrees; infinite where there is none.
        """
        vectors = unit_vectors(ra, dec)
        known = np.isfinite(vectors).all(axis=1)
        row, separation = np.full(len(vectors), -1, np.int64), np.full(len(vectors), np.inf)
        if known.any() and len(self._known):
            bound = np.nextafter(2 * np.sin(np.radians(radius) / 2), 1)  # a neighbour at exactly the radius counts
            chord, place = self._tree.query(vectors[known], distance_upper_bound=bound)
            found = np.isfinite(chord)
            row[known] = np.where(found, self._known[np.where(found, place, 0)], -1)
            separation[known] = np.degrees(2 * np.arcsin(np.minimum(chord, 2.0) / 2))
            separation[row < 0] = np.inf
        return row, separation
