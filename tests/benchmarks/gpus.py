"""What GPUs can do at most, by their makers' data sheets, and what a network asks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """Peak rates of a GPU, without sparsity.

    Attributes
    ----------
    float32, tf32, bfloat16 : float
        Operations per second in 10^12; a multiply-add counts as two.
    bandwidth : float
        Of its memory, 10^12 bytes per second.
    """

    float32: float
    tf32: float
    bfloat16: float
    bandwidth: float

    def flops(self, arithmetic: str) -> float:
        """Return the operations per second in an arithmetic: "float32", "tf32" or "bfloat16"."""
        rate: float = getattr(self, arithmetic)
        return rate * 1e12


GPUS = {
    "B200": Gpu(75, 1100, 2250, 8.0),
    "GH200": Gpu(67, 494, 989, 4.0),
    "H200": Gpu(67, 494, 989, 4.8),
    "H100 PCIe": Gpu(51, 378, 756, 2.0),
    "H100": Gpu(67, 494, 989, 3.35),
    "A100": Gpu(19.5, 156, 312, 2.0),
    "L40S": Gpu(91.6, 183, 362, 0.864),
    "L4": Gpu(30.3, 60, 121, 0.3),
    "A10": Gpu(31.2, 62.5, 125, 0.6),
    "RTX 4090": Gpu(82.6, 82.6, 165, 1.008),
    "RTX 4070 Ti": Gpu(40.1, 40.1, 80.2, 0.504),
    "RTX 3090": Gpu(35.6, 35.6, 71, 0.936),
}
"""By a part of the name that the driver gives; the first that fits counts."""


def known_gpu(name: str) -> Gpu | None:
    """Return the GPU whose name is part of the driver's, None if it is none of the table."""
    words = name.replace("-", " ").split()
    return next((gpu for key, gpu in GPUS.items() if all(word in words for word in key.split())), None)


def work_of(model: Any) -> tuple[float, float]:
    """Return what a Keras model asks for one light curve: operations, and numbers moved at the least.

    Numbers moved are its inputs and what every pooling leaves, written and read once: all between could stay on chip.
    """
    operations = 0.0
    moved = float(sum(_size(tensor) for tensor in model.inputs))
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "Conv1D":
            width, channels, filters = layer.kernel.shape
            operations += 2.0 * width * channels * filters * layer.output.shape[1]
        elif kind == "Dense":
            operations += 2.0 * layer.kernel.shape[0] * layer.kernel.shape[1]
        elif "Pooling" in kind:
            moved += 2.0 * _size(layer.output)
    return operations, moved


def _size(tensor: Any) -> int:
    size = 1
    for length in tensor.shape[1:]:
        size *= int(length)
    return size
