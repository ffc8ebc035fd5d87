"""The GPU, or the CPU in its place, as Keras's backend knows it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from varstar_batch.model.keras_runtime import load_keras


def device_name(on_gpu: bool) -> str:
    """Return what the computing is done on, as its driver calls it."""
    if not on_gpu:
        return f"{cores()} CPU cores"
    backend = load_keras().backend.backend()
    if backend == "jax":
        import jax

        return str(jax.devices()[0].device_kind)
    if backend == "torch":
        import torch

        return str(torch.cuda.get_device_name(0))
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return str(details.get("device_name", "a GPU"))


def allow_tf32(allowed: bool) -> None:
    """Let the backend round float32 products to TensorFloat-32, or not."""
    backend = load_keras().backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(allowed)
    elif backend == "torch":
        import torch

        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if allowed else "float32")


def measured_peaks(precision: str, on_gpu: bool) -> tuple[float, float]:
    """Return operations and bytes per second of a large matrix product and a large copy."""
    ops = load_keras().ops
    side, count = (8192, 2**28) if on_gpu else (256, 2**20)
    matrix = ops.cast(ops.convert_to_tensor(np.random.default_rng(2).random((side, side), dtype=np.float32)), precision)
    long = ops.cast(ops.ones((count,)), precision)

    def seconds(work: Callable[[], Any]) -> float:
        best = np.inf
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(4):
                result = work()
            ops.convert_to_numpy(ops.cast(ops.reshape(result, (-1,))[:1], "float32"))
            best = min(best, time.perf_counter() - start)
        return best / 4

    width = 2 if precision == "bfloat16" else 4
    return 2 * side**3 / seconds(lambda: ops.matmul(matrix, matrix)), 2 * width * count / seconds(lambda: long + 1)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
