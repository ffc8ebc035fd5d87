"""A pass of training as one call of JAX: the data on the device, all its steps one loop there.

Keras's own `fit` has a word with Python at every step, which on a GPU takes longer than the step of a small network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.training.fitting.inputs import Float32, Inputs

State = tuple[list[Any], list[Any], list[Any], list[Any]]
"""Values of the variables that a step takes and gives: trainable, others, the optimizer's and the metrics'."""


class JaxPasses:
    """Passes over arrays in batches, with the results of `model.fit` on the same batches.

    Parameters
    ----------
    model : keras.Model
        Compiled; its backend is JAX.
    batch_size : int
    """

    def __init__(self, model: Any, batch_size: int) -> None:
        import jax

        self.model = model
        self.batch_size = batch_size
        # Donated: the old state's memory becomes the new one's.
        self._run: Callable[..., tuple[Any, State]] = jax.jit(self._steps, donate_argnums=0)

    def __call__(
        self, inputs: Inputs, targets: npt.NDArray[np.int32] | Float32, weights: Float32 | None
    ) -> dict[str, float]:
        """Do one pass in the order of the n rows and return loss and metrics over it.

        Parameters
        ----------
        inputs : Inputs
        targets : int32 (n,) or float32 (n, k)
            What the model's loss takes.
        weights : float32 (n,), optional
            Of each row.
        """
        # Keras makes the metrics' variables when they are first needed; the loop has to know them before.
        guess = np.full((1, self.model.output_shape[-1]), 1.0 / self.model.output_shape[-1], np.float32)
        self.model.compute_metrics(None, targets[:1], guess, None if weights is None else weights[:1])
        self.model.reset_metrics()
        given = inputs.for_keras()
        arrays = [*(given if isinstance(given, list) else [given]), targets, *([] if weights is None else [weights])]
        n, size = len(targets), self.batch_size
        whole = n // size * size
        logs: Any = {}
        # The rows that are left over make a smaller batch, as they do in `fit`.
        for start, stop, rows in ((0, whole, size), (whole, n, n - whole)):
            if stop > start:
                batches = [array[start:stop].reshape(-1, rows, *array.shape[1:]) for array in arrays]
                logs, state = self._run(self._state(), batches)
                self._keep(state)
        return {name: float(value) for name, value in logs.items()}

    def _steps(self, state: State, batches: list[Any]) -> tuple[Any, State]:
        import jax

        n_inputs = len(self.model.inputs)

        def step(state: State, batch: list[Any]) -> tuple[State, Any]:
            inputs, (targets, *weights) = batch[:n_inputs], batch[n_inputs:]
            logs, state = self.model.train_step(state, (inputs if n_inputs > 1 else inputs[0], targets, *weights))
            return state, logs

        state, logs = jax.lax.scan(step, state, batches)
        # Metrics are running means: those after the last step are of the whole pass.
        return jax.tree.map(lambda values: values[-1], logs), state

    def _variables(self) -> tuple[list[Any], ...]:
        model = self.model
        return (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )

    def _state(self) -> State:
        first, others, optimizer, metrics = ([each.value for each in group] for group in self._variables())
        return first, others, optimizer, metrics

    def _keep(self, state: State) -> None:
        for group, values in zip(self._variables(), state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
