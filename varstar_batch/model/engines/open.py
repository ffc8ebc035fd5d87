"""Inference engines behind one function: folded curves in, logits out."""

from __future__ import annotations

from pathlib import Path
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
    precision : {"float32", "bfloat16", "int8", "auto"}
        Arithmetic; what it changes stands in the bundle's contract. ``"auto"`` is `fastest_precision`.
    threads : int
        Cores this process may use, >= 1.

    Raises
    ------
    InputError
        If a name is unknown, `threads` is below 1, or 8 bits are asked for and the bundle, or the engine, has none.
    """
    _check_choice("engine", name, get_args(EngineName))
    _check_choice("precision", precision, get_args(Precision))
    if threads < 1:
        raise InputError(expected="threads >= 1", got=str(threads), where="engine", fix="give each worker at least one")
    if name == "keras" or (name == "auto" and _gpu_is_visible()):
        from varstar_batch.model.engines.keras_engine import KerasEngine

        if precision == "int8" and name == "keras":
            raise InputError(
                expected="an engine that computes in 8 bits",
                got="keras",
                where="--precision int8",
                fix="--engine openvino, or another --precision",
            )
        # A graphics card that takes part in a run of 8 bits computes more exactly.
        precision = "float32" if precision in {"auto", "int8"} else precision
        return KerasEngine(bundle, precision=precision, threads=threads)
    from varstar_batch.model.engines.openvino_engine import OpenVinoEngine

    precision = fastest_precision(bundle) if precision == "auto" else precision
    return OpenVinoEngine(bundle, precision=precision, threads=threads)


MOST_CHANGED = 0.001
"""Share of the training's light curves whose class a precision may change to be taken by ``"auto"``."""

_FLAGS = {"int8": {"avx512_vnni", "avx_vnni"}, "bfloat16": {"avx512_bf16", "amx_bf16"}}
"""Instructions, as Linux names them, with one of which each precision is faster than float32; the fastest first."""


def fastest_precision(bundle: Bundle) -> Precision:
    """Return this processor's fastest arithmetic that changes next to no class, by the bundle's own measurement."""
    flags = _processor_flags()
    for name, needed in _FLAGS.items():
        change = bundle.contract.precision.get(name)
        if flags & needed and change is not None and change.changed_classes <= MOST_CHANGED:
            return name  # type: ignore[return-value]
    return "float32"


def _processor_flags() -> set[str]:
    """Return the instructions of this processor; none where Linux does not say."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(
            expected=f"one of {', '.join(known)}", got=repr(value), where=what, fix=f"choose a known {what}"
        )


def _gpu_is_visible() -> bool:
    """Tell whether Keras would compute on a GPU, without the seconds of importing it where there is none."""
    from varstar_batch.model.keras_runtime import keras_sees_gpu, nvidia_driver_is_loaded

    return nvidia_driver_is_loaded() and keras_sees_gpu()
