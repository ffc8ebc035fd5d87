"""The small network that questions periods, on synthetic stars whose periods are known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.makers.light_curves import make
from varstar_batch.light_curves import Limits, fold
from varstar_batch.light_curves.rivals import SIDEREAL_DAY, rival_periods
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.periods import PERIOD_FLAGS, judge_inputs, question, read_judge

RULES = read_bundle().contract.preprocessing


def stars(n: int, seed: int = 1):
    """Sawtooth pulsators of 0.45 to 0.7 d, seen once a night for five years with seasons."""
    rng = np.random.default_rng(seed)
    periods = rng.uniform(0.45, 0.7, n)
    made = []
    for period in periods:
        day = np.sort(rng.integers(0, 5, 200) * 365 + rng.integers(0, 220, 200))
        time = 2456000.0 + day + rng.normal(0.4, 0.1, 200)
        phase = time / period % 1
        mag = (
            15
            + np.where(phase < 0.15, 0.8 - phase / 0.15 * 0.8, (phase - 0.15) / 0.85 * 0.8)
            + rng.normal(0, 0.03, 200)
        )
        made.append((time, mag, np.full(200, 0.03)))
    return make(*made), periods


def flags_of(curves, periods):
    folded = fold(curves, periods, RULES, Limits(), features="rivals")
    verdict = question(folded, np.asarray(periods))
    return np.array(PERIOD_FLAGS, object)[verdict.flag], verdict


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        (lambda p: p, "ok"),
        (lambda p: 2 * p, "P/2"),
        (lambda p: p / 2, "2P"),
        (lambda p: p / 3, "3P"),
        (lambda p: 1 / (1 / p + 1), "1 d alias"),
        (lambda p: 1 / abs(1 / p - 1), "1 d alias"),
        (lambda p: 1 / (1 / p + 1 / SIDEREAL_DAY), "1 d alias"),
        (lambda p: 1 / (1 / p + 2), "1 d alias"),
    ],
)
def test_wrong_periods_are_flagged_and_mended(given, flag):
    curves, periods = stars(60)
    flags, verdict = flags_of(curves, given(periods))
    assert np.mean(flags == flag) >= 0.85
    mended = np.abs(verdict.best / periods - 1) < 1e-6
    assert np.mean(mended) >= 0.85
    assert (mended | (flags != flag)).mean() >= 0.85
    if flag == "ok":
        np.testing.assert_array_equal(verdict.best[flags == "ok"], periods[flags == "ok"])
        assert not set(verdict.better) & set(np.flatnonzero(flags == "ok"))


def test_what_has_no_curve_is_not_asked_and_noise_is_doubtful_or_no_better():
    curves, periods = stars(3)
    periods[1] = np.nan
    folded = fold(curves, periods, RULES, Limits(), features="rivals")
    verdict = question(folded, periods)
    assert verdict.flag[1] == -1
    assert np.isnan(verdict.best[1])
    assert (verdict.flag[[0, 2]] >= 0).all()
    assert question(fold(make(([], [], [])), [1.0], RULES, Limits(), features="rivals"), np.ones(1)).better.size == 0


def test_best_periods_are_among_the_rivals_and_flags_say_which():
    curves, periods = stars(40, seed=2)
    given = periods * np.random.default_rng(2).choice([0.5, 1, 2, 0.737], 40)
    flags, verdict = flags_of(curves, given)
    for name, factor in (("2P", 2), ("P/2", 0.5), ("3P", 3)):
        np.testing.assert_allclose(verdict.best[flags == name], factor * given[flags == name])
    aliases = flags == "1 d alias"
    assert np.isin(verdict.best[aliases], rival_periods(given[aliases])[:, 4:]).all()
    assert np.isnan(verdict.best[flags == "doubtful"]).all()


def test_the_verdict_of_one_is_that_among_many():
    curves, periods = stars(20, seed=4)
    folded = fold(curves, periods * 2, RULES, Limits(), features="rivals")
    inputs = judge_inputs(folded, np.arange(20))
    together = read_judge().probabilities(inputs)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-5)
    for k in (0, 7, 19):
        np.testing.assert_allclose(read_judge().probabilities(inputs[[k]])[0], together[k], atol=1e-5)
