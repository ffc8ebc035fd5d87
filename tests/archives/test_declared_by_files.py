"""What files declare of themselves is heeded: systems of times, units in names, bands in columns and folders."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, QTable, Table
from astropy.time import Time, TimeDelta

from varstar_batch.archives.any_table import table_formats
from varstar_batch.archives.formats import FORMATS, Reading, read_file, read_files
from varstar_batch.errors import InputError
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.objects import read_objects
from varstar_batch.ingest.options import ArchiveOptions
from varstar_batch.light_curves.times import is_same_system
from varstar_batch.survey.columns import TIME_SYSTEM_KEY, SurveyConfig

MJDS = [57000.5, 57001.5, 57002.75]


def table(zero: float, **time: Any) -> Table:
    """Three observations with times from a Julian date on."""
    days = np.array(MJDS) + 2400000.5 - zero
    return Table({"time": Column(days, **time), "mag": [14.0, 14.5, 15.0], "mag_err": [0.1, 0.1, 0.1]})


def in_fits(zero: float, **header: Any) -> bytes:
    sink = io.BytesIO()
    hdu = fits.BinTableHDU(table(zero))
    hdu.header.update(header)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(sink)
    return sink.getvalue()


def with_timesys() -> bytes:
    sink = io.BytesIO()
    table(2455197.5, unit="d").write(sink, format="votable")
    system = b'<TIMESYS ID="frame" timeorigin="2455197.5" timescale="TCB" refposition="BARYCENTER"/>'
    content = sink.getvalue().replace(b'<FIELD ID="time"', b'<FIELD ref="frame" ID="time"')
    assert b'ref="frame"' in content
    return content.replace(b"<TABLE", system + b"<TABLE", 1)


def in_parquet(zero: float, system: str | None = None, unit: str = "d") -> bytes:
    arrays = pa.Table.from_pydict({name: np.asarray(column) for name, column in table(zero).items()})
    field = pa.field("time", pa.float64(), metadata={"unit": unit})
    arrays = arrays.cast(pa.schema([field, *list(arrays.schema)[1:]]))
    sink = io.BytesIO()
    pq.write_table(arrays.replace_schema_metadata({TIME_SYSTEM_KEY: system} if system else None), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        in_fits(2457000.25, BJDREFI=2457000, BJDREFF=0.25),
        in_fits(2450000.5, MJDREF=50000.0),
        in_fits(2400000.5, TUNIT1="MJD", MJDREFI=0),
        in_fits(2454833.0, TUNIT1="BJD - 2454833, days"),
        in_fits(2457000.0, TUNIT1="BTJD"),
        with_timesys(),
        in_parquet(2454833.0, "BKJD"),
        in_parquet(0.0, "JD"),
        in_parquet(2457000.0, unit="BJD - 2457000"),
    ],
)
def test_times_are_brought_from_the_system_that_a_file_declares(content: bytes) -> None:
    _, found = read_file(content, "star", table_formats(SurveyConfig(), "MJD"))
    np.testing.assert_allclose(found.observations["time"].to_numpy(), MJDS, rtol=0, atol=1e-8)


def test_systems_of_other_names_are_the_same() -> None:
    assert is_same_system("MJD", "jd - 2400000.5")
    assert is_same_system("BTJD", "BJD_TDB-2457000")
    assert is_same_system("MJD (UTC)", "MJD_UTC")
    assert not is_same_system("BTJD", "BKJD")
    assert not is_same_system("HJD-2450000", "JD-2450000")
    assert not is_same_system("of mine", "of yours")


def test_mixins_in_parquet(tmp_path: Path) -> None:
    observed = QTable({"time": Time(MJDS, format="mjd", scale="tdb"), "mag": [14.0, 14.5, 15.0] * u.mag})
    observed["mag_err"] = [100.0, 100, 100] * u.mmag
    observed.write(tmp_path / "star.parquet")
    _, found = read_file((tmp_path / "star.parquet").read_bytes(), "star.parquet", table_formats(SurveyConfig(), "MJD"))
    np.testing.assert_allclose(found.observations["time"].to_numpy(), MJDS, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.observations["mag_err"].to_numpy(), 0.1, rtol=1e-6)
    objects = QTable({"object_id": ["a"], "period": TimeDelta([0.6], format="jd")})
    objects["place"] = SkyCoord([80.0], [-69.0], unit="deg").galactic
    objects.write(tmp_path / "objects.parquet")
    (row,) = read_objects(tmp_path / "objects.parquet", SurveyConfig()).to_pylist()
    np.testing.assert_allclose([row["period"], row["ra"], row["dec"]], [0.6, 80, -69], rtol=1e-9)


def test_arrays_of_structs() -> None:
    rows = [[{"time": t, "mag": 14.0, "mag_err": 0.1} for t in MJDS], [], None]
    sink = io.BytesIO()
    pq.write_table(pa.table({"object_id": ["a", "b", "c"], "lightcurve": rows}), sink)
    _, found = read_file(sink.getvalue(), "x.parquet", table_formats(SurveyConfig(), "MJD"))
    assert found.observations["time"].to_pylist() == MJDS
    assert found.empty_objects == ("b", "c")


@pytest.mark.parametrize(
    ("name", "unit"), [("Per [h]", 24), ("Per (hours)", 24), ("Per_h", 24), ("Per (V)", 1), ("Per", 1)]
)
def test_units_in_names(tmp_path: Path, name: str, unit: float) -> None:
    (tmp_path / "o.csv").write_text(f"object_id,{name},RA (deg)\na,{0.6 * unit},80\n")
    (row,) = read_objects(tmp_path / "o.csv", SurveyConfig(period=name, ra="RA (deg)")).to_pylist()
    np.testing.assert_allclose(row["period"], 0.6)
    content = b"time (s),mag [mmag],mag_err\n4924843200,14250,20\n"
    _, found = read_file(content, "star.csv", table_formats(SurveyConfig(), "MJD"))
    np.testing.assert_allclose(found.observations["time"].to_numpy(), 57000.5)
    np.testing.assert_allclose(found.observations["mag"].to_numpy(), 14.25)


@pytest.mark.parametrize(
    ("ra", "dec"), [("05:20:10.5", "-69:30:00"), ("5h20m10.5s", "-69d30m00s"), ("05 20 10.50", "-69 30 0")]
)
def test_angles_in_texts(tmp_path: Path, ra: str, dec: str) -> None:
    (tmp_path / "o.csv").write_text(f"object_id,period,ra,dec\na,0.6,{ra},{dec}\nb,0.6,,\n")
    rows = read_objects(tmp_path / "o.csv", SurveyConfig()).to_pylist()
    np.testing.assert_allclose([rows[0]["ra"], rows[0]["dec"]], [80.04375, -69.5])
    assert (rows[1]["ra"], rows[1]["dec"]) == (None, None)


def test_positions_in_hours_and_beyond_the_poles(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("object_id,period,ra,dec\na,0.6,5.5,-69\n")
    (row,) = read_objects(tmp_path / "o.csv", SurveyConfig(position_unit="hourangle")).to_pylist()
    np.testing.assert_allclose([row["ra"], row["dec"]], [82.5, -69])
    with pytest.raises(InputError, match=r"declinations in 'dec' of -90 to 90 deg, got -395\d\.*"):
        read_objects(tmp_path / "o.csv", SurveyConfig(position_unit="rad"))


@pytest.mark.parametrize("name", ["FILT", "Band", "bandpass", "filter_name", "PASSBAND", "flt"])
@pytest.mark.parametrize("values", [("g", "r"), ("1", "2")])
def test_bands_by_the_names_of_columns(name: str, values: tuple[str, str]) -> None:
    content = f"time,mag,mag_err,{name}\n57000.5,14,0.1,{values[0]}\n57001.5,15,0.1,{values[1]}\n"
    _, found = read_file(content.encode(), "star.csv", table_formats(SurveyConfig(), "MJD"))
    assert found.observations["band"].to_pylist() == list(values)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("g", "r"), ("I_band", "V_band"), ("phot_B", "phot_R"), ("band=g", "band=r"), ("Filter=V", "Filter=I")),
        *(("sdss_g", "sdss_r"), ("Johnson_V", "Johnson_B"), ("W1", "W2"), ("2MASS_J", "2MASS_Ks")),
    ],
)
def test_bands_by_the_names_of_folders(tmp_path: Path, one: str, other: str) -> None:
    for folder in (one, other):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "star.csv").write_text("time,mag,mag_err\n57000.5,14,0.1\n")
    with pytest.raises(InputError, match="one band, or a choice"):
        ingest_archive(tmp_path / "in", None, tmp_path / "out", ArchiveOptions(format="table", time_system="MJD"))


def test_a_file_with_names_alone_is_an_object() -> None:
    names, values = b"time,mag,mag_err\n", b"57000.5,14,0.1\n"
    files = [("a.csv", names + values), ("b.csv", names), ("c.csv", names + values)]
    (reading,) = read_files(files, table_formats(SurveyConfig(), "MJD"))
    assert isinstance(reading, Reading)
    assert reading.content.empty_objects == ("b",)


@pytest.mark.parametrize("value", [-999.0, 99.0, "nan", ""])
def test_a_magnitude_that_is_none(value: Any) -> None:
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, "D", array=np.array([1.0, 2, 3])) for name in ("TIME", "PDCSAP_FLUX")]
    )
    table.header.update({"BJDREFI": 2457000, "BJDREFF": 0.0})
    primary = fits.PrimaryHDU()
    primary.header["TESSMAG"] = value
    sink = io.BytesIO()
    fits.HDUList([primary, table]).writeto(sink)
    _, found = read_file(sink.getvalue(), "star.fits", list(FORMATS.values()))
    assert np.median(found.observations["mag"].to_numpy()) == 0
    assert next(iter(found.notes)).startswith("no catalog magnitude")
