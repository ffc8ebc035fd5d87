"""Every format of an archive, written by hand to its documented form with its traps, gives the same light curve."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from varstar_batch.arithmetic.rules import Preprocessing
from varstar_batch.errors import InputError
from varstar_batch.storage.archives import folders
from varstar_batch.storage.archives.asassn import CAMERA_BANDS
from varstar_batch.storage.archives.content import UnreadableFileError
from varstar_batch.storage.archives.fluxes import magnitudes_of
from varstar_batch.storage.archives.formats import FORMATS, read_file, read_files
from varstar_batch.storage.archives.tables import table_format
from varstar_batch.storage.columns import SurveyConfig
from varstar_batch.storage.ingest_archives import ARCHIVE_REPORT, REJECTED, ArchiveOptions, ingest_archive
from varstar_batch.storage.ingest_options import IngestOptions
from varstar_batch.storage.object_tables import match_positions
from varstar_batch.storage.surveys import open_survey

# What every file below holds in the band that is chosen: time less than the zero point, magnitude, error, in days.
MAGS = [14.839, 14.760, 14.814]
ERRORS = [0.117, 0.090, 0.385]
HJD = [2458000.47009, 2458000.47137, 2458002.51020]
ALL = list(FORMATS.values())

SKYPATROL_V1 = b"""HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err,Filter
2458000.47009,2017-09-03.9710173,be,1.77,15.518,14.839,0.117,4.448,0.477,V
2458000.47137,2017-09-03.9722892,be,1.76,15.730,14.760,0.090,4.789,0.392,V
2458001.00000,2017-09-04.5000000,bi,1.76,15.730,13.000,0.010,9.789,0.392,g
2458002.51020,2017-09-06.0112978,be,2.03,14.814,14.814,0.385,4.020,0.911,V
2458003.51147,2017-09-06.0125694,be,2.03,14.729,>14.729,99.990,3.640,0.985,V
"""
# Before 2019 the column Filter did not exist: the camera tells.
SKYPATROL_V1_OLD = b"\r\n".join(line.rpartition(b",")[0] for line in SKYPATROL_V1.splitlines())
VARIABLES = b"""hjd,camera,mag,mag_err,flux,flux_err
2458000.47009,be,14.839,0.117,4.448,0.477
2458000.47137,bf,14.760,0.090,4.789,0.392
2458001.00000,bI,13.000,0.010,9.789,0.392
2458002.51020,bg,14.814,0.385,4.020,0.911
2458003.51147,ba,>14.729,99.99,3.640,0.985
"""
SKYPATROL_V2 = b"""# ASAS-SN Sky Patrol
# ID: 77309414209
#
\n
JD,Flux,Flux Error,Mag,Mag Error,Limit,FWHM,Filter,Quality
2458000.47009,4.4480,0.477,14.839,0.117,15.518,1.77,V,G
2458000.47137,4.7890,0.392,14.760,0.090,15.730,1.76,V,G
2458001.00000,9.7890,0.392,13.000,0.010,15.730,1.76,g,G
2458002.51020,4.0200,0.911,14.814,0.385,14.814,2.03,V,G
2458002.61020,4.0200,0.911,11.111,0.001,14.814,2.03,V,B
2458003.51147,3.6400,0.985,14.729,99.990,14.729,2.03,V,G
"""
BULK_V = b"""### ASAS-SN V-band light curve
# HJD MAG MAG_ERR FLUX FLUX_ERR
2458000.47009  14.839\t0.117 4.448 0.477
2458000.47137  14.760\t0.090 4.789 0.392
  2458002.51020  14.814\t0.385 4.020 0.911
