"""Times of one system in another, beside astropy's own light travel times."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varstar_batch.errors import InputError
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import IngestOptions
from varstar_batch.ingest.time_correction import TimeCorrection
from varstar_batch.survey.open import open_survey

N = 400
RNG = np.random.default_rng(5)
OBJECTS = pa.table(
    {"object_id": np.arange(5), "ra": [0.0, 83.8, 187.2, 266.4, 359.9], "dec": [0.0, -5.4, 89.0, -29, -90]}
)
INDEX = RNG.integers(0, 5, N)
TIMES = np.sort(RNG.uniform(2456000, 2459000, N))
SECOND = 1 / 86400


def astropys(kind: str) -> np.ndarray:
    """Return light travel times [d] by astropy, for an observer at the centre of the Earth."""
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    sky = SkyCoord(OBJECTS["ra"].to_numpy()[INDEX], OBJECTS["dec"].to_numpy()[INDEX], unit="deg")
    with iers.conf.set_temp("auto_download", False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = Time(TIMES, format="jd", scale="utc", location=EarthLocation.from_geocentric(0, 0, 0, "m"))
        return np.asarray(times.light_travel_time(sky, kind).to_value("d"))


def convert(source: str, target: str, times: np.ndarray) -> np.ndarray:
    return TimeCorrection.make(source, target, OBJECTS).apply(INDEX, times)


@pytest.mark.parametrize(("target", "kind"), [("HJD", "heliocentric"), ("BJD", "barycentric")])
def test_light_travel_times_are_those_of_astropy(target: str, kind: str) -> None:
    difference = convert("JD", target, TIMES) - TIMES
    np.testing.assert_allclose(difference, astropys(kind), rtol=0, atol=2e-3 * SECOND)
    assert np.abs(difference).max() > 400 * SECOND
    # There and back again, to the rounding of Julian dates in float64.
    np.testing.assert_allclose(convert(target, "JD", TIMES + difference), TIMES, rtol=0, atol=2e-9)


def test_from_the_sun_to_the_barycentre() -> None:
    heliocentric = convert("JD", "HJD", TIMES)
    np.testing.assert_allclose(convert("HJD", "BJD", heliocentric), convert("JD", "BJD", TIMES), rtol=0, atol=2e-9)
    assert np.abs(convert("HJD", "BJD", TIMES) - TIMES).max() < 10 * SECOND


def test_offsets_and_scales() -> None:
    np.testing.assert_allclose(
        convert("MJD", "BJD-2450000", TIMES - 2400000.5), convert("JD", "BJD", TIMES) - 2450000, atol=2e-9
    )
    # 35 or more leap seconds by then, 32.184 s between TAI and TT.
    in_2018 = np.full(N, 2458200.5)
    np.testing.assert_allclose(convert("JD (UTC)", "JD (TT)", in_2018) - in_2018, 69.184 * SECOND, atol=1e-9)
    both = convert("JD (UTC)", "BJD_TDB", TIMES) - convert("JD", "BJD", TIMES)
    assert (both > 66 * SECOND).all()
    assert (both < 70 * SECOND).all()


def test_what_is_no_time_stays_as_it_is() -> None:
    times = np.array([np.nan, np.inf, -2409998.5, 2457000.5])
    index = np.array([0, 0, 0, -1])
    got = TimeCorrection.make("JD", "BJD", OBJECTS).apply(index, times)
    np.testing.assert_array_equal(got, times)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("JD", "BJD_TDB", "the time scale of JD"),
        ("days since launch", "BJD", "JD, HJD, BJD"),
        ("JD (UT1)", "BJD (TT)", "other than UT1"),
    ],
)
def test_what_cannot_be_corrected(source: str, target: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        TimeCorrection.make(source, target, OBJECTS)
    assert expected in str(caught.value)


def test_a_survey_in_another_time_system(tmp_path: Path) -> None:
    observations = pa.table({"object_id": INDEX, "time": TIMES, "mag": np.full(N, 15.0), "mag_err": np.full(N, 0.1)})
    pq.write_table(observations, tmp_path / "observations.parquet")
    objects = OBJECTS.append_column("period", pa.array([1.0] * 5))
    pq.write_table(objects, tmp_path / "objects.parquet")
    options = IngestOptions(time_system="JD", correct_to="HJD")
    ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", tmp_path / "survey", options)
    assert open_survey(tmp_path / "survey").source.time_system == "HJD"
    table = pq.read_table(tmp_path / "survey" / "part-00000.parquet").sort_by("object_id")
    expected = convert("JD", "HJD", TIMES)
    for i, curve in enumerate(table["lightcurve"].to_pylist()):
        np.testing.assert_array_equal(curve["time"], np.sort(expected[i == INDEX]))
    pq.write_table(objects.set_column(1, "ra", pa.array([None] * 5, pa.float64())), tmp_path / "objects.parquet")
    with pytest.raises(InputError, match="position of every object"):
        ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", tmp_path / "other", options)
