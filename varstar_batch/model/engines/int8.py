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

from varstar_batch.model.bundle import ChannelRanges

LEVELS = 256
"""Of an activation, 8 bits without sign."""

WEIGHT_LEVELS = 255
"""Of a weight, symmetric about 0."""


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
