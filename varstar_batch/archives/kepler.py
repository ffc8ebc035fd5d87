"""Light curves of Kepler, K2 and TESS: FITS with fluxes, times in BJD(TDB) minus BJDREFI + BJDREFF.

Source: Kepler Archive Manual (KDMC-10008), TESS Science Data Products Description (EXP-TESS-ARC-ICD-0014). Magnitudes
are relative: the median flux has the target's catalog magnitude (TESSMAG, KEPMAG).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from varstar_batch.archives.content import Column, FileContent, Format, UnreadableFileError, make_content, numbers
from varstar_batch.light_curves.fluxes import relative_magnitudes

_NUMBER = pa.float64()
_TESS_ZERO = 2457000
_QUALITY = ("SAP_QUALITY", "QUALITY")


def _build(table: pa.Table, name: Column) -> FileContent:
    header = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    zero = _number(header, "BJDREFI") + _number(header, "BJDREFF")
    if not np.isfinite(zero):
        raise UnreadableFileError("BJDREFI and BJDREFF in its headers, where its times begin", "none")
    is_tess = "TESSMAG" in header or ("KEPMAG" not in header and zero == _TESS_ZERO)
    band, key = ("TESS", "TESSMAG") if is_tess else ("Kp", "KEPMAG")
    mean_mag = _number(header, key)
    notes = {}
    if not np.isfinite(mean_mag):
        # The shape of a light curve needs none.
        mean_mag, notes = 0.0, {f"no {key}: magnitudes are relative, 0 at the median": table.num_rows}
    object_id = header.get("OBJECT", "").strip() or str(name)
    quality = next((column for column in _QUALITY if column in table.column_names), None)
    bad = np.zeros(table.num_rows, np.bool_) if quality is None else numbers(table[quality]) != 0
    flux, flux_error = (numbers(table[column]) for column in ("PDCSAP_FLUX", "PDCSAP_FLUX_ERR"))
    mag, mag_err = relative_magnitudes(flux, flux_error, ~bad, mean_mag)
    spot = _number(header, "RA_OBJ"), _number(header, "DEC_OBJ")
    positions = {object_id: spot} if np.isfinite(spot).all() else {}
    columns = {"time": numbers(table["TIME"]) + zero, "mag": mag, "mag_err": mag_err, "band": band}
    return make_content(object_id, columns, {"quality flag": bad}, positions, notes)


def _number(header: Mapping[str, str], key: str) -> float:
    """Return a number of the headers; NaN where they do not say it, or leave it undefined."""
    try:
        return float(header.get(key, ""))
    except ValueError:
        return float("nan")


FORMATS = (
    Format(
        name="kepler",
        time_system="BJD_TDB",
        columns=dict.fromkeys(("TIME", "PDCSAP_FLUX", "PDCSAP_FLUX_ERR"), _NUMBER),
        optional=dict.fromkeys(_QUALITY, pa.int64()),
        build=_build,
    ),
)
