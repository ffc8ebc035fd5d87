"""Periods that are searched: found where there is one, doubted where they should be, never taken for the catalog's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varstar_batch.errors import InputError
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.objects import with_origins
from varstar_batch.ingest.options import IngestOptions
from varstar_batch.ingest.period_search import PeriodSearch, find_period, with_found
from varstar_batch.light_curves import periods
from varstar_batch.light_curves.periods import harmonic_powers
from varstar_batch.light_curves.rules import Limits
from varstar_batch.survey.columns import SurveyConfig


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    # Short light curves and few frequencies: the periodograms are nifty-ls's.
    monkeypatch.setattr(periods, "MAX_FREQUENCY", 6.0)


def make_curve(period: float, seed: int, shape: str = "sine") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    time = np.sort(55000 + rng.integers(0, 120, 150) + rng.normal(0.3, 0.08, 150))
    phase = time / period % 1
    signal = (
        np.sin(2 * np.pi * phase) if shape == "sine" else np.cos(4 * np.pi * phase) + 0.1 * np.cos(2 * np.pi * phase)
    )
    return time, 15 + 0.4 * signal + rng.normal(0, 0.03, 150), np.full(150, 0.03)


@pytest.mark.parametrize("period", [0.31, 0.5731, 2.77, 17.3])
def test_a_period_is_found(period: float) -> None:
    found = find_period(*make_curve(period, 1))
    assert found.period == pytest.approx(period, rel=2e-3)
    assert found.significance > 20
    assert find_period(*make_curve(period, 1)[:2], None).period == pytest.approx(period, rel=2e-3)


@pytest.mark.parametrize("column", ["band", "colour"])
def test_a_period_is_found_in_bands_of_other_magnitudes(tmp_path: Path, column: str) -> None:
    time, mag, mag_err = make_curve(0.5731, 1)
    band = np.where(np.random.default_rng(3).random(150) < 0.5, "B", "V")
    # Redder, and of a smaller amplitude there.
    mag = np.where(band == "B", mag, 14.2 + 0.7 * (mag - 15))
    mixed = find_period(time, mag, mag_err)
    columns = {"object_id": ["a"] * 150, "time": time, "mag": mag, "mag_err": mag_err, column: band}
    pq.write_table(pa.table(columns), tmp_path / "observations.parquet")
    pq.write_table(pa.table({"object_id": ["a"], "period": pa.nulls(1, pa.float64())}), tmp_path / "objects.parquet")
    options = IngestOptions(time_system="MJD", band="fuse", find_periods=True, columns=SurveyConfig(band=column))
    ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", tmp_path / "out", options)
    (row,) = pq.read_table(tmp_path / "out").to_pylist()
    assert row["period"] == pytest.approx(0.5731, rel=2e-3)
    assert row["period_origin"] == "found"
    assert row["period_significance"] > 2 * mixed.significance


def test_the_period_of_two_waves_is_that_of_both() -> None:
    # Two nearly equal minima a turn, as of an eclipsing binary: the periodogram itself has half of the period.
    found = find_period(*make_curve(1.37, 2, "two waves"))
    assert found.period == pytest.approx(1.37, rel=2e-3)
    assert found.alias == "P/2 as good"


def test_a_sine_may_be_two_waves() -> None:
    assert find_period(*make_curve(0.5731, 2)).alias == "2P as good"


def test_series_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(8)
    time, mag, weight = rng.uniform(-50, 50, 200), rng.normal(size=200), rng.uniform(0.5, 2, 200)
    weight /= weight.sum()
    mag -= weight @ mag
    mag /= np.sqrt(weight @ mag**2)
    for terms in (1, 2, 4, 6):
        angles = 2 * np.pi * np.outer(time, np.arange(1, terms + 1)) * 0.7312
        design = np.column_stack([np.ones(200), np.cos(angles), np.sin(angles)])
        root = np.sqrt(weight)
        fit = design @ np.linalg.lstsq(design * root[:, None], mag * root)[0]
        expected = 1 - weight @ (mag - fit) ** 2
        (power,) = harmonic_powers(time, mag, weight, np.array([0.7312]), terms)
        assert power == pytest.approx(expected, abs=2e-4)


def test_the_turn_of_the_earth_is_told() -> None:
    time, mag, error = make_curve(3.3, 3)
    slow = 15 + 0.01 * (time - time.mean()) + 0.3 * np.sin(2 * np.pi * time)
    assert find_period(time, slow, error).alias == "1 d"
    assert find_period(time, mag, error).alias != "1 d"


def test_without_a_signal_and_without_observations() -> None:
    rng = np.random.default_rng(4)
    time = np.sort(rng.uniform(0, 100, 100))
    assert find_period(time, rng.normal(15, 0.1, 100), None).significance < 3
    for n in (0, 1, 19):
        assert np.isnan(find_period(time[:n], rng.normal(15, 0.1, n), None).period)
    assert np.isnan(find_period(time, np.full(100, 15.0), None).period)
    assert np.isnan(find_period(np.full(100, 5.0), rng.normal(15, 0.1, 100), None).period)


def test_bad_observations_are_not_used() -> None:
    time, mag, error = make_curve(0.5731, 5)
    time = np.concatenate([time, [np.nan, 1e9, 55010.0, 55011.0]])
    mag = np.concatenate([mag, [15.0, 15.0, 99.99, 25.0]])
    error = np.concatenate([error, [0.1, 0.1, 0.1, 99.99]])
    search = PeriodSearch(Limits(time_min=0, time_max=1e6))
    objects = pa.table({"period": pa.array([None], pa.float64())})
    found = search(
        with_origins(objects), np.array([0, len(time)]), pa.table({"time": time, "mag": mag, "mag_err": error})
    )
    expected = find_period(*make_curve(0.5731, 5))
    assert found["period"].to_pylist() == [expected.period]
    assert found["period_significance"].to_pylist() == [expected.significance]


def test_found_periods_are_never_taken_for_the_catalogs(tmp_path: Path) -> None:
    curves = [make_curve(period, 10 + i) for i, period in enumerate((0.5731, 2.77, 0.31))]
    ids = np.repeat([0, 1, 2], 150)
    time, mag, error = (np.concatenate([curve[k] for curve in curves]) for k in range(3))
    pq.write_table(
        pa.table({"object_id": ids, "time": time, "mag": mag, "mag_err": error}), tmp_path / "observations.parquet"
    )
    objects = pa.table({"object_id": [0, 1, 2, 3], "period": pa.array([None, 1.5, None, None], pa.float64())})
    pq.write_table(objects, tmp_path / "objects.parquet")
    options = IngestOptions(time_system="MJD", find_periods=True)
    ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", tmp_path / "survey", options)
    table = pq.read_table(tmp_path / "survey" / "part-00000.parquet").to_pylist()
    rows = {row["object_id"]: row for row in table}
    assert [rows[i]["period_origin"] for i in range(4)] == ["found", "survey", "found", None]
    assert rows[1]["period"] == 1.5
    assert rows[1]["period_significance"] is None
    assert rows[0]["period"] == pytest.approx(0.5731, rel=2e-3)
    assert rows[2]["period_significance"] > 20
    assert rows[3]["period"] is None
    with pytest.raises(InputError, match="period_alias"):
        with_found(objects.append_column("period_alias", pa.nulls(4)), np.zeros(0, np.int64), [])
