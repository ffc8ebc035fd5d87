"""Folding on any input whatever: equality with the oracle, and what must not change the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.makers.light_curves import PLAIN, assert_same, make
from tests.makers.oracles import fold_object
from varstar_batch.light_curves import Folded, LightCurves, Limits, Preprocessing, fold
from varstar_batch.light_curves.rules import good_observations

LIMITS = Limits(time_min=0.0, time_max=1e9)

# Julian dates, near-equal ones, and a few values again and again, which gives equal phases for many periods.
TIMES = st.one_of(
    st.floats(2.4e6, 2.5e6),
    st.integers(0, 8).map(lambda k: 2.46e6 + k / 4),
    st.integers(0, 8).map(lambda k: 2.46e6 + k * 2.0**-31),
    st.floats(0.0, 1e9),
)
MAGS = st.one_of(
    st.floats(-28.875, 28.875, width=32),
    st.sampled_from([14.0, 14.0, 14.25, 15.0, -28.99, 28.99, 0.0, -0.0, 2.0**-149]),
)
BAD_TIMES = st.sampled_from([np.nan, np.inf, -np.inf, -2409998.5, 2e9])
BAD_MAGS = st.sampled_from([np.nan, np.inf, -np.inf, 99.99, -99.99, 29.0, -29.0])
BAD_ERRS = st.sampled_from([np.nan, np.inf, -1.0, 99.0, 99.99])
GOOD_ERRS = st.sampled_from([0.0, 0.01, 98.9])

# 0.7 rounds down to float32, so a limit of 0.7 keeps it.
NEAR_ERRS = st.sampled_from([0.7, 0.71])

GOOD = st.tuples(TIMES, MAGS, GOOD_ERRS)
BAD = st.one_of(
    st.tuples(BAD_TIMES, MAGS, GOOD_ERRS), st.tuples(TIMES, BAD_MAGS, GOOD_ERRS), st.tuples(TIMES, MAGS, BAD_ERRS)
)
PERIODS = st.one_of(
    st.floats(0.01, 1e3),
    st.sampled_from([0.25, 0.5, 1.0, 1e7, 1e-9, 1e-300, 5e-324, 1e300, np.nan, np.inf, -1.0, 0.0]),
    st.floats(width=64),
)
RULES = st.builds(
    Preprocessing,
    min_observations=st.sampled_from([1, 2, 5]),
    sigma=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    outliers=st.sampled_from(["isolated", "grouped", "global", "none"]),
    phase_zero=st.sampled_from(["first", "maximum"]),
    scale=st.sampled_from(["none", "center", "minmax"]),
    n_phase=st.sampled_from([512, 2, 7, 49, 100]),
)


def columns_of(observations) -> tuple[np.ndarray, ...]:
    return tuple(np.array(observations, float).reshape(-1, 3).T)


def fold_objects(objects, periods, rules) -> Folded:
    return fold(make(*map(columns_of, objects)), periods, rules, LIMITS)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(observations=st.lists(st.one_of(GOOD, GOOD, GOOD, BAD), max_size=40), period=PERIODS, rules=RULES)
def test_equals_the_oracle(observations, period, rules):
    time, mag, mag_err = columns_of(observations)
    mag, mag_err = mag.astype(np.float32), mag_err.astype(np.float32)
    expected = fold_object(time, mag, mag_err, period, rules, LIMITS)
    folded = fold_objects([observations], [period], rules)
    assert folded.n_obs[0] == expected.n_obs
    assert folded.dropped[0, :5].tolist() == expected.dropped[:5].tolist()
    assert folded.n_used[0] == folded.n_obs[0] - folded.dropped[0].sum()
    if expected.ambiguous:
        return
    assert folded.status[0] == expected.status
    assert folded.n_used[0] == len(expected.mag)
    np.testing.assert_allclose(folded.curve[0], expected.curve, rtol=0, atol=1e-5)
    np.testing.assert_allclose(folded.amplitude[0], expected.amplitude, rtol=1e-6)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    observations=st.lists(st.one_of(GOOD, BAD, st.tuples(TIMES, MAGS, NEAR_ERRS)), min_size=1),
    limits=st.sampled_from([LIMITS, Limits(), Limits(time_min=2.45e6, mag_min=14.1, mag_max=14.25)]),
    max_mag_err=st.sampled_from([0.7, 99.0, np.inf]),
    dtype=st.sampled_from([np.float32, np.float64]),
    with_errors=st.booleans(),
)
def test_the_rule_outside_the_kernel_is_that_of_the_kernel(observations, limits, max_mag_err, dtype, with_errors):
    time, mag, mag_err = columns_of(observations)
    mag, mag_err = mag.astype(dtype), mag_err.astype(dtype) if with_errors else None
    one_each = LightCurves(np.arange(len(time) + 1), time, mag, mag_err)
    rules = Preprocessing(min_observations=1, max_mag_err=max_mag_err)
    kept = good_observations(time, mag, mag_err, limits, max_mag_err)
    np.testing.assert_array_equal(kept, fold(one_each, np.ones(len(time)), rules, limits).n_used == 1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    observations=st.lists(st.one_of(GOOD, GOOD, BAD), min_size=1, max_size=40),
    period=PERIODS,
    rules=RULES,
    data=st.data(),
)
def test_order_of_observations_changes_no_bit(observations, period, rules, data):
    shuffled = data.draw(st.permutations(observations))
    assert_same(fold_objects([shuffled], [period], rules), fold_objects([observations], [period], rules))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(good=st.lists(GOOD, max_size=30), bad=st.lists(BAD, max_size=10), period=PERIODS, rules=RULES)
def test_masked_observations_change_no_bit(good, bad, period, rules):
    without, masked = fold_objects([good], [period], rules), fold_objects([bad + good], [period], rules)
    if not good and bad:
        return  # Nothing delivered is another status than nothing good.
    for name in ("status", "n_used", "amplitude", "curve"):
        np.testing.assert_array_equal(getattr(masked, name), getattr(without, name), err_msg=name)
    assert masked.dropped[0, :5].sum() == len(bad)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    objects=st.lists(st.tuples(st.lists(st.one_of(GOOD, BAD), max_size=12), PERIODS), min_size=1, max_size=8),
    rules=RULES,
    cut=st.integers(0, 8),
)
def test_batches_split_and_joined_change_no_bit(objects, rules, cut):
    curves = make(*(columns_of(observations) for observations, _ in objects))
    periods = np.array([period for _, period in objects])
    whole = fold(curves, periods, rules, LIMITS)
    parts = [curves.slice(0, cut), curves.slice(cut, len(curves))]
    in_parts = [fold(part, p, rules, LIMITS) for part, p in zip(parts, (periods[:cut], periods[cut:]), strict=True)]
    # Here each light curve is an object's.
    assert [part.objects for part in in_parts] == [None, None]
    names = [name for name in Folded.__dataclass_fields__ if name != "objects"]
    joined = Folded(**{name: np.concatenate([getattr(part, name) for part in in_parts]) for name in names})
    assert_same(joined, whole)
    assert_same(fold(LightCurves.concat(parts), periods, rules, LIMITS), whole)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    # Multiples of 2^-16 d below 2^22 d with shifts of whole, half or quarter days: every sum is exact in float64.
    steps=st.lists(st.tuples(st.integers(0, 2**34), MAGS, st.integers(0, 1000)), min_size=1, max_size=40),
    period=st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0]),
    common=st.integers(-1000, 1000),
    rules=RULES,
)
def test_shifts_by_whole_periods_change_no_bit(steps, period, common, rules):
    ticks, mags, own = (np.array(column, float) for column in zip(*steps, strict=True))
    time = 2.4e6 + ticks * 2.0**-16
    expected = fold(make((time, mags)), [period], rules, LIMITS)
    assert_same(fold(make((time + common * period, mags)), [period], rules, LIMITS), expected)
    # Each observation by its own number of periods: the earliest stays, since phase is counted from it. Of several
    # equally bright ones another may come first, so only `first` can promise the same.
    own[np.argmin(time)] = 0
    first = replace(rules, phase_zero="first", outliers="none")
    assert_same(
        fold(make((time + own * period, mags)), [period], first, LIMITS),
        fold(make((time, mags)), [period], first, LIMITS),
    )


def test_shift_by_whole_periods_of_any_length_changes_little():
    rng = np.random.default_rng(3)
    period = 0.5432109876
    time = 2.46e6 + np.sort(rng.uniform(0, 500, 300))
    mag = 14 + 0.4 * np.sin(2 * np.pi * time / period)
    shifted = fold(make((time + 1001 * period, mag), dtype=np.float64), [period], PLAIN, Limits())
    # Times are spaced 4.7e-10 d here, so each rounding moves a phase by 1e-9, and a smooth curve by 2.5 mag times that.
    expected = fold(make((time, mag), dtype=np.float64), [period], PLAIN, Limits())
    np.testing.assert_allclose(shifted.curve, expected.curve, rtol=0, atol=2e-6)
