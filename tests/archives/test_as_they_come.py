"""Files as they come: astropy's own columns, other spellings, blanks, comments, headers that leave things undefined."""

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
from astropy.table import QTable
from astropy.time import Time, TimeDelta
from astropy.utils.masked import Masked

from tests.makers.archive_files import ALL, ERRORS, HJD, MAGS, SKYPATROL_V1, kepler, pyasassn
from varstar_batch.archives.any_table import table_formats
from varstar_batch.archives.content import FileContent, UnreadableFileError
from varstar_batch.archives.formats import FORMATS, read_file
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.objects import read_objects
from varstar_batch.ingest.options import ArchiveOptions
from varstar_batch.survey.columns import SurveyConfig

MIXIN_FORMATS = ("fits", "ascii.ecsv")


def written(table: QTable, kind: str) -> bytes:
    sink = io.BytesIO() if kind == "fits" else io.StringIO()
    table.write(sink, format=kind)
    value = sink.getvalue()
    return value if isinstance(value, bytes) else value.encode()


def as_table(content: bytes, time_system: str = "MJD", **names: str) -> FileContent:
    return read_file(content, "star.dat", table_formats(SurveyConfig(**names), time_system))[1]


@pytest.mark.parametrize("kind", MIXIN_FORMATS)
@pytest.mark.parametrize(
    ("scale", "system", "expected"),
    [
        ("utc", "MJD", lambda time: time.mjd),
        ("utc", "BJD_TDB", lambda time: time.tdb.jd),
        ("tdb", "HJD-2450000", lambda time: time.jd - 2450000),
        ("tai", "MJD UTC", lambda time: time.utc.mjd),
    ],
)
def test_times_of_astropy_are_brought_to_the_survey_s_system(kind: str, scale: str, system: str, expected: Any) -> None:
    time = Time(HJD, format="jd", scale=scale)
    table = QTable({"time": time, "mag": MAGS * u.mag, "mag_err": Masked(ERRORS * u.mag, mask=[False, True, False])})
    rows = as_table(written(table, kind), system).observations
    np.testing.assert_allclose(rows["time"].to_numpy(), expected(time), rtol=0, atol=1e-9)
    np.testing.assert_allclose(rows["mag"].to_numpy(), MAGS, rtol=1e-6)
    np.testing.assert_allclose(rows["mag_err"].to_numpy(), [ERRORS[0], np.nan, ERRORS[2]], rtol=1e-6)


@pytest.mark.parametrize("kind", MIXIN_FORMATS)
def test_times_that_are_masked_are_none_and_free_text_has_no_zero_point(kind: str) -> None:
    time = Time(np.ma.array(HJD, mask=[False, True, False]), format="jd", scale="tdb")
    content = written(QTable({"time": time, "mag": MAGS, "mag_err": ERRORS}), kind)
    np.testing.assert_array_equal(np.isnan(as_table(content).observations["time"].to_numpy()), [False, True, False])
    with pytest.raises(UnreadableFileError, match="a time system such as MJD"):
        as_table(content, "days of the mission")


@pytest.mark.parametrize("kind", MIXIN_FORMATS)
def test_objects_with_coordinates_and_spans_of_time(tmp_path: Path, kind: str) -> None:
    spots = SkyCoord([10, 20] * u.deg, [-5, 5] * u.deg, frame="galactic")
    table = QTable(
        {
            "object_id": ["a", "b"],
            "period": TimeDelta([0.5, 12.0], format="jd"),
            "place": spots,
            "seen": Time(HJD[:2], format="jd"),
            "size": Masked([1.0, 2.0] * u.arcsec, mask=[True, False]),
        }
    )
    path = tmp_path / "objects"
    path.write_bytes(written(table, kind))
    objects = read_objects(path, SurveyConfig())
    assert objects["period"].to_pylist() == [0.5, 12.0]
    np.testing.assert_allclose(objects["ra"].to_numpy(), spots.icrs.ra.deg)
    np.testing.assert_allclose(objects["dec"].to_numpy(), spots.icrs.dec.deg)
    np.testing.assert_allclose(objects["seen"].to_numpy(), HJD[:2])
    assert objects["size"].to_pylist() == [None, 2.0]


