"""Inference engines behind one function: folded curves in, logits out."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from varstar_batch.errors import InputError
from varstar_batch.model.bundle import Bundle

EngineName = Literal["auto", "openvino", "keras"]
Precision = Literal["float32", "bfloat16"]
Float32 = npt.NDArray[np.float32]


class Engine(Protocol):
    """A compiled network. It is bound to the process that opened it; open one in each worker."""

    @property
    def name(self) -> str:
        """Which implementation this is."""

    @property
    def precision(self) -> str:
        """The arithmetic that was asked for: ``"float32"`` or ``"bfloat16"``."""

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
        float32 (n, n_classes)
        """


def open_engine(
    bundle: Bundle, name: EngineName = "auto", precision: Precision = "float32", threads: int = 1
) -> Engine:
    """Compile a bundle's network for this process.

    Parameters
    ----------
    bundle : Bundle
    name : {"auto", "openvino", "keras"}
        ``"auto"`` takes Keras where its backend sees a GPU, and OpenVINO otherwise.
    precision : {"float32", "bfloat16"}
        Arithmetic; what bfloat16 changes stands in the bundle's contract.
    threads : int
        Cores this process may use, >= 1.

    Raises
    ------
    InputError
        If a name is unknown or `threads` is below 1.
    """
    _check_choice("engine", name, get_args(EngineName))
    _check_choice("precision", precision, get_args(Precision))
    if threads < 1:
        raise InputError(expected="threads >= 1", got=str(threads), where="engine", fix="give each worker at least one")
    if name == "keras" or (name == "auto" and _gpu_is_visible()):
        from varstar_batch.model.engine_keras import KerasEngine

        return KerasEngine(bundle, precision=precision, threads=threads)
    from varstar_batch.model.engine_openvino import OpenVinoEngine

    return OpenVinoEngine(bundle, precision=precision, threads=threads)


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


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(
            expected=f"one of {', '.join(known)}", got=repr(value), where=what, fix=f"choose a known {what}"
        )


def _gpu_is_visible() -> bool:
    """Tell whether Keras would compute on a GPU, without the seconds of importing it where there is none."""
    from varstar_batch.model.keras_runtime import keras_sees_gpu, nvidia_driver_is_loaded

    return nvidia_driver_is_loaded() and keras_sees_gpu()
