"""ATLAS forced photometry: fluxes in microjansky, also negative ones, in the filters c, o and t.

Source: the column descriptions of the ATLAS Forced Photometry Server (Tonry et al. 2018, PASP 130, 064505; Smith et al.
2020, PASP 132, 085002). Its magnitudes m are negative where the flux is: they are made from the flux instead, and where
that is not positive the limit of five sigma stands for it, as an upper limit.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from varstar_batch.archives.content import Column, FileContent, Format, make_content, numbers
from varstar_batch.light_curves.fluxes import SENTINEL, magnitudes_of


def _build(table: pa.Table, name: Column) -> FileContent:
    mag, mag_err = magnitudes_of(numbers(table["uJy"]), numbers(table["duJy"]), "uJy")
    if "mag5sig" in table.column_names:
        # An upper limit, as others write it: the limit, with the error of one.
        mag = np.where(mag_err == SENTINEL, numbers(table["mag5sig"]), mag)
    columns = {"time": table["MJD"], "mag": mag, "mag_err": mag_err, "band": table["F"]}
    flags = {"err": numbers(table["err"]) != 0} if "err" in table.column_names else {}
    return make_content(name, columns, flags)


FORMATS = (
    Format(
        name="atlas",
        time_system="MJD",
        columns={"MJD": pa.float64(), "uJy": pa.float64(), "duJy": pa.float64(), "F": pa.string()},
        optional={"err": pa.int64(), "RA": pa.float64(), "Dec": pa.float64(), "mag5sig": pa.float64()},
        build=_build,
        position=("RA", "Dec"),
    ),
)
