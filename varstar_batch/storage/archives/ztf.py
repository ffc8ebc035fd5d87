"""ZTF light curves as IRSA hands them out (CSV, VOTable): one object for each field, detector and filter.

Source: the ZTF Science Data System explanatory supplement, section on light curves; a set bit 15 of `catflags` marks
an observation that should not be used.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.storage.archives.content import Column, FileContent, Format, make_content, mean_positions, numbers

BAD = 1 << 15


def _build(table: pa.Table, name: Column) -> FileContent:
    band = pc.utf8_ltrim(pc.utf8_trim_whitespace(table["filtercode"]), "z")
    columns = {"time": table["hjd"], "mag": table["mag"], "mag_err": table["magerr"], "band": band}
    flags = {"catflags 32768": (numbers(table["catflags"]) & np.int64(BAD)) != 0}
    positions = {}
    if {"ra", "dec"} <= set(table.column_names):
        positions = mean_positions(table["oid"], table["ra"], table["dec"])
    return make_content(table["oid"], columns, flags, positions)


FORMATS = (
    Format(
        name="ztf",
        time_system="HJD",
        columns={
            "oid": pa.string(),
            "hjd": pa.float64(),
            "mag": pa.float64(),
            "magerr": pa.float64(),
            "catflags": pa.int64(),
            "filtercode": pa.string(),
        },
        optional={"ra": pa.float64(), "dec": pa.float64()},
        build=_build,
    ),
)
