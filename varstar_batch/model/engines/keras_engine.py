"""The Keras engine: TensorFlow by default, JAX or torch by KERAS_BACKEND; the one for GPUs."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.model.bundle import Bundle
from varstar_batch.model.engines.engine import check_inputs, pad_rows
from varstar_batch.model.engines.keras_forward import compile_forward
from varstar_batch.model.keras_runtime import keras_sees_gpu, load_keras
from varstar_batch.model.networks import from_keras_file, logits_model

Float32 = npt.NDArray[np.float32]

CPU_BATCH = 256
GPU_BATCH = 8192
"""Light curves of one call: every call has this shape, so that the network is compiled once."""

IN_FLIGHT = 3
"""Batches under way at once: one comes, one is computed, one goes."""


class KerasEngine:
    """A bundle's network compiled by Keras's backend; see `varstar_batch.model.engines.engine.Engine`."""

    name = "keras"

    def __init__(self, bundle: Bundle, *, precision: str, threads: int) -> None:
        keras = load_keras(threads)
        bundle.network()  # refuses what is not on the list of layers before Keras opens the file
        self.precision = precision
        self._n_phase = bundle.contract.preprocessing.n_phase
        self._n_features = len(bundle.contract.features)
        self._n_outputs = len(bundle.contract.outputs.leaves)
        self._batch = GPU_BATCH if keras_sees_gpu() else CPU_BATCH
        model = from_keras_file(bundle.keras_file)
        if precision == "bfloat16":
            for layer in model.layers:
                layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
        self._forward = compile_forward(logits_model(model))

    def logits(self, curves: Float32, features: Float32 | None = None) -> Float32:
        """Return the network's outputs before temperature and softmax, float32 (n, n_outputs)."""
        check_inputs(curves, features, n_phase=self._n_phase, n_features=self._n_features)
        inputs = [curves[:, :, None]] if features is None else [curves[:, :, None], features]
        n = len(curves)
        logits = np.empty((n, self._n_outputs), dtype=np.float32)
        under_way: deque[tuple[int, Any]] = deque()

        def store_oldest() -> None:
            start, result = under_way.popleft()
            rows = logits[start : start + self._batch]
            rows[:] = self._forward.fetch(result)[: len(rows)]

        for start in range(0, n, self._batch):
            if len(under_way) == IN_FLIGHT:
                store_oldest()
            batch = [pad_rows(array[start : start + self._batch], self._batch) for array in inputs]
            under_way.append((start, self._forward.run(self._forward.put(batch))))
        while under_way:
            store_oldest()
        return logits