@pytest.mark.parametrize(
    "content",
    [
        pyasassn("csv").replace(b'"camera"', b'"cam"'),
        pyasassn("csv").replace(b'"camera"', b'"Camera"').replace(b'"mag"', b'"MAG"'),
        b"# a comment\n" + pyasassn("csv").replace(b'"camera"', b' "cam" '),
        pyasassn("csv").replace(b'"camera"', b'"cam"').replace(b'"', b""),
        pyasassn("csv").replace(b'"camera"', b'"cam"').replace(b",", b"\t"),
        # As pandas writes it with its index.
        b"\n".join(b"%d,%s" % (k, line) if k else b"," + line for k, line in enumerate(pyasassn("csv").splitlines())),
    ],
)
def test_names_of_a_format_in_other_spellings(content: bytes) -> None:
    form, found = read_file(content, "star.csv", ALL)
    assert form.name == "asassn-pyasassn"
    assert found.observations["camera"].to_pylist() == ["be"] * 4


def test_capitals_do_not_choose_between_bands() -> None:
    """The light curves in bulk differ by capitals alone, and their band with them."""
    with pytest.raises(UnreadableFileError, match="a known format"):
        read_file(b"Hjd Mag Mag_Err\n8000.0 14 0.1\n", "star.dat", ALL)
    assert read_file(b"Hjd Mag Mag_Err\n8000.0 14 0.1\n", "star.dat", [FORMATS["asassn-bulk-v"]])[1].rows == 1


@pytest.mark.parametrize(
    "padded",
    [
        SKYPATROL_V1.replace(b",", b", "),
        SKYPATROL_V1.replace(b",", b"\t,  ").replace(b"\n", b" \r\n"),
        b"\n".join(b" " + line for line in SKYPATROL_V1.splitlines()),
        SKYPATROL_V1.replace(b">", b"> "),
        SKYPATROL_V1.replace(b",", b",\t"),
        SKYPATROL_V1.replace(b"be,", b'"be" ,').replace(b",V", b', "V"'),
    ],
)
def test_blanks_beside_commas_are_not_part_of_values(padded: bytes) -> None:
    expected = read_file(SKYPATROL_V1, "star.csv", ALL)[1].observations
    assert read_file(padded, "star.csv", ALL)[1].observations.equals(expected)


@pytest.mark.parametrize(
    "text",
    [
        "object_id, period, ra, dec\n012, 0.6, 80, -69\n013,  , 81, -68\n",
        "# made by me\n# two, lines\nobject_id,period,ra,dec\n012,0.6,80,-69\n013,,81,-68\n",
        "# object_id,period,ra,dec\n012,0.6,80,-69\n013,,81,-68\n",
        "object_id\tperiod\tra\tdec\n012\t0.6\t80\t-69\n013\t\t81\t-68\n",
        "#\n object_id ; period ; ra ; dec\n012; 0.6; 80; -69\n013; ; 81; -68\n",
        "\ufeffobject_id  period ra  dec\r\n012   0.6 80 -69\r\n013   nan 81 -68\r\n",
        "   # indented\n\nobject_id,period,ra,dec\n012,0.6,80,-69\n# between\n013,,81,-68\n\n",
        '% of mine\n// and hers\n"object_id", "period", "ra", "dec"\n"012", 0.6, 80, -69\n"013", , 81, -68\n',
        "Object_ID,PERIOD,RA,Dec\n012,0.6,80,-69\n013,nan,81,-68\n",
    ],
)
def test_tables_of_objects_as_people_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "objects.csv"
    path.write_text(text)
    objects = read_objects(path, SurveyConfig())
    assert objects["object_id"].to_pylist() == ["012", "013"]
    np.testing.assert_array_equal(objects["period"].fill_null(np.nan).to_numpy(), [0.6, np.nan])
    assert objects["ra"].to_pylist() == [80.0, 81.0]
    assert objects["dec"].to_pylist() == [-69.0, -68.0]


def header_with(content: bytes, **values: Any) -> bytes:
    sink = io.BytesIO()
    with fits.open(io.BytesIO(content)) as file:
        for key, value in values.items():
            where = file[0] if key in file[0].header else file[1]
            where.header[key] = fits.card.UNDEFINED if value is None else value
        file.writeto(sink)
    return sink.getvalue()


