"""Architectures of the networks, and their ``.keras`` bytes."""

from __future__ import annotations

import io
import json
import math
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from varstar_batch.arithmetic.classes import CLASSES
from varstar_batch.model.keras_runtime import load_keras, numpy_copies_allowed

PAPER_FILTERS = (128, 64, 32, 32)
PAPER_PARAMETERS = 166_662
"""Trainable parameters that the paper states for its network."""


def build_paper_network(n_phase: int = 512, n_classes: int = len(CLASSES), dropout: float = 0.5) -> Any:
    """Build the paper's convolutional network.

    Four blocks of convolution (width 3), ReLU, batch normalisation and max-pooling by 2, with 128, 64, 32 and 32
    filters; dropout before the last block; a dense layer of 128, dropout, softmax. The batch normalisations learn a
    shift but no scale, which gives the paper's number of trainable parameters exactly.

    Parameters
    ----------
    n_phase : int
        Points of the folded curve, at least 16.
    n_classes : int
    dropout : float
        Rate of both dropouts, in [0, 1). The paper does not state it.

    Returns
    -------
    keras.Model
        Input (n, n_phase, 1), output (n, n_classes) probabilities; its last two layers are ``logits`` and
        ``probabilities``.

    Notes
    -----
    Source: Akhmetali et al., arXiv:2508.11964, section 3.
    """
    layers = load_keras().layers
    x = curve = layers.Input((n_phase, 1), name="curve")
    for block, filters in enumerate(PAPER_FILTERS, start=1):
        if block == len(PAPER_FILTERS):
            x = layers.Dropout(dropout, name="dropout_blocks")(x)
        x = layers.Conv1D(filters, 3, padding="same", activation="relu", name=f"convolution_{block}")(x)
        x = layers.BatchNormalization(scale=False, center=True, name=f"normalization_{block}")(x)
        x = layers.MaxPooling1D(2, name=f"pooling_{block}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(128, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dropout_dense")(x)
    logits = layers.Dense(n_classes, name="logits")(x)
    return load_keras().Model(curve, layers.Softmax(name="probabilities")(logits), name="paper")


def count_trainable(model: Any) -> int:
    """Return the number of trainable parameters of a Keras model."""
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


def logits_model(model: Any) -> Any:
    """Return the model that ends before its softmax."""
    return load_keras().Model(model.inputs, model.get_layer("logits").output)


def to_keras_file(model: Any) -> bytes:
    """Return the contents of a ``.keras`` file with the graph and the weights, without the optimizer.

    Equal models give equal bytes: the archive carries no date.
    """
    keras = load_keras()
    # A copy, because the optimizer of a compiled model would be saved too and is four times as large as the weights.
    bare = keras.Model.from_config(model.get_config())
    bare.set_weights(model.get_weights())
    with numpy_copies_allowed(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        bare.save(path)
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    metadata["date_saved"] = "undated"
    members["metadata.json"] = json.dumps(metadata).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name), members[name])
    return buffer.getvalue()


def from_keras_file(keras_file: bytes) -> Any:
    """Load a model from bytes that `varstar_batch.model.weights.read_network` has let through."""
    keras = load_keras()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(keras_file)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
