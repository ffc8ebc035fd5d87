"""Arithmetic in 8 bits for the OpenVINO engine: what each convolution's inputs range over, and the steps between.

Post-training quantization: weights of each output channel on 255 steps symmetric about 0, inputs of each channel on 256
steps of their own between the least and the greatest value seen in calibration. All channels of an input have the same
ratio of least to greatest, so that 0, with which convolutions are padded, is one and the same step, and one scale for
each channel can be moved into the weights, which is exact (after Nagel et al. 2019, doi:10.1109/ICCV.2019.00141). The
first convolution, of the curve itself, and the dense layers stay in float32: they take little of the time and decide
most of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from varstar_batch.model.bundle import Bundle, ChannelRanges

Float32 = npt.NDArray[np.float32]

LEVELS = 256
"""Of an activation, 8 bits without sign."""

WEIGHT_LEVELS = 255
"""Of a weight, symmetric about 0."""

BATCH = 64
"""Light curves at a time in calibration."""


@dataclass(frozen=True, eq=False)
class Steps:
    """How the inputs of a convolution are put on steps."""

    scale: npt.NDArray[np.float64]
    """Float64 (channels,), > 0: what 1 after quantization stands for in each channel."""
    least: float
    """Least value after quantization, in [-1, 0]; the greatest is 1."""


def steps_of(ranges: ChannelRanges) -> Steps:
    """Return the steps for the ranges of a convolution's input channels."""
    low = np.minimum(np.asarray(ranges.low, np.float64), 0.0)
    high = np.asarray(ranges.high, np.float64)
    # A channel that is never positive, or hardly, must not make the steps of all others coarse.
    high = np.maximum(high, 1e-6 * max(high.max(initial=0.0), 1e-6))
    ratio = min(float((-low / high).max()), 1.0)
    scale = np.maximum(high, -low / ratio) if ratio > 0 else high
    return Steps(scale, -ratio)


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
    from varstar_batch.model.engines.openvino_graph import build_inputs_graph, load_openvino

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