@pytest.mark.parametrize("value", [None, "NaN", "", "unknown", -9999.0, True, 1e30])
def test_a_star_without_a_catalog_s_magnitude_has_a_light_curve(value: Any) -> None:
    _, found = read_file(header_with(kepler("TESS"), TESSMAG=value), "x.fits", ALL)
    rows = found.observations
    np.testing.assert_allclose(rows["mag"].to_numpy(), np.array(MAGS) - np.median(MAGS), atol=2e-6)
    assert found.notes == {"no catalog magnitude: magnitudes are relative, 0 at the median": 5}


@pytest.mark.parametrize("values", [{"RA_OBJ": None}, {"DEC_OBJ": "unknown"}, {"RA_OBJ": "", "DEC_OBJ": None}])
def test_a_star_without_a_position_has_a_light_curve(values: dict[str, Any]) -> None:
    _, found = read_file(header_with(kepler("TESS"), **values), "x.fits", ALL)
    assert not found.positions
    assert found.observations.num_rows == 3


def test_stars_without_a_name_are_called_as_their_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.fits").write_bytes(header_with(kepler("TESS"), OBJECT=None))
        assert (
            read_file((tmp_path / f"{name}.fits").read_bytes(), f"{name}.fits", ALL)[1]
            .observations["object_id"][0]
            .as_py()
            == name
        )
    with pytest.raises(UnreadableFileError, match="BJDREFI"):
        read_file(header_with(kepler("TESS"), BJDREFI=None, TUNIT1="d"), "x.fits", ALL)


def empties(kind: str) -> tuple[pa.Table, str]:
    """Four objects: one with observations, one of null arrays, one of empty ones, one whose identifier is null."""
    numbers = pa.array([HJD, None, [], HJD], pa.list_(pa.float64()))
    zero = {"ztf-hats": 2400000.5, "gaia": 2455197.5, "gaia-raw": 2455197.5}.get(kind, 0.0)
    dates = [time - zero for time in HJD]
    times = pa.array([dates, None, [], dates], pa.list_(pa.float64()))
    zeros = pa.array([[0] * 3, None, [], [0] * 3], pa.list_(pa.int64()))
    texts = pa.array([["G"] * 3, None, [], ["G"] * 3], pa.list_(pa.string()))
    ids = pa.array([1, 2, 3, None])
    if kind == "ztf-hats":
        lists = {"hmjd": times, "mag": numbers, "magerr": numbers, "catflags": zeros}
        spots = {"objra": [1.0, 2, 3, 4], "objdec": [1.0, 2, 3, 4]}
        return pa.table({"objectid": ids, "filterid": [1, 1, None, 1]} | spots | lists), "lightcurve"
    if kind == "gaia":
        lists = {"band": texts, "time": times, "mag": numbers, "flux": numbers, "flux_error": numbers}
        return pa.table({"source_id": ids} | lists), ""
    if kind == "gaia-raw":
        names = ("g_transit_time", "g_transit_mag", "g_transit_flux", "g_transit_flux_error")
        return pa.table({"source_id": ids} | dict.fromkeys(names, numbers) | {names[0]: times}), ""
    lists = {"time": times, "mag": numbers, "mag_err": numbers}
    return pa.table({"object_id": ids, "ra": [1.0, 2, 3, 4], "dec": [1.0, 2, 3, 4]} | lists), "lightcurve"


@pytest.mark.parametrize("kind", ["ztf-hats", "gaia", "gaia-raw", "table"])
def test_objects_without_observations_stay_one_row_each(tmp_path: Path, kind: str) -> None:
    table, _ = empties(kind)
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    options = ArchiveOptions(format=kind, time_system="HJD" if kind == "table" else None)
    report = ingest_archive(tmp_path / "in", None, tmp_path / "out", options)
    rows = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert rows["object_id"].to_pylist() == ["1", "2", "3"]
    assert [len(one["time"]) for one in rows["lightcurve"].to_pylist()] == [3, 0, 0]
    assert report.tally.left_out == {"no object_id": 3}
    assert report.ingest.objects_without_observations == 2
    if "ra" in rows.column_names and kind in ("ztf-hats", "table"):
        assert rows["ra"].to_pylist() == [1.0, 2.0, 3.0]
