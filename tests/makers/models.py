"""Networks and bundles for the tests of the model layer."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import numpy as np

from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.features import FEATURES, choose_features
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.model.bundle import Bundle, BundleContract, Calibration, OutOfDistribution
from varstar_batch.model.keras_runtime import load_keras
from varstar_batch.model.networks import build_paper_network, build_survey_network, to_keras_file
from varstar_batch.simulation.objects import simulate_objects


def scramble(model, seed=0):
    """Give a network weights as far from their beginnings as training would."""
    random = np.random.default_rng(seed)
    keras = load_keras()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.center:
            layer.set_weights([random.uniform(0.5, 2.0, size=weight.shape) for weight in layer.weights])
            layer.beta.assign(random.normal(0, 0.3, size=layer.beta.shape))
            layer.moving_mean.assign(random.normal(0, 0.3, size=layer.moving_mean.shape))
        elif isinstance(layer, keras.layers.Conv1D | keras.layers.Dense):
            kernel = layer.weights[0]
            fan_in = np.prod(kernel.shape[:-1])
            kernel.assign(random.normal(0, 1.5 / np.sqrt(fan_in), size=kernel.shape))
            for bias in layer.weights[1:]:
                bias.assign(random.normal(0, 0.1, size=bias.shape))
    return model


def paper_model(seed=0, n_phase=512):
    return scramble(build_paper_network(n_phase), seed)


def survey_model(seed=0, n_phase=512):
    """The survey network, its features standardised as simulated ones are."""
    model = scramble(build_survey_network(n_phase, len(FEATURES)), seed)
    random = np.random.default_rng(seed)
    model.get_layer("standard").set_weights([random.normal(size=len(FEATURES)), random.uniform(0.5, 2, len(FEATURES))])
    return model


def simulated_inputs(bundle, n_objects, seed):
    """Curves and features of simulated objects as a bundle takes them; no features where it takes none."""
    objects = simulate_objects(0, n_objects, seed)
    folded = fold(objects.light_curves, objects.period, bundle.contract.preprocessing, Limits(), features=True)
    names = bundle.contract.features
    return folded.curve[folded.ok], choose_features(folded.features[folded.ok], names) if names else None


def make_contract(keras_file, **changes):
    values = {
        "name": "test",
        "model_version": "test-1",
        "architecture": "paper",
        "classes": CLASSES,
        "preprocessing": Preprocessing(),
        "calibration": Calibration(temperature=1.5),
        "ood": OutOfDistribution(entropy=(0.0, 0.5, 1.5)),
        "precision": {},
        "training": {"source": "nothing"},
        "metrics": {},
        "versions": {"varstar_batch": "0"},
        "weights_sha256": hashlib.sha256(keras_file).hexdigest(),
    }
    return BundleContract(**{**values, **changes})


def make_bundle(model, **changes):
    keras_file = to_keras_file(model)
    return Bundle(contract=make_contract(keras_file, **changes), keras_file=keras_file, card="# a card\n")


def edit_keras_file(keras_file, edit_config=lambda config: None, **members):
    """Return a .keras file with its config edited in place and members replaced."""
    with zipfile.ZipFile(io.BytesIO(keras_file)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    edit_config(config)
    content["config.json"] = json.dumps(config).encode()
    content.update(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return buffer.getvalue()