2458003.51147 >14.729 99.990 3.640 0.985
"""
BULK_G = b"star\nhjd mag mag_err flux flux_err\n" + BULK_V.split(b"\n", 2)[2]
DAT2 = b"""2458000.47009 14.839 0.117 1 1 1 0 be/F0123_4567
2458000.47137 14.760 0.090 1 1 1 0 be/F0123_4567
2458001.00000 13.000 0.010 1 9 0 0 bi/F0123_4567
2458002.00000 10.000 0.010 0 1 1 0 be/F0123_4567
2458002.10000 10.000 0.010 1 1 1 1 be/F0123_4567
2458002.51020 14.814 0.385 1 1 1 0 be/F0123_4567
2458003.51147 14.729 99.990 1 1 1 0 be/F0123_4567
"""
ZTF = b"""oid,expid,hjd,mjd,mag,magerr,catflags,filtercode,ra,dec,chi,sharp
686103400067717,1,2458000.47009,57999.96,14.839,0.117,0,zg,187.25,-2.5,1.0,0.1
686103400067717,2,2458000.47137,57999.97,14.760,0.090,2,zg,187.25,-2.5,1.0,0.1
686103400067717,3,2458001.00000,58000.50,10.000,0.010,32768,zg,187.25,-2.5,1.0,0.1
686103400067717,4,2458001.10000,58000.60,10.000,0.010,32770,zg,187.25,-2.5,1.0,0.1
686103400067717,5,2458002.51020,58002.01,14.814,0.385,0,zg,187.25,-2.5,1.0,0.1
"""
OGLE = b" 8000.47009 14.839 0.117\n 8000.47137 14.760 0.090\n 8002.51020 14.814 0.385\n"
OGLE_WHOLE = OGLE.replace(b" 80", b"24580")
ASAS3 = b"""#ndata= 5
#dataset= 1 ; 1 F1142-66
#desig= 114500-6123.8
#     HJD     MAG_3   MAG_0   MAG_1   MAG_2   MAG_4   MER_3 MER_0 MER_1 MER_2 MER_4 GRADE FRAME
 8000.47009  14.9  14.839  14.8  14.7  14.6  0.2 0.117 0.1 0.1 0.1  A 12345
 8000.47137  14.9  14.760  14.8  14.7  14.6  0.2 0.090 0.1 0.1 0.1  B 12346
#dataset= 2 ; 1 F1142-66
#     HJD     MAG_3   MAG_0   MAG_1   MAG_2   MAG_4   MER_3 MER_0 MER_1 MER_2 MER_4 GRADE FRAME
 8001.51020  29.999 29.999 29.999 29.999 29.999 9.999 9.999 9.999 9.999 9.999 D 12347
 8002.51020  14.9  14.814  14.8  14.7  14.6  0.2 0.385 0.1 0.1 0.1  A 12348
