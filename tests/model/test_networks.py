"""The paper's network, to the letter, and its file."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.makers.models import paper_model
from varstar_batch.model.keras_file import read_network
from varstar_batch.model.keras_runtime import numpy_copies_allowed
from varstar_batch.model.networks import (
    build_paper_network,
    from_keras_file,
    logits_model,
    to_keras_file,
)


def test_the_paper_network_has_exactly_the_papers_parameters():
    model = build_paper_network()
    assert sum(weight.numpy().size for weight in model.trainable_variables) == 166_662
    assert model.output_shape == (None, 6)


def test_the_paper_network_layer_by_layer():
    block = ["Conv1D", "BatchNormalization", "MaxPooling1D"]
    head = ["Flatten", "Dense", "Dropout", "Dense", "Softmax"]
    layers = build_paper_network().layers
    assert [type(layer).__name__ for layer in layers] == ["InputLayer", *block * 3, "Dropout", *block, *head]
    convolutions = [layer for layer in layers if layer.name.startswith("convolution")]
    assert [layer.filters for layer in convolutions] == [128, 64, 32, 32]
    for layer in convolutions:
        config = layer.get_config()
        assert (config["kernel_size"], config["padding"], config["activation"]) == ((3,), "same", "relu")
    for layer in layers:
        if layer.name.startswith("normalization"):
            assert (layer.scale, layer.center) == (False, True)
        if layer.name.startswith("pooling"):
            assert layer.get_config()["pool_size"] == (2,)


def test_the_file_is_small_bare_and_the_same_every_time():
    model = paper_model(n_phase=64)
    keras_file = to_keras_file(model)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.train_on_batch(np.zeros((2, 64, 1), np.float32), np.zeros(2, np.int32))
    trained = to_keras_file(model)
    assert len(trained) == len(keras_file) < 800_000
    assert trained != keras_file
    assert to_keras_file(model) == trained


def test_the_file_gives_the_model_back():
    model = paper_model(n_phase=64)
    curves = np.random.default_rng(1).random((5, 64, 1), dtype=np.float32)
    again = from_keras_file(to_keras_file(model))
    np.testing.assert_array_equal(again.predict_on_batch(curves), model.predict_on_batch(curves))


def test_probabilities_are_the_softmax_of_the_logits():
    model = paper_model(n_phase=64)
    curves = np.random.default_rng(1).random((5, 64, 1), dtype=np.float32)
    logits = logits_model(model).predict_on_batch(curves)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_on_batch(curves), expected, rtol=1e-5)


@pytest.mark.parametrize("n_phase", [16, 33, 512])
def test_reading_without_keras_gives_the_weights_of_keras(n_phase):
    model = paper_model(n_phase=n_phase)
    network = read_network(to_keras_file(model), where="test")
    assert network.input_shapes == ((n_phase, 1),)
    assert network.n_outputs == 6
    for layer, read in zip(model.layers, network.layers, strict=True):
        assert (read.name, read.kind) == (layer.name, type(layer).__name__)
        if layer.weights:
            assert list(read.arrays) == [weight.name for weight in layer.weights]
            with numpy_copies_allowed():
                expected = layer.get_weights()
            for array, weight in zip(read.arrays.values(), expected, strict=True):
                np.testing.assert_array_equal(array, weight)


def test_keras_starts_without_a_word():
    code = "from varstar_batch.model.networks import build_paper_network; build_paper_network(32)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")
