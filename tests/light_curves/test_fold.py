"""Folding: rules, statuses, edges, and equality with the oracles on chosen input (test_fold_properties: on any)."""

from __future__ import annotations

import importlib
import time as clock
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.time import Time
from astropy.timeseries import TimeSeries

from tests.makers.light_curves import PERIOD, PLAIN, assert_same, fold_one, make, sine
from tests.makers.oracles import fold_object, interpolate
from varstar_batch.light_curves import DropReason, LightCurves, Limits, Preprocessing, Status, fold


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_phase", [2, 49, 100, 512, 1000])
def test_random_batch_equals_numpy_interp(dtype, n_phase):
    objects = [sine(n, seed=n) for n in (50, 51, 230, 1000, 5000)]
    rules = replace(PLAIN, n_phase=n_phase)
    folded = fold(make(*objects, dtype=dtype), np.full(5, PERIOD), rules, Limits())
    assert folded.ok.all()
    assert folded.curve.dtype == np.float32
    assert folded.curve.shape == (5, n_phase)
    for i, (time, mag) in enumerate(objects):
        phase = np.mod((time - time.min()) / PERIOD, 1)
        expected = np.interp(np.arange(n_phase) / n_phase, phase, mag.astype(dtype), period=1)
        np.testing.assert_allclose(folded.curve[i], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("period", [0.1, PERIOD, 33.3])
def test_equals_astropy(period):
    time, mag = sine(230, period=period)
    series = TimeSeries(time=Time(time, format="jd", scale="tdb"), data={"mag": mag})
    zero = Time(time.min(), format="jd", scale="tdb")
    by_astropy = series.fold(period * units.day, epoch_time=zero, normalize_phase=True, wrap_phase=1.0)
    # By a rounding in seconds, the earliest observation may be just below phase 1 instead of at 0.
    phase = np.mod(np.asarray(by_astropy.time, float), 1.0)
    expected = np.interp(np.arange(512) / 512, phase, np.asarray(by_astropy["mag"]), period=1)
    np.testing.assert_allclose(fold_one(time, mag, period=period).curve[0], expected, rtol=0, atol=1e-5)


def test_each_drop_reason_is_counted_once_and_by_the_first_that_applies():
    time, mag = sine(60)
    mag_err = np.full(60, 0.02)
    time[0], mag[0] = np.nan, np.nan
    time[1], time[2], mag[2] = np.inf, -2409998.5, np.inf
    mag[3], mag[4], mag[5], mag[6], mag_err[6] = np.nan, -np.inf, 29.0, -99.99, -1.0
    mag_err[7], mag_err[8], mag_err[9], mag_err[10] = np.nan, -0.1, 99.0, np.inf
    limits = Limits(time_min=2378496.5, time_max=2488069.5)
    folded = fold_one(time, mag, mag_err, limits=limits, rules=replace(PLAIN, min_observations=49))
    assert folded.status[0] == Status.OK
    assert folded.dropped[0].tolist() == [2, 1, 2, 2, 4, 0, 0, 0]
    assert (folded.n_obs[0], folded.n_used[0]) == (60, 49)
    kept = fold_one(time[11:], mag[11:], mag_err[11:], rules=replace(PLAIN, min_observations=49))
    np.testing.assert_array_equal(folded.curve, kept.curve)


@pytest.mark.parametrize(
    ("good", "sentinels", "outliers", "status", "used"),
    [
        # The paper counts "total data points": after sentinels are gone, before outliers are.
        (50, 0, 1, Status.OK, 49),
        (50, 3, 2, Status.OK, 48),
        (53, 3, 0, Status.OK, 53),
        (49, 5, 1, Status.TOO_FEW_OBSERVATIONS, 49),
        (49, 0, 0, Status.TOO_FEW_OBSERVATIONS, 49),
    ],
)
def test_fifty_are_counted_before_the_outliers(good, sentinels, outliers, status, used):
    time, mag = sine(good + sentinels, seed=3)
    mag[10 : 10 + outliers] -= 30 * (-1.0) ** np.arange(outliers)
    mag_err = np.full(len(mag), 0.02)
    mag_err[len(mag) - sentinels :] = 99.99
    folded = fold_one(time, mag, mag_err, rules=Preprocessing(), limits=Limits(mag_min=-60, mag_max=60))
    assert folded.status[0] == status
    assert (folded.n_obs[0], folded.n_used[0]) == (good + sentinels, used)
    oracle = fold_object(time, mag, mag_err, PERIOD, Preprocessing(), Limits(mag_min=-60, mag_max=60))
    assert (folded.status[0], folded.n_used[0]) == (oracle.status, len(oracle.time))


def test_limits_are_open_for_magnitudes_and_closed_for_times():
    time, mag = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 12.0, 20.0, 15.0])
    limits = Limits(time_min=1.0, time_max=4.0, mag_min=10.0, mag_max=20.0)
    folded = fold_one(time, mag, limits=limits, rules=replace(PLAIN, min_observations=1))
    assert folded.dropped[0].tolist() == [0, 0, 0, 2, 0, 0, 0, 0]
    assert fold_one(time + 1, mag, limits=limits).dropped[0, DropReason.TIME_IMPOSSIBLE] == 1


