"""The OpenVINO engine: the fastest on CPUs. It needs neither Keras nor TensorFlow, which take seconds to import."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.errors import InputError
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.engines.engine import check_inputs, pad_rows

Float32 = npt.NDArray[np.float32]

BATCHES = (16, 256)
"""Least and most light curves of one request."""

BATCH_BYTES = 2**21
"""What the largest tensor inside of the network may take in one request: more leaves the cache, less pays for Python.
Measured in two processes on cores of 1 MiB: the paper's network (128 KiB a light curve) is 5 % faster in batches of 16
than of 32 in float32 and the same in bfloat16, a network of 8 KiB 33 % faster in 256 than in 32."""

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""Of what is not in 8 bits."""


class OpenVinoEngine:
    """A bundle's network compiled by OpenVINO; see `varstar_batch.model.engines.engine.Engine`.

    On a CPU without bfloat16 arithmetic that precision computes, and reports, float32.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, *, precision: str, threads: int) -> None:
        from varstar_batch.model.engines.openvino_graph import build_graph, largest_tensor, load_openvino

        openvino = load_openvino()
        core = openvino.Core()
        if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            precision = "float32"
        self.precision = precision
        self._n_phase = bundle.contract.preprocessing.n_phase
        self._n_features = len(bundle.contract.features)
        self._n_outputs = len(bundle.contract.outputs.leaves)
        network, where = bundle.network(), f"bundle {bundle.contract.name}"
        ranges = bundle.contract.int8_ranges if precision == "int8" else {}
        if precision == "int8" and not ranges:
            raise InputError(
                expected="a bundle that was calibrated for 8 bits",
                got="none of its layers is",
                where=f"{where} --precision int8",
                fix="--precision auto takes what the bundle allows; `varstar train` calibrates new bundles",
            )
        self._batch = batch_of(largest_tensor(build_graph(network, 1, where=where)))
        compiled = core.compile_model(
            build_graph(network, self._batch, where=where, int8_ranges=ranges),
            "CPU",
            {
                # Set for float32 too: the default on a CPU with AMX is bfloat16.
                "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
                # One thread a stream is faster than many threads on one small batch.
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": threads,
                # Several workers on one machine would pin their threads to the same first cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._lock = threading.Lock()
        # Two requests a stream: one runs while Python fills the other.
        self._queue = openvino.AsyncInferQueue(compiled, 2 * threads)
        self._queue.set_callback(_store)

    def logits(self, curves: Float32, features: Float32 | None = None) -> Float32:
        """Return the network's outputs before temperature and softmax, float32 (n, n_outputs)."""
        check_inputs(curves, features, n_phase=self._n_phase, n_features=self._n_features)
        curves = np.ascontiguousarray(curves)[:, None, :]
        inputs = [curves] if features is None else [curves, np.ascontiguousarray(features)]
        n = len(curves)
        size = self._batch
        logits = np.empty((n, self._n_outputs), dtype=np.float32)
        with self._lock:
            for start in range(0, n, size):
                batch = [pad_rows(array[start : start + size], size) for array in inputs]
                # Copied, not shared: 2 kB a curve cost nothing, and OpenVINO cannot share a read-only array (Arrow's).
                self._queue.start_async(dict(enumerate(batch)), userdata=logits[start : start + size])
            self._queue.wait_all()
        return logits


def batch_of(floats: int) -> int:
    """Return the light curves of one request, a power of two within `BATCHES`, from one's largest tensor [values]."""
    least, most = BATCHES
    fitting = max(BATCH_BYTES // (4 * floats), 1)
    return min(max(1 << (fitting.bit_length() - 1), least), most)


def _store(request: Any, rows: Float32) -> None:
    """Copy a finished request's output into its rows."""
    rows[:] = request.get_output_tensor(0).data[: len(rows)]
