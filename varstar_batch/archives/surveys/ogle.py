"""OGLE light curves: HJD-2450000, magnitude and error in three columns without names.

Source: the READMEs of the OGLE Collection of Variable Stars. Some of its light curves have whole Julian dates: as
HJD-2450000 those would lie some 6,700 years ahead, so there is no doubt which one a file has.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from varstar_batch.archives.content import Column, FileContent, Format, UnreadableFileError, make_content, numbers
from varstar_batch.light_curves.times import FIRST_JD, parse_time_system

_OFFSET = 2450000.0
_COLUMNS = ("HJD-2450000", "mag", "mag_err")


def _build(table: pa.Table, name: Column) -> FileContent:
    time = numbers(table[_COLUMNS[0]])
    time = np.where(time >= FIRST_JD, time - _OFFSET, time)
    first, last = parse_time_system("HJD-2450000").limits
    lost = time[(time < first) | (time > last)]
    if len(lost) == len(time) > 0:
        # Three columns without names are no proof.
        raise UnreadableFileError(
            "times in HJD-2450000, or --format table --columns time,mag,err with the --time-system", f"{lost[0]}"
        )
    return make_content(name, {"time": time, "mag": table["mag"], "mag_err": table["mag_err"]})


FORMATS = (
    Format(
        name="ogle",
        time_system="HJD-2450000",
        columns=dict.fromkeys(_COLUMNS, pa.float64()),
        build=_build,
        separator=" ",
        headerless=_COLUMNS,
        # phot/I and phot/V of the Collection of Variable Stars hold files of the same names.
        band_folders=True,
    ),
)