"""


def error_of(mag_err: float, flux: float) -> float:
    """Return the error of the flux that makes this error of the magnitude."""
    return float(mag_err * flux * np.log(10) / 2.5)


def gaia_rows() -> dict[str, list[Any]]:
    flux = [1000.0, 1100.0, 1050.0]
    errors = [*ERRORS[:2], 0.1, ERRORS[2], 0.1, 0.1]
    return {
        "source_id": [4472832130942575872] * 6,
        "transit_id": list(range(6)),
        "band": ["G", "G", "BP", "G", "G", "G"],
        "time": [*(t - 2455197.5 for t in (HJD[0], HJD[1], HJD[1])), HJD[2] - 2455197.5, 3000.0, 3001.0],
        "mag": [MAGS[0], MAGS[1], 15.5, MAGS[2], 12.0, 12.0],
        "flux": [flux[0], flux[1], 500.0, flux[2], 9000.0, 9000.0],
        "flux_error": [error_of(e, f) for e, f in zip(errors, [*flux[:2], 500.0, flux[2], 1.0, 1.0], strict=True)],
        "rejected_by_photometry": [False, False, False, False, True, False],
        "rejected_by_variability": [False, False, False, False, False, True],
    }


def gaia_csv() -> bytes:
    rows = gaia_rows()
    texts = [[str(value).lower() if isinstance(value, bool) else str(value) for value in one] for one in rows.values()]
    return "\n".join([",".join(rows), *map(",".join, zip(*texts, strict=True))]).encode()


def gaia_table(kind: str) -> bytes:
    from astropy.table import Table

    sink = io.BytesIO()
    Table(gaia_rows()).write(sink, format=kind)
    return sink.getvalue()


def gaia_raw() -> bytes:
    rows = gaia_rows()
    header = (
        "source_id,transit_id,g_transit_time,g_transit_flux,g_transit_flux_error,g_transit_flux_over_error,"
        "g_transit_mag,bp_obs_time,bp_flux,bp_flux_error,bp_flux_over_error,bp_mag,rp_obs_time,rp_flux,rp_flux_error,"
        "rp_flux_over_error,rp_mag,variability_flag_g_reject,variability_flag_bp_reject,variability_flag_rp_reject,"
        "g_other_flags,bp_other_flags,rp_other_flags,rejected_by_photometry"
    )
    lines = [header]
    for i in (0, 1, 3, 4, 5):
        g = f"{rows['time'][i]!r},{rows['flux'][i]},{rows['flux_error'][i]!r},9,{rows['mag'][i]}"
        by_variability, by_photometry = (
            str(rows[f"rejected_by_{by}"][i]).lower() for by in ("variability", "photometry")
        )
        bp = "2802.9,500.0,5.0,100.0,15.5" if i == 1 else ",,,,"
        lines.append(f"{rows['source_id'][i]},{i},{g},{bp},,,,,,{by_variability},false,false,0,0,0,{by_photometry}")
    return "\n".join(lines).encode()


def gaia_arrays(kind: str) -> bytes:
    """One row a source with arrays, as the bulk files of DR3 (ECSV) and DataLink's FITS have them."""
    from astropy.io import fits
    from astropy.table import Table

    rows = gaia_rows()
    transits = [0, 1, 3, 4, 5]
    arrays = {
        "transit_id": [rows["transit_id"][i] for i in transits],
        **{f"g_transit_{name}": [rows[name][i] for i in transits] for name in ("time", "flux", "flux_error", "mag")},
        "bp_obs_time": [np.nan, 2802.9, np.nan, np.nan, np.nan],
        "bp_mag": [np.nan, 15.5, np.nan, np.nan, np.nan],
        "bp_flux": [np.nan, 500.0, np.nan, np.nan, np.nan],
        "bp_flux_error": [np.nan, 5.0, np.nan, np.nan, np.nan],
        "variability_flag_g_reject": [rows["rejected_by_variability"][i] for i in transits],
        "rejected_by_photometry": [rows["rejected_by_photometry"][i] for i in transits],
    }
    sink = io.BytesIO()
    if kind == "fits":
        forms = {"b": "PL()", "i": "PK()", "f": "PD()"}
        columns = [fits.Column("source_id", "K", array=rows["source_id"][:1])]
        for name, values in arrays.items():
            array = np.empty(1, object)
            array[0] = np.array(values)
            columns.append(fits.Column(name, forms[array[0].dtype.kind], array=array))
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(sink)
    elif kind == "parquet":
        pq.write_table(pa.table({"source_id": rows["source_id"][:1], **{k: [v] for k, v in arrays.items()}}), sink)
    else:
        table = Table({"source_id": rows["source_id"][:1]})
        for name, values in arrays.items():
            cell = np.empty(1, object)
            cell[0] = np.ma.masked_invalid(values) if name.startswith("bp") else np.array(values)
            table[name] = cell
        text = io.StringIO()
        table.write(text, format="ascii.ecsv", delimiter=",")
        return text.getvalue().encode()
    return sink.getvalue()


def ztf_hats(form: str) -> bytes:
    """A partition of a data release: one row an object, its observations nested."""
    arrays = {
        "hmjd": [t - 2400000.5 for t in (HJD[0], HJD[1], 2458001.0, 2458001.1, HJD[2])],
        "mag": [*MAGS[:2], 10.0, 10.0, MAGS[2]],
        "magerr": [*ERRORS[:2], 0.01, 0.01, ERRORS[2]],
        "clrcoeff": [0.1] * 5,
        "catflags": [0, 2, 32768, 32770, 0],
    }
    lists = {name: [values, []] for name, values in arrays.items()}
    objects = {
        "objectid": pa.array([686103400067717, 686103400067718]),
        "filterid": pa.array([1, 2], pa.int8()),
        "objra": pa.array([187.25, 187.26], pa.float32()),
        "objdec": pa.array([-2.5, -2.5], pa.float32()),
        "nepochs": pa.array([5, 0]),
    }
    columns = {name: pa.array(values) for name, values in lists.items()}
    if form == "nested":
        columns = {"lightcurve": pa.StructArray.from_arrays(list(columns.values()), list(columns))}
    sink = io.BytesIO()
    pq.write_table(pa.table(objects | columns), sink)
    return sink.getvalue()


