"""Training: a network learns, its bundle is complete, and what cannot be trained on is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from tests.makers.labelled import TINY, labelled_sines
from varstar_batch.errors import InputError
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.model.answers import answers_of
from varstar_batch.model.bundle import parse_bundle
from varstar_batch.model.engines.open import open_engine
from varstar_batch.training.fitting import recipes
from varstar_batch.training.fitting.calibration import fit_calibration
from varstar_batch.training.fitting.fit import compile_options, fit, shift_phases
from varstar_batch.training.fitting.inputs import Inputs, check_finite
from varstar_batch.training.fitting.recipes import PAPER
from varstar_batch.training.judging.card import UNSEEN, write_card
from varstar_batch.training.options import TrainingOptions
from varstar_batch.training.plan import plan_training
from varstar_batch.training.precision import measure_precision
from varstar_batch.training.stars.labelled import LabelledLightCurves
from varstar_batch.training.train import train

OPTIONS = TrainingOptions(architecture="tiny", folds=2, min_per_class=5)


def with_options(**others: Any) -> TrainingOptions:
    return OPTIONS.model_copy(update=others)


@pytest.fixture(scope="module", autouse=True)
def _tiny_recipe():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "RECIPES", MappingProxyType({"tiny": TINY, "paper": PAPER}))
        yield


class Kept(dict):
    """Checkpoints in memory; the training is killed when so many have been written."""

    def __init__(self, most=10**9):
        super().__init__()
        self.most, self.written = most, []

    def read(self, name):
        return self.get(name)

    def write(self, name, content):
        if len(self.written) == self.most:
            raise KeyboardInterrupt
        self.written.append(name)
        self[name] = content


@pytest.fixture(scope="module")
def trained():
    plan = plan_training(labelled_sines(240, others=30), OPTIONS)
    kept, passes = Kept(), []
    return train(plan, "sines", kept, passes.append), plan, kept, passes


def test_a_network_learns_and_its_bundle_is_complete(trained):
    result, plan, kept, passes = trained
    bundle, contract = result.bundle, result.bundle.contract
    measures = contract.metrics["held_out"]
    assert measures["accuracy"] > 0.8  # chance: 0.17
    assert measures["n_objects"] == contract.training["n_objects"] == 240
    assert measures["folds"]["folds"] == 2
    assert contract.preprocessing == TINY.preprocessing
    assert contract.ood is not None
    assert contract.architecture == "tiny"
    assert contract.training["fingerprint"] == plan.data.objects.fingerprint
    assert contract.training["surveys"] == {"sines": dict.fromkeys(CLASSES, 40)}
    assert json.loads(contract.to_json())["training"]["recipe"]["epochs"] == 8
    assert parse_bundle(contract.to_json(), bundle.keras_file, bundle.card, where="test") == bundle
    assert sum(passes) == plan.passes == 24
    assert kept.written == [name for name in ("fold-1.npz", "fold-2.npz", "all.npz") for _ in range(8)]


def test_the_evidence_is_of_networks_that_have_not_seen_the_star(trained):
    result, plan, _, _ = trained
    evidence = result.evidence
    for number, split in enumerate(plan.splits):
        np.testing.assert_array_equal(np.flatnonzero(evidence.fold == number), split.held)
    np.testing.assert_allclose(evidence.probabilities.sum(axis=1), 1)
    assert evidence.other_score.shape == (2, 30)
    assert set(evidence.histories) == {"fold 1", "fold 2", "all"}
    history = evidence.histories["fold 1"]
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ("loss", "accuracy", "held_loss", "held_accuracy"), 8
    )
    assert history["loss"][-1] < history["loss"][0]
    assert history["held_accuracy"][-1] == pytest.approx(
        (evidence.predicted == evidence.truth)[evidence.fold == 0].mean()
    )
    assert "held_loss" not in evidence.histories["all"]


def test_the_card_tells_data_measures_and_limits(trained):
    card = trained[0].bundle.card
    for part in ("| sines | 40 | 40 |", "## Limits", "**average**", "Licences", "sines: V", "AUROC", "knows no other"):
        assert part in card
    assert "no real star" not in card


def test_surveys_are_held_out_one_after_another_and_the_calibration_rests_on_them():
    parts = [labelled_sines(120, seed=seed, survey=name) for seed, name in ((1, "a"), (2, "b"), (3, "c"), (4, "d"))]
    data = LabelledLightCurves.concat(parts)
    options = OPTIONS.model_copy(update={"unseen": True, "together": ("b+c",), "judge_epochs": 3})
    plan = plan_training(data, options)
    assert [split.name for split in plan.unseen] == ["a", "b+c", "d"]
    kept = Kept()
    result = train(plan, "sines", kept)
    passes = {name: kept.written.count(name) for name in kept}
    judges = ("fold-1.npz", "fold-2.npz", "a.npz", "b+c.npz", "d.npz")
    assert passes == {**dict.fromkeys(judges, 3), "all.npz": 8}
    assert plan.passes == 23
    contract = result.bundle.contract
    measures = contract.metrics[UNSEEN]
    assert set(measures["by_survey"]) == {"a", "b", "c", "d"}
    assert measures["n_objects"] == contract.metrics["held_out"]["n_objects"] == 480
    logits = np.concatenate(
        [fit(plan.data, split, replace(TINY, epochs=3), 0, kept).held_logits for split in plan.unseen]
    )
    truth = np.concatenate([plan.data.objects.class_code[split.held] for split in plan.unseen])
    exact, outputs = logits.astype(np.float64), plan.data.outputs
    allowed = outputs.class_of == truth[:, None]
    group = np.repeat(np.arange(3), [len(split.held) for split in plan.unseen])
    assert contract.calibration == fit_calibration(outputs, exact, None, truth, allowed, group)
    card = result.bundle.card
    told = [
        line.split("|")[1].strip()
        for line in card[card.index("Expect this of a new") :].splitlines()
        if line[:2] == "| "
    ]
    assert set(told[1:5]) == {"a", "b", "c", "d"}
    right = [measures["by_survey"][name]["accuracy"] for name in told[1:5]]
    assert right == sorted(right)  # the worst first
    with pytest.raises(InputError, match="surveys among a, b, c, d"):
        plan_training(data, options.model_copy(update={"together": ("a+e",)}))


def test_a_class_that_is_never_recognised_is_told(trained):
    contract = trained[0].bundle.contract
    measures = json.loads(json.dumps(contract.metrics["held_out"]))
    measures["folds"]["by_class"]["M"]["f1"]["mean"] = 0.0
    card = write_card(contract.model_copy(update={"metrics": {"held_out": measures}}))
    assert "M (0.00)" in card


def test_a_training_that_was_cut_off_ends_as_if_it_had_not_been(trained):
    result, plan, _, _ = trained
    kept, passes = Kept(most=11), []
    with pytest.raises(KeyboardInterrupt):
        train(plan, "sines", kept)
    assert kept.written == ["fold-1.npz"] * 8 + ["fold-2.npz"] * 3
    kept.most = 10**9
    again = train(plan, "sines", kept, passes.append)
    assert passes[:3] == [8, 3, 1]
    assert len(kept.written) == 24
    assert again.bundle == result.bundle
    np.testing.assert_array_equal(again.evidence.probabilities, result.evidence.probabilities)


def test_a_damaged_checkpoint_counts_as_none():
    plan = plan_training(labelled_sines(60), with_options(epochs=1))
    kept = Kept()
    names = ["fold-1.npz", "fold-2.npz", "all.npz"]
    kept.update(zip(names, (b"", b"PK\x03\x04 nothing", b"text"), strict=True))
    train(plan, "sines", kept)
    assert kept.written == names


def test_the_plan_is_the_same_for_the_same_data_and_seed():
    data = labelled_sines(60)
    first, again = plan_training(data, OPTIONS), plan_training(data, OPTIONS)
    assert first.fingerprint == again.fingerprint
    for other in (with_options(seed=2), with_options(epochs=3), with_options(folds=3)):
        assert plan_training(data, other).fingerprint != first.fingerprint
    data.light_curves.mag[5] += 0.1
    assert plan_training(data, OPTIONS).fingerprint != first.fingerprint


def test_what_bfloat16_changes_is_measured(trained):
    result, plan, _, _ = trained
    inputs = plan.data.inputs
    precision = measure_precision(result.bundle, inputs)
    if not precision:
        pytest.skip("this CPU has no bfloat16 arithmetic")
    assert precision == result.bundle.contract.precision
    change = precision["bfloat16"]
    assert change.n_objects == len(inputs)
    exact, changed = (
        answers_of(
            result.bundle.contract.outputs,
            result.bundle.contract.calibration,
            open_engine(result.bundle, "openvino", name).logits(inputs.curves).astype(np.float64),
            None,
        ).classes
        for name in ("float32", "bfloat16")
    )
    assert change.max_probability_change == pytest.approx(np.abs(exact - changed).max(), abs=1e-6)
    assert 0 < change.max_probability_change < 0.1


def test_the_recipes_numbers_give_way_to_the_options():
    assert (PAPER.epochs, PAPER.batch_size, PAPER.learning_rate, PAPER.schedule) == (100, 16, 1e-4, "constant")
    chosen = TrainingOptions(architecture="paper", epochs=3, learning_rate=0.01).recipe()
    assert chosen == replace(PAPER, epochs=3, learning_rate=0.01)
    with pytest.raises(InputError, match=r"--architecture: expected one of tiny, paper, got 'resnet'"):
        TrainingOptions(architecture="resnet").recipe()


def test_augmented_light_curves_are_what_the_network_sees():
    seen = []

    def shrink(objects, random):
        curves = objects.light_curves
        seen.append((len(curves), random.random()))
        mag = curves.mag.copy()
        # Half of the objects lose all but three observations, and cannot be folded: those are taken as they are.
        offsets = curves.offsets
        bad = np.repeat(np.arange(len(curves)) % 2 == 0, curves.n_obs)
        mag[bad & (np.arange(len(mag)) % curves.n_obs[0] > 2)] = np.nan
        return replace(objects, light_curves=replace(curves, mag=mag, offsets=offsets))

    recipe = replace(TINY, augment=shrink, n_copies=3, class_weights=0.5, schedule="cosine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "RECIPES", MappingProxyType({"tiny": recipe}))
        plan = plan_training(labelled_sines(120), with_options(epochs=4, folds=0))
        result = train(plan, "x")
    # Copies are made once, for all splits.
    assert [n for n, _ in seen] == [120, 120, 120]
    assert len({chance for _, chance in seen}) == 3
    assert np.isfinite(result.evidence.probabilities).all()
    assert "shrink" in result.bundle.contract.training["recipe"]["augment"]


@pytest.mark.parametrize(
    ("backend", "gpu", "jit", "together"),
    [
        ("tensorflow", False, False, 1),
        ("tensorflow", True, True, 64),
        ("jax", False, True, 1),
        ("jax", True, True, 64),
        ("torch", True, False, 1),
    ],
)
def test_every_backend_is_driven_as_it_can_be(backend, gpu, jit, together):
    options = compile_options(backend, 1000, gpu=gpu)
    assert options == {"jit_compile": jit, "steps_per_execution": together}
    assert compile_options("jax", 5, gpu=True)["steps_per_execution"] == 5


def test_phases_are_shifted_row_by_row():
    curves = np.arange(40, dtype=np.float32).reshape(4, 10)
    shifted = shift_phases(curves, np.random.default_rng(0))
    for before, after in zip(curves, shifted, strict=True):
        start = int(after[0] - before[0])
        np.testing.assert_array_equal(after, np.roll(before, -start))
    assert len({int(after[0] - before[0]) for before, after in zip(curves, shifted, strict=True)}) > 1


def only(data, codes):
    return data.take(np.flatnonzero(np.isin(data.class_code, codes)))


@pytest.mark.parametrize(
    ("data", "options", "part"),
    [
        (only(labelled_sines(120), [0]), OPTIONS, "of two classes or more, at least 5 of each, got CEP 20 only"),
        (labelled_sines(120), with_options(min_per_class=21), "got no class only"),
        (only(labelled_sines(120), [0, 1, 2, 3, 5]), OPTIONS, "at least 5 usable light curves of each class, got RR 0"),
        (labelled_sines(24), with_options(min_per_class=4, folds=5), "at least 5 stars of each class"),
    ],
)
def test_data_that_cannot_be_trained_on(data, options, part):
    with pytest.raises(InputError, match=part) as caught:
        plan_training(data, options)
    assert "\n" not in str(caught.value)


def test_rare_classes_are_left_out_on_request_and_never_answered():
    data = labelled_sines(120)
    data = data.take(np.flatnonzero((data.class_code != 4) | (np.arange(120) < 12)))
    with pytest.raises(InputError, match=r"got RR 2; .*--drop-rare-classes"):
        plan_training(data, OPTIONS)
    plan = plan_training(data, with_options(drop_rare_classes=True, epochs=4, folds=0))
    assert plan.dropped_classes == ("RR",)
    assert plan.counts == {"CEP": 20, "DSCUT": 20, "ECL": 20, "M": 20, "RR": 0, "SR": 20}
    result = train(plan, "five")
    assert "never answers RR" in result.bundle.card
    assert result.bundle.contract.classes == CLASSES


def test_light_curves_that_cannot_be_folded_are_counted_and_left_out():
    data = labelled_sines(120)
    data.period[3] = np.nan
    data.light_curves.mag[4 * 60 : 5 * 60] = np.nan
    plan = plan_training(data, OPTIONS)
    assert plan.unusable == {"no_period": 1, "too_few_observations": 1}
    assert len(plan.data.objects) == len(plan.data.inputs) == 118


def test_inputs_that_are_not_finite_are_refused():
    curves = np.zeros((4, 32), np.float32)
    features = np.zeros((4, 2), np.float32)
    recipe = replace(TINY, features=("log_period", "amplitude"))
    check_finite(Inputs(curves, features), recipe, "here")
    features[2, 1] = np.inf
    with pytest.raises(InputError, match=r"here: expected a finite feature amplitude .* got NaN or infinity in 1 of 4"):
        check_finite(Inputs(curves, features), recipe, "here")
    curves[1, 3] = np.nan
    with pytest.raises(InputError, match="a finite curve"):
        check_finite(Inputs(curves), TINY, "here")


@pytest.mark.slow
def test_a_pass_that_jax_does_in_one_call_is_that_of_fit() -> None:
    if find_spec("jax") is None:
        pytest.skip("jax is not installed: its loop over a pass cannot be run")
    code = """
