"""A cone on the sky: which row groups it can touch, then which objects it holds, exactly."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.run_files.index import RowGroupIndex
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location

SEPARATION = pa.field(
    "separation",
    pa.float64(),
    metadata={"unit": "arcsec", "ucd": "pos.angDistance", "description": "Distance from the centre of the cone"},
)


@dataclass(frozen=True)
class Cone:
    """A cone on the sky, in degrees, its edge included.

    Raises
    ------
    InputError
        A number is not finite or outside its range: ra -360 to 360, dec -90 to 90, radius above 0 to 180.
    """

    ra: float
    dec: float
    radius: float

    def __post_init__(self) -> None:
        _require("--ra", self.ra, -360.0 <= self.ra <= 360.0, "a right ascension from -360 to 360 degrees")
        _require("--dec", self.dec, -90.0 <= self.dec <= 90.0, "a declination from -90 to 90 degrees")
        _require("--radius", self.radius, 0.0 < self.radius <= 180.0, "a radius above 0 and up to 180 degrees")

    def separation(self, ra: npt.ArrayLike, dec: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the distances of positions [deg] from the centre [deg], by the haversine; NaN where unknown."""
        alpha, delta = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
        alpha0, delta0 = math.radians(self.ra), math.radians(self.dec)
        haversine = (
            np.sin((delta - delta0) / 2) ** 2 + np.cos(delta) * math.cos(delta0) * np.sin((alpha - alpha0) / 2) ** 2
        )
        # Exactly opposite points can come out a rounding error above 1.
        separation: npt.NDArray[np.float64] = np.degrees(2 * np.arcsin(np.sqrt(np.minimum(haversine, 1.0))))
        return separation


def cone_of(ra: Any, dec: Any = None, radius: Any = None) -> Cone:
    """Return the cone of numbers in degrees, of texts, of astropy's quantities, or of a SkyCoord and a radius.

    Raises
    ------
    InputError
        A text is no angle, or a number is outside its range.
    """
    if hasattr(ra, "icrs"):
        center = ra.icrs
        if dec is not None:  # cone(SkyCoord, radius)
            dec, radius = None, dec if radius is None else radius
        ra, dec = center.ra.deg, center.dec.deg
    return Cone(_degrees("ra", ra, hours=True), _degrees("dec", dec), _degrees("radius", radius))


def _degrees(name: str, value: Any, *, hours: bool = False) -> float:
    """Return an angle in degrees; of texts with two colons or spaces, `hours` says whether the first part is hours."""
    if hasattr(value, "to_value"):
        return float(value.to_value("deg"))
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    from astropy.coordinates import Angle

    text = str(value).strip()
    is_parted = bool(re.search(r"\d[ :]+\d", text))
    try:
        return float(Angle(text, unit="hourangle" if hours and is_parted else "deg").deg)
    except (ValueError, TypeError):
        raise InputError(
            expected="an angle: degrees, 05:34:31.9, 5h34m31.9s, -22d00m52s or 30arcsec",
            got=repr(value),
            where=name,
            fix="give ra, dec and radius, or a SkyCoord and a radius",
        ) from None


def cone_schema(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    """Return the schema of a cone's tables: `columns` (all by default), then ``separation``."""
    fields = [schema.field(name) for name in (columns or schema.names)]
    return pa.schema([*fields, SEPARATION], metadata=schema.metadata)


def cone_tables(
    run: Location, index: RowGroupIndex, cone: Cone, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the objects of a run that lie in a cone, one table for each row group that holds any.

    It has `columns`, all by default, and ``separation`` [arcsec] as the last.
    """
    for key, groups in groupby(index.within(cone.ra, cone.dec, cone.radius), key=lambda group: group.file):
        with (run / key).open_input() as stream, pq.ParquetFile(stream) as file:
            for group in groups:
                # Positions first: most row groups that a cone may touch hold nothing of it.
                position = file.read_row_group(group.number, columns=["ra", "dec"])
                separation = cone.separation(position["ra"].to_numpy(), position["dec"].to_numpy())
                inside = np.flatnonzero(separation <= cone.radius)
                if not len(inside):
                    continue
                names = list(columns) if columns else file.schema_arrow.names
                rows = file.read_row_group(group.number, columns=names).select(names).take(inside)
                yield rows.append_column(SEPARATION, pa.array(separation[inside] * 3600.0))


def _require(name: str, value: float, holds: bool, expected: str) -> None:
    if not (math.isfinite(value) and holds):
        raise InputError(expected=expected, got=f"{value:g}", where=name, fix="positions and radii are in degrees")