def pyasassn(kind: str) -> bytes:
    table = pa.table(
        {
            "asas_sn_id": pa.array([77309414209] * 5),
            "jd": [*HJD, 2458002.7, 2458003.51147],
            "flux": [4.0] * 5,
            "flux_err": [0.4] * 5,
            "mag": [*MAGS, 11.0, 14.729],
            "mag_err": [*ERRORS, 0.1, 99.99],
            "limit": [15.0] * 5,
            "fwhm": [1.7] * 5,
            "image_id": ["coadd_bi123"] * 5,
            "camera": ["be", "be", "be", "be", "be"],
            "quality": ["G", "G", "G", "B", "G"],
        }
    )
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table.append_column("phot_filter", pa.array(["V"] * 5)), sink)
        return sink.getvalue()
    import pyarrow.csv as pv

    pv.write_csv(table, sink)
    return sink.getvalue()


def kepler(mission: str) -> bytes:
    from astropy.io import fits

    flux = 10 ** (-0.4 * (np.array(MAGS) - np.median(MAGS))) * 5000
    zero = 2457000 if mission == "TESS" else 2454833
    rows = np.array([*HJD, 2458003.0, np.nan]) - zero
    columns = [
        fits.Column("TIME", "D", unit="BJD", array=rows),
        fits.Column("PDCSAP_FLUX", "E", unit="e-/s", array=[*flux, 10.0, np.nan]),
        fits.Column("PDCSAP_FLUX_ERR", "E", array=[*(error_of(e, f) for e, f in zip(ERRORS, flux, strict=True)), 1, 1]),
        fits.Column("QUALITY" if mission == "TESS" else "SAP_QUALITY", "J", array=[0, 0, 0, 128, 4]),
        fits.Column("CENTROIDS", "2D", array=np.zeros((5, 2))),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="LIGHTCURVE")
    table.header.update({"BJDREFI": zero, "BJDREFF": 0.0, "OBJECT": "TIC 5", "RA_OBJ": 10.5, "DEC_OBJ": -20.25})
    primary = fits.PrimaryHDU()
    primary.header["TESSMAG" if mission == "TESS" else "KEPMAG"] = float(np.median(MAGS))
    sink = io.BytesIO()
    fits.HDUList([primary, table]).writeto(sink)
    return sink.getvalue()


