"""Light curves of Kepler, K2 and TESS: FITS with fluxes, times in BJD(TDB) minus BJDREFI + BJDREFF.

Source: Kepler Archive Manual (KDMC-10008), TESS Science Data Products Description (EXP-TESS-ARC-ICD-0014). Magnitudes
are relative: the median flux has the target's catalog magnitude (TESSMAG, KEPMAG).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from varstar_batch.archives.content import Column, FileContent, Format, UnreadableFileError, make_content, numbers
from varstar_batch.archives.fluxes import relative_magnitudes

_NUMBER = pa.float64()
_QUALITY = ("SAP_QUALITY", "QUALITY")


def _build(table: pa.Table, name: Column) -> FileContent:
    header = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    try:
        zero = float(header["BJDREFI"]) + float(header["BJDREFF"])
        mean_mag = float(header["TESSMAG"] if "TESSMAG" in header else header["KEPMAG"])
    except (KeyError, ValueError) as error:
        raise UnreadableFileError("BJDREFI, BJDREFF and TESSMAG or KEPMAG in its headers", str(error)) from error
    object_id = header.get("OBJECT", "").strip() or str(name)
    quality = next((column for column in _QUALITY if column in table.column_names), None)
    bad = np.zeros(table.num_rows, np.bool_) if quality is None else numbers(table[quality]) != 0
    flux, flux_error = (numbers(table[column]) for column in ("PDCSAP_FLUX", "PDCSAP_FLUX_ERR"))
    mag, mag_err = relative_magnitudes(flux, flux_error, ~bad, mean_mag)
    positions = {}
    if "RA_OBJ" in header and "DEC_OBJ" in header:
        positions[object_id] = (float(header["RA_OBJ"]), float(header["DEC_OBJ"]))
    band = "TESS" if "TESSMAG" in header else "Kp"
    columns = {"time": numbers(table["TIME"]) + zero, "mag": mag, "mag_err": mag_err, "band": band}
    return make_content(object_id, columns, {"quality flag": bad}, positions)


FORMATS = (
    Format(
        name="kepler",
        time_system="BJD_TDB",
        columns=dict.fromkeys(("TIME", "PDCSAP_FLUX", "PDCSAP_FLUX_ERR"), _NUMBER),
        optional=dict.fromkeys(_QUALITY, pa.int64()),
        build=_build,
    ),
)
