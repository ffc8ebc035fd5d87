"""Training, calibration and measures."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from varstar_batch.arithmetic.classes import CLASSES
from varstar_batch.arithmetic.rules import Preprocessing
from varstar_batch.model.bundle import parse_bundle
from varstar_batch.model.classify import energy_score, ood_scores, temperature_softmax
from varstar_batch.model.engines import open_engine
from varstar_batch.model.evaluation import calibration_error, class_metrics, fit_energy_quantiles, fit_temperature
from varstar_batch.model.training import (
    LabelledCurves,
    TrainingOptions,
    measure_precision,
    simulated_bundle,
    simulated_curves,
    split,
    train,
)

TINY = TrainingOptions(passes=2, batch_size=32)
PREPROCESSING = Preprocessing(n_phase=32)


def easy_curves(n=240):
    """Six classes that differ in the number of cycles of a sine: learnt in moments."""
    random = np.random.default_rng(3)
    code = np.arange(n) % len(CLASSES)
    phase = np.arange(32) / 32 + random.random((n, 1))
    curves = 0.5 + 0.4 * np.sin(2 * np.pi * (code[:, None] + 1) * phase) + random.normal(0, 0.3, (n, 32))
    return LabelledCurves(curves.astype(np.float32), code.astype(np.uint8), PREPROCESSING, "sines")


@pytest.fixture(scope="module")
def trained():
    data = easy_curves(600)
    options = TrainingOptions(passes=14, batch_size=24, learning_rate=3e-3, dropout=0.1)
    return train(data, options, name="sines"), data


def test_a_network_learns_and_its_bundle_is_complete(trained):
    bundle, data = trained
    contract = bundle.contract
    assert contract.metrics["held_out"]["accuracy"] > 0.6  # chance: 0.17
    assert contract.metrics["held_out"]["n_objects"] == contract.training["n_held_out"] == 120
    assert contract.training["n_train"] == 480
    assert contract.training["fingerprint"] == data.fingerprint
    assert contract.preprocessing == PREPROCESSING
    assert contract.ood is not None
    assert json.loads(contract.to_json())["training"]["options"]["passes"] == 14
    assert parse_bundle(contract.to_json(), bundle.keras_file, bundle.card, where="test") == bundle
    assert "seen no real star" not in bundle.card
    for label in CLASSES:
        assert f"| {label} | 20 |" in bundle.card


def test_what_bfloat16_changes_is_measured(trained):
    bundle, data = trained
    precision = measure_precision(bundle, data.curves)
    if not precision:
        pytest.skip("this CPU has no bfloat16 arithmetic")
    change = precision["bfloat16"]
    assert change.n_objects == len(data)
    exact, changed = (
        temperature_softmax(
            open_engine(bundle, "openvino", name).logits(data.curves).astype(np.float64),
            bundle.contract.calibration.temperature,
        )
        for name in ("float32", "bfloat16")
    )
    assert change.max_probability_change == pytest.approx(np.abs(exact - changed).max(), abs=1e-6)
    assert 0 < change.max_probability_change < 0.1


def test_the_same_seed_makes_the_same_bundle():
    first, again = (simulated_bundle(250, replace(TINY, passes=1, seed=4), name="tiny") for _ in range(2))
    assert first == again
    assert first.contract.metrics["other_survey"]["source"] == "simulated survey of 50 objects, seed 5"
    assert "has seen no real star" in first.card


def test_simulated_curves_are_folded_and_labelled():
    data = simulated_curves(300, seed=9, preprocessing=PREPROCESSING)
    assert 200 < len(data) <= 300
    assert data.curves.shape == (len(data), 32)
    assert (data.curves.min(), data.curves.max()) == (0.0, 1.0)
    assert set(data.class_code) == set(range(6))
    assert data.fingerprint == simulated_curves(300, seed=9, preprocessing=PREPROCESSING).fingerprint
    assert data.fingerprint != simulated_curves(300, seed=10, preprocessing=PREPROCESSING).fingerprint


def with_nan(data):
    data.curves[7, 3] = np.nan
    return data


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (with_nan, "finite"),
        (lambda data: data.take(np.flatnonzero(data.class_code != 2)), "'ECL': 0"),
        (lambda data: data.take(np.arange(7)), "'DSCUT': 1"),
        (lambda data: replace(data, class_code=data.class_code + 1), "at least 2 light curves of each"),
        (lambda data: data.take(np.arange(0)), "at least 2 light curves of each"),
    ],
)
def test_data_that_cannot_be_trained_on(spoil, part):
    with pytest.raises(ValueError, match=part):
        train(spoil(easy_curves()), TINY, name="x")


@pytest.mark.parametrize("share", [0.001, 0.2, 0.999])
def test_the_split_is_stratified_and_complete(share):
    code = np.repeat(np.arange(6), [2, 3, 10, 50, 100, 400])
    kept, held = split(code, share, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(code)))
    for rows in (kept, held):
        assert set(code[rows]) == set(range(6))
    expected = np.clip(np.round(share * np.bincount(code)), 1, np.bincount(code) - 1)
    np.testing.assert_array_equal(np.bincount(code[held]), expected)
    np.testing.assert_array_equal(split(code, share, seed=1)[1], held)


def drawn_logits(temperature, n=20_000):
    """Logits whose true probabilities are softmax(logits / temperature)."""
    random = np.random.default_rng(8)
    logits = random.normal(0, 3, size=(n, 6))
    p = temperature_softmax(logits, temperature)
    truth = (p.cumsum(axis=1) < random.random((n, 1))).sum(axis=1)
    return logits, np.minimum(truth, 5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_and_calibrates(temperature):
    logits, truth = drawn_logits(temperature)
    fitted = fit_temperature(logits, truth).temperature
    assert fitted == pytest.approx(temperature, rel=0.05)
    assert calibration_error(logits, truth, fitted) < 0.01


def test_the_calibration_error_by_hand():
    # ten sure answers of which nine are right, and ten at one half of which three are
    sure, unsure = [50.0, 0, 0, 0, 0, 0], [50.0, 50.0, 0, 0, 0, 0]
    logits = np.array([sure] * 10 + [unsure] * 10)
    truth = np.array([0] * 9 + [1] + [0] * 3 + [1] * 7)
    assert calibration_error(logits, truth, 1.0) == pytest.approx((10 * 0.1 + 10 * 0.2) / 20)


def test_familiar_objects_have_evenly_spread_scores():
    logits, _ = drawn_logits(1.0)
    ood = fit_energy_quantiles(logits, 1.3)
    scores = ood_scores(energy_score(logits, 1.3), ood)
    np.testing.assert_allclose(np.quantile(scores, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)
    flat = np.full((1, 6), -50.0)
    assert ood_scores(energy_score(flat, 1.3), ood)[0] == 1.0


def test_measures_equal_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(4)
    truth, predicted = random.integers(0, 5, 300), random.integers(0, 4, 300)
    predicted[:150] = truth[:150]
    measures = class_metrics(truth, predicted, CLASSES)
    expected = metrics.precision_recall_fscore_support(truth, predicted, labels=range(6), zero_division=0)
    for i, label in enumerate(CLASSES):
        got = measures["by_class"][label]
        assert [got[key] for key in ("precision", "recall", "f1")] == pytest.approx(
            [column[i] for column in expected[:3]], abs=1e-5
        )
        assert got["n_objects"] == expected[3][i]
    assert measures["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted), abs=1e-5)
    assert measures["macro"]["f1"] == pytest.approx(np.mean(expected[2]), abs=1e-5)
