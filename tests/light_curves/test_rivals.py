"""How well light curves repeat with rivals of their periods."""

from __future__ import annotations

import numpy as np
import pytest

from tests.makers.light_curves import PERIOD, PLAIN, make, sine
from varstar_batch.light_curves import Limits, fold
from varstar_batch.light_curves.rivals import BINS, RIVALS, SIDEREAL_DAY, rival_periods


def dispersion_of(time, mag, period, **options):
    folded = fold(make((time, mag), dtype=np.float64), [period], PLAIN, Limits(), features="rivals", **options)
    return folded.dispersion.reshape(len(RIVALS), len(BINS))


def test_the_dispersion_is_that_of_a_plain_loop():
    time, mag = sine(180, seed=3)
    found = dispersion_of(time, mag, PERIOD)
    for number, period in enumerate(rival_periods(np.array([PERIOD]))[0]):
        phase = (time - time.min()) / period % 1
        for level, n_bins in enumerate(BINS):
            groups = [mag[np.floor(phase * n_bins) == b] for b in range(n_bins)]
            groups = [group for group in groups if len(group)]
            within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (len(mag) - len(groups))
            assert found[number, level] == pytest.approx(within / mag.var(ddof=1), abs=2e-2), (number, level)
    assert np.argmin(found[:, 1]) in (0, 1, 3)
    assert found[0].max() < 0.1


def test_rivals_of_rivals_are_the_period_itself():
    period = np.array([0.61, 3.3, 271.0])
    rivals = rival_periods(period)
    np.testing.assert_allclose(rivals[:, 0], period)
    for name, back in (("2P", "P/2"), ("P/2", "2P"), ("1/P + 1", "1/P - 1"), ("1/P + 2 sidereal", "1/P - 2 sidereal")):
        again = rival_periods(rivals[:, RIVALS.index(name)])
        np.testing.assert_allclose(again[:, RIVALS.index(back)], period, rtol=1e-9)
    sidereal = 1 / rivals[:, RIVALS.index("1/P + 1 sidereal")] - 1 / period
    np.testing.assert_allclose(sidereal, 1 / SIDEREAL_DAY)
    assert np.isinf(rival_periods(np.array([1.0]))[0, RIVALS.index("1/P - 1")])


def test_everything_else_is_bit_for_bit_as_without():
    curves = make(*(sine(n, seed=n) for n in (60, 0, 90, 300)))
    periods = [PERIOD, 1.0, np.nan, 2.0]
    plain, asked = (fold(curves, periods, PLAIN, Limits(), features=which) for which in (True, "rivals"))
    for name in ("status", "n_used", "dropped", "amplitude", "curve", "features"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(asked, name), err_msg=name)
    assert plain.dispersion.shape == (4, 0)
    assert np.isfinite(asked.dispersion[asked.ok]).all()
    assert np.isnan(asked.dispersion[~asked.ok]).all()


def test_neither_order_nor_zero_point_nor_scale_matters():
    time, mag = sine(120, seed=5)
    expected = dispersion_of(time, mag, 1.9)
    order = np.random.default_rng(1).permutation(120)
    np.testing.assert_allclose(dispersion_of(time[order], mag[order], 1.9), expected, rtol=1e-5)
    np.testing.assert_allclose(dispersion_of(time, 10 * (mag - 14) + 3, 1.9), expected, rtol=1e-4)