# Content, format, band, object, zero point of the times, observations left out by flags.
GOLDEN: dict[str, tuple[Any, str, str | None, str, float, dict[str, int]]] = {
    "skypatrol-v1": (SKYPATROL_V1, "asassn-skypatrol-v1", "V", "star", 0, {}),
    "skypatrol-v1-old": (SKYPATROL_V1_OLD, "asassn-skypatrol-v1", "V", "star", 0, {}),
    "skypatrol-v1-bom": (b"\xef\xbb\xbf" + SKYPATROL_V1, "asassn-skypatrol-v1", "V", "star", 0, {}),
    "skypatrol-v1-gzip": (gzip.compress(SKYPATROL_V1), "asassn-skypatrol-v1", "V", "star", 0, {}),
    "variables": (VARIABLES, "asassn-variables", "V", "star", 0, {}),
    "skypatrol-v2": (SKYPATROL_V2, "asassn-skypatrol-v2", "V", "star", 0, {"quality B": 1}),
    "pyasassn": (lambda: pyasassn("parquet"), "asassn-pyasassn", "V", "77309414209", 0, {"quality B": 1}),
    "pyasassn-csv": (lambda: pyasassn("csv"), "asassn-pyasassn", "V", "77309414209", 0, {"quality B": 1}),
    "bulk-v": (BULK_V, "asassn-bulk-v", "V", "star", 0, {}),
    "bulk-g": (BULK_G, "asassn-bulk-g", "g", "star", 0, {}),
    "dat2": (DAT2, "asassn-dat2", "V", "star", 0, {"bad": 1, "saturated": 1}),
    "ztf": (ZTF, "ztf", "g", "686103400067717", 0, {"catflags 32768": 2}),
    **{
        f"ztf-hats-{form}": (
            lambda form=form: ztf_hats(form),  # type: ignore[misc]
            "ztf-hats",
            "g",
            "686103400067717",
            2400000.5,
            {"catflags 32768": 2},
        )
        for form in ("nested", "lists")
    },
    "ogle": (OGLE, "ogle", None, "star", 2450000, {}),
    "ogle-whole-dates": (OGLE_WHOLE, "ogle", None, "star", 2450000, {}),
    "asas3": (ASAS3, "asas3", "V", "star", 2450000, {"grade C or D": 1}),
    **{
        f"gaia-{kind}": (
            make,
            name,
            "G",
            "4472832130942575872",
            2455197.5,
            {"rejected by photometry": 1, "rejected by variability": 1},
        )
        for kind, name, make in (
            ("csv", "gaia", gaia_csv),
            ("fits", "gaia", lambda: gaia_table("fits")),
            ("votable", "gaia", lambda: gaia_table("votable")),
            ("raw", "gaia-raw", gaia_raw),
            ("arrays-fits", "gaia-raw", lambda: gaia_arrays("fits")),
            ("arrays-ecsv", "gaia-raw", lambda: gaia_arrays("ecsv")),
            ("arrays-parquet", "gaia-raw", lambda: gaia_arrays("parquet")),
        )
    },
    "tess": (lambda: kepler("TESS"), "kepler", "TESS", "TIC 5", 0, {"quality flag": 2}),
    "kepler": (lambda: kepler("Kepler"), "kepler", "Kp", "TIC 5", 0, {"quality flag": 2}),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_give_the_same_light_curve(name: str) -> None:
    content, expected_format, band, object_id, zero, left_out = GOLDEN[name]
    content = content() if callable(content) else content
    form, found = read_file(content, "folder/star.dat", ALL)
    assert form.name == expected_format
    assert dict(found.left_out) == left_out
    table = found.observations
    assert set(table["object_id"].to_pylist()) == {object_id}
    if band is not None:
        table = table.filter(pc.equal(table["band"], band))
    good = table.filter(pc.less(table["mag_err"], 99))
    np.testing.assert_allclose(good["time"].to_numpy() + zero, HJD, rtol=0, atol=2e-9)
    np.testing.assert_allclose(good["mag"].to_numpy(), MAGS, rtol=0, atol=2e-6)
    np.testing.assert_allclose(good["mag_err"].to_numpy(), ERRORS, rtol=1e-6)
    # Upper limits stay: the limit, with the error that the run's cleaning drops and counts.
    limits = table.filter(pc.greater(table["mag_err"], Preprocessing().max_mag_err))
    assert limits.num_rows <= 1
    np.testing.assert_allclose(limits["mag"].to_numpy(), [14.729] * limits.num_rows, rtol=1e-6)


def test_the_name_of_a_format_is_enough_to_read_it() -> None:
    for content, name, *_ in GOLDEN.values():
        raw = content() if callable(content) else content
        assert read_file(raw, "star.csv", [FORMATS[name]])[0].name == name


def test_cameras() -> None:
    assert {CAMERA_BANDS[f"b{letter}"] for letter in "abcdefgh"} == {"V"}
    assert {CAMERA_BANDS[f"b{letter}"] for letter in "ijklmnopqrstABCDEFG"} == {"g"}
    assert "bu" not in CAMERA_BANDS


def test_files_read_together_are_those_read_alone() -> None:
    other = SKYPATROL_V1.replace(b"14.839", b"14.111")
    cut = SKYPATROL_V1[:-40]
    for group in ([SKYPATROL_V1, other, SKYPATROL_V1.strip()], [SKYPATROL_V1, cut, other], [OGLE, OGLE, VARIABLES]):
        files = [(f"star-{i}.csv", content) for i, content in enumerate(group)]
        readings = list(read_files(files, ALL))
        together = pa.concat_tables([one.content.observations for one in readings if one.content])
        alone = [(key, content) for key, content in files if content != cut]
        expected = pa.concat_tables([read_file(content, key, ALL)[1].observations for key, content in alone])
        assert together.equals(expected)
        assert sorted(key for one in readings for key in one.keys) == [key for key, _ in files]
        assert [one.keys for one in readings if one.error] == ([("star-1.csv",)] if cut in group else [])


@pytest.mark.parametrize(
    ("content", "expected", "got"),
    [
        (b"", "a table", "an empty file"),
        (b"\x00\x01\x02", "a text or a table", "binary"),
        (b"PK\x03\x04\0\0", "a text or a table", "binary"),
        (b"just a note\nabout stars\n", "a known format", "stars"),
        (SKYPATROL_V1.replace(b",", b";"), "a known format", "2458003.51147;"),
        (SKYPATROL_V1.replace(b"14.839", b"14.8.9"), "numbers", "14.8.9"),
        (SKYPATROL_V1.replace(b"2458000.47009", b"\xff\xfe"), "lines of a table", "CSV column #0"),
        (gzip.compress(SKYPATROL_V1)[:-9], "a whole gzip file", "cut short"),
        (SKYPATROL_V1.replace(b"UT Date", b"HJD"), "columns of different names", "HJD"),
    ],
)
def test_what_is_no_light_curve(content: bytes, expected: str, got: str) -> None:
    with pytest.raises(UnreadableFileError) as caught:
        read_file(content, "star.csv", ALL)
    assert expected in caught.value.expected
    assert got in caught.value.got


def test_any_table_by_its_columns_and_fluxes() -> None:
    content = b"star,t,F,dF\n007,8000.5,3630.7805,3.0\n007,8001.5,-1,3.0\n"
    config = SurveyConfig(object_id="star", time="t", mag="F", mag_err="dF")
    form, found = read_file(content, "x.csv", [table_format(config, "HJD-2450000", "Jy")])
    assert form.time_system == "HJD-2450000"
    assert found.observations["object_id"].to_pylist() == ["007", "007"]
    np.testing.assert_allclose(found.observations["mag"].to_numpy(), [0.0, 99.99], atol=1e-5)
    np.testing.assert_allclose(found.observations["mag_err"].to_numpy(), [2.5 / np.log(10) * 3 / 3630.7805, 99.99])


def test_units_of_flux() -> None:
    mag, _ = magnitudes_of(np.array([3.6307805]), np.array([0.1]), "mJy")
    np.testing.assert_allclose(mag, [15.0], atol=1e-6)
    with pytest.raises(ValueError, match="flux unit"):
        magnitudes_of(np.array([1.0]), np.array([0.1]), "km")


def write_archive(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_a_folder_becomes_a_survey_and_everything_is_accounted_for(tmp_path: Path) -> None:
    strange = SKYPATROL_V1_OLD.replace(b",be,", b",bz,")
    folder = write_archive(tmp_path / "in", a=SKYPATROL_V1, b=SKYPATROL_V1_OLD, c=strange, d=SKYPATROL_V1[:-50])
    (tmp_path / "objects.csv").write_text("object_id,period,ra,dec\na,0.5,10,20\nb,,11,21\nz,1.5,12,22\n")
    options = ArchiveOptions(band="V")
    report = ingest_archive(folder, tmp_path / "objects.csv", tmp_path / "out", options)
    tally = report.tally
    assert (tally.files, len(tally.rejected), tally.observations) == (4, 1, 15)
    assert tally.rejected[0].file == "d.csv"
    assert "\n" not in tally.rejected[0].error
    assert tally.unknown_cameras == {"bz": 4}
    assert tally.bands == {"V": 8, "g": 3, "unknown": 4}
    assert tally.left_out == {"band g": 3, "band unknown": 4}
    assert tally.kept == 8 == report.ingest.observations_written
    assert report.unmatched == 1
    assert (report.ingest.objects_written, report.ingest.objects_without_observations) == (3, 1)
    assert pq.read_table(tmp_path / "out" / REJECTED)["file"].to_pylist() == ["d.csv"]
    assert json.loads((tmp_path / "out" / ARCHIVE_REPORT).read_text())["files_set_aside"] == 1
    survey = open_survey(tmp_path / "out")
    assert survey.source.time_system == "HJD"
    table = pq.read_table(tmp_path / "out" / survey.partitions[0].key)
    assert table["object_id"].to_pylist() == ["a", "b", "z"]
    assert table["period"].to_pylist() == [0.5, None, 1.5]
    assert table["band"].to_pylist() == ["V"] * 3
    light_curve = table["lightcurve"][0].as_py()
    assert light_curve["time"] == [*HJD, 2458003.51147]
    assert light_curve["camera"] == ["be"] * 4


READ = """
import sys
from varstar_batch.storage.archives import folders
from varstar_batch.storage.ingest_archives import ArchiveOptions, ingest_archive
from varstar_batch.storage.ingest_options import IngestOptions
folders._UNIT_FILES = 10
done = 0
def progress(files):
    global done
    done += files
    if done == 50:
        print("now", flush=True)
        sys.stdin.read()
ingest_archive(sys.argv[1], None, sys.argv[2], ArchiveOptions(band="V", ingest=IngestOptions(workers=1)), progress)
"""


def test_an_archive_whose_reading_was_killed_is_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"star-{i:03d}": SKYPATROL_V1 if i % 7 else SKYPATROL_V1[:-50] for i in range(100)}
    folder = write_archive(tmp_path / "in", **files)
    monkeypatch.setattr(folders, "_UNIT_FILES", 10)
    options = ArchiveOptions(band="V", ingest=IngestOptions(workers=1))
    expected = ingest_archive(folder, None, tmp_path / "whole", options)
    words = [sys.executable, "-c", READ, str(folder), str(tmp_path / "survey")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "now\n"
        killed.kill()
    assert not (tmp_path / "survey").exists()
    read: list[str] = []
    read_batch = folders._read_batch

    def watched(place: Any, keys: Any, forms: Any) -> Any:
        read.extend(keys)
        return read_batch(place, keys, forms)

    monkeypatch.setattr(folders, "_read_batch", watched)
    report = ingest_archive(folder, None, tmp_path / "survey", options)
    assert report.as_dict() == expected.as_dict()
    assert report.tally.rejected == expected.tally.rejected
    assert len(expected.tally.rejected) == 15
    # What was in flight beside what was done may be done, too.
    assert 30 <= len(read) <= 50
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "survey").iterdir())
    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "survey" / name).read_bytes() for name in names)


