"""Augmentation: what changes, and what does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.makers.labelled import labelled_sines
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.features import FEATURES
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.training.stars import augment

MIRA, SEMIREGULAR = CLASSES.index("M"), CLASSES.index("SR")


def folded(objects):
    return fold(objects.light_curves, objects.period, Preprocessing(n_phase=32), Limits(), features=True)


def test_some_eclipsing_binaries_are_stretched_and_nothing_else_of_them_changes():
    objects = labelled_sines(1200)
    stretched = augment.stretch_eclipses(objects, np.random.default_rng(1))
    changed = stretched.period != objects.period
    assert set(objects.class_code[changed]) == {CLASSES.index("ECL")}
    assert 0.05 < changed[objects.class_code == CLASSES.index("ECL")].mean() < 0.3
    assert 1 < stretched.period[changed].min() < 3
    assert 30 < stretched.period[changed].max() <= augment.MOST_STRETCHED
    before, after = folded(objects), folded(stretched)
    np.testing.assert_allclose(after.curve, before.curve, rtol=0, atol=1e-5)
    # All but the period itself.
    np.testing.assert_allclose(after.features[:, 1:], before.features[:, 1:], rtol=0, atol=1e-3)
    np.testing.assert_allclose(after.features[:, 0], np.log10(stretched.period), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(stretched.class_code, objects.class_code)


def test_long_period_variables_get_the_class_of_their_amplitude_and_keep_their_shape():
    objects = labelled_sines(1800)
    rescaled = augment.rescale_long_periods(objects, np.random.default_rng(1))
    long = np.isin(objects.class_code, (MIRA, SEMIREGULAR))
    before, after = folded(objects), folded(rescaled)
    np.testing.assert_array_equal(after.curve[~long], before.curve[~long])
    np.testing.assert_array_equal(rescaled.class_code[~long], objects.class_code[~long])
    amplitude = FEATURES.index("log_amplitude")
    changed = long & (np.abs(after.features[:, amplitude] - before.features[:, amplitude]) > 1e-4)
    assert 0.25 < changed[long].mean() < 0.5
    found = 10 ** after.features[changed, amplitude]
    assert 0.15 < found.min() < 0.3
    assert 5 < found.max() < 7
    # Outliers are left out before that amplitude is taken, and small ones get noise: hence the margin.
    is_mira = rescaled.class_code[changed] == MIRA
    assert (found[is_mira] > 0.9 * augment.SURELY_MIRA).all()
    assert (found[~is_mira] < 1.1 * augment.SURELY_SEMIREGULAR).all()
    assert {MIRA, SEMIREGULAR} == set(rescaled.class_code[changed & (objects.class_code == MIRA)])
    larger = changed & (after.features[:, amplitude] > before.features[:, amplitude] + 0.1)
    np.testing.assert_allclose(after.curve[larger], before.curve[larger], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(rescaled.period, objects.period)


def test_without_both_of_the_classes_nothing_is_rescaled():
    objects = labelled_sines(60, classes=("CEP", "M"))
    assert augment.rescale_long_periods(objects, np.random.default_rng(1)) is objects


def test_magnitudes_that_are_constant_or_not_finite_are_no_amplitude():
    objects = labelled_sines(6)
    mag = objects.light_curves.mag.reshape(6, -1).copy()
    mag[MIRA], mag[SEMIREGULAR] = 15, np.nan
    objects = replace(objects, light_curves=replace(objects.light_curves, mag=mag.ravel()))
    for seed in range(8):
        rescaled = augment.rescale_long_periods(objects, np.random.default_rng(seed))
        np.testing.assert_allclose(rescaled.light_curves.mag, objects.light_curves.mag, rtol=1e-6)
        np.testing.assert_array_equal(rescaled.class_code, objects.class_code)


def test_worse_light_curves_keep_most_of_what_they_need():
    objects = labelled_sines(600)
    worse = augment.observe_worse(objects.light_curves, np.random.default_rng(1))
    assert len(worse) == len(objects)
    assert (worse.n_obs <= objects.light_curves.n_obs).all()
    assert worse.n_obs.mean() > 0.8 * augment.LEAST_KEPT
