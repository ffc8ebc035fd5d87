"""Fine-tuning: the last layer of a bundle's network learns from few labels of a survey that it did not know.

All else of the network stays as it is, and the last layer stays near to what it was as far as the labels do not say
otherwise: what it knew of other surveys is not forgotten. That is a convex problem with one solution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.model.answers import Float64, class_logits, log_softmax
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.keras_runtime import load_keras, numpy_copies_allowed
from varstar_batch.model.networks import from_keras_file, to_keras_file
from varstar_batch.training.cross_validation import Calibrated
from varstar_batch.training.fitting.fit import Fitted, TrainingSet
from varstar_batch.training.fitting.inputs import Inputs
from varstar_batch.training.stars.folds import Split

PENALTY = 0.03
"""Of the squares of what is learned. Labels held out would choose a smaller one, since those that are asked for are the
doubtful ones, and the others pay for it; see docs/training.md."""

TOLERANCE = 1e-2
"""Largest slope of the loss at its minimum: a hundredth of a label."""

Codes = npt.NDArray[np.int8]


def tune(data: TrainingSet, splits: Sequence[Split], start: Bundle, progress: Callable[[int], None]) -> list[Fitted]:
    """Fit the last layer of a bundle's network on the training rows of each split.

    Parameters
    ----------
    data : TrainingSet
    splits : sequence of Split
        Of all but the last, which holds nothing out, the networks are only judged: they have no ``keras_file``.
    start : Bundle
    progress : callable
        Takes the number of fits that are done since its last call.
    """
    keras = load_keras()
    with numpy_copies_allowed():
        model = from_keras_file(start.keras_file)
        layer = model.get_layer("logits")
        below = keras.Model(model.inputs, layer.input)
        temperature = start.contract.calibration.temperature
        kernel, bias = (np.asarray(array, np.float64) for array in layer.get_weights())
        seen, others = (_outputs_below(below, inputs) for inputs in (data.inputs, data.others))
        classes = class_logits(data.outputs, seen @ kernel + bias) / temperature
        truth = data.objects.class_code
        fitted = []
        for number, split in enumerate(splits):
            head = fit_head(seen[split.train], classes[split.train], truth[split.train], PENALTY)
            # All leaves of a class alike, so that what divides it stays.
            leaves = data.outputs.class_of
            slope, level = (
                before + temperature * added[..., leaves]
                for before, added in ((kernel, head.slope), (bias, head.level))
            )
            keras_file = b""
            if number == len(splits) - 1:
                layer.set_weights([array.astype(np.float32) for array in (slope, level)])
                keras_file = to_keras_file(model)
            held, other = ((rows @ slope + level).astype(np.float32) for rows in (seen[split.held], others))
            fitted.append(Fitted(keras_file=keras_file, history=head.history, held_logits=held, other_logits=other))
            progress(1)
        return fitted


@dataclass(frozen=True, eq=False)
class Head:
    """What is added to the calibrated logits of the classes: ``rows @ slope + level``."""

    slope: Float64
    level: Float64
    history: dict[str, list[float]]


def _outputs_below(model: Any, inputs: Inputs) -> Float64:
    """Return what the last layer is given, float64 (n, k)."""
    width = model.outputs[0].shape[-1]
    if not len(inputs):
        return np.zeros((0, width))
    return np.asarray(model.predict(inputs.for_keras(), batch_size=512, verbose=0), np.float64)


def fit_head(seen: Float64, logits: Float64, truth: Codes, penalty: float) -> Head:
    """Minimise minus the log likelihood of the labels, plus a penalty on what is added to the logits.

    Parameters
    ----------
    seen : float64 (n, k)
        Outputs of the layer below.
    logits : float64 (n, n_classes)
        Of the bundle, divided by its temperature.
    truth : int8 (n,)
    penalty : float
        Times half the sum of the squares.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    n, size = logits.shape
    middle = seen.mean(axis=0)
    # One scale for all, under which a row has length 1 on average: outputs that hardly vary stay small.
    scale = max(float(np.sqrt(((seen - middle) ** 2).sum(axis=1).mean())), 1e-9)
    x = np.hstack([(seen - middle) / scale, np.ones((n, 1))])
    told = np.arange(size) == truth[:, None]

    def loss(flat: Float64) -> tuple[float, Float64]:
        added = flat.reshape(-1, size)
        logs = log_softmax(logits + x @ added)
        slope = x.T @ (np.exp(logs) - told) + penalty * added
        return float(-logs[told].sum() + penalty / 2 * (added**2).sum()), slope.ravel()

    found = minimize(loss, np.zeros(x.shape[1] * size), jac=True, method="L-BFGS-B", options={"gtol": TOLERANCE})
    added = found.x.reshape(-1, size)
    slope = added[:-1] / scale
    logs = log_softmax(logits + x @ added)
    history = {"loss": [float(-logs[told].mean())], "accuracy": [float((logs.argmax(axis=1) == truth).mean())]}
    return Head(slope, added[-1] - middle @ slope, history)


def calibrated_from(start: Bundle, found: Calibrated) -> Calibrated:
    """Return what few labels can tell of the calibration, the temperature, beside what the bundle knew."""
    contract = start.contract
    if contract.family is None or contract.parent_sets is None or contract.ood is None:
        return found
    calibration = contract.calibration.model_copy(update={"temperature": found.calibration.temperature})
    return Calibrated(calibration, contract.parent_sets, contract.ood)
