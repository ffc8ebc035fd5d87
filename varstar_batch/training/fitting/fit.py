"""Fitting one network, pass by pass, so that it can be cut off and go on where it stopped."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from varstar_batch.model.answers import Float64, class_logits, temperature_softmax
from varstar_batch.model.family import Outputs
from varstar_batch.model.keras_runtime import keras_sees_gpu, load_keras, numpy_copies_allowed
from varstar_batch.model.networks import logits_model, to_keras_file
from varstar_batch.training.fitting.inputs import Float32, Inputs, fold_inputs
from varstar_batch.training.fitting.recipes import Augment, Recipe
from varstar_batch.training.stars.folds import Split
from varstar_batch.training.stars.labelled import LabelledLightCurves, Rows, Texts
from varstar_batch.training.stars.subclasses import accuracy, allowed_leaves, set_loss

GPU_STEPS = 64
"""Steps that a GPU takes on its own between two words with Python."""

PREDICT_BATCH = 512

History = dict[str, list[float]]
"""Values after each pass: loss and accuracy of the training (with dropout), held_loss and held_accuracy."""


class Checkpoints(Protocol):
    """Where unfinished work is kept."""

    def read(self, name: str) -> bytes | None:
        """Return what was written under that name, None if nothing was."""

    def write(self, name: str, content: bytes) -> None:
        """Keep `content`, whole or not at all, over whatever was there."""


class NoCheckpoints:
    """Keeps nothing."""

    def read(self, name: str) -> bytes | None:
        """Return None."""

    def write(self, name: str, content: bytes) -> None:
        """Do nothing."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingSet:
    """All objects of a training, with their inputs."""

    objects: LabelledLightCurves
    """All n with a class."""
    inputs: Inputs
    """Of the same n objects, all finite."""
    others: Inputs
    """Of objects of other kinds; maybe none."""
    outputs: Outputs
    """Of the network."""
    n_threads: int = 1
    """Threads that may fold."""
    _copies: dict[int, Copies] = field(default_factory=dict)

    def copies(self, recipe: Recipe) -> Copies | None:
        """Return the augmented copies of all objects that a recipe asks for, made once for all splits; None for none.

        Copies that cannot be folded are the objects as they are.
        """
        if recipe.augment is None:
            return None
        number = min(recipe.n_copies, recipe.epochs)
        if number not in self._copies:
            self._copies.clear()
            self._copies[number] = _make_copies(self, recipe, recipe.augment, number)
        return self._copies[number]

    def targets(self, objects: LabelledLightCurves) -> Targets:
        """Return what a network is to answer for objects of these classes."""
        if self.outputs.divided:
            return allowed_leaves(objects, self.outputs).astype(np.float32)
        return objects.class_code.astype(np.int32)


@dataclass(frozen=True, eq=False)
class Copies:
    """Augmented copies of n objects: what each looks like elsewhere, and what it then is."""

    curves: npt.NDArray[np.float16]
    """Float16 (copies, n, n_phase): half as precise as a light curve, and half as large."""
    features: Float32 | None
    """Float32 (copies, n, k), or None for a network without features."""
    targets: Targets
    """(copies, n, ...); see `TrainingSet.targets`."""

    def draw(self, rows: Rows, random: np.random.Generator) -> tuple[Inputs, Targets]:
        """Return one copy of each of some objects, and its target."""
        pick = random.integers(0, len(self.curves), len(rows))
        features = None if self.features is None else self.features[pick, rows]
        return Inputs(self.curves[pick, rows].astype(np.float32), features), self.targets[pick, rows]


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """A fitted network and what it says of objects that it has not seen."""

    keras_file: bytes
    history: History
    held_logits: Float32
    """Float32 (len(split.held), n_leaves)."""
    other_logits: Float32
    """Float32 (number of others, n_leaves)."""