@pytest.mark.parametrize(
    ("period", "status"),
    [
        (np.nan, Status.NO_PERIOD),
        (0.0, Status.BAD_PERIOD),
        (-0.0, Status.BAD_PERIOD),
        (-1.0, Status.BAD_PERIOD),
        (np.inf, Status.BAD_PERIOD),
        (-np.inf, Status.BAD_PERIOD),
        (5e-324, Status.BAD_PERIOD),
        (1e-300, Status.OK),
        (1e300, Status.OK),
        (PERIOD, Status.OK),
    ],
)
def test_status_of_periods(period, status):
    folded = fold_one(*sine(60), period=period)
    assert folded.status[0] == status
    assert np.isnan(folded.curve).all() == np.isnan(folded.amplitude[0]) == (status != Status.OK)
    assert (folded.n_obs[0], folded.n_used[0]) == (60, 60)


def test_status_of_observations_and_its_precedence():
    good = sine(60)
    empty = (np.empty(0), np.empty(0))
    flat = (good[0], np.full(60, 14.1))
    sentinels = (good[0], np.full(60, 99.99))
    curves = make(good, empty, (good[0][:49], good[1][:49]), flat, sentinels, empty, empty, (good[0][:1], good[1][:1]))
    folded = fold(curves, [PERIOD] * 5 + [np.nan, -1.0, 0.0], PLAIN, Limits())
    assert [Status(code).label for code in folded.status] == [
        "ok",
        "no_observations",
        "too_few_observations",
        "no_variation",
        "too_few_observations",
        "no_period",
        "bad_period",
        "bad_period",
    ]
    assert folded.n_used.tolist() == [60, 0, 49, 60, 0, 0, 0, 1]
    malformed = LightCurves(np.zeros(2, np.int64), np.empty(0), np.empty(0), None, np.array([True]))
    assert fold(malformed, [np.nan], PLAIN, Limits()).status.tolist() == [Status.MALFORMED]


def test_one_observation_and_one_phase():
    rules = replace(PLAIN, min_observations=1)
    assert fold_one([5.0], [14.0], rules=rules).status[0] == Status.NO_VARIATION
    folded = fold_one([0.0, 2.0, 4.0], [14.0, 15.0, 16.0], period=2.0, rules=rules)
    np.testing.assert_array_equal(folded.curve, np.full((1, 512), 15.0))
    assert folded.amplitude[0] == 2.0
    # Nothing is left to be mapped to 0 and 1.
    scaled = fold_one([0.0, 2.0, 4.0], [14.0, 15.0, 16.0], period=2.0, rules=replace(rules, scale="minmax"))
    assert scaled.status[0] == Status.NO_VARIATION
    assert np.isnan(scaled.curve).all()
    assert np.isnan(scaled.amplitude).all()


def test_observations_at_one_phase_are_averaged():
    time, mag = np.array([0.0, 0.25, 1.25, 3.25, 0.5]), np.array([10.0, 11.0, 12.0, 16.0, 14.0])
    folded = fold_one(time, mag, period=1.0, rules=replace(PLAIN, min_observations=1, n_phase=4))
    np.testing.assert_allclose(folded.curve[0], [10, 13, 14, 12], rtol=0, atol=1e-6)


def test_which_outliers_go():
    time, mag = np.arange(100) / 100, 14 + 0.01 * np.sin(np.arange(100))
    mag[20] = 17.0
    mag[50:52] = 17.0
    mag[[70, 71]] = 11.0
    every = [20, 50, 51, 70, 71]
    # What is faint in a group is an eclipse; what is bright in one is none.
    for outliers, gone in (("isolated", [20]), ("grouped", [20, 70, 71]), ("global", every), ("none", [])):
        folded = fold_one(time, mag, period=1.0, rules=replace(PLAIN, outliers=outliers))
        kept = np.delete(np.arange(100), gone)
        assert folded.dropped[0, DropReason.OUTLIER] == len(gone)
        assert folded.n_used[0] == 100 - len(gone)
        expected = np.interp(np.arange(512) / 512, time[kept], mag[kept], period=1)
        np.testing.assert_allclose(folded.curve[0], expected, rtol=0, atol=1e-5)


