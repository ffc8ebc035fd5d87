"""ASAS-SN in all its forms: Sky Patrol v1 and v2, the database of variable stars, pyasassn, the bulk light curves.

Sources: Kochanek et al. 2017, PASP 129, 104502 (Sky Patrol v1); Hart et al. 2023, arXiv:2304.03791 (v2); Jayasinghe et
al. 2018, MNRAS 477, 3145 (V band), Hart et al. 2023, MNRAS 519, 5271 (g band); cameras: the Sky Patrol's documentation.
"""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.content import Column, FileContent, Format, limits_and_magnitudes, make_content, numbers

_NUMBER, _TEXT, _INTEGER = pa.float64(), pa.string(), pa.int64()

CAMERA_BANDS = (
    {f"b{letter}": "V" for letter in "abcdefgh"}
    | {f"b{letter}": "g" for letter in string.ascii_lowercase[8:20]}
    | {f"b{letter}": "g" for letter in string.ascii_uppercase}
)
"""Band by camera: ba to bh took V, bi to bt and those with a capital take g."""


def _builder(fixed_band: str | None = None, **names: str) -> Callable[[pa.Table, Column], FileContent]:
    """Return what builds a content from columns of these names, of which those that a file lacks are left out.

    Parameters
    ----------
    fixed_band : str or None
        Of all observations; None where columns say it.
    **names : str
        time, mag, mag_err, and if there are any camera, band, quality, object_id.
    """

    def build(table: pa.Table, name: Column) -> FileContent:
        there = {role: table[column] for role, column in names.items() if column in table.column_names}
        columns: dict[str, Column] = {"time": there["time"], "camera": there.get("camera")}
        columns["mag"], columns["mag_err"] = limits_and_magnitudes(there["mag"], there["mag_err"])
        columns["band"] = fixed_band or _bands(there.get("band"), there.get("camera"))
        flags = {}
        if "quality" in there:
            bad = pc.equal(pc.utf8_trim_whitespace(there["quality"]), "B").fill_null(False)
            flags["quality B"] = np.asarray(bad, np.bool_)
        return make_content(there.get("object_id", name), columns, flags)

    return build


def _bands(said: Column, cameras: Column) -> Column:
    """Return the bands: what the file says, and what the camera says where the file says nothing."""
    of_cameras = None if cameras is None else _bands_of_cameras(cameras)
    if said is None:
        return of_cameras
    said = pc.utf8_trim_whitespace(said).cast(pa.large_string())
    return said if of_cameras is None else pc.coalesce(said, pa.chunked_array([of_cameras]))


def _bands_of_cameras(cameras: pa.ChunkedArray) -> pa.Array:
    """Return the band of each camera, null for a camera that is not known."""
    encoded = cameras.combine_chunks().dictionary_encode()
    names = [CAMERA_BANDS.get(name.strip()) if name else None for name in encoded.dictionary.to_pylist()]
    return pa.array(names, pa.large_string()).take(encoded.indices)


def _dat2(table: pa.Table, name: Column) -> FileContent:
    # cam_field is camera/field; the flag of the band is 1 for V and 0 for g.
    camera = pc.list_element(pc.split_pattern(table["cam_field"], "/", max_splits=1), 0)
    is_v = numbers(table["v_g_band"])
    band = pa.array(np.where(is_v == 1, "V", "g"), pa.large_string(), mask=(is_v != 0) & (is_v != 1))
    columns = {"time": table["JD"], "mag": table["mag"], "mag_err": table["error"], "camera": camera, "band": band}
    flags = {"bad": numbers(table["good_bad"]) != 1, "saturated": numbers(table["saturated"]) == 1}
    return make_content(name, columns, flags)


_DAT2 = ("JD", "mag", "error", "good_bad", "camera", "v_g_band", "saturated", "cam_field")

FORMATS = (
    Format(
        name="asassn-skypatrol-v1",
        time_system="HJD",
        columns={"HJD": _NUMBER, "Camera": _TEXT, "mag": _TEXT, "mag_err": _NUMBER},
        optional={"Filter": _TEXT},
        build=_builder(time="HJD", mag="mag", mag_err="mag_err", camera="Camera", band="Filter"),
        separator=",",
    ),
    Format(
        name="asassn-skypatrol-v2",
        time_system="JD",
        columns={"JD": _NUMBER, "Mag": _TEXT, "Mag Error": _NUMBER, "Filter": _TEXT},
        optional={"Quality": _TEXT, "Camera": _TEXT},
        build=_builder(time="JD", mag="Mag", mag_err="Mag Error", camera="Camera", band="Filter", quality="Quality"),
        separator=",",
    ),
    Format(
        name="asassn-variables",
        time_system="HJD",
        columns={"hjd": _NUMBER, "camera": _TEXT, "mag": _TEXT, "mag_err": _NUMBER},
        build=_builder(time="hjd", mag="mag", mag_err="mag_err", camera="camera"),
        separator=",",
    ),
    Format(
        name="asassn-pyasassn",
        time_system="JD",
        columns={"jd": _NUMBER, "mag": _NUMBER, "mag_err": _NUMBER, "camera": _TEXT},
        optional={"asas_sn_id": _TEXT, "quality": _TEXT, "phot_filter": _TEXT},
        build=_builder(
            **{name: name for name in ("mag", "mag_err", "camera", "quality")},
            time="jd",
            band="phot_filter",
            object_id="asas_sn_id",
        ),
        aliases={"cam": "camera"},
        object_id="asas_sn_id",
    ),
    Format(
        name="asassn-bulk-v",
        time_system="HJD",
        columns={"HJD": _NUMBER, "MAG": _TEXT, "MAG_ERR": _NUMBER},
        build=_builder("V", time="HJD", mag="MAG", mag_err="MAG_ERR"),
        separator=" ",
    ),
    Format(
        name="asassn-bulk-g",
        time_system="HJD",
        columns={"hjd": _NUMBER, "mag": _TEXT, "mag_err": _NUMBER},
        build=_builder("g", time="hjd", mag="mag", mag_err="mag_err"),
        separator=" ",
    ),
    Format(
        name="asassn-dat2",
        time_system="JD",
        columns=dict(zip(_DAT2, (_NUMBER, _NUMBER, _NUMBER, _INTEGER, _TEXT, _INTEGER, _INTEGER, _TEXT), strict=True)),
        build=_dat2,
        separator=" ",
        headerless=_DAT2,
    ),
)
