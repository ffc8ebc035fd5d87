"""Gaia DR3 epoch photometry: a row a transit (RAW), a source with arrays (RAW in bulk), or a band (INDIVIDUAL).

Source: Gaia DR3 documentation, 20.12 (epoch_photometry): times in BJD(TCB) - 2455197.5, fluxes in electrons per second;
the error of a magnitude is that of its flux, 2.5 / ln 10 / flux_over_error.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.content import Column, FileContent, Format, is_true, make_content, numbers
from varstar_batch.light_curves.fluxes import magnitude_errors

_NUMBER, _TEXT = pa.float64(), pa.string()
_SYSTEM = "BJD-2455197.5 (TCB)"

_RAW_BANDS = {
    "G": ("g_transit_time", "g_transit_mag", "g_transit_flux", "g_transit_flux_error", "variability_flag_g_reject"),
    "BP": ("bp_obs_time", "bp_mag", "bp_flux", "bp_flux_error", "variability_flag_bp_reject"),
    "RP": ("rp_obs_time", "rp_mag", "rp_flux", "rp_flux_error", "variability_flag_rp_reject"),
}
_MEASURED = ("time", "mag", "flux", "flux_error")


def _raw(table: pa.Table, name: Column) -> FileContent:
    pieces = []
    for band, (*measured, reject) in _RAW_BANDS.items():
        columns = {"source_id": table["source_id"], "band": pa.repeat(pa.scalar(band), table.num_rows)}
        columns |= {role: _column(table, column, _NUMBER) for role, column in zip(_MEASURED, measured, strict=True)}
        columns["rejected_by_photometry"] = _column(table, "rejected_by_photometry", _TEXT)
        columns["rejected_by_variability"] = _column(table, reject, _TEXT)
        rows = pa.table(columns)
        # A transit that was not seen in a band has no time there: it is no observation.
        pieces.append(rows.filter(pc.is_finite(rows["time"]).fill_null(False)))
    return _individual(pa.concat_tables(pieces), name)


def _individual(table: pa.Table, name: Column) -> FileContent:
    errors = magnitude_errors(numbers(table["flux"]), numbers(table["flux_error"]))
    columns = {"time": table["time"], "mag": table["mag"], "mag_err": errors, "band": table["band"]}
    flags = {
        f"rejected by {by}": is_true(_column(table, f"rejected_by_{by}", _TEXT).fill_null("false"))
        for by in ("photometry", "variability")
    }
    return make_content(table["source_id"], columns, flags)


def _column(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return table[name] if name in table.column_names else pa.nulls(table.num_rows, kind)


FORMATS = (
    Format(
        name="gaia-raw",
        time_system=_SYSTEM,
        columns={"source_id": _TEXT} | dict.fromkeys(_RAW_BANDS["G"][:4], _NUMBER),
        optional=dict.fromkeys([*_RAW_BANDS["BP"][:4], *_RAW_BANDS["RP"][:4]], _NUMBER)
        | dict.fromkeys([*(names[4] for names in _RAW_BANDS.values()), "rejected_by_photometry"], _TEXT),
        build=_raw,
        object_id="source_id",
    ),
    Format(
        name="gaia",
        time_system=_SYSTEM,
        columns={"source_id": _TEXT, "band": _TEXT} | dict.fromkeys(_MEASURED, _NUMBER),
        optional=dict.fromkeys(("rejected_by_photometry", "rejected_by_variability"), _TEXT),
        build=_individual,
        object_id="source_id",
    ),
)