def test_outliers_at_the_ends_of_phase_are_neighbours():
    time, mag = np.arange(100) / 100, 14 + 0.01 * np.sin(np.arange(100))
    mag[[0, 99]] = 17.0
    assert fold_one(time, mag, period=1.0).dropped[0, DropReason.OUTLIER] == 0
    mag[99] = 14.0
    folded = fold_one(time, mag, period=1.0)
    assert folded.dropped[0, DropReason.OUTLIER] == 1
    # Phase zero is the earliest observation that is used, here the second.
    np.testing.assert_allclose(folded.curve[0, 0], mag[1], rtol=0, atol=1e-6)


def test_observations_that_are_all_outliers_are_too_few():
    time, mag = np.arange(50) / 50, np.where(np.arange(50) % 2, 14.0, 15.0)
    folded = fold_one(time, mag, period=1.0, rules=replace(PLAIN, outliers="global", sigma=0.5))
    assert folded.status[0] == Status.TOO_FEW_OBSERVATIONS
    assert (folded.n_used[0], folded.dropped[0, DropReason.OUTLIER]) == (0, 50)


def test_the_used_observations_are_those_of_the_oracle():
    rng = np.random.default_rng(8)
    objects, oracles = [], []
    for n in (0, 3, 60, 200):
        time, mag = sine(n, seed=n) if n else (np.zeros(0), np.zeros(0))
        mag_err = rng.choice([0.02, 99.99, np.nan], n, p=[0.9, 0.05, 0.05])
        mag[rng.random(n) < 0.02] = 99.0
        mag[rng.random(n) < 0.02] -= 5
        order = rng.permutation(n)
        objects.append((time[order], mag[order], mag_err[order]))
        oracles.append(fold_object(*objects[-1], PERIOD, PLAIN, Limits()))
    curves = make(*objects, dtype=np.float64)
    folded = fold(curves, np.full(4, PERIOD), PLAIN, Limits(), mark_used=True, n_threads=2)
    assert folded.dropped[:, DropReason.OUTLIER].sum() > 0
    for i, oracle in enumerate(oracles):
        part = slice(curves.offsets[i], curves.offsets[i + 1])
        assert folded.used[part].sum() == folded.n_used[i]
        np.testing.assert_array_equal(curves.time[part][folded.used[part]], oracle.time)
    assert len(fold(curves, np.full(4, PERIOD), PLAIN, Limits()).used) == 0


def test_phase_zero_at_maximum_is_the_earliest_brightest():
    time, mag = sine(200)
    mag[[120, 80]] = 13.4
    folded = fold_one(time, mag, rules=replace(PLAIN, phase_zero="maximum"))
    phase = np.mod((time - time[80]) / PERIOD, 1)
    np.testing.assert_allclose(folded.curve[0], interpolate(phase, mag, 512), rtol=0, atol=1e-5)
    assert folded.curve[0, 0] == np.float32(13.4)


@pytest.mark.parametrize("n", [60, 61])
def test_scales(n):
    time, mag = sine(n)
    plain = fold_one(time, mag).curve[0].astype(float)
    centered = fold_one(time, mag, rules=replace(PLAIN, scale="center")).curve[0]
    np.testing.assert_allclose(centered, plain - np.median(mag), rtol=0, atol=2e-6)
    scaled = fold_one(time, mag, rules=Preprocessing()).curve[0]
    np.testing.assert_allclose(scaled, (plain - plain.min()) / np.ptp(plain), rtol=0, atol=1e-5)
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)


def test_zero_objects():
    folded = fold(LightCurves(np.zeros(1, np.int64), np.empty(0), np.empty(0)), [], PLAIN, Limits(), n_threads=2)
    assert len(folded) == 0
    assert folded.curve.shape == (0, 512)
    assert folded.dropped.shape == (0, 8)


@pytest.mark.parametrize("crowded", [False, True])
def test_very_long_light_curves(crowded):
    n = 100_000
    rng = np.random.default_rng(1)
    # Crowded: all phases within a ten-thousandth, in no order, a tenth of them repeated: the sort's worst case.
    time = 2.46e6 + (np.round(rng.uniform(0, 1e-4, n), 9) if crowded else rng.uniform(0, 1000, n))
    mag = 14 + rng.normal(0, 0.1, n)
    fold_one(time[:9], mag[:9], period=1.0)  # whichever test comes first has the kernel compiled
    start = clock.process_time()
    folded = fold_one(time, mag, period=1.0)
    assert clock.process_time() - start < 20
    expected = fold_object(time, mag, None, 1.0, PLAIN, Limits())
    assert folded.n_used[0] == len(expected.mag)
    np.testing.assert_allclose(folded.curve[0], expected.curve, rtol=0, atol=1e-5)


