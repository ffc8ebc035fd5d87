"""How unlike the training an object is: distances against SciPy's densities, ranks, and what a bundle must hold."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from pydantic import ValidationError

from varstar_batch.model.bundle import ClassDensity, OutOfDistribution
from varstar_batch.model.family import Family, Outputs
from varstar_batch.model.novelty import (
    SHRINKAGE,
    distance,
    doubt_of,
    entropy_of,
    faintness_of,
    fit_density,
    fit_novelty,
    novelty,
)

RANDOM = np.random.default_rng(11)


def two_clouds(n=400):
    """Features of two classes, well apart and stretched differently, on very different scales."""
    code = np.repeat([0, 4], n)
    features = RANDOM.uniform(-1.5, 1.5, size=(2 * n, 3)) * np.where(code == 0, 0.2, 0.5)[:, None]
    features[code == 4] += [2.0, -2.0, 1.0]
    return features * [1.0, 100.0, 1e-3] + [5.0, 0.0, 1.0], code


def test_the_distance_is_the_log_density_of_the_nearest_class():
    features, code = two_clouds()
    density = fit_density(features, code)
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    assert np.abs(z).max() < 3
    expected = []
    for each in (0, 4):
        covariance = np.cov(z[code == each].T, bias=True) + SHRINKAGE * np.eye(3)
        expected.append(scipy.stats.multivariate_normal(z[code == each].mean(axis=0), covariance).logpdf(z))
    constant = 1.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(distance(density, features), -np.max(expected, axis=0) - constant, atol=1e-4)


def test_wild_values_count_no_further_than_the_bound():
    features, code = two_clouds()
    density = fit_density(features, code)
    wild = features[:2].copy()
    wild[0, 0], wild[1, 0] = 1e9, 1e12
    wild[1, 1:] = wild[0, 1:]
    there = distance(density, wild)
    assert there[0] == there[1] > np.quantile(distance(density, features), 0.99)


def test_one_object_of_a_class_and_a_constant_feature_are_no_trouble():
    features, code = two_clouds(20)
    features[:, 1] = 7.0
    density = fit_density(np.vstack([features, features[:1] + 1]), np.append(code, 2))
    assert len(density.centers) == 3
    assert np.isfinite(distance(density, features)).all()


TWO = Outputs(("A", "B"))


def test_held_out_objects_rank_evenly_and_strangers_above_them():
    features, code = two_clouds()
    sure = np.clip(RANDOM.beta(20, 1, len(code)), 0.5, 1 - 1e-9)
    classes = np.column_stack([sure, 1 - sure])
    logits = np.column_stack([RANDOM.normal(5, 1, len(code)), np.zeros(len(code))])
    density = fit_density(features, code)
    ood = fit_novelty(entropy_of(classes), faintness_of(TWO, logits), density, distance(density, features))
    scores = novelty(ood, TWO, classes, logits, features)
    np.testing.assert_allclose(np.quantile(scores, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)
    strangers, unsure, faint = features + np.array([0.0, 150.0, 0.0]), np.full_like(classes, 0.5), 0 * logits
    assert novelty(ood, TWO, unsure, faint, strangers).min() > 0.9
    # Each alone lifts the score.
    assert (novelty(ood, TWO, classes, logits, strangers) >= scores).all()
    assert (novelty(ood, TWO, unsure, logits, features) >= scores).all()
    assert (novelty(ood, TWO, classes, faint, features) >= scores).all()


def test_doubt_between_the_classes_of_a_parent_is_none():
    outputs = Outputs(("M", "RR", "SR"), Family(parents={"M": "LPV", "RR": "RR", "SR": "LPV"}))
    np.testing.assert_allclose(doubt_of(outputs, np.array([[0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])), [0, np.log(2)])
    leaves = Outputs(("M", "RR"), Family(parents={"M": "LPV", "RR": "RR"}, subclasses={"RR": ("RRAB", "RRC")}))
    np.testing.assert_allclose(faintness_of(leaves, np.array([[1.0, 2.0, 2.0]])), [-2 - np.log(2)])


def test_without_features_entropy_and_logit_tell():
    classes, logits = np.array([[1.0, 0.0], [0.9, 0.1], [0.6, 0.4]]), np.array([[9.0, 0.0], [5.0, 0.0], [1.0, 0.0]])
    entropy = entropy_of(classes)
    np.testing.assert_allclose(entropy, [0.0, 0.325083, 0.673012], atol=1e-6)
    ood = fit_novelty(entropy, faintness_of(TWO, logits), None, None)
    assert ood.density is None
    np.testing.assert_allclose(novelty(ood, TWO, classes, logits, None), [0, 0.5, 1], atol=1e-4)
    assert novelty(ood, TWO, np.array([[0.5, 0.5]]), np.array([[0.0, 0.0]]), None)[0] == 1.0


def test_a_bundle_of_before_ranks_by_the_entropy_of_its_classes():
    ood = OutOfDistribution(entropy=(0.0, 0.5, 1.0))
    classes = np.array([[0.5, 0.5]])
    np.testing.assert_allclose(novelty(ood, TWO, classes, np.zeros((1, 2)), None), [np.log(2)], atol=1e-12)


GOOD = {"mean": (0.0, 0.0), "scale": (1.0, 1.0), "centers": ((0.0, 0.0),), "whitenings": (((1.0, 0.0), (0.0, 1.0)),)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (1.0,)},
        {"scale": (1.0, 0.0)},
        {"centers": ((0.0,),)},
        {"centers": ((0.0, 0.0), (0.0, 0.0))},
        {"whitenings": (((1.0, 0.0),),)},
        {"whitenings": (((1.0,), (0.0,)),)},
    ],
)
def test_a_density_whose_shapes_do_not_fit_is_refused(wrong):
    ClassDensity(**GOOD)
    with pytest.raises(ValidationError, match="expected 2 positive scales"):
        ClassDensity(**GOOD | wrong)


def test_a_density_without_its_ranks_is_refused_and_the_other_way_round():
    with pytest.raises(ValidationError, match="with a density, and none without"):
        OutOfDistribution(entropy=(0.0, 1.0), density=ClassDensity(**GOOD))
    with pytest.raises(ValidationError, match="with a density, and none without"):
        OutOfDistribution(entropy=(0.0, 1.0), distance=(0.0, 1.0), both=(0.0, 2.0))
    with pytest.raises(ValidationError, match="both with a density or faintness, and none without"):
        OutOfDistribution(entropy=(0.0, 1.0), faintness=(0.0, 1.0))
