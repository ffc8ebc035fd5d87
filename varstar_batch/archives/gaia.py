"""Gaia DR3 epoch photometry: a row a transit (RAW), a source with arrays (RAW in bulk), or a band (INDIVIDUAL).

Source: Gaia DR3 documentation, 20.12 (epoch_photometry): times in BJD(TCB) - 2455197.5, fluxes in electrons per second;
the error of a magnitude is that of its flux, 2.5 / ln 10 / flux_over_error.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.content import Column, FileContent, Format, is_true, make_content, numbers
from varstar_batch.archives.fluxes import magnitude_errors

_NUMBER, _TEXT = pa.float64(), pa.string()
_SYSTEM = "BJD-2455197.5 (TCB)"

_RAW_BANDS = {
    "G": ("g_transit_time", "g_transit_mag", "g_transit_flux", "g_transit_flux_error", "variability_flag_g_reject"),
    "BP": ("bp_obs_time", "bp_mag", "bp_flux", "bp_flux_error", "variability_flag_bp_reject"),
    "RP": ("rp_obs_time", "rp_mag", "rp_flux", "rp_flux_error", "variability_flag_rp_reject"),
}


def _raw(table: pa.Table, name: Column) -> FileContent:
    pieces = []
    for band, (time, mag, flux, flux_error, reject) in _RAW_BANDS.items():
        rows = table.select(["source_id"])
        wanted = (("time", time), ("mag", mag), ("flux", flux), ("flux_error", flux_error), ("variability", reject))
        for role, column in wanted:
            values = table[column] if column in table.column_names else None
            kind = _TEXT if role == "variability" else _NUMBER
            rows = rows.append_column(role, pa.nulls(table.num_rows, kind) if values is None else values)
        rejected = table["rejected_by_photometry"] if "rejected_by_photometry" in table.column_names else None
        rows = rows.append_column("photometry", pa.nulls(table.num_rows, _TEXT) if rejected is None else rejected)
        rows = rows.append_column("band", pa.repeat(pa.scalar(band), table.num_rows))
        # A transit that was not seen in a band has no time there: it is no observation.
        pieces.append(rows.filter(pc.is_finite(rows["time"]).fill_null(False)))
    return _content(pa.concat_tables(pieces))


def _individual(table: pa.Table, name: Column) -> FileContent:
    names = {"rejected_by_photometry": "photometry", "rejected_by_variability": "variability"}
    for column, role in names.items():
        said = table[column] if column in table.column_names else pa.nulls(table.num_rows, _TEXT)
        table = table.append_column(role, said)
    return _content(table)


def _content(table: pa.Table) -> FileContent:
    errors = magnitude_errors(numbers(table["flux"]), numbers(table["flux_error"]))
    columns = {"time": table["time"], "mag": table["mag"], "mag_err": errors, "band": table["band"]}
    flags = {f"rejected by {by}": is_true(table[by].fill_null("false")) for by in ("photometry", "variability")}
    return make_content(table["source_id"], columns, {key: np.asarray(bad) for key, bad in flags.items()})


FORMATS = (
    Format(
        name="gaia-raw",
        time_system=_SYSTEM,
        columns={"source_id": _TEXT}
        | dict.fromkeys(("g_transit_time", "g_transit_mag", "g_transit_flux", "g_transit_flux_error"), _NUMBER),
        optional=dict.fromkeys([*_RAW_BANDS["BP"][:4], *_RAW_BANDS["RP"][:4]], _NUMBER)
        | dict.fromkeys([*(names[4] for names in _RAW_BANDS.values()), "rejected_by_photometry"], _TEXT),
        build=_raw,
    ),
    Format(
        name="gaia",
        time_system=_SYSTEM,
        columns={"source_id": _TEXT, "band": _TEXT} | dict.fromkeys(("time", "mag", "flux", "flux_error"), _NUMBER),
        optional=dict.fromkeys(("rejected_by_photometry", "rejected_by_variability"), _TEXT),
        build=_individual,
    ),
)
