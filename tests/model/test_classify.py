"""Probabilities and the numbers beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.makers.models import FAMILY, make_contract
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.fold import Folded
from varstar_batch.light_curves.status import Status
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.classify import classify
from varstar_batch.model.family import Calibration, Outputs, ParentSets

QUANTILES = (-10.0, -5.0, -1.0)


class FixedEngine:
    """An engine that answers with given logits, and remembers what it was asked."""

    name, precision = "fixed", "float32"

    def __init__(self, logits):
        self.answer = np.asarray(logits, dtype=np.float32)
        self.answer = self.answer if self.answer.shape[-1] == 9 else self.answer.reshape(-1, 6)

    def logits(self, curves, features=None):
        self.asked = curves
        assert features is None
        return self.answer


def make_folded(status):
    status = np.asarray(status, dtype=np.uint8)
    n = len(status)
    curve = np.where((status == Status.OK)[:, None], np.arange(n, dtype=np.float32)[:, None], np.float32(np.nan))
    zeros = np.zeros(n, np.int32)
    return Folded(
        status=status,
        n_obs=zeros,
        n_used=zeros,
        dropped=np.zeros((n, 6), np.int32),
        amplitude=np.zeros(n, np.float32),
        curve=np.repeat(curve, 512, axis=1),
        features=np.empty((n, 0), np.float32),
        dispersion=np.empty((n, 0), np.float32),
        used=np.zeros(0, np.bool_),
    )


def run(logits, status=None, temperature=1.0, **changes):
    contract = make_contract(b"", calibration=Calibration(temperature=temperature), **changes)
    engine = FixedEngine(logits)
    folded = make_folded([Status.OK] * len(engine.answer) if status is None else status)
    return classify(Bundle(contract=contract, keras_file=b"", card=""), engine, folded), engine


def test_numbers_of_one_object_by_hand():
    p = np.array([0.1, 0.5, 0.05, 0.05, 0.25, 0.05])
    result, _ = run([2.0 * np.log(p)], temperature=2.0)
    np.testing.assert_allclose(result.probabilities[0], p, rtol=1e-6)
    assert (result.class_code[0], result.second_code[0]) == (1, 4)
    assert result.class_prob[0] == result.probabilities[0, 1]
    assert result.margin[0] == pytest.approx(0.25, abs=1e-6)
    assert result.entropy[0] == pytest.approx(-np.sum(p * np.log(p)), abs=1e-6)
    # An entropy of 1.43 lies between the stored 0.5, the median, and 1.5, the largest.
    assert result.ood_score[0] == pytest.approx(0.5 + 0.5 * (result.entropy[0] - 0.5), abs=1e-6)
    assert result.status[0] == Status.OK


@pytest.mark.parametrize(("likely", "score"), [(1, 0.0), (2, 0.5 + 0.5 * (np.log(2) - 0.5)), (6, 1.0)])
def test_the_familiarity_is_read_off_the_stored_quantiles(likely, score):
    # Among so many equally likely classes the entropy is the logarithm of their number.
    result, _ = run([[0.0] * likely + [-2e3] * (6 - likely)], temperature=2.0)
    assert result.ood_score[0] == pytest.approx(score, abs=1e-6)
    assert result.entropy[0] == pytest.approx(np.log(likely), abs=1e-6)


def test_without_stored_quantiles_there_is_no_score():
    result, _ = run(np.zeros((2, 6)), ood=None)
    assert np.isnan(result.ood_score).all()
    assert np.isfinite(result.entropy).all()


def test_only_objects_with_a_curve_are_asked_and_all_come_back():
    status = [Status.NO_PERIOD, Status.OK, Status.MALFORMED, Status.OK, Status.OK, Status.TOO_FEW_OBSERVATIONS]
    logits = np.eye(6)[[2, 0, 5]] * 9
    logits[1, 3] = np.nan
    result, engine = run(logits, status)
    assert engine.asked[:, 0].tolist() == [1.0, 3.0, 4.0]
    expected = [*status]
    expected[3] = Status.NOT_CLASSIFIED
    assert result.status.tolist() == expected
    assert result.class_code.tolist() == [-1, 2, -1, -1, 5, -1]
    assert (result.second_code == -1).tolist() == [True, False, True, True, False, True]
    missing = [0, 2, 3, 5]
    for column in (result.probabilities, result.class_prob, result.margin, result.entropy, result.ood_score):
        assert np.isnan(column[missing]).all()
        assert np.isfinite(np.delete(column, missing, axis=0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_a_status(bad):
    result, _ = run([[0, 0, bad, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    assert result.status.tolist() == [Status.NOT_CLASSIFIED, Status.OK]
    assert result.class_code.tolist() == [-1, 5]


def test_no_objects_and_none_with_a_curve():
    for status in ([], [Status.NO_PERIOD, Status.BAD_PERIOD]):
        result, _ = run(np.zeros((0, 6)), status)
        assert result.probabilities.shape == (len(status), 6)
        assert result.class_code.tolist() == [-1] * len(status)
        assert result.status.tolist() == status


def test_the_folded_status_is_left_alone():
    folded = make_folded([Status.OK])
    bundle = Bundle(contract=make_contract(b""), keras_file=b"", card="")
    classify(bundle, FixedEngine([[np.nan] * 6]), folded)
    assert folded.status[0] == Status.OK


def test_dtypes_are_those_of_the_catalog():
    result, _ = run(np.zeros((1, 6)))
    assert {name: column.dtype.name for name, column in vars(result).items()} == {
        "probabilities": "float32",
        "class_code": "int8",
        "class_prob": "float32",
        "second_code": "int8",
        "margin": "float32",
        "entropy": "float32",
        "ood_score": "float32",
        "parent_code": "int8",
        "parent_prob": "float32",
        "subclass_code": "int8",
        "subclass_prob": "float32",
        "parent_sets": "bool",
        "status": "uint8",
    }


finite_logits = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 8), st.just(6)), elements=st.floats(-3e3, 3e3, width=32)
)


@settings(max_examples=200, deadline=None)
@given(finite_logits, st.floats(0.05, 20))
def test_every_row_is_a_distribution_and_its_numbers_agree(logits, temperature):
    result, _ = run(logits, temperature=temperature)
    p = result.probabilities
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p.sum(axis=1, dtype=np.float64), 1.0, atol=1e-6)
    rows = np.arange(len(p))
    np.testing.assert_array_equal(result.class_prob, p.max(axis=1, initial=0))
    np.testing.assert_array_equal(p[rows, result.class_code], result.class_prob)
    assert (result.second_code != result.class_code).all()
    without_first = p.copy()
    without_first[rows, result.class_code] = -1
    np.testing.assert_array_equal(p[rows, result.second_code], without_first.max(axis=1, initial=-1))
    np.testing.assert_allclose(result.margin, p[rows, result.class_code] - p[rows, result.second_code], atol=1e-6)
    assert ((result.margin >= 0) & (result.margin <= 1)).all()
    assert ((result.entropy >= -1e-7) & (result.entropy <= np.log(6) + 1e-6)).all()
    assert ((result.ood_score >= 0) & (result.ood_score <= 1)).all()


@settings(max_examples=50, deadline=None)
@given(finite_logits, st.integers(0, 8))
def test_split_and_joined_batches_are_the_same(logits, cut):
    whole, _ = run(logits)
    parts = [run(part)[0] for part in (logits[:cut], logits[cut:])]
    for name, column in vars(whole).items():
        np.testing.assert_array_equal(column, np.concatenate([getattr(part, name) for part in parts]))


def run_family(logits, mira_amplitude=None, **changes):
    """Classify one light curve a row with a bundle that has a family; `changes` are of what was folded."""
    parents = set(FAMILY.parents.values())
    contract = make_contract(
        b"",
        family=FAMILY,
        calibration=Calibration(temperature=1.0, classes={"LPV": 1.0}, subclasses={"ECL": 1.0, "RR": 1.0}),
        parent_sets=ParentSets(least={"95": dict.fromkeys(parents, 0.3), "99": dict.fromkeys(parents, 0.01)}),
        ood=None,
    )
    folded = replace(make_folded(np.zeros(len(logits))), n_used=np.full(len(logits), 60, np.int32), **changes)
    return classify(Bundle(contract, b"", ""), FixedEngine(logits), folded, mira_amplitude)


LEAVES = Outputs(CLASSES, FAMILY).leaves
PARENT = Outputs(CLASSES, FAMILY).parents.index


def logits_of(**probabilities):
    rest = (1 - sum(probabilities.values())) / (len(LEAVES) - len(probabilities))
    return [np.log(probabilities.get(leaf, rest)) for leaf in LEAVES]


def test_subclasses_add_up_to_classes_and_classes_to_parents():
    # No leaf of RR is the most probable, but RR is; neither M nor SR is, but LPV is.
    result = run_family([logits_of(RRAB=0.29, RRC=0.2, EW=0.31), logits_of(M=0.3, SR=0.29, CEP=0.35)])
    assert [CLASSES[code] for code in result.class_code] == ["RR", "CEP"]
    assert result.class_prob == pytest.approx([0.49, 0.35], abs=1e-6)
    assert result.parent_code.tolist() == [PARENT("RR"), PARENT("LPV")]
    assert result.parent_prob == pytest.approx([0.49, 0.59], abs=1e-6)
    assert result.subclass_code.tolist() == [LEAVES.index("RRAB"), -1]
    assert result.subclass_prob[0] == pytest.approx(0.29, abs=1e-6)
    assert np.isnan(result.subclass_prob[1])
    sets = [set(np.flatnonzero(row).tolist()) for row in result.parent_sets[:, 0]]
    assert sets == [{PARENT("RR"), PARENT("ECL")}, {PARENT("LPV"), PARENT("CEP")}]
    assert (result.parent_sets[:, 1] >= result.parent_sets[:, 0]).all()


def test_bands_that_agree_give_their_answer_and_those_that_differ_the_mean_of_the_logarithms():
    one, other = logits_of(RRAB=0.6, RRC=0.3), logits_of(RRAB=0.3, RRC=0.6)
    result = run_family([one, one, one, other], objects=np.array([0, 2, 4]))
    alone = run_family([one])
    for name in ("parent_prob", "subclass_prob", "class_prob"):
        assert getattr(result, name)[0] == pytest.approx(getattr(alone, name)[0], abs=1e-6)
    assert result.subclass_code.tolist()[0] == LEAVES.index("RRAB")
    assert result.subclass_prob[1] == pytest.approx(result.class_prob[1] / 2, abs=1e-6)
    assert result.parent_sets.shape == (2, 2, 5)


def test_an_amplitude_divides_what_m_and_sr_have_and_nothing_else():
    logits = [logits_of(M=0.6, SR=0.2), logits_of(M=0.2, SR=0.6), logits_of(M=0.2, SR=0.2, CEP=0.35)]
    plain = run_family(logits)
    told = run_family(logits, mira_amplitude=2.5, amplitude=np.array([2.49, 2.5, 3.0], np.float32))
    assert [CLASSES[code] for code in told.class_code] == ["SR", "M", "M"]
    assert told.class_prob == pytest.approx([0.8, 0.8, 0.4], abs=1e-6)
    assert CLASSES[plain.class_code[2]] == "CEP"
    np.testing.assert_array_equal(told.parent_prob, plain.parent_prob)
    np.testing.assert_array_equal(told.parent_sets, plain.parent_sets)
    np.testing.assert_allclose(told.probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_band_weighs_by_the_square_of_its_observations_and_one_without_a_curve_not_at_all():
    logits = np.log(
        [[0.7, 0.1, 0.05, 0.05, 0.05, 0.05], [0.1, 0.7, 0.05, 0.05, 0.05, 0.05], [0.2, 0.4, 0.1, 0.1, 0.1, 0.1]]
    )
    ok, none = Status.OK, Status.TOO_FEW_OBSERVATIONS
    folded = replace(
        make_folded([ok, ok, none, ok, none]),
        n_used=np.array([90, 30, 500, 60, 7], np.int32),
        objects=np.array([0, 2, 4, 5]),
    )
    bundle = Bundle(contract=make_contract(b"", calibration=Calibration(temperature=1.0)), keras_file=b"", card="")
    result = classify(bundle, FixedEngine(logits), folded)
    expected = np.exp(0.9 * logits[0] + 0.1 * logits[1])
    np.testing.assert_allclose(result.probabilities[0], expected / expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(result.probabilities[1], np.exp(logits[2]), rtol=1e-6)
    assert result.status.tolist() == [ok, ok, none]
    assert np.isnan(result.probabilities[2]).all()
