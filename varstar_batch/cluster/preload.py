"""What a scheduler and a worker of a cluster begin with: ``dask worker ... --preload varstar_batch.cluster.preload``.

The scheduler tells Prometheus how many chunks wait for a GPU worker (`GpuTasks`), by which such workers are scaled.

A worker that was started for its graphics card and sees none would classify on its processor, many times slower, while
all others wait for it. It ends with one line instead, before any work reaches it, and runs do without it as their
setting `lost_gpus` says; with ``VARSTAR_MISSING_GPU=cpu`` it says so and works as it can.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from varstar_batch.cluster.dask_runner import GPU
from varstar_batch.errors import InputError, RefusedError
from varstar_batch.model.keras_runtime import keras_sees_gpu, nvidia_driver_is_loaded
from varstar_batch.runs.gpu_tasks import classify_folded
from varstar_batch.runs.records import register

if TYPE_CHECKING:
    from distributed import Scheduler, Worker
    from prometheus_client.core import GaugeMetricFamily

GPU_TASK_STATES = ("waiting", "no-worker", "processing")

MISSING_GPU = "VARSTAR_MISSING_GPU"
"""Variable of the environment: what a GPU worker does that sees no GPU, ``refuse`` (the default) or ``cpu``."""


def dask_setup(server: Scheduler | Worker) -> None:
    """Begin to count for Prometheus, and end the process of a GPU worker that sees no GPU."""
    from distributed import Scheduler

    if isinstance(server, Scheduler):
        from prometheus_client import REGISTRY

        REGISTRY.register(GpuTasks(server))
        return
    worker = server
    register()
    try:
        said = check_gpu(worker.state.total_resources, worker.name)
    except (InputError, RefusedError) as error:
        # Dask would log an exception, and let the worker begin.
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    if said:
        print(said, file=sys.stderr, flush=True)


class GpuTasks:
    """Collector of ``varstar_gpu_tasks``: chunks to be classified on a GPU worker, by their state on the scheduler.

    ``waiting`` for the chunk to be folded, ``no-worker`` for want of a GPU worker, ``processing`` on one.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metric, as `prometheus_client` asks for it."""
        from prometheus_client.core import GaugeMetricFamily

        told = GaugeMetricFamily("varstar_gpu_tasks", "Chunks to be classified on a GPU worker", labels=["state"])
        prefix = self.scheduler.task_prefixes.get(classify_folded.__name__)
        for state in GPU_TASK_STATES:
            told.add_metric([state], 0 if prefix is None else prefix.states.get(state, 0))
        yield told


def check_gpu(resources: Mapping[str, float], name: object) -> str:
    """Tell whether a worker can do what it declares.

    Parameters
    ----------
    resources : mapping of str to float
        As declared.
    name : object
        Of the worker, for people.

    Returns
    -------
    str
        Empty, or one line for its log.

    Raises
    ------
    RefusedError
        It declares a GPU and Keras sees none.
    InputError
        The variable `MISSING_GPU` is neither ``refuse`` nor ``cpu``.
    """
    then = os.environ.get(MISSING_GPU, "refuse")
    if then not in {"refuse", "cpu"}:
        raise InputError(expected="refuse or cpu", got=repr(then), where=MISSING_GPU, fix="leave it out to refuse")
    if not resources.get(GPU) or (nvidia_driver_is_loaded() and keras_sees_gpu()):
        return ""
    if then == "cpu":
        return f"worker {name} declares {GPU}={resources[GPU]:g} and Keras sees none: it classifies on the CPU"
    raise RefusedError(
        expected=f"a GPU that Keras sees, since the worker declares {GPU}={resources[GPU]:g}",
        got="none" if nvidia_driver_is_loaded() else "no NVIDIA driver on this machine",
        where=f"worker {name}",
        fix=f"see `varstar doctor`; leave --resources {GPU}=1 out, or set {MISSING_GPU}=cpu to classify on the CPU",
    )
