"""The features of the fold kernel against NumPy, one object at a time, and what must not change them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.makers.light_curves import PERIOD, make, sine
from varstar_batch.light_curves import Limits, Preprocessing, fold
from varstar_batch.light_curves.features import FEATURES, choose_features

RULES = Preprocessing(outliers="none")
RANDOM = np.random.default_rng(5)


def describe(*objects, period=PERIOD, rules=RULES, dtype=np.float64):
    periods = np.broadcast_to(np.asarray(period, float), len(objects))
    return fold(make(*objects, dtype=dtype), periods, rules, Limits(), features=True)


def numbers(folded, row=0):
    return dict(zip(FEATURES, folded.features[row].astype(float), strict=True))


def expected_features(time, mag, period):
    """Return the features straight from their definitions; percentiles of the sorted magnitudes, not of a histogram."""
    phase = ((time - time.min()) / period) % 1.0
    by_phase, by_time = mag[np.lexsort((mag, phase))], mag[np.lexsort((mag, time))]
    z = (mag - mag.mean()) / mag.std()
    p2, p5, p25, p50, p75, p95, p98 = np.quantile(mag, [0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98], method="hazen")
    curve = np.interp(np.arange(512) / 512, phase, mag, period=1)
    amplitudes = np.fft.fft(curve - curve.mean())[1:5] / 256
    size, angle = np.abs(amplitudes), np.angle(amplitudes)
    grid = np.arange(512) / 512
    smooth = sum((a * np.exp(2j * np.pi * k * grid)).real for k, a in enumerate(amplitudes, start=1))
    slope = np.diff(smooth, append=smooth[0])
    return {
        "log_period": np.log10(period),
        "log_amplitude": np.log10(p95 - p5),
        "log_range": np.log10(p98 - p2),
        "skewness": (z**3).mean(),
        "log_kurtosis": np.log10((z**4).mean()),
        "bright_quarter": (p25 - p5) / (p95 - p5),
        "median_place": (p50 - p5) / (p95 - p5),
        "faint_quarter": (p95 - p75) / (p95 - p5),
        "phase_smoothness": ((by_phase - np.roll(by_phase, 1)) ** 2).sum() / (2 * len(mag) * mag.var()),
        "time_smoothness": (np.diff(by_time) ** 2).mean() / (2 * mag.var()),
        **{f"ratio_{k}1": size[k - 1] / (size[0] + size[k - 1]) for k in (2, 3, 4)},
        **{f"cos_phi_{k}1": np.cos(angle[k - 1] - k * angle[0]) for k in (2, 3, 4)},
        **{f"sin_phi_{k}1": np.sin(angle[k - 1] - k * angle[0]) for k in (2, 3, 4)},
        "odd_power": (size[[0, 2]] ** 2).sum() / (size**2).sum(),
        "scatter": np.sqrt(max(0.0, 1 - (size**2).sum() / 2 / mag.var())),
        "faint_share": (mag > mag.mean()).mean(),
        "faint_width": (smooth > (smooth.min() + smooth.max()) / 2).mean(),
        "rise": slope.min() / (slope.min() - slope.max()),
    }


# Percentiles are those of a histogram of 256 bins, the shape is that of 128 points.
TOLERANCES = dict.fromkeys(FEATURES, 2e-3) | {
    "log_period": 1e-6,
    "skewness": 1e-5,
    "log_kurtosis": 1e-5,
    "phase_smoothness": 1e-5,
    "time_smoothness": 1e-5,
    "faint_share": 1e-6,
    "faint_width": 1 / 64,
    "rise": 0.02,
    **dict.fromkeys(("log_amplitude", "log_range", "bright_quarter", "median_place", "faint_quarter"), 0.02),
}


def star(seed, n=400):
    random = np.random.default_rng(seed)
    time = 2_458_000.5 + np.sort(random.uniform(0, 900, n))
    phase = (time / PERIOD) % 1.0
    weights = random.normal(size=(2, 4)) / np.arange(1, 5)
    angles = 2 * np.pi * np.outer(np.arange(1, 5), phase)
    mag = 15 + weights[0] @ np.cos(angles) + weights[1] @ np.sin(angles) + 0.05 * random.standard_normal(n)
    return time, mag


@pytest.mark.parametrize("seed", range(8))
def test_features_are_those_of_their_definitions(seed):
    time, mag = star(seed)
    got, expected = numbers(describe((time, mag))), expected_features(time, mag, PERIOD)
    assert set(expected) == set(FEATURES)
    for name in FEATURES:
        assert got[name] == pytest.approx(expected[name], abs=TOLERANCES[name]), name


def test_a_pure_sine_by_hand():
    # Steps of the golden ratio fill the cycle evenly.
    time = np.arange(2_000) * PERIOD * 0.618033988749895
    got = numbers(describe((time, 12 + 0.5 * np.sin(2 * np.pi * time / PERIOD))))
    assert got["log_period"] == pytest.approx(np.log10(PERIOD), abs=1e-6)
    # Of a sine the p-th percentile stands at -cos(pi p).
    assert got["log_amplitude"] == pytest.approx(np.log10(np.cos(np.pi * 0.05)), abs=0.02)
    assert got["odd_power"] == pytest.approx(1, abs=1e-3)
    assert got["log_kurtosis"] == pytest.approx(np.log10(1.5), abs=0.02)
    assert got["rise"] == pytest.approx(0.5, abs=0.02)
    assert got["faint_width"] == pytest.approx(0.5, abs=0.02)
    assert got["scatter"] < 0.05
    assert got["phase_smoothness"] < 1e-3


def test_noise_is_rough_and_a_double_wave_is_even():
    time, _ = star(2, 3_000)
    noise = numbers(describe((time, 12 + RANDOM.normal(size=len(time)))))
    assert noise["phase_smoothness"] == pytest.approx(1, abs=0.1)
    assert noise["time_smoothness"] == pytest.approx(1, abs=0.1)
    assert noise["scatter"] > 0.95
    double = numbers(describe((time, 12 + np.cos(4 * np.pi * time / PERIOD))))
    assert double["odd_power"] < 0.01
    assert double["ratio_21"] > 0.95


def test_order_zero_points_and_whole_periods_change_nothing():
    time, mag = star(3)
    original = describe((time, mag))
    order = RANDOM.permutation(len(time))
    np.testing.assert_array_equal(describe((time[order], mag[order])).features, original.features)
    # Binary fractions, so that the moved magnitudes and times are exact.
    rounded, steps = np.round(mag * 1024) / 1024, np.round((time - 2_458_000) * 64) / 64
    there, here = describe((steps, rounded), period=0.5), describe((steps + 4.0, rounded + 2.0), period=0.5)
    np.testing.assert_allclose(there.features, here.features, atol=2e-6)


def test_equal_times_in_any_order():
    time, mag = star(4, 100)
    time = np.repeat(time[::2], 2)
    original = describe((time, mag))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(time))
        np.testing.assert_array_equal(describe((time[order], mag[order])).features, original.features)


def test_a_batch_equals_its_objects_one_by_one_and_threads_do_not_matter():
    stars = [star(seed, 60 + 31 * seed) for seed in range(10)]
    whole = describe(*stars)
    for row, each in enumerate(stars):
        np.testing.assert_array_equal(describe(each).features[0], whole.features[row])
    threaded = fold(make(*stars, dtype=np.float64), np.full(10, PERIOD), RULES, Limits(), features=True, n_threads=3)
    np.testing.assert_array_equal(threaded.features, whole.features)


@pytest.mark.parametrize("n_phase", [2, 7, 16, 100, 512])
@pytest.mark.parametrize("step", [1e-3, 2.0**-40, 5e-324])
def test_all_are_finite_where_the_status_is_ok(n_phase, step):
    rules = replace(RULES, n_phase=n_phase, min_observations=1, scale="none")
    time = np.array([0.0, 0.3, 0.3, 0.6])
    folded = describe(
        (time, np.array([0.0, 0.0, step, 0.0])), (time[:1], np.array([1.0])), period=[1.0, 1.0], rules=rules
    )
    assert folded.ok.tolist() == [True, False]
    assert np.isfinite(folded.features[0]).all()
    assert np.isnan(folded.features[1]).all()


def test_bounds_hold_for_any_light_curve():
    objects = [(RANDOM.uniform(0, 50, n), RANDOM.standard_cauchy(n) / 4) for n in RANDOM.integers(50, 90, 200)]
    folded = describe(*objects, rules=Preprocessing())
    values = dict(zip(FEATURES, folded.features[folded.ok].T, strict=True))
    shares = [
        name for name in FEATURES if name.startswith(("ratio", "odd", "scatter", "faint", "median", "bright", "rise"))
    ]
    assert len(shares) == 11
    for name in shares:
        assert ((values[name] >= 0) & (values[name] <= 1 + 1e-6)).all(), name
    for k in (2, 3, 4):
        np.testing.assert_allclose(values[f"cos_phi_{k}1"] ** 2 + values[f"sin_phi_{k}1"] ** 2, 1, atol=1e-5)


def test_without_features_there_are_none_and_the_rest_is_the_same():
    light_curves, period = make(sine(80), sine(90)), np.full(2, PERIOD)
    plain = fold(light_curves, period, RULES, Limits())
    described = fold(light_curves, period, RULES, Limits(), features=True)
    assert plain.features.shape == (2, 0)
    np.testing.assert_array_equal(plain.curve, described.curve)
    with pytest.raises(ValueError, match=r"expected 24 columns, got 0; fold with features=True"):
        choose_features(plain.features, ("rise",))
    np.testing.assert_array_equal(
        choose_features(described.features, ("rise", "log_period")), described.features[:, [FEATURES.index("rise"), 0]]
    )
