"""What a bundle says of arithmetic below float32: ranges for 8 bits, and what each precision changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from varstar_batch.model.answers import answers_of
from varstar_batch.model.bundle import Bundle, BundleContract, ChannelRanges, PrecisionChange
from varstar_batch.model.engines.engine import Engine, Float32, Precision
from varstar_batch.model.engines.open import open_engine
from varstar_batch.model.engines.openvino_graph import build_inputs_graph, load_openvino
from varstar_batch.training.fitting.inputs import Inputs

BATCH = 64
"""Light curves at a time in calibration."""

CALIBRATED_ON = 4096
"""Light curves at most, spread over the training's, on which 8 bits are calibrated."""


def with_precisions(bundle: Bundle, inputs: Inputs) -> BundleContract:
    """Return a bundle's contract with ranges for 8 bits, and with what each lower precision changes on some inputs."""
    some = inputs.take(np.linspace(0, len(inputs) - 1, min(CALIBRATED_ON, len(inputs))).astype(np.int64))
    ranges = measure_ranges(bundle, some.curves, some.features)
    contract = bundle.contract.model_copy(update={"int8_ranges": ranges})
    precision = measure_precision(replace(bundle, contract=contract), inputs)
    return contract.model_copy(update={"precision": precision})


def measure_precision(bundle: Bundle, inputs: Inputs) -> dict[str, PrecisionChange]:
    """Return what lower precisions change on some inputs, without those that the processor or the bundle lacks."""
    outputs, calibration = bundle.contract.outputs, bundle.contract.calibration

    def classes(engine: Engine) -> npt.NDArray[np.float64]:
        logits = engine.logits(inputs.curves, inputs.features).astype(np.float64)
        return answers_of(outputs, calibration, logits, inputs.features).classes

    exact = classes(open_engine(bundle, "openvino", "float32"))
    found: dict[str, PrecisionChange] = {}
    lower: tuple[Precision, ...] = ("bfloat16", "int8") if bundle.contract.int8_ranges else ("bfloat16",)
    for name in lower:
        engine = open_engine(bundle, "openvino", name)
        if engine.precision != name:
            continue
        changed = classes(engine)
        found[name] = PrecisionChange(
            max_probability_change=round(float(np.abs(exact - changed).max()), 6),
            changed_classes=round(float(np.mean(exact.argmax(axis=1) != changed.argmax(axis=1))), 6),
            n_objects=len(inputs),
        )
    return found


def measure_ranges(bundle: Bundle, curves: Float32, features: Float32 | None) -> dict[str, ChannelRanges]:
    """Return what the inputs of each convolution that may be quantized range over.

    Parameters
    ----------
    bundle : Bundle
    curves : float32 (n, n_phase)
        Folded light curves of the training, scaled as the contract says; n >= 1.
    features : float32 (n, k) or None

    Returns
    -------
    dict of str to ChannelRanges
        By the name of the layer; empty where no layer takes many channels.
    """
    batch = min(BATCH, len(curves))
    model, names = build_inputs_graph(bundle.network(), batch, where=f"bundle {bundle.contract.name}")
    if not names:
        return {}
    compiled = load_openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    low: dict[str, npt.NDArray[np.float32]] = {}
    high: dict[str, npt.NDArray[np.float32]] = {}
    # The last batch overlaps the one before: all have one shape.
    starts = [*range(0, len(curves) - batch, batch), len(curves) - batch]
    for start in starts:
        rows = slice(start, start + batch)
        inputs = [curves[rows, None, :]] if features is None else [curves[rows, None, :], features[rows]]
        for name, values in zip(names, compiled(inputs).values(), strict=True):
            least, most = values.min(axis=(0, 2)), values.max(axis=(0, 2))
            low[name] = np.minimum(low.get(name, least), least)
            high[name] = np.maximum(high.get(name, most), most)
    return {name: ChannelRanges(low=_texts(low[name]), high=_texts(high[name])) for name in names}


def _texts(values: Float32) -> tuple[float, ...]:
    """Return values as the bundle keeps them: five digits say enough of a range."""
    return tuple(float(f"{value:.5g}") for value in values)
