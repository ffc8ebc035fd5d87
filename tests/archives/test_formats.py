"""Every format of an archive gives the same light curve."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from astropy.table import Table

from tests.makers.archive_files import ALL, ERRORS, GOLDEN, HJD, MAGS, OGLE, SKYPATROL_V1, VARIABLES, gaia_raw
from varstar_batch.archives.any_table import table_formats
from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.archives.formats import FORMATS, Reading, read_file, read_files
from varstar_batch.archives.surveys.asassn import CAMERA_BANDS
from varstar_batch.archives.tally import Rejected
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.survey.columns import SurveyConfig


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


TIMES_IN = {"d": 1.0, "h": 24.0, "min": 1440.0, "s": 86400.0}
MAGS_IN = {"mag": None, "mmag": None, "mag(AB)": None, "Jy": 8.9, "mJy": 16.4, "uJy": 23.9, "nJy": 31.4}
"""Zeros of AB magnitudes by the units of fluxes."""


@pytest.mark.parametrize(
    ("kind", "time", "mag"),
    [
        (kind, time, mag)
        for kind in ("fits", "votable", "ascii.ecsv", "parquet")
        for time, mag in (*((each, "mag") for each in TIMES_IN), *(("d", each) for each in MAGS_IN), ("s", "uJy"))
        # FITS and VOTable have no word for it.
        if mag != "mag(AB)" or kind in ("ascii.ecsv", "parquet")
    ],
)
def test_a_golden_table_in_its_units_is_the_same_light_curve(tmp_path: Path, kind: str, time: str, mag: str) -> None:
    zero, mags, errors = MAGS_IN[mag], np.array(MAGS), np.array(ERRORS)
    if zero is not None:
        mags = 10 ** (-0.4 * (mags - zero))
        errors = errors * mags * np.log(10) / 2.5
    elif mag == "mmag":
        mags, errors = mags * 1000, errors * 1000
    table = Table({"time": (np.array(HJD) - 2_450_000) * TIMES_IN[time], "mag": mags, "mag_err": errors})
    table["time"].unit = time
    for name in ("mag", "mag_err"):
        table[name].unit = "mag" if (name, mag) == ("mag_err", "mag(AB)") else mag
    file = tmp_path / {"fits": "star.fits", "votable": "star.vot", "ascii.ecsv": "star.ecsv"}.get(kind, "star.parquet")
    table.write(file, format=kind)
    found = read_file(file.read_bytes(), file.name, table_formats(SurveyConfig(), "HJD-2450000"))[1].observations
    np.testing.assert_allclose(found["time"].to_numpy() + 2_450_000, HJD, rtol=0, atol=2e-9)
    np.testing.assert_allclose(found["mag"].to_numpy(), MAGS, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found["mag_err"].to_numpy(), ERRORS, rtol=1e-5)


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
        together = pa.concat_tables([one.content.observations for one in readings if isinstance(one, Reading)])
        alone = [(key, content) for key, content in files if content != cut]
        expected = pa.concat_tables([read_file(content, key, ALL)[1].observations for key, content in alone])
        assert together.equals(expected)
        rejected = [one.file for one in readings if isinstance(one, Rejected)]
        assert rejected == (["star-1.csv"] if cut in group else [])
        read = [key for one in readings if isinstance(one, Reading) for key in one.keys]
        assert sorted(read + rejected) == [key for key, _ in files]


@pytest.mark.parametrize(
    ("content", "expected", "got"),
    [
        (b"", "a table", "an empty file"),
        (b"\x00\x01\x02", "a text or a table", "binary"),
        (b"PK\x03\x04\0\0", "a text or a table", "binary"),
        (b"just a note\nabout stars\n", "a known format", "just, a, note"),
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
    config = SurveyConfig(object_id="star", time="t", mag="F", mag_err="dF", mag_unit="Jy")
    form, found = read_file(content, "x.csv", table_formats(config, "HJD-2450000"))
    assert form.time_system == "HJD-2450000"
    assert found.observations["object_id"].to_pylist() == ["007", "007"]
    np.testing.assert_allclose(found.observations["mag"].to_numpy(), [0.0, 99.99], atol=1e-5)
    np.testing.assert_allclose(found.observations["mag_err"].to_numpy(), [2.5 / np.log(10) * 3 / 3630.7805, 99.99])


def test_observations_of_files_read_together_are_all_in_the_balance() -> None:
    """A transit of Gaia is an observation in each band that has a time."""
    content = gaia_raw()
    (together,) = read_files([("a.csv", content), ("b.csv", content)], ALL)
    assert isinstance(together, Reading)
    assert together.content.rows == 2 * read_file(content, "a.csv", ALL)[1].rows
