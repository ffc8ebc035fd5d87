"""Engines: all give what plain Keras gives, for any number of light curves."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.makers.models import make_bundle, paper_model, scramble, simulated_inputs, survey_model
from varstar_batch.errors import InputError, RefusedError
from varstar_batch.light_curves.features import FEATURES
from varstar_batch.model.answers import temperature_softmax
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.engines import open as open_module
from varstar_batch.model.engines.open import open_engine
from varstar_batch.model.engines.openvino_engine import batch_of
from varstar_batch.model.engines.openvino_graph import build_graph, largest_tensor, load_openvino
from varstar_batch.model.keras_file import read_network
from varstar_batch.model.keras_runtime import load_keras
from varstar_batch.model.networks import from_keras_file, logits_model, to_keras_file

ENGINES = ["openvino", "keras"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model():
    return paper_model()


@pytest.fixture(scope="module")
def bundle(model):
    return make_bundle(model)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, bundle):
    return open_engine(bundle, request.param, threads=2)


def random_curves(n, seed=0, n_phase=512):
    return np.random.default_rng(seed).random((n, n_phase), dtype=np.float32)


def probabilities(logits, temperature=1.0):
    return temperature_softmax(logits.astype(np.float64), temperature)


def test_engines_equal_plain_keras_on_random_weights(engine, model):
    curves = random_curves(300)
    expected = model.predict_on_batch(curves[:, :, None])
    assert np.ptp(expected) > 0.5  # else the comparison would be of constants
    np.testing.assert_allclose(probabilities(engine.logits(curves)), expected, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_engines_equal_plain_keras_on_trained_weights(name):
    shipped = read_bundle()
    curves, features = simulated_inputs(shipped, 400, seed=77)
    expected = from_keras_file(shipped.keras_file).predict_on_batch([curves[:, :, None], features])
    got = probabilities(open_engine(shipped, name).logits(curves, features))
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_engines_equal_plain_keras_with_features_beside_the_curve(name):
    model = survey_model()
    bundle = make_bundle(model, architecture="survey", features=FEATURES)
    curves, features = random_curves(100), 3 * np.random.default_rng(3).standard_normal((100, 24)).astype(np.float32)
    expected = model.predict_on_batch([curves[:, :, None], features])
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(probabilities(open_engine(bundle, name).logits(curves, features)), expected, atol=1e-5)


def test_a_turned_curve_means_the_same_to_the_survey_network():
    bundle = make_bundle(survey_model(), architecture="survey", features=FEATURES)
    curves, features = random_curves(20), np.zeros((20, 24), np.float32)
    engine = open_engine(bundle, "openvino")
    # Whole steps of the pooling: 8 points, halved twice.
    turned = engine.logits(np.roll(curves, 5 * 32, axis=1), features)
    np.testing.assert_allclose(turned, engine.logits(curves, features), atol=1e-4)


def test_the_shape_has_a_say_in_the_bundle_that_ships():
    shipped = read_bundle()
    curves, features = simulated_inputs(shipped, 60, 4)
    engine = open_engine(shipped, "openvino")
    # In a network whose shape has died, another star's curve changes nothing.
    change = np.abs(engine.logits(curves[::-1], features) - engine.logits(curves, features)).max(axis=1)
    assert np.median(change) > 0.01


@pytest.mark.parametrize("name", ENGINES)
def test_bfloat16_changes_no_more_than_the_bundle_says(name):
    shipped = read_bundle()
    engine = open_engine(shipped, name, "bfloat16")
    if engine.precision != "bfloat16":
        pytest.skip("this CPU has no bfloat16 arithmetic")
    curves, features = simulated_inputs(shipped, 1_000, seed=78)
    temperature = shipped.contract.calibration.temperature
    exact = probabilities(open_engine(shipped, "openvino").logits(curves, features), temperature)
    changed = probabilities(engine.logits(curves, features), temperature)
    stored = shipped.contract.precision["bfloat16"]
    assert stored.n_objects > len(curves)
    # The stored maximum is one of a sample, and the other engine rounds in another order.
    assert 0 < np.abs(changed - exact).max() <= 2 * stored.max_probability_change
    assert np.mean(changed.argmax(axis=1) != exact.argmax(axis=1)) <= stored.changed_classes + 0.01


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 255, 256, 257])
def test_any_number_of_light_curves(engine, n):
    curves = random_curves(300)
    every = engine.logits(curves)
    got = engine.logits(curves[:n])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, every[:n], atol=1e-5)


def test_any_number_of_light_curves_for_the_shipped_network():
    """Its batches are the largest."""
    shipped = read_bundle()
    engine = open_engine(shipped, "openvino", threads=2)
    numbers = np.random.default_rng(3).normal(size=(600, len(shipped.contract.features)))
    curves, features = random_curves(600), numbers.astype(np.float32)
    every = engine.logits(curves, features)
    for n in (0, 1, 255, 256, 257, 513):
        np.testing.assert_allclose(engine.logits(curves[:n], features[:n]), every[:n], atol=1e-5)


def test_a_batch_is_as_large_as_the_cache_allows(bundle):
    largest = [largest_tensor(build_graph(b.network(), 1, where="")) for b in (bundle, read_bundle())]
    assert largest == [128 * 256, 16 * 34]
    assert [batch_of(floats) for floats in (*largest, 1, 2**30)] == [16, 256, 256, 16]


def test_an_answer_depends_on_its_own_curve_only(engine):
    curves = random_curves(70)
    order = np.random.default_rng(5).permutation(70)
    np.testing.assert_allclose(engine.logits(curves[order]), engine.logits(curves)[order], atol=1e-5)


def test_read_only_and_strided_curves(engine):
    curves = random_curves(40)
    expected = engine.logits(curves)
    read_only = curves.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(engine.logits(read_only), expected)
    wide = np.repeat(curves, 2, axis=1)
    np.testing.assert_array_equal(engine.logits(wide[:, ::2]), expected)


def test_threads_may_share_an_engine(engine):
    curves = random_curves(120)
    expected = engine.logits(curves)
    starts = range(0, 120, 20)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: engine.logits(curves[start : start + 20]), starts))
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("curves", "features"),
    [
        (np.zeros((2, 511), np.float32), None),
        (np.zeros((2, 512), np.float64), None),
        (np.zeros(512, np.float32), None),
        (np.zeros((2, 512), np.float32), np.zeros((2, 1), np.float32)),
    ],
)
def test_arrays_of_another_shape(engine, curves, features):
    with pytest.raises(ValueError, match="expected"):
        engine.logits(curves, features)


def test_the_openvino_engine_needs_no_keras():
    code = (
        "import sys, numpy as np\n"
        "from varstar_batch.model.bundle_files import read_bundle\n"
        "from varstar_batch.model.engines.open import open_engine\n"
        "curves, features = np.zeros((3, 512), np.float32), np.zeros((3, 24), np.float32)\n"
        "open_engine(read_bundle(), 'openvino').logits(curves, features)\n"
        "print(*{'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout.split(), result.stderr) == ([], "")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="pinning is seen on Linux only")
def test_no_thread_is_pinned_so_that_workers_can_share_a_machine(engine):
    engine.logits(random_curves(64))
    allowed = os.sched_getaffinity(0)
    for task in Path("/proc/self/task").iterdir():
        assert os.sched_getaffinity(int(task.name)) == allowed


def test_auto_is_openvino_unless_keras_sees_a_gpu(bundle, monkeypatch):
    runtime = "varstar_batch.model.keras_runtime"
    for driver, gpu, expected in [(False, True, "openvino"), (True, False, "openvino"), (True, True, "keras")]:
        monkeypatch.setattr(f"{runtime}.nvidia_driver_is_loaded", lambda driver=driver: driver)
        monkeypatch.setattr(f"{runtime}.keras_sees_gpu", lambda gpu=gpu: gpu)
        assert open_engine(bundle).name == expected


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"name": "onnx"}, "one of auto, openvino, keras, got 'onnx'"),
        ({"precision": "float16"}, "one of float32, bfloat16, int8, auto, got 'float16'"),
        ({"threads": 0}, "threads >= 1, got 0"),
    ],
)
def test_unknown_choices(bundle, options, part):
    with pytest.raises(InputError) as caught:
        open_engine(bundle, **options)
    assert part in str(caught.value)


# The translation of single layers ------------------------------------------------------------------------------------


def head(layers, x):
    return layers.Softmax(name="probabilities")(layers.Dense(6, name="logits")(x))


def pooled(padding, kernel, activation, channels=1, length=32, negative_scale=False):
    """A convolution, normalisation and pooling of pairs: the group that is computed as two convolutions."""
    keras = load_keras()
    layers = keras.layers
    curve = layers.Input((length, channels), name="curve")
    x = layers.Conv1D(5, kernel, padding=padding, activation=activation)(curve)
    x = layers.MaxPooling1D(2)(layers.BatchNormalization(name="normalization")(x))
    model = scramble(keras.Model(curve, head(layers, layers.Flatten()(x))))
    if negative_scale:
        model.get_layer("normalization").gamma.assign([-1.0, 0.5, -0.3, 2.0, 0.0])
    return model


def zoo():
    """Every other layer and option in one graph, with two inputs and padding that respects the cycle."""
    keras = load_keras()
    layers = keras.layers
    curve, features = layers.Input((33, 2), name="curve"), layers.Input((3,), name="features")
    cyclic = layers.Concatenate(axis=1)([layers.Cropping1D((31, 0))(curve), curve, layers.Cropping1D((0, 31))(curve)])
    x = layers.Conv1D(8, 3, activation="relu")(cyclic)
    x = layers.MaxPooling1D(2)(layers.BatchNormalization()(x))
    x = layers.Conv1D(6, 4, padding="same")(x)
    x = layers.AveragePooling1D(3, 2)(layers.ReLU()(layers.BatchNormalization()(x)))
    y = layers.GaussianNoise(0.1)(layers.BatchNormalization()(layers.Rescaling(2.0, 0.5)(features)))
    y = layers.ReLU(max_value=1.5)(y)
    ends = [layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x), layers.Flatten()(x), y]
    x = layers.Dense(7, activation="relu")(layers.Dropout(0.1)(layers.Concatenate()(ends)))
    return scramble(keras.Model([curve, features], head(layers, x)))


def run_graph(model, *inputs):
    openvino = load_openvino()
    graph = build_graph(read_network(to_keras_file(model), where="test"), len(inputs[0]), where="test")
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([array.transpose(0, 2, 1) if array.ndim == 3 else array for array in inputs])[0]


def assert_graph_equals_keras(model):
    random = np.random.default_rng(2)
    inputs = [random.normal(size=(4, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    expected = logits_model(model).predict_on_batch(inputs)
    assert np.ptp(expected, axis=0).min() > 1e-4  # the inputs reach every output
    np.testing.assert_allclose(run_graph(model, *inputs), expected, atol=2e-5)


def test_every_layer_is_translated_exactly():
    assert_graph_equals_keras(zoo())


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same", "kernel": 3, "activation": "relu"},
        {"padding": "same", "kernel": 4, "activation": "linear"},
        {"padding": "valid", "kernel": 3, "activation": "relu"},
        {"padding": "valid", "kernel": 2, "activation": "relu"},
        {"padding": "same", "kernel": 3, "activation": "relu", "length": 31},
        {"padding": "same", "kernel": 3, "activation": "relu", "channels": 4},
        {"padding": "same", "kernel": 3, "activation": "relu", "channels": 5},
        {"padding": "same", "kernel": 3, "activation": "relu", "negative_scale": True},
        {"padding": "same", "kernel": 3, "activation": "linear", "negative_scale": True},
    ],
    ids=str,
)
def test_folding_and_pooling_in_pairs_are_exact(options):
    assert_graph_equals_keras(pooled(**options))


@pytest.mark.parametrize("name", ENGINES)
def test_features_reach_the_network(name, monkeypatch):
    monkeypatch.setattr(open_module, "_gpu_is_visible", lambda: False)
    keras = load_keras()
    layers = keras.layers
    curve, features = layers.Input((512, 1), name="curve"), layers.Input((2,), name="features")
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(layers.Conv1D(4, 3)(curve)), features])
    model = scramble(keras.Model([curve, features], head(layers, x)))
    engine = open_engine(make_bundle(model, features=("log_period", "log_amplitude")), name)
    curves, numbers = random_curves(40), np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
    expected = logits_model(model).predict_on_batch([curves[:, :, None], numbers])
    np.testing.assert_allclose(engine.logits(curves, numbers), expected, atol=1e-5)
    with pytest.raises(ValueError, match="features"):
        engine.logits(curves)


def with_option(layer):
    def build():
        keras = load_keras()
        curve = keras.layers.Input((32, 2), name="curve")
        x = keras.layers.GlobalAveragePooling1D()(layer(keras.layers)(curve))
        return keras.Model(curve, head(keras.layers, x))

    return build


@pytest.mark.parametrize(
    ("layer", "part"),
    [
        (lambda layers: layers.Conv1D(4, 3, groups=2), "groups 2"),
        (lambda layers: layers.ReLU(negative_slope=0.1), "negative_slope"),
        (lambda layers: layers.Dense(4), "not flat"),
        (lambda layers: layers.Conv1D(4, 3, dilation_rate=2), "dilation_rate [2]"),
        (lambda layers: layers.Conv1D(4, 3, strides=2), "strides [2]"),
        (lambda layers: layers.Conv1D(4, 3, padding="causal"), "padding causal"),
        (lambda layers: layers.Conv1D(4, 3, use_bias=False), "use_bias False"),
        (lambda layers: layers.AveragePooling1D(2, padding="same"), "padding same"),
        (lambda layers: layers.Softmax(), "layers after it"),
        (lambda layers: layers.MaxPooling1D(2, data_format="channels_first"), "channels_first"),
    ],
)
def test_options_that_openvino_does_not_get_are_refused(layer, part):
    network = read_network(to_keras_file(with_option(layer)()), where="test")
    with pytest.raises(RefusedError) as caught:
        build_graph(network, 2, where="test")
    assert part in str(caught.value)
    assert "--engine keras" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_shipped_bundle_says_the_same_on_every_backend_of_keras(backend):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: the backend cannot be asked")
    code = (
        "import sys, numpy as np\n"
        "from tests.makers.models import simulated_inputs\n"
        "from varstar_batch.model.engines.open import open_engine\n"
        "from varstar_batch.model.bundle_files import read_bundle\n"
        "shipped = read_bundle()\n"
        "logits = open_engine(shipped, 'keras').logits(*simulated_inputs(shipped, 200, 79))\n"
        "sys.stdout.buffer.write(logits.tobytes())\n"
    )
    env = os.environ | {"KERAS_BACKEND": backend}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr.decode()
    shipped = read_bundle()
    expected = open_engine(shipped, "openvino").logits(*simulated_inputs(shipped, 200, 79))
    found = np.frombuffer(run.stdout, np.float32).reshape(expected.shape)
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-5)


def test_openvino_is_loaded_without_what_tells_its_maker() -> None:
    code = "import sys; from varstar_batch.model.engines.openvino_graph import load_openvino; load_openvino();"
    code += "print(*sorted(name for name in sys.modules if 'telemetry' in name or name.startswith('openvino.tools')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= {"openvino.tools"}
