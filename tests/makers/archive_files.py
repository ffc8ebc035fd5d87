"""Files of every archive, written by hand to their documented form with their traps, and folders of them."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.archives.formats import FORMATS

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
EROS2 = b"""# EROS-2 lm0627m14174
# HJD-2450000 magR errR magB errB
 8000.47009 14.839 0.117 15.1 0.1
 8000.47137 14.760 0.090 99.999 9.999
 8001.51020 99.999 9.999 15.2 0.1
 8002.51020 14.814 0.385 15.3 0.1
"""
# In no archive's form.
PLAIN_TABLE = b"time,mag,mag_err\n2458000.47009,14.839,0.117\n2458000.47137,14.760,0.090\n2458002.51020,14.814,0.385\n"


def error_of(mag_err: float, flux: float) -> float:
    """Return the error of the flux that makes this error of the magnitude."""
    return float(mag_err * flux * np.log(10) / 2.5)


def atlas() -> bytes:
    """Fluxes in microjansky: one negative in o, whose magnitude ATLAS writes as negative, one in c, one flagged."""
    head = "###MJD m dm uJy duJy F err chi/N RA Dec x y maj min phi apfit mag5sig Sky Obs"
    flux = [10 ** (-0.4 * (mag - 23.9)) for mag in MAGS]
    rows = [(t, f, error_of(e, f), "o", 0) for t, f, e in zip(HJD, flux, ERRORS, strict=True)]
    rows += [(2458003.0, -22.0, 9.0, "o", 0), (2458004.0, 500.0, 9.0, "c", 0), (2458005.0, 700.0, 9.0, "o", 1)]
    lines = (
        f"{t - 2400000.5:.9f} {-18.3 if f < 0 else 15.0} 0.1 {f!r} {e!r}  {band} {err} 1.1 187.25 -2.5"
        " 1 1 2.5 2.3 -33 -0.4 14.729 20.5 01a58000o0001o"
        for t, f, e, band, err in rows
    )
    return "\n".join([head, *lines]).encode()


def macho() -> bytes:
    """Lines of a star in red and blue, with 39 fields; -99 is no measurement."""
    rows = [*zip(HJD, MAGS, ERRORS, strict=True), (2458003.0, -99.0, 9.999)]
    band = ";1.0;1;0.1;1.0;0;0;1;1;1;500;3.1;1;0"
    return "".join(
        f";1;3444;614;{t - 2400000.5:.9f};{i};W;300;1.2;{m};{e}{band};15.5;0.1{band}\n"
        for i, (t, m, e) in enumerate(rows)
    ).encode()


def tess_by_others(kind: str) -> bytes:
    """A light curve of TESS as QLP, eleanor, lightkurve or astropy's TimeSeries write it."""
    from astropy.io import fits

    flux = 10 ** (-0.4 * (np.array([*MAGS, 12.0]) - np.median(MAGS)))
    error = [*(error_of(e, f) for e, f in zip(ERRORS, flux, strict=False)), 1.0]
    names = {
        "tess-qlp": ("SAP_FLUX", "DET_FLUX_ERR"),
        "tess-eleanor": ("CORR_FLUX", "FLUX_ERR"),
        "lightkurve": ("FLUX", "FLUX_ERR"),
    }[kind]
    columns = [
        fits.Column(
            "TIME",
            "D",
            unit="btjd" if kind == "lightkurve" else "BJD - 2457000, days",
            array=np.array([*HJD, 2458003.0]) - 2457000,
        ),
        fits.Column(names[0], "E", array=flux),
        fits.Column(names[1], "E", array=error),
        fits.Column("QUALITY", "J", array=[0, 0, 0, 4096]),
        fits.Column("RAW_FLUX" if kind == "tess-eleanor" else "KSPSAP_FLUX", "E", array=flux),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="LIGHTCURVE")
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "TESS"
    primary.header.update(
        {"TIC_ID": 5, "TMAG": float(np.median(MAGS))}
        if kind == "tess-eleanor"
        else {"OBJECT": "TIC 5", "TESSMAG": float(np.median(MAGS))}
    )
    if kind == "tess-qlp":
        table.header.update({"BJDREFI": 2457000, "BJDREFF": 0.0})
    sink = io.BytesIO()
    fits.HDUList([primary, table]).writeto(sink)
    return sink.getvalue()


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
    "atlas": (atlas, "atlas", "o", "star", 2400000.5, {"err": 1}),
    "eros2": (EROS2, "eros2", "R", "star", 2450000, {"no measurement in a band": 2}),
    "macho": (macho, "macho", "R", "1.3444.614", 2400000.5, {"no measurement in a band": 1}),
    **{
        kind: (lambda kind=kind: tess_by_others(kind), kind, "TESS", "TIC 5", 0, {"quality flag": 1})  # type: ignore[misc]
        for kind in ("tess-qlp", "tess-eleanor", "lightkurve")
    },
    "tess": (lambda: kepler("TESS"), "kepler", "TESS", "TIC 5", 0, {"quality flag": 2}),
    "kepler": (lambda: kepler("Kepler"), "kepler", "Kp", "TIC 5", 0, {"quality flag": 2}),
}


def write_archive(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
