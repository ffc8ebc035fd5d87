"""Light curves of Kepler, K2 and TESS: FITS with fluxes, by the missions, QLP, eleanor and lightkurve.

Sources: Kepler Archive Manual (KDMC-10008), TESS Science Data Products Description (EXP-TESS-ARC-ICD-0014); Huang et
al. 2020, RNAAS 4, 204 (QLP: the raw flux SAP_FLUX, whose trends are the star's own, with the error of the filtered
one); Feinstein et al. 2019, PASP 131, 094502 (eleanor). Times are BJD(TDB) minus BJDREFI + BJDREFF, or minus what the
unit of the column says. Magnitudes are relative: the median flux has the target's catalog magnitude (TESSMAG, KEPMAG).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa

from varstar_batch.archives.content import Column, FileContent, Format, UnreadableFileError, make_content, numbers
from varstar_batch.archives.fits_votable import time_system_key
from varstar_batch.light_curves.fluxes import relative_magnitudes
from varstar_batch.light_curves.times import parse_time_system

_NUMBER = pa.float64()
_QUALITY = ("SAP_QUALITY", "QUALITY")
_ZEROS = {"TESS": 2457000.0, "Kp": 2454833.0}
_UNITS = {"btjd": _ZEROS["TESS"], "bkjd": _ZEROS["Kp"], "jd": 0.0, "bjd": 0.0, "mjd": 2400000.5}
# As in "BJD - 2457000, days".
_OFFSET = re.compile(r"B?JD\s*-\s*(\d+)", re.IGNORECASE)
_IMPOSSIBLE = 29.0
_MAGNITUDES = {"TESSMAG": "TESS", "TMAG": "TESS", "KEPMAG": "Kp"}


def _builder(fluxes: str, *errors: str) -> Callable[[pa.Table, Column], FileContent]:
    """Return what builds a content from a column of fluxes and the first column of errors that is there."""

    def build(table: pa.Table, name: Column) -> FileContent:
        header = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        band, notes = _band(header), {}
        zero = _zero(header)
        if zero is None:
            raise UnreadableFileError("BJDREFI and BJDREFF in its headers, where its times begin", "none")
        # What is no magnitude, such as -999, says that there is none.
        told = (_number(header, key) for key in _MAGNITUDES)
        mean_mag = _first(value for value in told if value is not None and abs(value) < _IMPOSSIBLE)
        if mean_mag is None:
            # The shape of a light curve needs none.
            mean_mag, notes = 0.0, {"no catalog magnitude: magnitudes are relative, 0 at the median": table.num_rows}
        object_id = _name(header) or str(name)
        quality = next((column for column in _QUALITY if column in table.column_names), None)
        bad = np.zeros(table.num_rows, np.bool_) if quality is None else numbers(table[quality]) != 0
        flux = numbers(table[fluxes])
        error = next(
            (numbers(table[each]) for each in errors if each in table.column_names), np.full(len(flux), np.nan)
        )
        mag, mag_err = relative_magnitudes(flux, error, ~bad, mean_mag)
        spot = (
            _first(_number(header, key) for key in ("RA_OBJ", "RA")),
            _first(_number(header, key) for key in ("DEC_OBJ", "DEC")),
        )
        positions = {object_id: (spot[0], spot[1])} if spot[0] is not None and spot[1] is not None else {}
        columns = {"time": numbers(table["TIME"]) + zero, "mag": mag, "mag_err": mag_err, "band": band}
        return make_content(object_id, columns, {"quality flag": bad}, positions, notes)

    return build


def _band(header: Mapping[str, str]) -> str:
    said = next((band for key, band in _MAGNITUDES.items() if key in header), None)
    is_tess = "TESS" in header.get("TELESCOP", "").upper() or _zero(header) == _ZEROS["TESS"]
    return said or ("TESS" if is_tess else "Kp")


def _zero(header: Mapping[str, str]) -> float | None:
    """Return the Julian date at which the times begin; None where nothing says it."""
    said = header.get(time_system_key("TIME"), header.get(time_system_key("time")))
    if said is not None:
        return parse_time_system(said).jd_offset
    number = next((key[5:] for key, value in header.items() if key.startswith("TTYPE") and value.upper() == "TIME"), "")
    unit = header.get(f"TUNIT{number}", "").strip()
    offset = _OFFSET.search(unit)
    return float(offset[1]) if offset else _UNITS.get(unit.lower())


def _name(header: Mapping[str, str]) -> str:
    catalog = _first(_number(header, key) for key in ("TIC_ID", "TICID"))
    return header.get("OBJECT", "").strip() or ("" if catalog is None else f"TIC {catalog:.0f}")


def _number(header: Mapping[str, str], key: str) -> float | None:
    """Return a number of the headers; None where they do not say it, or leave it undefined."""
    try:
        value = float(header.get(key, ""))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _first(values: Iterable[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _format(name: str, fluxes: str, *errors: str, needs: tuple[str, ...] = ()) -> Format:
    return Format(
        name=name,
        time_system="BJD_TDB",
        columns=dict.fromkeys(("TIME", fluxes, *needs), _NUMBER),
        optional=dict.fromkeys(errors, _NUMBER) | dict.fromkeys(_QUALITY, pa.int64()),
        build=_builder(fluxes, *errors),
    )


FORMATS = (
    _format("kepler", "PDCSAP_FLUX", "PDCSAP_FLUX_ERR"),
    _format("tess-qlp", "SAP_FLUX", "DET_FLUX_ERR", "KSPSAP_FLUX_ERR"),
    _format("tess-eleanor", "CORR_FLUX", "FLUX_ERR"),
    _format("lightkurve", "FLUX", "FLUX_ERR"),
)
