"""The tasks of a run as Dask futures: no more chunks in flight than there is memory for, on CPU and GPU workers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from varstar_batch.cluster.future_loop import Flight, FutureLoop, is_killed_worker
from varstar_batch.errors import one_line
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import Task, attempt
from varstar_batch.runs.gpu_tasks import classify_folded, fold_chunk, list_chunks, write_classified
from varstar_batch.runs.plan import WORKER_MEMORY, chunk_peak, waiting_memory
from varstar_batch.runs.records import ChunkRecord
from varstar_batch.runs.tasks import classify_chunk, start_partition
from varstar_batch.survey.open import Failure

if TYPE_CHECKING:
    from distributed import Client, Future

GPU = "GPU"
"""Name of the Dask resource that GPU workers declare: ``dask worker ... --resources "GPU=1"``."""

PER_THREAD = 3
"""Chunks in flight for each worker thread: one at work, the others at hand, and no more on the scheduler."""

LEAST = 8
"""Chunks in flight where few threads are there, or none yet: a cluster that grows with demand has to see some."""

USABLE = 0.8
"""Share of a worker's limit beyond which Dask pauses it."""

TASK_MEMORY = 16 * 2**10
"""Bytes of a task in flight in the client and the scheduler. Source: 11 to 14 kB each, for 500 to 4,000 tasks."""

CLIENT_MEMORY = 256 * 2**20
"""Bytes that tasks in flight may take there."""


class DaskRunner(FutureLoop[Task]):
    """Runs the tasks of a run on a cluster; one that kills its worker also when it is alone fails as `killed_worker`.

    With workers that declare the resource ``GPU``, chunks are folded and written on the others and classified there;
    without any, each chunk runs whole on a worker. Which of the two is looked up again while the run goes on.
    """

    def __init__(self, client: Client, config: RunConfig, **how: Any) -> None:
        super().__init__(client, **how)
        self.config = config
        self.cpu_workers: list[str] = []
        self.gpu_workers: list[str] = []
        self.gpus_seen: float | None = None
        """When GPU workers were last there."""

    def look(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        """See which workers there are; what waits for GPU workers that are lost is begun anew elsewhere."""
        self.gpu_workers = [address for address, each in workers.items() if each["resources"].get(GPU)]
        others = [address for address in workers if address not in set(self.gpu_workers)]
        self.cpu_workers = others or self.gpu_workers
        room = {address: Room(each["nthreads"], each["memory_limit"] or 0) for address, each in workers.items()}
        gpu_room = [room[address] for address in self.gpu_workers if others]
        cpu_room = [room[address] for address in self.cpu_workers]
        self.limit = chunks_in_flight(cpu_room, gpu_room, self.config.chunk_memory)
        if self.gpu_workers:
            self.gpus_seen = time.monotonic()
        elif self.config.lost_gpus == "cpu" and self._gpus_are_lost():
            for future in [future for future, flight in self.flights.items() if len(flight.futures) > 1]:
                self.again(future)

    def submit(self, task: Task, tries: int) -> Flight[Task]:
        """Submit a task: one future, or three where a chunk is folded, classified and written on different workers."""
        context, subject = task.arguments[:2]
        suffix = f"{context.run_id}-{task.name}" + (f"-try{tries + 1}" if tries else "")
        on_gpu = self._uses_gpus() and task.function in {start_partition, classify_chunk}

        def submit(function: Any, *arguments: Any, gpu: bool = False) -> Future:
            # Without GPU workers anybody may do anything; with them, they are kept for what only they can do. (Dask's
            # allow_other_workers is no way to say so: idle GPU workers would steal.)
            place = {"workers": self.cpu_workers} if on_gpu and not gpu else {}
            return self.client.submit(
                attempt,
                function,
                task.partition,
                *arguments,
                key=f"{function.__name__}-{suffix}",
                pure=False,
                resources={GPU: 1} if gpu else None,
                **place,
            )

        places = frozenset(self.cpu_workers) if on_gpu else frozenset()
        if on_gpu and task.function is classify_chunk:
            folded = submit(fold_chunk, context, subject)
            classified = submit(classify_folded, context, folded, gpu=True)
            written = submit(write_classified, context, subject, classified)
            return Flight(task, tries, (written, classified, folded), places)
        function = list_chunks if on_gpu and task.function is start_partition else task.function
        return Flight(task, tries, (submit(function, *task.arguments),), places)

    def counted(self, outcome: Any, tries: int) -> Any:
        """Return an outcome, whose record tells the tries."""
        return replace(outcome, retries=outcome.retries + tries) if isinstance(outcome, ChunkRecord) else outcome

    def failed(self, task: Task, error: BaseException) -> Failure:
        """Return the failure of a task's partition."""
        if is_killed_worker(error):
            died = "every worker that tried it died, also when nothing else was running"
            return Failure(task.partition, "killed_worker", f"{task.name}: {died}: {one_line(error)}")
        kind = "memory" if isinstance(error, MemoryError) else "error"
        return Failure(task.partition, kind, f"{task.name}: {type(error).__name__}: {one_line(error)}")

    def _gpus_are_lost(self) -> bool:
        if self.gpu_workers:
            return False
        return self.gpus_seen is None or time.monotonic() - self.gpus_seen > self.config.lost_gpus_seconds

    def _uses_gpus(self) -> bool:
        # A pool that was there a moment ago, or that is to be waited for, is still one.
        return self.config.lost_gpus == "wait" or (self.gpus_seen is not None and not self._gpus_are_lost())


@dataclass(frozen=True)
class Room:
    """What a worker has."""

    threads: int
    """Tasks that it does at once, at least 1."""
    memory: int
    """Its limit in bytes; 0 where it has none."""


def chunks_in_flight(cpu: Sequence[Room], gpu: Sequence[Room], chunk_memory: int) -> int:
    """Return how many chunks may be in flight at once: no more than workers and client have memory for.

    A chunk in flight is at work on a worker, or it waits. One that waits to be begun is a task on the scheduler and
    takes next to nothing on a worker; one that was folded and waits for a GPU takes memory there (`waiting_memory`).

    Parameters
    ----------
    cpu : sequence of Room
        Workers that read, fold and write, and that classify where there are no others.
    gpu : sequence of Room
        Workers that only classify.
    chunk_memory : int
        Bytes that a chunk may take, as the configuration has it.

    Returns
    -------
    int
        At least 1. Where a worker has more threads than memory for as many chunks, it counts for those that fit only.
    """
    peak, waiting = chunk_peak(chunk_memory), waiting_memory(chunk_memory) if gpu else 0

    def held_by(room: Room) -> float:
        if not room.memory:
            return math.inf
        free = USABLE * room.memory - WORKER_MEMORY
        at_work = max(1, min(room.threads, int(free // peak)))
        if at_work < room.threads:
            return at_work
        return at_work + max(0, int((free - at_work * peak) // waiting)) if waiting else math.inf

    wanted = max(LEAST, PER_THREAD * sum(room.threads for room in (*cpu, *gpu)))
    held = [sum(map(held_by, pool)) for pool in (cpu, gpu) if pool]
    return max(1, int(min(wanted, CLIENT_MEMORY // TASK_MEMORY, *held)))
