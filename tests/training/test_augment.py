"""Augmentation: what changes, and what does not."""

from __future__ import annotations

import numpy as np

from tests.makers.labelled import labelled_sines
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.training import augment


def test_some_eclipsing_binaries_are_stretched_and_nothing_else_of_them_changes(monkeypatch):
    monkeypatch.setattr(augment, "observe_worse", lambda light_curves, random: light_curves)
    objects = labelled_sines(1200)
    stretched, period = augment.observe_elsewhere(objects, np.random.default_rng(1))
    changed = period != objects.period
    assert set(objects.class_code[changed]) == {CLASSES.index("ECL")}
    assert 0.05 < changed[objects.class_code == CLASSES.index("ECL")].mean() < 0.3
    assert 1 < period[changed].min() < 3
    assert 30 < period[changed].max() <= augment.MOST_STRETCHED
    rules = Preprocessing(n_phase=32)
    before, after = (
        fold(curves, periods, rules, Limits(), features=True)
        for curves, periods in ((objects.light_curves, objects.period), (stretched, period))
    )
    np.testing.assert_allclose(after.curve, before.curve, rtol=0, atol=1e-5)
    # All but the period itself.
    np.testing.assert_allclose(after.features[:, 1:], before.features[:, 1:], rtol=0, atol=1e-3)
    np.testing.assert_allclose(after.features[:, 0], np.log10(period), rtol=0, atol=1e-6)


def test_worse_light_curves_keep_most_of_what_they_need():
    objects = labelled_sines(600)
    worse = augment.observe_worse(objects.light_curves, np.random.default_rng(1))
    assert len(worse) == len(objects)
    assert (worse.n_obs <= objects.light_curves.n_obs).all()
    assert worse.n_obs.mean() > 0.8 * augment.LEAST_KEPT
