"""Files of one folder that differ in where their light is timed: each is of its own system, the survey of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.time import Time

from varstar_batch.errors import InputError
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.one_system import common_system
from varstar_batch.ingest.options import ArchiveOptions

TIMES = 2458000.25 + 3.7 * np.arange(100)
RA, DEC = 80.0, -20.0


def skypatrol_1(times: np.ndarray) -> str:
    head = "HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err,Filter\n"
    lines = (f"{t:.7f},2017-09-03.97,be,1.77,15.5,{14 + k % 7 * 0.1:.3f},0.02,4.4,.4,V\n" for k, t in enumerate(times))
    return head + "".join(lines)


def skypatrol_2(times: np.ndarray) -> str:
    head = "JD,Flux,Flux Error,Mag,Mag Error,Limit,FWHM,Filter,Quality,Camera\n"
    lines = (f"{t:.7f},4.4,.4,{14 + k % 5 * 0.1:.3f},0.02,15.5,1.4,V,G,ba\n" for k, t in enumerate(times))
    return head + "".join(lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "v1/star.csv": skypatrol_1(TIMES),
        "v2/star.csv": skypatrol_2(TIMES + 500),
        "v2/other.csv": skypatrol_2(TIMES),
    }.items():
        file = tmp_path / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "files"


def heliocentric(times: np.ndarray) -> np.ndarray:
    """Return what astropy makes of times at the centre of the Earth."""
    seen = Time(times, format="jd", scale="utc", location=EarthLocation.from_geocentric(0, 0, 0, unit=u.m))
    delay = seen.light_travel_time(SkyCoord(RA * u.deg, DEC * u.deg), "heliocentric", ephemeris="builtin")
    return np.asarray(times + delay.to_value(u.d))


def test_sky_patrol_1_and_2_in_one_folder(folder: Path, tmp_path: Path) -> None:
    objects = pa.table({"object_id": ["star", "other"], "period": [0.6, 0.7], "ra": [RA, None], "dec": [DEC, None]})
    pq.write_table(objects, tmp_path / "objects.parquet")
    report = ingest_archive(folder, tmp_path / "objects.parquet", tmp_path / "survey")
    assert report.ingest.time_system == "HJD"
    assert report.ingest.observations_written == 300
    assert dict(report.tally.notes) == {
        "times turned from JD into HJD": 100,
        "times of stars without a position stay JD, up to 8.4 minutes off HJD": 100,
    }
    survey = pq.read_table(tmp_path / "survey")
    rows = {row["object_id"]: np.array(row["lightcurve"]["time"]) for row in survey.to_pylist()}
    expected = np.sort(np.concatenate([TIMES, heliocentric(TIMES + 500)]))
    # Half a second; by the way from the Earth to the Sun it would be eight minutes.
    np.testing.assert_allclose(rows["star"], expected, rtol=0, atol=6e-6)
    assert np.abs(heliocentric(TIMES + 500) - TIMES - 500).max() > 0.004
    np.testing.assert_allclose(rows["other"], TIMES, rtol=0, atol=1e-7)
    assert survey.schema.metadata[b"varstar.time_system"] == b"HJD"
    assert b"time_system" not in survey.schema.to_string().encode().replace(b"varstar.time_system", b"")


def test_without_a_table_and_without_positions_it_is_said(folder: Path, tmp_path: Path) -> None:
    report = ingest_archive(folder, None, tmp_path / "survey")
    assert dict(report.tally.notes) == {"times of stars without a position stay JD, up to 8.4 minutes off HJD": 200}
    # Who wants it exactly is told what is missing.
    with pytest.raises(InputError, match="expected the position of every object"):
        ingest_archive(folder, None, tmp_path / "exact", ArchiveOptions(correct_to="BJD"))


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        ({"JD"}, "JD"),
        ({"JD", "HJD"}, "HJD"),
        ({"HJD", "BJD", "JD"}, "BJD"),
        ({"HMJD", "MJD"}, "HMJD"),
        ({"MJD", "HJD"}, None),
        ({"HJD", "BJD_TDB"}, None),
        ({"days since I came"}, "days since I came"),
        ({"JD", "days since I came"}, None),
    ],
)
def test_which_systems_are_brought_to_one(systems: set[str], expected: str | None) -> None:
    assert common_system(systems) == expected
