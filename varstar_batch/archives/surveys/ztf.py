"""ZTF light curves as IRSA hands them out (CSV, VOTable) and as HATS: one object for each field, detector and filter.

Source: the ZTF Science Data System explanatory supplement, section on light curves; a set bit 15 of `catflags` marks
an observation that should not be used.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.content import Column, FileContent, Format, make_content, numbers

BAD = 1 << 15
# Of the filters 1, 2 and 3.
_BANDS = ("g", "r", "i")


def _build(table: pa.Table, name: Column) -> FileContent:
    band = pc.utf8_ltrim(pc.utf8_trim_whitespace(table["filtercode"]), "z")
    return _content(table, ("oid", "hjd"), band)


def _build_hats(table: pa.Table, name: Column) -> FileContent:
    band = pa.array(_BANDS, pa.large_string()).take(pc.index_in(table["filterid"], pa.array([1, 2, 3], pa.int64())))
    return _content(table, ("objectid", "hmjd"), band)


def _content(table: pa.Table, names: tuple[str, str], band: Column) -> FileContent:
    ids, time = names
    columns = {"time": table[time], "mag": table["mag"], "mag_err": table["magerr"], "band": band}
    flags = {"catflags 32768": (numbers(table["catflags"]) & np.int64(BAD)) != 0}
    return make_content(table[ids], columns, flags)


FORMATS = (
    Format(
        name="ztf",
        time_system="HJD",
        columns={"oid": pa.string(), "catflags": pa.int64(), "filtercode": pa.string()}
        | dict.fromkeys(("hjd", "mag", "magerr"), pa.float64()),
        optional=dict.fromkeys(("ra", "dec"), pa.float64()),
        build=_build,
        object_id="oid",
        position=("ra", "dec"),
    ),
    Format(
        name="ztf-hats",
        time_system="HMJD",
        columns={"objectid": pa.string(), "filterid": pa.int64(), "catflags": pa.int64()}
        | dict.fromkeys(("hmjd", "mag", "magerr", "objra", "objdec"), pa.float64()),
        build=_build_hats,
        object_id="objectid",
        position=("objra", "objdec"),
    ),
)
