"""Tasks as Dask futures: a bounded window, CPU and GPU workers, and whatever dies meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from varstar_batch.errors import VarstarError, one_line
from varstar_batch.runs.config import LostGpus, RunConfig
from varstar_batch.runs.execute import InProcess, Runner, Task
from varstar_batch.runs.gpu_tasks import classify_folded, fold_chunk, list_chunks, write_classified
from varstar_batch.runs.memory import LEAST, Room, window
from varstar_batch.runs.records import ChunkRecord
from varstar_batch.runs.retries import attempt
from varstar_batch.runs.tasks import classify_chunk, start_partition
from varstar_batch.survey.open import Failure

if TYPE_CHECKING:
    from distributed import Client, Future

LOOK_SECONDS = 1.0
"""Between two looks at the cluster while nothing finishes, and at the most while something does."""

LOST_SECONDS = 30.0
"""How long a scheduler may be out of reach before the run is given up (what is done stays)."""

GPU = "GPU"
"""Name of the Dask resource that GPU workers declare: ``dask worker ... --resources "GPU=1"``."""


class ClusterLostError(VarstarError):
    """The scheduler went away and did not come back: the run can be resumed."""

    exit_code = 1


@dataclass
class _Flight:
    task: Task
    tries: int
    on_gpu: bool
    futures: tuple[Future, ...]
    places: frozenset[str]


class DaskRunner:
    """Runs tasks on a cluster.

    With workers that declare the resource ``GPU``, chunks are folded and written on the others and classified there;
    without any, each chunk runs whole on a worker. Which of the two is looked up again while the run goes on.

    A worker that dies takes down every task that was waiting on it, so Dask's own count of dead workers accuses
    innocent tasks. A task that it gives up is therefore tried again alone, when nothing else is in flight; only one
    that kills its worker then too is a failure, of kind ``killed_worker``.
    """

    def __init__(self, client: Client, chunk_memory: int, lost_gpus: LostGpus | None = None) -> None:
        self.client = client
        self.chunk_memory = chunk_memory
        self.lost_gpus = lost_gpus or LostGpus()
        self.finished: SimpleQueue[Future] = SimpleQueue()
        self.flights: dict[Future, _Flight] = {}
        self.waiting: deque[tuple[Task, int]] = deque()
        self.suspects: deque[tuple[Task, int]] = deque()
        self.on_trial = False
        self.cpu_workers: list[str] = []
        self.gpu_workers: list[str] = []
        self.window = LEAST
        self.looked = self.reached = self.seen_gpus = -LOST_SECONDS

    def run(self, tasks: Iterator[Task | None]) -> Iterator[tuple[Task, Any]]:
        """Yield each task with its outcome, in the order in which they finish."""
        from distributed.client import ClosedClientError

        self.reached = time.monotonic()
        try:
            while True:
                self._look()
                try:
                    self._fill(tasks)
                except ClosedClientError:  # it gave the scheduler up since that was looked at
                    self._check_patience(time.monotonic())
                    raise
                if not self.flights:
                    return
                for future in self._take_finished():
                    flight = self.flights.pop(future, None)
                    if flight is not None:
                        yield from self._outcome(future, flight)
        finally:
            if self.client.status == "running":
                for flight in self.flights.values():
                    self.client.cancel(list(flight.futures))

    def _look(self) -> None:
        """Look which workers there are, and see to what was lost with the scheduler or with the GPU workers."""
        now = time.monotonic()
        if now - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        if self.client.status != "running":
            self._check_patience(now)
            return
        try:
            workers = self.client.scheduler_info(n_workers=-1)["workers"]
        except OSError:  # the connection broke while it was asked
            self._check_patience(now)
            return
        self.reached = now
        self.gpu_workers = [address for address, each in workers.items() if each["resources"].get(GPU)]
        others = [address for address in workers if address not in set(self.gpu_workers)]
        self.cpu_workers = others or self.gpu_workers
        room = {address: Room(each["nthreads"], each["memory_limit"] or 0) for address, each in workers.items()}
        gpu_room = [room[address] for address in self.gpu_workers if others]
        self.window = window([room[address] for address in self.cpu_workers], gpu_room, self.chunk_memory)
        if self.gpu_workers:
            self.seen_gpus = now
        for future, flight in list(self.flights.items()):
            # Lost with the scheduler, or bound to workers that are all gone: those that are restarted are others.
            if future.status in {"lost", "cancelled"} or (flight.places and flight.places.isdisjoint(workers)):
                self._again(future)
        if self._gpus_are_lost(now) and self.lost_gpus.then == "cpu":
            for future in [future for future, flight in self.flights.items() if flight.on_gpu]:
                self._again(future)

    def _check_patience(self, now: float) -> None:
        if now - self.reached > LOST_SECONDS or self.client.status in {"closing", "closed"}:
            address = self.client.scheduler.address if self.client.scheduler else "its address"
            raise ClusterLostError(
                expected="a Dask scheduler that stays",
                got=f"none at {address} for {now - self.reached:.0f} s",
                where="cluster",
                fix="what is finished is kept: start the scheduler, and the same command goes on from there",
            )

    def _gpus_are_lost(self, now: float) -> bool:
        return not self.gpu_workers and now - self.seen_gpus > self.lost_gpus.seconds

    def _uses_gpus(self) -> bool:
        if self.gpu_workers:
            return True
        # A pool that was there a moment ago, or that is to be waited for, is still one.
        seen = self.seen_gpus > 0
        return seen and (self.lost_gpus.then == "wait" or not self._gpus_are_lost(time.monotonic()))

    def _again(self, future: Future) -> None:
        flight = self.flights.pop(future)
        self.client.cancel(list(flight.futures))
        self.waiting.append((flight.task, flight.tries + 1))

    def _fill(self, tasks: Iterator[Task | None]) -> None:
        if self.on_trial and self.flights:
            return
        self.on_trial = False
        while len(self.flights) < self.window:
            if self.waiting:
                self._submit(*self.waiting.popleft())
            elif (task := next(tasks)) is not None:
                self._submit(task, 0)
            else:
                break
        if not self.flights and self.suspects:
            self.on_trial = True
            self._submit(*self.suspects.popleft())

    def _submit(self, task: Task, tries: int) -> None:
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

        if on_gpu and task.function is classify_chunk:
            folded = submit(fold_chunk, context, subject)
            classified = submit(classify_folded, context, folded, gpu=True)
            futures: tuple[Future, ...] = (
                submit(write_classified, context, subject, classified),
                classified,
                folded,
            )
        else:
            function = list_chunks if on_gpu and task.function is start_partition else task.function
            futures = (submit(function, *task.arguments),)
        places = frozenset(self.cpu_workers) if on_gpu else frozenset()
        self.flights[futures[0]] = _Flight(task, tries, len(futures) > 1, futures, places)
        futures[0].add_done_callback(self.finished.put)

    def _take_finished(self) -> list[Future]:
        try:
            found = [self.finished.get(timeout=LOOK_SECONDS)]
        except Empty:
            return []
        while not self.finished.empty():
            found.append(self.finished.get())
        return found

    def _outcome(self, future: Future, flight: _Flight) -> Iterator[tuple[Task, Any]]:
        if future.status in {"lost", "cancelled"}:
            self.waiting.append((flight.task, flight.tries + 1))
            return
        alone, self.on_trial = self.on_trial, False
        try:
            error = future.exception() if future.status == "error" else None
            outcome = future.result() if error is None else None
        except (OSError, CancelledError):  # the scheduler, or the worker that held the outcome, went away just now
            self.waiting.append((flight.task, flight.tries + 1))
            return
        if error is None:
            if isinstance(outcome, ChunkRecord) and flight.tries:
                outcome = replace(outcome, retries=outcome.retries + flight.tries)
        elif type(error).__name__ == "KilledWorker" and not alone:
            self.suspects.append((flight.task, flight.tries + 1))
            return
        else:
            outcome = _failure(flight.task, error)
        yield flight.task, outcome


def runner_on(client: Client | None, config: RunConfig) -> Runner:
    """Return who does the tasks of a run: the workers of a client, or this process where there is none."""
    if client is None:
        return InProcess()
    return DaskRunner(client, config.chunk_memory, config.lost_gpu_policy())


def _failure(task: Task, error: BaseException) -> Failure:
    name = type(error).__name__
    if name == "KilledWorker":
        died = "every worker that tried it died, also when nothing else was running"
        return Failure(task.partition, "killed_worker", f"{task.name}: {died}: {one_line(error)}")
    kind = "memory" if isinstance(error, MemoryError) else "error"
    return Failure(task.partition, kind, f"{task.name}: {name}: {one_line(error)}")
