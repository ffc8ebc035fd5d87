"""Measures and calibration, against references and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.makers.labelled import labelled_sines
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.model.answers import temperature_softmax
from varstar_batch.training.fitting.calibration import fit_temperature
from varstar_batch.training.judging.measures import (
    Evidence,
    auroc,
    calibration_error,
    class_metrics,
    judge,
    reliability,
    spread_over_folds,
)


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
    fitted = fit_temperature(logits, np.arange(6) == truth[:, None])
    assert fitted == pytest.approx(temperature, rel=0.05)
    assert calibration_error(temperature_softmax(logits, fitted), truth) < 0.01


def test_the_calibration_error_by_hand():
    # ten sure answers of which nine are right, and ten at one half of which three are
    sure, unsure = [1.0, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0]
    probabilities = np.array([sure] * 10 + [unsure] * 10)
    truth = np.array([0] * 9 + [1] + [0] * 3 + [1] * 7)
    assert calibration_error(probabilities, truth) == pytest.approx((10 * 0.1 + 10 * 0.2) / 20)
    count, confidence, right = reliability(probabilities, truth, 10).T
    assert count.tolist() == [0, 0, 0, 0, 0, 10, 0, 0, 0, 10]
    np.testing.assert_allclose([confidence[5], right[5], confidence[9], right[9]], [0.5, 0.3, 1.0, 0.9])
    assert np.isnan(confidence[0])


def drawn_answers(n=300):
    random = np.random.default_rng(4)
    truth, predicted = random.integers(0, 5, n), random.integers(0, 4, n)
    predicted[: n // 2] = truth[: n // 2]
    return truth, predicted


def test_measures_equal_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    truth, predicted = drawn_answers()
    measures = class_metrics(truth, predicted, CLASSES)
    expected = metrics.precision_recall_fscore_support(truth, predicted, labels=range(6), zero_division=0)
    for i, label in enumerate(CLASSES):
        got = measures["by_class"][label]
        assert [got[key] for key in ("precision", "recall", "f1")] == pytest.approx(
            [column[i] for column in expected[:3]], abs=1e-5
        )
        assert got["n_objects"] == expected[3][i]
        assert got["accuracy"] == pytest.approx(metrics.accuracy_score(truth == i, predicted == i), abs=1e-5)
    assert measures["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted), abs=1e-5)
    # Nobody can be right about a class that does not occur: it stays out of the average.
    assert measures["macro"]["f1"] == pytest.approx(np.mean(expected[2][:5]), abs=1e-5)


def test_the_papers_equations_by_hand():
    # 3 of class 0 (two right, one taken for 1), 2 of class 1 (both right)
    measures = class_metrics(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1]), ("A", "B"))
    a, b = measures["by_class"]["A"], measures["by_class"]["B"]
    assert (a["precision"], a["recall"], a["f1"]) == (1.0, 0.66667, 0.8)
    assert (b["precision"], b["recall"], b["f1"]) == (0.66667, 1.0, 0.8)
    # equation 1 counts true negatives, so both classes share the one mistake
    assert a["accuracy"] == b["accuracy"] == 0.8
    assert measures["macro"] == {"accuracy": 0.8, "precision": 0.83333, "recall": 0.83333, "f1": 0.8}


def test_mean_and_deviation_over_folds():
    truth, predicted = drawn_answers()
    parts = [class_metrics(truth[rows], predicted[rows], CLASSES) for rows in np.array_split(np.arange(300), 4)]
    spread = spread_over_folds(parts)
    values = [part["macro"]["f1"] for part in parts]
    assert spread["macro"]["f1"]["mean"] == pytest.approx(np.mean(values), abs=1e-5)
    assert spread["macro"]["f1"]["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-5)
    assert spread["by_class"]["SR"]["f1"] == {"mean": 0.0, "std": 0.0}
    assert spread_over_folds(parts[:1])["accuracy"]["std"] == 0.0


def test_the_area_equals_that_of_scikit_learn_also_with_ties():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(9)
    for digits in (0, 1, 8):
        familiar, other = random.normal(0, 1, 200).round(digits), random.normal(0.7, 1, 90).round(digits)
        labels = np.r_[np.zeros(200), np.ones(90)]
        assert auroc(familiar, other) == pytest.approx(metrics.roc_auc_score(labels, np.r_[familiar, other]), abs=1e-5)
    assert np.isnan(auroc(familiar, other[:0]))
    assert auroc(np.zeros(3), np.ones(2)) == 1.0


def test_everything_is_judged_in_parts_and_ready_for_json():
    objects = labelled_sines(60)
    objects.survey[:20] = "first"
    objects.period_source[:30] = ""
    probabilities = np.eye(6)[objects.class_code]
    probabilities[:6] = np.roll(probabilities[:6], 1, axis=1)
    others = np.array([[2.0, 3.0], [2.0, -1.0]])
    found = judge(
        Evidence(
            objects=objects,
            probabilities=probabilities,
            fold=np.arange(60) % 2,
            ood_score=np.linspace(0, 1, 60),
            others=objects.take(np.arange(2)),
            other_score=others,
        ),
        CLASSES,
    )
    assert found["accuracy"] == 0.9
    assert found["by_survey"]["first"]["accuracy"] == 0.7
    assert found["by_survey"]["sines"]["accuracy"] == 1.0
    assert {name: part["n_objects"] for name, part in found["by_period_source"].items()} == {"not told": 30, "made": 30}
    assert found["ood_auroc"]["mean"] == pytest.approx(0.75)
    assert found["n_others"] == 2
    assert np.sum(found["confusion"]) == 60
    assert json.loads(json.dumps(found, allow_nan=False)) == found
