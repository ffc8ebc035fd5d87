"""A network as a compiled function of Keras's backend, in three steps that need not wait for each other.

On a GPU each step only says what is to be done: while one batch is computed, the next one is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.model.keras_runtime import load_keras

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Forward:
    """What is done with a batch."""

    put: Callable[[Sequence[Float32]], Any]
    """Callable. Takes the inputs, float32 arrays in the order of the model's, and sends them to the device."""
    run: Callable[[Any], Any]
    """Callable. Takes what `put` returned and computes; batches must be of one shape, or it is compiled again."""
    fetch: Callable[[Any], Float32]
    """Callable. Takes what `run` returned, waits for it, and returns it, float32 (n, n_outputs)."""


def compile_forward(model: Any) -> Forward:
    """Return the forward pass of a Keras model, compiled as its backend can."""
    backend = load_keras().backend.backend()
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend](model)


def _inputs(tensors: Sequence[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else list(tensors)


def _tensorflow(model: Any) -> Forward:
    import tensorflow as tf

    compiled = tf.function(lambda tensors: model(_inputs(tensors), training=False), jit_compile=True)
    return Forward(
        put=lambda arrays: [tf.constant(array) for array in arrays],
        run=compiled,
        fetch=lambda result: result.numpy().astype(np.float32),
    )


def _jax(model: Any) -> Forward:
    import jax

    trained = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]

    def forward(trained: list[Any], others: list[Any], tensors: list[Any]) -> Any:
        return model.stateless_call(trained, others, _inputs(tensors), training=False)[0]

    compiled = jax.jit(forward)
    return Forward(
        put=lambda arrays: jax.device_put(list(arrays)),
        run=lambda tensors: compiled(trained, others, tensors),
        fetch=lambda result: np.asarray(result, dtype=np.float32),
    )


def _torch(model: Any) -> Forward:
    import torch

    on_gpu = torch.cuda.is_available()
    # A queue of its own, or the next batch would wait behind the computing of this one.
    copies = torch.cuda.Stream() if on_gpu else None

    def put(arrays: Sequence[Float32]) -> list[Any]:
        # Copied on a CPU, where a tensor would share the array, which may be read-only.
        tensors = [torch.tensor(array) for array in arrays]
        if copies is None:
            return tensors
        with torch.cuda.stream(copies):
            return [tensor.pin_memory().to("cuda", non_blocking=True) for tensor in tensors]

    def run(tensors: list[Any]) -> Any:
        if copies is not None:
            computing = torch.cuda.current_stream()
            computing.wait_stream(copies)
            for tensor in tensors:
                tensor.record_stream(computing)  # its memory is not given away before this queue is done with it
        with torch.inference_mode():
            return model(_inputs(tensors), training=False)

    def fetch(result: Any) -> Float32:
        array: Float32 = result.float().cpu().numpy()
        return array

    return Forward(put=put, run=run, fetch=fetch)
