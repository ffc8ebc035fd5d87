"""Surveys of microlensing with two bands in each line: EROS-2 (.time) and MACHO (its dumps in 38 fields).

Sources: Tisserand et al. 2007, A&A 469, 387, and Kim et al. 2014, A&A 566, A43 (EROS-2: HJD-2450000, R, error, B,
error; 99.999 is no measurement); Alcock et al. 1999, PASP 111, 1539, and the READ_ME of the MACHO text dumps (MJD; -99
is no measurement). MACHO's magnitudes are instrumental.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.content import Column, FileContent, Format, as_column, make_content, numbers

_MEASURED = 90.0
"""Magnitudes of this size, of either sign, say that there is no measurement."""

_EROS = ("HJD-2450000", "R", "R_err", "B", "B_err")
_MACHO_BAND = (
    *("mag", "err", "normsky", "type", "crowd", "chi2", "mpix", "cosmicrf", "amp"),
    *("xpix", "ypix", "avesky", "fwhm", "tobs", "cut"),
)
_MACHO = (
    *("", "field", "tile", "star", "MJD", "observation", "side", "exposure", "airmass"),
    *(f"{band} {name}" for band in ("red", "blue") for name in _MACHO_BAND),
)


def _of_two(ids: Column, time: Column, bands: dict[str, tuple[Column, Column]]) -> FileContent:
    """Return the content of lines with a measurement in each of two bands, as (magnitudes, errors)."""
    n = len(time)
    mags, errors = (np.concatenate([numbers(one[k]) for one in bands.values()]) for k in (0, 1))
    names = pa.chunked_array([as_column(ids, pa.large_string(), n)] * 2)
    columns = {
        "time": np.tile(numbers(time), 2),
        "mag": mags,
        "mag_err": errors,
        "band": pa.array(np.repeat(list(bands), n), pa.large_string()),
    }
    return make_content(names.combine_chunks(), columns, {"no measurement in a band": np.abs(mags) > _MEASURED})


def _build_eros(table: pa.Table, name: Column) -> FileContent:
    bands = {band: (table[band], table[f"{band}_err"]) for band in ("R", "B")}
    return _of_two(name, table["HJD-2450000"], bands)


def _build_macho(table: pa.Table, name: Column) -> FileContent:
    parts = [table[each].cast(pa.large_string()) for each in ("field", "tile", "star")]
    ids = pc.binary_join_element_wise(*parts, pa.scalar(".", pa.large_string()))
    bands = {short: (table[f"{long} mag"], table[f"{long} err"]) for short, long in (("R", "red"), ("B", "blue"))}
    return _of_two(ids, table["MJD"], bands)


FORMATS = (
    Format(
        name="eros2",
        time_system="HJD-2450000",
        columns=dict.fromkeys(_EROS, pa.float64()),
        build=_build_eros,
        separator=" ",
        headerless=_EROS,
    ),
    Format(
        name="macho",
        time_system="MJD",
        columns={"MJD": pa.float64()}
        | dict.fromkeys(("field", "tile", "star"), pa.string())
        | dict.fromkeys((f"{band} {name}" for band in ("red", "blue") for name in ("mag", "err")), pa.float64()),
        build=_build_macho,
        separator=";",
        headerless=_MACHO,
    ),
)