def fit(
    data: TrainingSet,
    split: Split,
    recipe: Recipe,
    seed: int,
    checkpoints: Checkpoints,
    progress: Callable[[int], None] = lambda passes: None,
) -> Fitted:
    """Fit a network on the training rows of a split.

    Parameters
    ----------
    data : TrainingSet
    split : Split
        Its name is that of the checkpoint.
    recipe : Recipe
    seed : int
        Of initial weights, order, dropout, augmentation.
    checkpoints : Checkpoints
        After each pass everything goes there, and whatever is there is not done again: the result is the same.
    progress : callable, optional
        Takes the number of passes that are done since its last call.
    """
    network = _Network(recipe, data, split, seed)
    name = f"{split.name.replace(' ', '-')}.npz"
    done = network.restore(checkpoints.read(name))
    progress(done)
    with numpy_copies_allowed():
        for number in range(done, recipe.epochs):
            network.train_once(number)
            checkpoints.write(name, network.state())
            progress(1)
        return Fitted(
            keras_file=to_keras_file(network.model),
            history=network.history,
            held_logits=network.logits(data.inputs.take(split.held)),
            other_logits=network.logits(data.others),
        )


class _Network:
    """A model under training."""

    def __init__(self, recipe: Recipe, data: TrainingSet, split: Split, seed: int) -> None:
        self.recipe, self.data, self.split, self.seed = recipe, data, split, seed
        self.history: History = {}
        keras = load_keras()
        # Seeds Python, NumPy and the backend: initial weights and dropout.
        keras.utils.set_random_seed(seed)
        self.model = recipe.build(recipe.preprocessing.n_phase, len(data.outputs.leaves), recipe.dropout)
        labels = data.objects.class_code[split.train].astype(np.int32)
        self.weights = _object_weights(labels, data.objects.survey[split.train], recipe.class_weights)
        self.inputs = data.inputs.take(split.train)
        self.copies = data.copies(recipe)
        if recipe.prepare is not None and self.inputs.features is not None:
            recipe.prepare(self.model, self.inputs.features)
        divided = bool(data.outputs.divided)
        self.targets = data.targets(data.objects)[split.train]
        steps = math.ceil(len(labels) / recipe.batch_size)
        rate: Any = recipe.learning_rate
        if recipe.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(rate, steps * recipe.epochs)
        self.model.compile(
            optimizer=keras.optimizers.Adam(rate),
            loss=set_loss if divided else "sparse_categorical_crossentropy",
            weighted_metrics=[] if self.weights is None else None,
            metrics=[accuracy if divided else "accuracy"],
            **compile_options(keras.backend.backend(), steps, gpu=keras_sees_gpu()),
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.passes = passes_of(self.model, recipe.batch_size, gpu=keras_sees_gpu())
        self._logits = logits_model(self.model)

    def train_once(self, number: int) -> None:
        """Do one pass. Its chances depend on the seed and its number only, not on what came before."""
        random = np.random.default_rng([self.seed, number])
        inputs, targets = self._drawn(random)
        order = random.permutation(len(targets))
        inputs = inputs.take(order)
        if self.recipe.phase_shift:
            inputs = Inputs(shift_phases(inputs.curves, random), inputs.features)
        values = self.passes(inputs, targets[order], None if self.weights is None else self.weights[order])
        if len(self.split.held):
            truth = self.data.objects.class_code[self.split.held]
            logits = self.logits(self.data.inputs.take(self.split.held)).astype(np.float64)
            values |= _held_measures(class_logits(self.data.outputs, logits), truth)
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)

    def logits(self, inputs: Inputs) -> Float32:
        """Return the outputs before the softmax, float32 (n, n_leaves)."""
        logits = np.empty((len(inputs), len(self.data.outputs.leaves)), np.float32)
        # Keras's own predict() takes longer to begin than a small set takes. One shape, so that it compiles once.
        for start in range(0, len(inputs), PREDICT_BATCH):
            stop = min(start + PREDICT_BATCH, len(inputs))
            batch = inputs.take(np.minimum(np.arange(start, start + PREDICT_BATCH), len(inputs) - 1))
            logits[start:stop] = self._logits.predict_on_batch(batch.for_keras())[: stop - start]
        return logits

    def state(self) -> bytes:
        """Return everything that the next pass depends on."""
        arrays = {f"v{i}": _array(variable) for i, variable in enumerate(self._variables())}
        arrays["history"] = np.frombuffer(json.dumps(self.history).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    def restore(self, state: bytes | None) -> int:
        """Take over a state and return the number of passes that are in it; 0 for none or a damaged one."""
        if state is None:
            return 0
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
                variables = self._variables()
                values = [arrays[f"v{i}"] for i in range(len(variables))]
                self.history = json.loads(arrays["history"].tobytes())
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            return 0
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return len(self.history["loss"])

    def _variables(self) -> list[Any]:
        # Those of the layers have the generators of the dropouts among them.
        return [*self.model.variables, *self.model.optimizer.variables]

    def _drawn(self, random: np.random.Generator) -> tuple[Inputs, Targets]:
        return (self.inputs, self.targets) if self.copies is None else self.copies.draw(self.split.train, random)


def _make_copies(data: TrainingSet, recipe: Recipe, augment: Augment, n_copies: int) -> Copies:
    plain = data.inputs
    features = None if plain.features is None else np.empty((n_copies, *plain.features.shape), np.float32)
    curves = np.empty((n_copies, *plain.curves.shape), np.float16)
    targets: Any = np.stack([data.targets(data.objects)] * n_copies)
    for number in range(n_copies):
        objects = augment(data.objects, np.random.default_rng(number))
        status, changed = fold_inputs(objects.light_curves, objects.period, recipe, n_threads=data.n_threads)
        ok = status == 0
        if features is not None and changed.features is not None and plain.features is not None:
            ok &= np.isfinite(changed.features).all(axis=1)
            features[number] = np.where(ok[:, None], changed.features, plain.features)
        curves[number] = np.where(ok[:, None], changed.curves, plain.curves)
        other_class = np.flatnonzero(ok & (objects.class_code != data.objects.class_code))
        targets[number, other_class] = data.targets(objects.take(other_class))
    return Copies(curves, features, targets)


def compile_options(backend: str, steps: int, *, gpu: bool) -> dict[str, Any]:
    """Return how Keras should run a training of `steps` steps a pass on a backend."""
    if backend == "torch":
        return {"jit_compile": False, "steps_per_execution": 1}  # it can take no more than one
    # Keras drives JAX by single operations unless it is compiled. TensorFlow on a CPU takes ten seconds to compile the
    # backward pass with XLA, and then runs it no faster.
    together = min(GPU_STEPS, steps) if gpu else 1
    return {"jit_compile": gpu or backend == "jax", "steps_per_execution": together}


Targets = npt.NDArray[np.int32] | Float32
"""Codes of the classes, int32 (n,), or leaves allowed, float32 (n, n_leaves); see `set_loss`."""

Passes = Callable[[Inputs, Targets, Float32 | None], dict[str, float]]
"""A pass of training over inputs, targets and weights in their order; loss and metrics over it."""


def passes_of(model: Any, batch_size: int, *, gpu: bool) -> Passes:
    """Return what does a pass with a compiled model: Keras's `fit`, or one call to a GPU that JAX drives.

    On a CPU JAX runs convolutions inside of a loop seven times slower than outside.
    """
    if gpu and load_keras().backend.backend() == "jax":
        from varstar_batch.training.fitting.fit_jax import JaxPasses

        return JaxPasses(model, batch_size)

    def fit_once(inputs: Inputs, targets: Targets, weights: Float32 | None) -> dict[str, float]:
        result = model.fit(
            inputs.for_keras(),
            targets,
            sample_weight=weights,
            batch_size=batch_size,
            epochs=1,
            shuffle=False,
            verbose=0,
        )
        return {name: float(series[0]) for name, series in result.history.items()}

    return fit_once


def shift_phases(curves: Float32, random: np.random.Generator) -> Float32:
    """Return each curve, float32 (n, n_phase), turned by a random number of points."""
    n, n_phase = curves.shape
    # Two turns side by side, of which each row is a window: one copy of contiguous runs instead of a gather.
    twice = np.concatenate([curves, curves], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(twice, n_phase, axis=1)
    shifted: Float32 = windows[np.arange(n), random.integers(0, n_phase, n)]
    return shifted


def _object_weights(labels: npt.NDArray[np.int32], survey: Texts, power: float) -> Float32 | None:
    if not power:
        return None
    number = np.unique(survey.astype(str), return_inverse=True)[1]
    cell = labels + (labels.max() + 1) * number
    weight = np.bincount(cell)[cell].astype(np.float64) ** -power
    weights: Float32 = (weight / weight.mean()).astype(np.float32)
    return weights


def _held_measures(logits: Float64, truth: npt.NDArray[np.int8]) -> dict[str, float]:
    likelihood = temperature_softmax(logits, 1.0)[np.arange(len(truth)), truth]
    return {
        "held_loss": float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean()),
        "held_accuracy": float((logits.argmax(axis=1) == truth).mean()),
    }


def _array(variable: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = load_keras().ops.convert_to_numpy(variable)
    return array
