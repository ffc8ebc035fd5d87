"""Surveys to measure with: any number of objects, observations and partitions, the same for the same seed.

They are HATS catalogs with the canonical columns, so that this project, LSDB and a plain reader of Parquet files take
the same files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.files.location import locate
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.survey.columns import TIME_SYSTEM_KEY
from varstar_batch.survey.write import nested_light_curves, write_survey_file

BLOCK = 20_000
"""Objects made at once."""


@dataclass(frozen=True, kw_only=True)
class SurveySize:
    """How large a survey is.

    Attributes
    ----------
    objects, partitions : int
        `partitions` files with equally many objects, give or take one.
    observations : int
        Of a light curve in the mean.
    spread : float
        Numbers of observations lie within this share of the mean, evenly.
    sentinels : float
        Share of observations that are upper limits (99.99).
    seed : int
    """

    objects: int
    partitions: int
    observations: int = 230
    spread: float = 0.4
    sentinels: float = 0.01
    seed: int = 9

    @property
    def order(self) -> int:
        """HEALPix order with at least as many pixels as partitions."""
        order = 0
        while 12 * 4**order < self.partitions:
            order += 1
        return order


def write_survey(folder: Path, size: SurveySize) -> Path:
    """Write a survey, unless it is there already, and return its folder."""
    if (folder / "hats.properties").exists():
        return folder
    dataset = folder / "dataset"
    bounds = np.linspace(0, size.objects, size.partitions + 1).astype(int)
    pixels = np.linspace(0, 12 * 4**size.order, size.partitions, endpoint=False).astype(int)
    for pixel, first, stop in zip(pixels, bounds, bounds[1:], strict=False):
        rng = np.random.default_rng([size.seed, int(pixel)])
        tables = [
            _objects(rng, size, int(pixel), start, min(start + BLOCK, int(stop)))
            for start in range(int(first), int(stop), BLOCK)
        ]
        if not tables:
            continue
        file = dataset / f"Norder={size.order}" / f"Dir={pixel // 10000 * 10000}" / f"Npix={pixel}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_survey_file(locate(file, what="survey"), tables[0].schema, tables)
        pq.write_metadata(tables[0].schema, dataset / "_common_metadata")
    listed = "".join(f"{size.order},{pixel}\n" for pixel in pixels)
    (folder / "partition_info.csv").write_text("Norder,Npix\n" + listed)
    (folder / "hats.properties").write_text(
        "#HATS catalog\nobs_collection=benchmark\ndataproduct_type=object\nhats_col_ra=ra\nhats_col_dec=dec\n"
        f"hats_nrows={size.objects}\nhats_order={size.order}\n"
    )
    return folder


def light_curves(rng: np.random.Generator, n: int, size: SurveySize) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return periods [d] and, flat, times [d], magnitudes and errors of noisy two-harmonic stars, with `offsets`."""
    low, high = (round(size.observations * (1 + sign * size.spread)) for sign in (-1, 1))
    offsets = np.concatenate([[0], np.cumsum(rng.integers(low, high + 1, n))])
    m = int(offsets[-1])
    period = 10 ** rng.uniform(-1, 2.5, n)
    of = np.repeat(np.arange(n), np.diff(offsets))
    # Sorted within an object, for the object's number is the whole part.
    time = np.sort(of + rng.random(m)) - of
    time = 2457000 + 2000 * time
    angle = 2 * np.pi * time / period[of]
    mag = rng.uniform(11, 16, n)[of] + 0.4 * np.sin(angle) + 0.2 * np.sin(2 * angle) + rng.normal(0, 0.03, m)
    mag_err = np.where(rng.random(m) < size.sentinels, 99.99, rng.uniform(0.01, 0.05, m))
    # Three decimals, as surveys give them.
    columns = {"mag": mag.round(3).astype(np.float32), "mag_err": mag_err.round(3).astype(np.float32)}
    return period, {"offsets": offsets, "time": time, **columns}


def _objects(rng: np.random.Generator, size: SurveySize, pixel: int, first: int, stop: int) -> pa.Table:
    from cdshealpix.nested import healpix_to_lonlat

    n = stop - first
    shift = 2 * (29 - size.order)
    cells = np.sort((np.int64(pixel) << shift) + rng.integers(0, np.int64(1) << shift, n))
    ra, dec = (angle.deg for angle in healpix_to_lonlat(cells.astype(np.uint64), 29))
    period, columns = light_curves(rng, n, size)
    offsets = columns.pop("offsets")
    table = pa.table(
        {
            "_healpix_29": cells,
            "object_id": np.arange(first, stop),
            "ra": np.asarray(ra, float),
            "dec": np.asarray(dec, float),
            "period": period,
            "class": pa.array(np.asarray(CLASSES)[rng.integers(0, len(CLASSES), n)]),
            "lightcurve": nested_light_curves(offsets, columns),
        }
    )
    return table.replace_schema_metadata({TIME_SYSTEM_KEY: b"HJD"})