def test_without_a_table_every_object_that_is_met_is_one(tmp_path: Path) -> None:
    report = ingest_archive(write_archive(tmp_path / "in", x=ZTF, y=ZTF.split(b"\n")[0]), None, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table["object_id"].to_pylist() == ["686103400067717", "y"]
    assert table["ra"].to_pylist() == [187.25, None]
    assert table["period"].null_count == 2
    assert table.schema.field("lightcurve").type.names == ["time", "mag", "mag_err"]
    assert report.tally.left_out == {"catflags 32768": 2}


def test_a_release_of_ztf_as_hats_is_read_by_band(tmp_path: Path) -> None:
    other = ztf_hats("nested")
    pixels = tmp_path / "ztf" / "dataset" / "Norder=1" / "Dir=0"
    pixels.mkdir(parents=True)
    (pixels / "Npix=21.parquet").write_bytes(other)
    (pixels / "Npix=22.parquet").write_bytes(ztf_hats("lists"))
    (tmp_path / "ztf" / "hats.properties").write_text("obs_collection=ztf\n")
    (tmp_path / "ztf" / "partition_info.csv").write_text("Norder,Npix\n1,21\n1,22\n")
    (tmp_path / "ztf" / "dataset" / "_metadata").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="observations of band r"):
        ingest_archive(tmp_path / "ztf", None, tmp_path / "out", ArchiveOptions(band="r"))
    report = ingest_archive(tmp_path / "ztf", None, tmp_path / "out", ArchiveOptions(band="g"))
    assert (report.tally.files, len(report.tally.rejected), report.tally.kept) == (2, 0, 6)
    assert open_survey(tmp_path / "out").source.time_system == "HMJD"


