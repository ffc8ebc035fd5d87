"""Few labels of a new survey: the last layer learns them, the rest stays, and the bundle says where it is from."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from tests.makers.labelled import TINY, labelled_sines, texts, write_labelled
from varstar_batch.errors import InputError
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.model.answers import log_softmax
from varstar_batch.model.bundle import parse_bundle
from varstar_batch.model.engines.open import open_engine
from varstar_batch.training.evaluate import gather_evidence
from varstar_batch.training.fitting import recipes
from varstar_batch.training.options import TrainingOptions
from varstar_batch.training.plan import plan_training
from varstar_batch.training.stars.label_table import read_given
from varstar_batch.training.stars.read_labelled import Selection, read_labelled
from varstar_batch.training.stars.seen import count_seen
from varstar_batch.training.train import train
from varstar_batch.training.tune import fit_head

OPTIONS = TrainingOptions(folds=5)
SWAPPED = np.array([0, 1, 2, 5, 4, 3], np.int8)
"""What the new survey calls M the old one calls SR, and the other way round: a definition that differs."""


@pytest.fixture(scope="module", autouse=True)
def _tiny_recipe():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "RECIPES", MappingProxyType({"tiny": TINY}))
        yield


@pytest.fixture(scope="module")
def start():
    options = TrainingOptions(architecture="tiny", folds=2, min_per_class=5)
    return train(plan_training(labelled_sines(240, others=10), options), "old").bundle


def new_survey(n, seed, classes=CLASSES):
    """Stars of a survey with the other definition; only those of some classes."""
    data = labelled_sines(n, seed=seed, others=12, survey="new")
    data.class_code[:n] = SWAPPED[data.class_code[:n]]
    kept = np.array([code < 0 or CLASSES[code] in classes for code in data.class_code])
    return data.take(np.flatnonzero(kept))


def right(bundle, data):
    """Share of right answers by class."""
    evidence, _, _ = gather_evidence(bundle, data)
    return {
        name: float((evidence.predicted == evidence.truth)[evidence.truth == code].mean())
        for code, name in enumerate(CLASSES)
        if (evidence.truth == code).any()
    }


@pytest.fixture(scope="module")
def tuned(start):
    return train(plan_training(new_survey(120, 11), OPTIONS, start), "tuned")


def test_a_definition_that_differs_is_learned_and_the_rest_stays(start, tuned):
    others = new_survey(240, 12)
    before, after = right(start, others), right(tuned.bundle, others)
    assert before["M"] < 0.2 > before["SR"]
    assert after["M"] > 0.8 < after["SR"]
    for name in ("CEP", "DSCUT", "ECL", "RR"):
        assert after[name] >= before[name] - 0.1


def test_it_is_judged_by_folds_and_says_where_it_is_from(start, tuned):
    contract = tuned.bundle.contract
    assert contract.metrics["held_out"]["folds"]["folds"] == 5
    assert contract.metrics["held_out"]["n_objects"] == 120
    assert contract.metrics["held_out"]["accuracy"] > 0.8
    assert contract.training["from"]["hash"] == start.hash
    assert contract.training["recipe"]["learned"] == "last layer"
    assert "**Fine-tuned** from the network of old-" in tuned.bundle.card
    assert count_seen(contract.training, new_survey(120, 11)) == 132 - 12
    assert count_seen(contract.training, labelled_sines(240, others=10)) == 240
    assert (contract.ood, contract.parent_sets, contract.family) == (
        start.contract.ood,
        start.contract.parent_sets,
        start.contract.family,
    )
    assert parse_bundle(contract.to_json(), tuned.bundle.keras_file, tuned.bundle.card, where="test") == tuned.bundle


def test_the_network_in_the_bundle_is_the_one_that_was_fitted(start, tuned):
    plan = plan_training(new_survey(120, 11), OPTIONS, start)
    again = train(plan, "tuned")
    assert again.bundle.hash == tuned.bundle.hash
    engine = open_engine(tuned.bundle)
    # The network of all labels, as it stands in the file, on stars that no fold had.
    found = engine.logits(plan.data.others.curves, plan.data.others.features)
    assert np.isfinite(found).all()
    old = open_engine(start).logits(plan.data.others.curves, plan.data.others.features)
    assert np.abs(found - old).max() > 0.01


def test_classes_without_a_label_are_not_forgotten(start):
    few = train(plan_training(new_survey(90, 13, ("M", "SR", "RR")), OPTIONS, start), "few")
    others = new_survey(240, 12)
    before, after = right(start, others), right(few.bundle, others)
    assert after["M"] > 0.8 < after["SR"]
    for name in ("CEP", "DSCUT", "ECL"):
        assert after[name] >= before[name] - 0.15


def test_the_head_is_where_the_loss_is_least():
    random = np.random.default_rng(3)
    seen, logits = random.normal(size=(50, 7)) * random.uniform(0.1, 9, 7), random.normal(size=(50, 4))
    truth = random.integers(0, 4, 50).astype(np.int8)
    middle = seen.mean(axis=0)
    scale = np.sqrt(((seen - middle) ** 2).sum(axis=1).mean())
    x = np.hstack([(seen - middle) / scale, np.ones((50, 1))])

    def loss(flat, penalty):
        logs = log_softmax(logits + x @ flat.reshape(-1, 4))
        return -logs[np.arange(50), truth].sum() + penalty / 2 * (flat**2).sum()

    for penalty in (0.1, 10.0):
        head = fit_head(seen, logits, truth, penalty)
        flat = np.vstack([head.slope * scale, head.level + middle @ head.slope]).ravel()
        np.testing.assert_allclose(approx_fprime(flat, loss, 1e-6, penalty), 0, atol=2e-2)
    assert np.abs(fit_head(seen, logits, truth, 1e9).slope).max() < 1e-6


def test_labels_that_are_too_few_or_of_one_class_are_refused(start):
    with pytest.raises(InputError, match="at least 10 usable light curves with labels, of two classes or more, got 6"):
        plan_training(new_survey(6, 1), OPTIONS, start)
    with pytest.raises(InputError, match="got 20, all of RR"):
        plan_training(new_survey(120, 1, ("RR",)), OPTIONS, start)
    with pytest.raises(InputError, match="--epochs 3"):
        plan_training(new_survey(60, 1), OPTIONS.model_copy(update={"epochs": 3}), start)


def test_a_table_of_labels_stands_in_the_place_of_the_surveys(tmp_path):
    data = replace(labelled_sines(60, survey="s"), class_original=texts(["ROT"] * 60))
    survey = write_labelled(tmp_path / "s", data)
    lines = ["object_id,class,answer", "s-3,RRAB,M", "s-4,EW,M", "s-5,ROT,M", "s-6,,M", "elsewhere,M,M"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    given = read_given(str(tmp_path / "labels.csv"))
    assert given == {"s-3": "RRAB", "s-4": "EW", "s-5": "ROT", "elsewhere": "M"}
    read = read_labelled([survey], None, Selection(others=True, given=given))
    found = dict(zip(read.object_id, read.class_code, strict=True))
    assert found == {"s-3": CLASSES.index("RR"), "s-4": CLASSES.index("ECL"), "s-5": -1}
    assert read.other_kinds().sum() == 1
    (tmp_path / "twice.csv").write_text("object_id,class\na,RR\na,M\n")
    with pytest.raises(InputError, match="'RR' and 'M' of a"):
        read_given(str(tmp_path / "twice.csv"))
    (tmp_path / "empty.csv").write_text("object_id,class\na,\nb,\n")
    with pytest.raises(InputError, match="stars with a label"):
        read_given(str(tmp_path / "empty.csv"))
