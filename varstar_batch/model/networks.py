"""Architectures of the networks, and their ``.keras`` bytes."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.model.keras_runtime import load_keras, numpy_copies_allowed

PAPER_FILTERS = (128, 64, 32, 32)
SURVEY_FILTERS = (16, 16, 32)
SURVEY_DENSE = (512, 256)

FEATURE_BOUND = 3.0
"""Standard deviations beyond which a feature's value says no more."""


def build_paper_network(n_phase: int = 512, n_classes: int = 6, dropout: float = 0.5) -> Any:
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


def build_survey_network(n_phase: int, n_features: int, n_classes: int = 6, dropout: float = 0.3) -> Any:
    """Build the network that ships: a small convolutional network on the shape, and the features beside it.

    The curve, averaged down by 8, goes through three convolutions whose padding is the other end of the cycle, and is
    summarised by its mean and maximum over the cycle: the answer to a shifted curve is that to the curve, but for the
    grid of the pooling. The features, standardised (`set_standard`), join it before two dense layers. The summary's own
    layer is linear: with a ReLU it dies in long trainings, and gives nothing for any star.

    Parameters
    ----------
    n_phase : int
        Points of the folded curve, a multiple of 32, at least 64.
    n_features : int
        At least 1.
    n_classes : int
    dropout : float
        Rate after the dense layers and of the shape, in [0, 1).

    Returns
    -------
    keras.Model
        Inputs ``curve`` (n, n_phase, 1) and ``features`` (n, n_features), output (n, n_classes) probabilities.

    Notes
    -----
    Source: cyclic padding after Zhang and Bloom 2021 (doi:10.1093/mnras/stab1248). It takes 0.4 MFLOP a light curve,
    a fortieth of the paper's network.
    """
    layers = load_keras().layers
    curve = layers.Input((n_phase, 1), name="curve")
    features = layers.Input((n_features,), name="features")
    x, length = layers.AveragePooling1D(8, name="coarse")(curve), n_phase // 8
    for block, filters in enumerate(SURVEY_FILTERS, start=1):
        width = 5 if block == 1 else 3
        x = _around(x, length, width // 2, f"cycle_{block}")
        x = layers.Conv1D(filters, width, activation="relu", name=f"convolution_{block}")(x)
        if block < len(SURVEY_FILTERS):
            x, length = layers.MaxPooling1D(2, name=f"pooling_{block}")(x), length // 2
    summary = layers.Concatenate(name="summary")(
        [layers.GlobalAveragePooling1D(name="mean")(x), layers.GlobalMaxPooling1D(name="maximum")(x)]
    )
    summary = layers.Dropout(dropout, name="dropout_summary")(summary)
    shape = layers.Dropout(dropout, name="dropout_shape")(layers.Dense(32, name="shape")(summary))
    # Its moments are those of the training set, not of a batch: `set_standard`.
    standard = layers.BatchNormalization(scale=False, center=False, epsilon=1e-6, trainable=False, name="standard")(
        features
    )
    # Bounded: beyond three standard deviations a survey differs, not a star.
    bounded = layers.ReLU(max_value=2 * FEATURE_BOUND, name="bounded")(
        layers.Rescaling(1.0, offset=FEATURE_BOUND, name="raised")(standard)
    )
    x = layers.Concatenate(name="all")([bounded, shape])
    for number, width in enumerate(SURVEY_DENSE, start=1):
        x = layers.Dense(width, activation="relu", name=f"dense_{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout_{number}")(x)
    logits = layers.Dense(n_classes, name="logits")(x)
    return load_keras().Model([curve, features], layers.Softmax(name="probabilities")(logits), name="survey")


def set_standard(model: Any, features: npt.NDArray[np.float32]) -> None:
    """Have a survey network standardise its features by their mean and variance here, float32 (n, n_features)."""
    model.get_layer("standard").set_weights([features.mean(axis=0), features.var(axis=0)])


def _around(x: Any, length: int, reach: int, name: str) -> Any:
    """Put the last `reach` points of a cycle before its first and the first after its last."""
    layers = load_keras().layers
    before = layers.Cropping1D((length - reach, 0), name=f"{name}_end")(x)
    after = layers.Cropping1D((0, length - reach), name=f"{name}_start")(x)
    return layers.Concatenate(axis=1, name=name)([before, x, after])


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
    """Load a model from bytes that `varstar_batch.model.keras_file.read_network` has let through."""
    keras = load_keras()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(keras_file)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
