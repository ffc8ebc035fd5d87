"""Labelled light curves for tests of training, small enough to be learnt in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.makers.surveys import write_partition
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.model.keras_runtime import load_keras
from varstar_batch.survey.write import nested_light_curves
from varstar_batch.training.fitting.recipes import Recipe
from varstar_batch.training.stars.labelled import LabelledLightCurves

N_OBS = 60


def sine_light_curves(class_code, seed):
    """Classes that differ in the number of maxima of a cycle: told apart in moments. Period is 1 d."""
    random = np.random.default_rng(seed)
    n = len(class_code)
    time = np.sort(random.uniform(0, 300, (n, N_OBS)), axis=1)
    phase = time + random.random((n, 1))
    mag = 15 + 0.4 * np.sin(2 * np.pi * (np.asarray(class_code)[:, None] + 1) * phase)
    mag += random.normal(0, 0.02, mag.shape)
    return LightCurves(
        np.arange(n + 1, dtype=np.int64) * N_OBS,
        time.ravel(),
        mag.ravel().astype(np.float32),
        np.full(n * N_OBS, 0.02, np.float32),
    )


def build_tiny_network(n_phase, n_classes, dropout):
    """A network that learns those classes in a hundred steps and is traced in a moment."""
    layers = load_keras().layers
    x = curve = layers.Input((n_phase, 1), name="curve")
    x = layers.Conv1D(16, 5, padding="same", activation="relu", name="convolution")(x)
    x = layers.MaxPooling1D(2, name="pooling")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(32, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    logits = layers.Dense(n_classes, name="logits")(x)
    return load_keras().Model(curve, layers.Softmax(name="probabilities")(logits), name="tiny")


TINY = Recipe(
    architecture="tiny",
    build=build_tiny_network,
    preprocessing=Preprocessing(n_phase=32),
    epochs=8,
    batch_size=8,
    learning_rate=5e-3,
    dropout=0.1,
    phase_shift=True,
)


def texts(values):
    return np.array([str(value) for value in values], np.object_)


def labelled_sines(n=240, seed=3, others=0, survey="sines", classes=CLASSES):
    """Objects of the classes in turn, far from each other, and some of another kind (one maximum more, no class)."""
    shape = np.concatenate([np.arange(n) % len(classes), np.full(others, len(classes) + 1)])
    total = n + others
    ra = np.random.default_rng(seed).uniform(0, 360, total)
    dec = np.linspace(-60, 60, total)
    return LabelledLightCurves(
        light_curves=sine_light_curves(shape, seed),
        period=np.ones(total),
        class_code=np.where(np.arange(total) < n, shape, -1).astype(np.int8),
        survey=texts([survey] * total),
        object_id=texts(f"{survey}-{k}" for k in range(total)),
        ra=ra,
        dec=dec,
        class_original=texts(["known"] * n + ["spotted"] * others),
        band=texts(["V"] * total),
        period_source=texts(["made"] * total),
        label=texts([""] * total),
        classes=classes,
    )


def write_labelled(folder: Path, objects: LabelledLightCurves, *, row_group_rows: int = 50, **columns) -> Path:
    """Write objects as a survey of one file; `columns` replace or add columns."""
    curves = objects.light_curves
    lists = {"time": curves.time, "mag": curves.mag, "mag_err": curves.mag_err}
    classes = [None if code < 0 else objects.classes[code] for code in objects.class_code]
    content = {
        "object_id": pa.array(list(objects.object_id)),
        "ra": pa.array(objects.ra, from_pandas=True),
        "dec": pa.array(objects.dec, from_pandas=True),
        "period": pa.array(objects.period, from_pandas=True),
        "class": pa.array(classes, pa.string()),
        "class_original": pa.array(list(objects.class_original)),
        "band": pa.array(list(objects.band)),
        "period_source": pa.array(list(objects.period_source)),
    }
    content |= {name: pa.array(values) for name, values in columns.items() if values is not None}
    content = {name: values for name, values in content.items() if columns.get(name, values) is not None}
    table = pa.table({**content, "lightcurve": nested_light_curves(curves.offsets, lists)})
    table = table.replace_schema_metadata({"varstar.time_system": "HJD-2450000"})
    write_partition(folder / "part-00000.parquet", table, row_group_rows=row_group_rows)
    return folder
