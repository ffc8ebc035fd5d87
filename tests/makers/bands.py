"""Surveys in several bands: simulated stars whose observations are dealt out to bands, and a look-alike of Rubin's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.simulation.objects import simulate_objects
from varstar_batch.survey.write import nested_light_curves

RUBIN_BANDS = ("u", "g", "r", "i", "z", "y")


def banded_table(count: int, bands: Sequence[str] = ("g", "r"), seed: int = 7, column: str = "band") -> pa.Table:
    """Return simulated stars whose observations go by turns to one band after the other, each 0.7 mag brighter."""
    objects = simulate_objects(0, count, seed)
    curves = objects.light_curves
    codes = np.arange(len(curves.time)) % len(bands)
    columns = {
        "time": curves.time,
        "mag": (curves.mag - 0.7 * codes).astype(np.float32),
        "mag_err": curves.mag_err,
        column: pa.array(np.array(bands)[codes]),
    }
    return pa.table(
        {
            "object_id": objects.object_id,
            "period": pa.array(objects.period, from_pandas=True),
            "class": pa.array(np.array(CLASSES)[objects.class_code]),
            "lightcurve": nested_light_curves(curves.offsets, columns),
        }
    ).replace_schema_metadata({"varstar.time_system": "HJD"})


def rubin_table(count: int, *, of_dia_objects: bool, with_magnitudes: bool, seed: int = 7) -> pa.Table:
    """Return stars as Rubin's data previews have them in HATS: forced photometry nested beside the object.

    Columns are those of ForcedSourceOnDiaObject or ForcedSource in sdm_schemas, with the time and the magnitudes that
    HATS adds; every tenth measurement has a flag, and a flux that is none.
    """
    objects = simulate_objects(0, count, seed)
    offsets = objects.light_curves.offsets * len(RUBIN_BANDS)
    curves = objects.light_curves
    m = len(curves.time) * len(RUBIN_BANDS)
    codes = np.tile(np.arange(len(RUBIN_BANDS)), len(curves.time))
    mag = np.repeat(curves.mag.astype(np.float64), len(RUBIN_BANDS)) + 6 - 0.3 * codes
    flux = 10 ** ((31.4 - mag) / 2.5)
    error = 0.02 * flux
    is_bad = np.arange(m) % 10 == 3
    flux[is_bad] = -5.0e5
    columns: dict[str, np.ndarray | pa.Array] = {
        "coord_ra": np.repeat(objects.ra, np.diff(offsets)),
        "coord_dec": np.repeat(objects.dec, np.diff(offsets)),
        "visit": np.arange(m),
        "detector": np.full(m, 4, np.int16),
        "band": pa.array(np.array(RUBIN_BANDS)[codes]).dictionary_encode(),
        "midpointMjdTai": np.repeat(curves.time - 2400000.5, len(RUBIN_BANDS)) + codes * 0.001,
        "psfFlux": flux.astype(np.float32),
        "psfFluxErr": error.astype(np.float32),
        "psfFlux_flag": is_bad,
        "psfDiffFlux": np.zeros(m, np.float32),
        "psfDiffFluxErr": error.astype(np.float32),
        "psfDiffFlux_flag": is_bad,
        "pixelFlags_bad": np.zeros(m, np.bool_),
    }
    columns["invalidPsfFlag" if of_dia_objects else "pixelFlags_saturated"] = np.zeros(m, np.bool_)
    if with_magnitudes:
        with np.errstate(invalid="ignore"):
            columns["psfMag"] = (31.4 - 2.5 * np.log10(flux)).astype(np.float32)
        columns["psfMagErr"] = np.full(m, 0.0217, np.float32)
    names = ("diaObjectId", "ra", "dec") if of_dia_objects else ("objectId", "coord_ra", "coord_dec")
    nested = "diaObjectForcedSource" if of_dia_objects else "objectForcedSource"
    scalars = dict(zip(names, (objects.object_id, objects.ra, objects.dec), strict=True))
    return pa.table({**scalars, "tract": np.full(count, 5063), nested: nested_light_curves(offsets, columns)})
