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
from varstar_batch.model.bundle import Bundle, BundleContract, OutOfDistribution
from varstar_batch.model.family import Calibration, Family, ParentSets
from varstar_batch.model.keras_runtime import load_keras
from varstar_batch.model.networks import (
    build_paper_network,
    build_survey_network,
    logits_model,
    set_standard,
    to_keras_file,
)
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


FAMILY = Family(
    parents={"CEP": "CEP", "DSCUT": "DSCUT", "ECL": "ECL", "M": "LPV", "RR": "RR", "SR": "LPV"},
    subclasses={"ECL": ("EA", "EB", "EW"), "RR": ("RRAB", "RRC")},
)
"""What the bundle that ships knows of."""


def family_bundle(seed=0, n_phase=512):
    """A bundle with parents and subclasses, whose network answers simulated stars with each of them."""
    model = scramble(build_survey_network(n_phase, len(FEATURES), 9), seed)
    objects = simulate_objects(0, 100, seed)
    rules = Preprocessing(n_phase=n_phase)
    folded = fold(objects.light_curves, objects.period, rules, Limits(), features=True)
    set_standard(model, folded.features[folded.ok])
    logits = logits_model(model).predict_on_batch([folded.curve[folded.ok, :, None], folded.features[folded.ok]])
    layer, spread = model.get_layer("logits"), logits.std(axis=0) / 3
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel / spread, (bias - logits.mean(axis=0)) / spread])
    parents = set(FAMILY.parents.values())
    return make_bundle(
        model,
        architecture="survey",
        features=FEATURES,
        family=FAMILY,
        calibration=Calibration(temperature=2.0, classes={"LPV": 1.5}, subclasses={"ECL": 0.7, "RR": 1.2}),
        parent_sets=ParentSets(least={"95": dict.fromkeys(parents, 0.2), "99": dict.fromkeys(parents, 0.05)}),
        ood=None,
        preprocessing=rules,
    )


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