import json, numpy as np, keras
from varstar_batch.training.fitting.fit import passes_of
from varstar_batch.training.fitting.fit_jax import JaxPasses
from varstar_batch.training.fitting.inputs import Inputs
random = np.random.default_rng(0)
inputs = Inputs(random.random((37, 512), dtype=np.float32))
labels, weights = random.integers(0, 6, 37).astype(np.int32), random.random(37).astype(np.float32)
found = []
for make in (lambda model: passes_of(model, 16, gpu=False), lambda model: JaxPasses(model, 16)):
    keras.utils.set_random_seed(3)
    layers = keras.layers
    shape = [layers.Input((512, 1)), layers.Conv1D(4, 3, activation="relu"), layers.BatchNormalization()]
    shape += [layers.GlobalMaxPooling1D(), layers.Dropout(0.3), layers.Dense(6, activation="softmax")]
    model = keras.Sequential(shape)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        weighted_metrics=[],
        jit_compile=True,
    )
    model.optimizer.build(model.trainable_variables)
    one_pass = make(model)
    found.append([one_pass(inputs, labels, weights) for _ in range(2)])
print(json.dumps(found))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    by_fit, in_one_call = json.loads(run.stdout)
    for expected, got in zip(by_fit, in_one_call, strict=True):
        assert got.keys() == expected.keys()
        assert got == pytest.approx(expected, rel=1e-4)