@pytest.mark.parametrize("kind", ["csv", "ascii.ecsv", "fits", "votable", "parquet"])
def test_periods_of_another_table(tmp_path: Path, kind: str) -> None:
    from astropy.table import Table

    objects = tmp_path / "objects.csv"
    objects.write_text("object_id,period,ra,dec\n686103400067717,9.5,187.25,-2.5\nb,2.5,10,10\nc,,11,10\nd,7.5,12,10\n")
    table = Table({"object_id": ["c", "b", "e"], "period": [0.25, np.nan, 5.0]})
    table["ra"], table["dec"] = [187.2501, 12.0, 12.0], [-2.5, 10.0001, 10.0002]
    path = tmp_path / f"periods.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({name: np.asarray(table[name]).tolist() for name in table.colnames}), path)
    else:
        table.write(path, format=kind)
    folder = write_archive(tmp_path / "in", x=ZTF)

    def periods_of(name: str, radius: float | None) -> tuple[Any, Any]:
        options = IngestOptions(periods=str(path), periods_radius=radius)
        report = ingest_archive(folder, objects, tmp_path / name, ArchiveOptions(ingest=options))
        return pq.read_table(tmp_path / name / "part-00000.parquet")["period"].to_pylist(), report.ingest.periods

    assert periods_of("by_id", None) == ([9.5, 2.5, 0.25, 7.5], {"matched": 2, "taken": 1, "ambiguous": 0, "shared": 0})
    by_position, counts = periods_of("by_position", 1.0)
    # The nearest to d has no period, so that its own stays.
    assert by_position == [0.25, 2.5, None, 7.5]
    assert counts == {"matched": 2, "taken": 1, "ambiguous": 1, "shared": 0}


