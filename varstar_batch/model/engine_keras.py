"""The Keras engine: TensorFlow by default, JAX or torch by KERAS_BACKEND; the one for GPUs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.model.bundle import Bundle
from varstar_batch.model.engines import check_inputs, pad_rows
from varstar_batch.model.keras_runtime import keras_sees_gpu, load_keras
from varstar_batch.model.networks import from_keras_file, logits_model

Float32 = npt.NDArray[np.float32]

CPU_BATCH = 256
GPU_BATCH = 8192
"""Light curves of one call: every call has this shape, so that the network is compiled once."""


class KerasEngine:
    """A bundle's network compiled by Keras's backend; see `varstar_batch.model.engines.Engine`."""

    name = "keras"

    def __init__(self, bundle: Bundle, *, precision: str, threads: int) -> None:
        keras = load_keras(threads)
        bundle.network()  # refuses what is not on the list of layers before Keras opens the file
        self.precision = precision
        self._n_phase = bundle.contract.preprocessing.n_phase
        self._n_features = len(bundle.contract.features)
        self._n_classes = len(bundle.contract.classes)
        self._batch = GPU_BATCH if keras_sees_gpu() else CPU_BATCH
        model = from_keras_file(bundle.keras_file)
        if precision == "bfloat16":
            for layer in model.layers:
                layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
        self._model = logits_model(model)
        self._model.compile(jit_compile=keras.backend.backend() != "torch")

    def logits(self, curves: Float32, features: Float32 | None = None) -> Float32:
        """Return the network's outputs before temperature and softmax, float32 (n, n_classes)."""
        check_inputs(curves, features, n_phase=self._n_phase, n_features=self._n_features)
        inputs = [curves[:, :, None]] if features is None else [curves[:, :, None], features]
        n = len(curves)
        logits = np.empty((n, self._n_classes), dtype=np.float32)
        for start in range(0, n, self._batch):
            stop = min(start + self._batch, n)
            batch = [pad_rows(array[start:stop], self._batch) for array in inputs]
            logits[start:stop] = self._model.predict_on_batch(batch)[: stop - start]
        return logits
