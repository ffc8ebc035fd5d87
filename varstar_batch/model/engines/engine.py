"""What every engine is: its name, its precision, and the arrays that it takes and gives."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

EngineName = Literal["auto", "openvino", "keras"]


Precision = Literal["float32", "bfloat16", "int8", "auto"]


Float32 = npt.NDArray[np.float32]


class Engine(Protocol):
    """A compiled network. It is bound to the process that opened it; open one in each worker."""

    @property
    def name(self) -> str:
        """Which implementation this is."""

    @property
    def precision(self) -> str:
        """The arithmetic that it computes in: ``"float32"``, ``"bfloat16"`` or ``"int8"``."""

    def logits(self, curves: Float32, features: Float32 | None = None) -> Float32:
        """Return the network's outputs before temperature and softmax.

        Parameters
        ----------
        curves : float32 (n, n_phase)
            Folded light curves, scaled as the bundle's contract says; n may be 0.
        features : float32 (n, k), optional
            The contract's features, in its order; None where it has none.

        Returns
        -------
        float32 (n, n_outputs)
        """


def check_inputs(curves: Float32, features: Float32 | None, *, n_phase: int, n_features: int) -> None:
    """Raise ValueError unless the arrays have the shapes and dtype that the contract asks for."""
    if curves.dtype != np.float32 or curves.ndim != 2 or curves.shape[1] != n_phase:
        raise ValueError(f"curves: expected float32 (n, {n_phase}), got {curves.dtype} {curves.shape}")
    got = None if features is None else (features.dtype.name, features.shape)
    expected = ("float32", (len(curves), n_features)) if n_features else None
    if got != expected:
        raise ValueError(f"features: expected {expected}, got {got}")


def pad_rows(array: Float32, n: int) -> Float32:
    """Return `array` with zeros appended along its first axis up to `n` rows; itself if it has them."""
    if len(array) == n:
        return array
    padded = np.zeros((n, *array.shape[1:]), dtype=array.dtype)
    padded[: len(array)] = array
    return padded
