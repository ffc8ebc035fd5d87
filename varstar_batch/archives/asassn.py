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

from varstar_batch.archives.content import (
    Column,
    FileContent,
    Format,
    limits_and_magnitudes,
    make_content,
    numbers,
)

_NUMBER, _TEXT, _INTEGER = pa.float64(), pa.string(), pa.int64()

CAMERA_BANDS = (
    {f"b{letter}": "V" for letter in "abcdefgh"}
    | {f"b{letter}": "g" for letter in string.ascii_lowercase[8:20]}
    | {f"b{letter}": "g" for letter in string.ascii_uppercase}
)
"""Band by camera: ba to bh took V, bi to bt and those with a capital take g."""


def bands_of_cameras(cameras: pa.ChunkedArray) -> pa.Array:
    """Return the band of each camera, null for a camera that is not known."""
    encoded = (cameras.combine_chunks() if isinstance(cameras, pa.ChunkedArray) else cameras).dictionary_encode()
    names = [CAMERA_BANDS.get(name.strip()) if name else None for name in encoded.dictionary.to_pylist()]
    return pa.array(names, pa.large_string()).take(encoded.indices)


def _bands(table: pa.Table, filter_name: str, camera_name: str) -> pa.Array | pa.ChunkedArray:
    """Return the bands: what the file says, and what the camera says where the file says nothing."""
    of_cameras = bands_of_cameras(table[camera_name]) if camera_name in table.column_names else None
    if filter_name not in table.column_names:
        return of_cameras
    said = pc.utf8_trim_whitespace(table[filter_name]).cast(pa.large_string())
    return said if of_cameras is None else pc.coalesce(said, pa.chunked_array([of_cameras]))


def _skypatrol_v1(table: pa.Table, name: Column) -> FileContent:
    mag, mag_err = limits_and_magnitudes(table["mag"], table["mag_err"])
    columns = {"time": table["HJD"], "mag": mag, "mag_err": mag_err, "camera": table["Camera"]}
    return make_content(name, columns | {"band": _bands(table, "Filter", "Camera")})


def _variables(table: pa.Table, name: Column) -> FileContent:
    mag, mag_err = limits_and_magnitudes(table["mag"], table["mag_err"])
    columns = {"time": table["hjd"], "mag": mag, "mag_err": mag_err, "camera": table["camera"]}
    return make_content(name, columns | {"band": bands_of_cameras(table["camera"])})


def _skypatrol_v2(table: pa.Table, name: Column) -> FileContent:
    mag, mag_err = limits_and_magnitudes(table["Mag"], table["Mag Error"])
    columns = {"time": table["JD"], "mag": mag, "mag_err": mag_err, "band": _bands(table, "Filter", "Camera")}
    columns |= {"camera": table["Camera"]} if "Camera" in table.column_names else {}
    return make_content(name, columns, _bad_quality(table, "Quality"))


def _pyasassn(table: pa.Table, name: Column) -> FileContent:
    ids = table["asas_sn_id"] if "asas_sn_id" in table.column_names else name
    columns = {key: table[column] for key, column in (("time", "jd"), ("mag", "mag"), ("mag_err", "mag_err"))}
    columns |= {"camera": table["camera"], "band": _bands(table, "phot_filter", "camera")}
    return make_content(ids, columns, _bad_quality(table, "quality"))


def _bad_quality(table: pa.Table, column: str) -> dict[str, np.ndarray]:
    if column not in table.column_names:
        return {}
    bad = pc.equal(pc.utf8_trim_whitespace(table[column]), "B").fill_null(False)
    return {"quality B": np.asarray(bad.to_numpy(), np.bool_)}


def _bulk(band: str, time: str, mag: str, mag_err: str) -> Callable[[pa.Table, Column], FileContent]:
    def build(table: pa.Table, name: Column) -> FileContent:
        magnitudes, errors = limits_and_magnitudes(table[mag], table[mag_err])
        return make_content(name, {"time": table[time], "mag": magnitudes, "mag_err": errors, "band": band})

    return build


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
        build=_skypatrol_v1,
        separator=",",
    ),
    Format(
        name="asassn-skypatrol-v2",
        time_system="JD",
        columns={"JD": _NUMBER, "Mag": _TEXT, "Mag Error": _NUMBER, "Filter": _TEXT},
        optional={"Quality": _TEXT, "Camera": _TEXT},
        build=_skypatrol_v2,
        separator=",",
    ),
    Format(
        name="asassn-variables",
        time_system="HJD",
        columns={"hjd": _NUMBER, "camera": _TEXT, "mag": _TEXT, "mag_err": _NUMBER},
        build=_variables,
        separator=",",
    ),
    Format(
        name="asassn-pyasassn",
        time_system="JD",
        columns={"jd": _NUMBER, "mag": _NUMBER, "mag_err": _NUMBER, "camera": _TEXT},
        optional={"asas_sn_id": _TEXT, "quality": _TEXT, "phot_filter": _TEXT},
        build=_pyasassn,
    ),
    Format(
        name="asassn-bulk-v",
        time_system="HJD",
        columns={"HJD": _NUMBER, "MAG": _TEXT, "MAG_ERR": _NUMBER},
        build=_bulk("V", "HJD", "MAG", "MAG_ERR"),
        separator=" ",
    ),
    Format(
        name="asassn-bulk-g",
        time_system="HJD",
        columns={"hjd": _NUMBER, "mag": _TEXT, "mag_err": _NUMBER},
        build=_bulk("g", "hjd", "mag", "mag_err"),
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