def test_near_equal_phases_around_grid_points():
    for n_phase in (49, 100, 512):
        grid = np.arange(n_phase) / n_phase
        time = np.concatenate([grid, np.nextafter(grid[1:], 0), np.nextafter(grid[1:], 1)])
        mag = np.random.default_rng(0).uniform(-28.9, 28.9, len(time))
        rules = replace(PLAIN, outliers="none", n_phase=n_phase)
        folded = fold_one(time, mag, period=1.0, rules=rules)
        np.testing.assert_allclose(folded.curve[0], interpolate(time, mag, n_phase), rtol=0, atol=1e-5)


@pytest.mark.parametrize("survey", ["sdss-s82", "hipparcos-ogle", "eros1"])
def test_real_light_curves_equal_the_oracle(shared_data, survey):
    objects = pq.read_table(shared_data / survey / "objects.parquet")
    observations = pq.read_table(shared_data / survey / "observations.parquet").sort_by("object_id")
    ids, counts = np.unique(observations["object_id"].to_numpy(), return_counts=True)
    period_of = dict(zip(objects["object_id"].to_pylist(), objects["period"].to_numpy(), strict=True))
    periods = np.array([period_of[name] for name in ids])
    columns = (observations[name].to_numpy() for name in ("time", "mag", "mag_err"))
    curves = LightCurves(np.concatenate([[0], np.cumsum(counts)]), *columns)
    folded = fold(curves, periods, PLAIN, Limits(), n_threads=2)
    assert folded.ok.sum() > 100
    for i in range(len(curves)):
        one = curves.slice(i, i + 1)
        expected = fold_object(one.time, one.mag, one.mag_err, periods[i], PLAIN, Limits())
        assert folded.status[i] == expected.status
        assert folded.dropped[i].tolist() == expected.dropped.tolist()
        np.testing.assert_allclose(folded.curve[i], expected.curve, rtol=0, atol=1e-5)


def test_read_only_strided_and_mixed_dtypes():
    time, mag = sine(120)
    mag = mag.astype(np.float32)
    expected = fold_one(time, mag, np.full(120, 0.03), dtype=np.float32)
    wide = np.repeat(time, 2)
    mag_err = np.full(120, 0.03)
    for column in (wide, mag, mag_err):
        column.flags.writeable = False
    curves = LightCurves(np.array([0, 120]), wide[::2], mag, mag_err)
    assert_same(fold(curves, np.array([PERIOD]), PLAIN, Limits()), expected)


def test_bad_arguments_are_refused():
    curves = make(sine(60))
    with pytest.raises(ValueError, match=r"period: expected shape \(1,\).*got \(2,\)"):
        fold(curves, [1.0, 2.0], PLAIN, Limits())
    with pytest.raises(ValueError, match="n_threads: expected at least 1, got 0"):
        fold(curves, [1.0], PLAIN, Limits(), n_threads=0)


def test_an_object_beyond_int32_is_refused(monkeypatch):
    # Lowered, since the arrays of a real one would fill the memory of most machines.
    monkeypatch.setattr(importlib.import_module("varstar_batch.light_curves.fold"), "MAX_OBSERVATIONS", 60)
    assert fold_one(*sine(60)).ok.all()
    with pytest.raises(ValueError, match="expected at most 60 observations of an object, got 61"):
        fold_one(*sine(61))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_observations", 0),
        ("min_observations", True),
        ("min_observations", 50.0),
        ("n_phase", 1),
        ("max_mag_err", 0.0),
        ("max_mag_err", np.nan),
        ("sigma", 0.0),
        ("sigma", np.inf),
        ("outliers", "some"),
        ("phase_zero", "last"),
        ("scale", "zscore"),
    ],
)
def test_preprocessing_is_validated(field, value):
    with pytest.raises(ValueError, match=f"{field}: expected .*, got "):
        Preprocessing(**{field: value})


@pytest.mark.parametrize(
    "values", [{"time_min": 2.0, "time_max": 1.0}, {"mag_min": 30.0}, {"mag_max": np.inf}, {"time_min": np.nan}]
)
def test_limits_are_validated(values):
    with pytest.raises(ValueError, match="expected"):
        Limits(**values)