@pytest.mark.parametrize("kind", ["csv", "ascii.ecsv", "fits", "votable", "parquet"])
def test_tables_of_objects_in_every_form_matched_by_position(tmp_path: Path, kind: str) -> None:
    from astropy import units
    from astropy.table import MaskedColumn, Table

    table = Table({"name": ["V1", "V2", "V3"], "P": MaskedColumn([12.0, 24.0, 1.0], mask=[False, False, True])})
    table["P"].unit = units.h if kind in ("ascii.ecsv", "fits", "votable") else None
    # 1", 3" and 3600" away.
    table["ra"], table["dec"] = [187.25, 187.25, 187.25], [-2.5 + 1 / 3600, -2.5 - 3 / 3600, -1.5]
    path = tmp_path / f"objects.{kind}"
    if kind == "parquet":
        pq.write_table(
            pa.table(
                {
                    name: pa.array(list(table[name].filled(np.nan) if name == "P" else table[name]))
                    for name in table.colnames
                }
            ),
            path,
        )
    else:
        table.rename_column("P", "period") if kind != "csv" else None
        table.write(path, format=kind)
    config = SurveyConfig(object_id="name", period="P" if kind in ("csv", "parquet") else "period")
    options = ArchiveOptions(radius=5, ingest=IngestOptions(config=config))
    report = ingest_archive(write_archive(tmp_path / "in", x=ZTF), path, tmp_path / "out", options)
    assert (report.ambiguous, report.unmatched, report.shared) == (1, 0, 0)
    written = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert written["object_id"].to_pylist() == ["V1", "V2", "V3"]
    hours = kind in ("ascii.ecsv", "fits", "votable")
    np.testing.assert_allclose(written["period"].to_numpy()[:2], [0.5, 1.0] if hours else [12, 24])
    assert [len(one["time"]) for one in written["lightcurve"].to_pylist()] == [3, 0, 0]


def test_matching_by_position() -> None:
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    dec[:2], ra[2] = [90.0, -90.0], np.nan
    shifted = ra + 0.5 / 3600
    match = match_positions(ra, dec, shifted[::-1], dec[::-1], 1 / 3600)
    expected = np.arange(300)[::-1].copy()
    expected[2] = -1
    np.testing.assert_array_equal(match.row, expected)
    assert not match.ambiguous.any()
    assert (match_positions(ra[:5], dec[:5], [], [], 0.1).row == -1).all()
    two = match_positions([0.0, 0.0001], [0.0, 0.0], [359.9999], [0.0], 0.001)
    assert two.shared == 1
    with pytest.raises(ValueError, match="radius"):
        match_positions(ra, dec, ra, dec, 2.0)


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        ({"a": SKYPATROL_V1}, ArchiveOptions(), "observations of one band"),
        ({"a": SKYPATROL_V1}, ArchiveOptions(band="R"), "observations of band R"),
        ({"a": SKYPATROL_V1, "b": OGLE}, ArchiveOptions(band="all"), "files of one time system"),
        ({"a": b"nothing"}, ArchiveOptions(), "at least one light curve"),
        ({"a": OGLE}, ArchiveOptions(format="ogel"), "one of auto, table"),
        ({"a": OGLE}, ArchiveOptions(format="table"), "the time system"),
        ({"a": OGLE}, ArchiveOptions(ingest=IngestOptions(time_system="MJD")), "HJD-2450000"),
        ({"a": OGLE}, ArchiveOptions(radius=3.0), "positions"),
    ],
)
def test_what_is_refused(tmp_path: Path, files: dict[str, bytes], options: ArchiveOptions, expected: str) -> None:
    (tmp_path / "objects.csv").write_text("object_id,period\na,0.5\n")
    with pytest.raises(InputError) as caught:
        ingest_archive(write_archive(tmp_path / "in", **files), tmp_path / "objects.csv", tmp_path / "out", options)
    assert expected in str(caught.value)
    assert not (tmp_path / "out").exists()
