"""Arithmetic in 8 bits: steps that hold 0, answers near those of float32, and a choice that no bundle forbids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.makers.models import make_bundle, paper_model, simulated_inputs, survey_model
from tests.makers.runs import run
from tests.makers.surveys import write_survey
from varstar_batch.errors import InputError
from varstar_batch.light_curves.features import FEATURES
from varstar_batch.model.answers import temperature_softmax
from varstar_batch.model.bundle import Bundle, ChannelRanges, PrecisionChange
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.engines import open as open_module
from varstar_batch.model.engines.int8 import LEVELS, steps_of
from varstar_batch.model.engines.open import MOST_CHANGED, fastest_precision, open_engine
from varstar_batch.model.engines.openvino_graph import build_graph, load_openvino
from varstar_batch.runs.config import RunConfig
from varstar_batch.training.fitting.inputs import Inputs
from varstar_batch.training.precision import measure_ranges, with_precisions


def curves(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 512), dtype=np.float32)


def calibrated(bundle: Bundle, features: np.ndarray | None = None) -> Bundle:
    ranges = measure_ranges(bundle, curves(200, 1), features)
    return replace(bundle, contract=bundle.contract.model_copy(update={"int8_ranges": ranges}))


@pytest.fixture(scope="module")
def paper() -> Bundle:
    return calibrated(make_bundle(paper_model()))


numbers = st.floats(-100, 100, allow_nan=False)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_zero_is_a_step_and_no_value_of_calibration_is_cut(pairs: list[tuple[float, float]]) -> None:
    low, high = np.minimum(*zip(*pairs, strict=True)), np.maximum(*zip(*pairs, strict=True))
    steps = steps_of(ChannelRanges(low=tuple(low), high=tuple(high)))
    assert (steps.scale > 0).all()
    assert -1 <= steps.least <= 0
    assert (high <= steps.scale * (1 + 1e-9)).all()
    if steps.least > -1:
        assert (np.minimum(low, 0) >= steps.least * steps.scale * (1 + 1e-9) - 1e-9).all()
    # Between least and 1 lie 255 steps: 0 is within half a one of them.
    step = (1 - steps.least) / (LEVELS - 1)
    assert abs(steps.least + round(-steps.least / step) * step) <= step / 2 + 1e-12


def test_ranges_are_those_of_the_convolutions_of_many_channels(paper: Bundle) -> None:
    assert {name: len(each.low) for name, each in paper.contract.int8_ranges.items()} == {
        "convolution_2": 128,
        "convolution_3": 64,
        "convolution_4": 32,
    }


def test_answers_are_near_those_of_float32(paper: Bundle) -> None:
    exact, rounded = (open_engine(paper, "openvino", name).logits(curves(300, 2)) for name in ("float32", "int8"))
    assert np.ptp(exact) > 1
    # Random weights amplify more than trained ones do.
    assert np.abs(exact - rounded).max() < 0.1 * np.ptp(exact)
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.999
    assert not np.array_equal(exact, rounded)


def test_the_network_with_features_is_computed_in_8_bits_too() -> None:
    features = np.random.default_rng(4).standard_normal((200, len(FEATURES))).astype(np.float32)
    bundle = calibrated(make_bundle(survey_model(), architecture="survey", features=FEATURES), features)
    exact, rounded = (
        open_engine(bundle, "openvino", name).logits(curves(200, 5), features) for name in ("float32", "int8")
    )
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.999


def test_openvino_makes_integers_of_the_steps(paper: Bundle) -> None:
    openvino = load_openvino()
    core = openvino.Core()
    if "INT8" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no arithmetic in 8 bits")
    model = build_graph(paper.network(), 16, where="", int8_ranges=paper.contract.int8_ranges)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [
        operation.get_rt_info()["runtimePrecision"].value
        for operation in compiled.get_runtime_model().get_ordered_ops()
        if operation.get_rt_info()["layerType"].value == "Convolution"
    ]
    assert kinds.count("u8") == 3


def test_a_bundle_that_was_not_calibrated_is_refused() -> None:
    with pytest.raises(InputError, match="calibrated for 8 bits, got none of its layers is; --precision auto"):
        open_engine(make_bundle(paper_model()), "openvino", "int8")


def test_keras_is_refused(paper: Bundle) -> None:
    with pytest.raises(InputError, match="an engine that computes in 8 bits, got keras"):
        open_engine(paper, "keras", "int8")


@pytest.mark.parametrize(
    ("flags", "changed", "taken"),
    [
        ({"avx512_vnni", "avx512_bf16"}, {"int8": 0.0, "bfloat16": 0.0}, "int8"),
        ({"avx_vnni"}, {"int8": MOST_CHANGED, "bfloat16": 0.0}, "int8"),
        ({"avx512_vnni", "avx512_bf16"}, {"int8": 0.002, "bfloat16": 0.0005}, "bfloat16"),
        ({"avx512_vnni"}, {"int8": 0.002, "bfloat16": 0.0}, "float32"),
        ({"avx512_bf16"}, {"int8": 0.0, "bfloat16": 0.002}, "float32"),
        ({"avx512_vnni", "avx512_bf16"}, {}, "float32"),
        (set(), {"int8": 0.0, "bfloat16": 0.0}, "float32"),
    ],
)
def test_auto_is_the_fastest_that_the_bundle_allows_here(
    paper: Bundle, monkeypatch: pytest.MonkeyPatch, flags: set[str], changed: dict[str, float], taken: str
) -> None:
    monkeypatch.setattr(open_module, "_processor_flags", lambda: flags)
    precision = {
        name: PrecisionChange(max_probability_change=0.1, changed_classes=share, n_objects=9)
        for name, share in changed.items()
    }
    bundle = replace(paper, contract=paper.contract.model_copy(update={"precision": precision}))
    assert fastest_precision(bundle) == taken


def test_training_says_what_8_bits_change(paper: Bundle) -> None:
    inputs = Inputs(curves(300, 6))
    contract = with_precisions(make_bundle(paper_model()), inputs)
    assert contract.int8_ranges
    assert contract.precision["int8"].n_objects == 300
    assert 0 < contract.precision["int8"].max_probability_change < 1


def test_a_run_says_which_precision_auto_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_module, "_processor_flags", set)
    record, prepared = run(
        write_survey(tmp_path / "survey", (60,)), tmp_path / "catalog", config=RunConfig(precision="auto")
    )
    assert prepared.context.config.precision == "float32"
    assert record["rows"] == 60


def test_what_the_shipped_bundle_says_of_8_bits_holds() -> None:
    shipped = read_bundle()
    stored = shipped.contract.precision.get("int8")
    assert stored is not None, "the bundle that ships was calibrated"
    folded, features = simulated_inputs(shipped, 1_000, seed=79)
    exact, rounded = (
        temperature_softmax(open_engine(shipped, "openvino", name).logits(folded, features).astype(np.float64), 1.0)
        for name in ("float32", "int8")
    )
    assert np.mean(exact.argmax(axis=1) != rounded.argmax(axis=1)) <= stored.changed_classes + 0.01
