"""ASAS-3: blocks of lines under comments, magnitudes in five apertures, grades A to D.

Source: Pojmanski 2002, Acta Astron. 52, 397, and the headers of the ASAS All Star Catalogue. The aperture MAG_0 is the
narrowest, for faint stars, MAG_4 the widest, for bright ones; ASAS itself advises to choose by brightness.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from varstar_batch.archives.content import Column, FileContent, Format, make_content, numbers

_APERTURES = tuple(range(5))
_BRIGHTER_THAN = (12.0, 11.0, 10.0, 9.0)
"""Each of these that a star is brighter than widens its aperture by one: 0 for V > 12, 4 for V < 9."""


def _build(table: pa.Table, name: Column) -> FileContent:
    mags = np.stack([numbers(table[f"MAG_{k}"]) for k in _APERTURES])
    errors = np.stack([numbers(table[f"MER_{k}"]) for k in _APERTURES])
    grade = np.asarray(table["GRADE"].to_pylist(), object)
    bad = np.isin(grade, ["C", "D"])
    middle = mags[2][~bad & (mags[2] < 29)]
    # One aperture for a whole light curve: switching within it would add steps.
    aperture = int(np.sum(np.median(middle) < np.asarray(_BRIGHTER_THAN))) if len(middle) else 2
    columns = {"time": table["HJD"], "mag": mags[aperture], "mag_err": errors[aperture], "band": "V"}
    return make_content(name, columns, {"grade C or D": bad})


FORMATS = (
    Format(
        name="asas3",
        time_system="HJD-2450000",
        columns={"HJD": pa.float64(), "GRADE": pa.string()}
        | {f"{kind}_{k}": pa.float64() for kind in ("MAG", "MER") for k in _APERTURES},
        build=_build,
        separator=" ",
    ),
)
