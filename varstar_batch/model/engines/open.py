"""Inference engines behind one function: folded curves in, logits out."""

from __future__ import annotations

from typing import get_args

from varstar_batch.errors import InputError
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.engines.engine import Engine, EngineName, Precision


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
        from varstar_batch.model.engines.keras_engine import KerasEngine

        return KerasEngine(bundle, precision=precision, threads=threads)
    from varstar_batch.model.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(bundle, precision=precision, threads=threads)


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(
            expected=f"one of {', '.join(known)}", got=repr(value), where=what, fix=f"choose a known {what}"
        )


def _gpu_is_visible() -> bool:
    """Tell whether Keras would compute on a GPU, without the seconds of importing it where there is none."""
    from varstar_batch.model.keras_runtime import keras_sees_gpu, nvidia_driver_is_loaded

    return nvidia_driver_is_loaded() and keras_sees_gpu()
