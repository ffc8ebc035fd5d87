"""The one loop of Dask futures, under runs and ingests: a bounded number in flight, and whatever dies meanwhile."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from varstar_batch.errors import WorkersLostError

if TYPE_CHECKING:
    from distributed import Client, Future

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at the cluster while nothing finishes, and at the most while something does."""

LOST_SECONDS = 30.0
"""How long a scheduler may be out of reach before its work is given up (what is done stays)."""

WARN_SECONDS = 60.0
"""Between two lines about a scheduler that has no workers."""

T = TypeVar("T")


@dataclass(frozen=True)
class Flight(Generic[T]):
    """A task that was submitted and has no outcome yet."""

    task: T
    tries: int
    """Those before this one."""
    futures: tuple[Future, ...]
    """The first has the outcome, the others are what it needs."""
    places: frozenset[str]
    """Addresses of the workers that it is bound to; empty for any."""


class FutureLoop(ABC, Generic[T]):
    """Runs tasks on a cluster.

    A worker that dies takes down every task that was waiting on it, so Dask's own count of dead workers accuses
    innocent tasks. A task that it gives up is therefore tried again alone, when nothing else is in flight; only one
    that kills its worker then too has failed.

    Parameters
    ----------
    client : Client
    lost_seconds : float
        How long the scheduler may be out of reach.
    warn : callable
        Takes a line about what is waited for.
    """

    def __init__(
        self,
        client: Client,
        lost_seconds: float = LOST_SECONDS,
        warn: Callable[[str], None] = LOG.warning,
    ) -> None:
        self.client = client
        self.lost_seconds = lost_seconds
        self.warn = warn
        self.limit = 1
        """Tasks that may be in flight at once."""
        self.flights: dict[Future, Flight[T]] = {}
        self._finished: SimpleQueue[Future] = SimpleQueue()
        self._waiting: deque[tuple[T, int]] = deque()
        self._suspects: deque[tuple[T, int]] = deque()
        self._on_trial = False
        self._looked = self._reached = -lost_seconds
        self._warned = -WARN_SECONDS

    @abstractmethod
    def look(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        """See which workers there are, by their address, and set `limit`."""

    @abstractmethod
    def submit(self, task: T, tries: int) -> Flight[T]:
        """Submit a task that was tried so often before."""

    @abstractmethod
    def failed(self, task: T, error: BaseException) -> Any:
        """Return the outcome of a task that raised an error, or raise it."""

    def counted(self, outcome: Any, tries: int) -> Any:
        """Return an outcome that took so many tries before."""
        del tries
        return outcome

    def run(self, tasks: Iterator[T | None]) -> Iterator[tuple[T, Any]]:
        """Yield each task with its outcome, in the order in which they finish; None: no task is due right now.

        Raises
        ------
        WorkersLostError
            The scheduler went away and did not come back.
        """
        from distributed.client import ClosedClientError

        self._reached = time.monotonic()
        try:
            while True:
                self._look()
                try:
                    self._fill(tasks)
                except ClosedClientError:  # it gave the scheduler up since that was looked at
                    self._check_patience()
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

    def again(self, future: Future) -> None:
        """Take a task out of flight, to be submitted anew."""
        flight = self.flights.pop(future)
        self.client.cancel(list(flight.futures))
        self._waiting.append((flight.task, flight.tries + 1))

    def _look(self) -> None:
        """Look which workers there are, and see to what was lost with some of them or with the scheduler."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if self.client.status != "running":
            self._check_patience()
            return
        try:
            workers = self.client.scheduler_info(n_workers=-1)["workers"]
        except OSError:  # the connection broke while it was asked
            self._check_patience()
            return
        self._reached = now
        if not workers and now - self._warned >= WARN_SECONDS:
            self._warned = now
            self.warn(
                f"the scheduler at {self.client.scheduler.address} has no workers: waiting for one; start it with "
                "`dask worker ADDRESS`, or end this, what is done is kept"
            )
        for future, flight in list(self.flights.items()):
            # Lost with the scheduler, or bound to workers that are all gone: those that are restarted are others.
            if future.status in {"lost", "cancelled"} or (flight.places and flight.places.isdisjoint(workers)):
                self.again(future)
        self.look(workers)

    def _check_patience(self) -> None:
        lost = time.monotonic() - self._reached
        if lost > self.lost_seconds or self.client.status in {"closing", "closed"}:
            address = self.client.scheduler.address if self.client.scheduler else "its address"
            raise WorkersLostError(
                expected="a Dask scheduler that stays",
                got=f"none at {address} for {lost:.0f} s",
                where="cluster",
                fix="what is finished is kept: start the scheduler, and the same command goes on from there",
            )

    def _fill(self, tasks: Iterator[T | None]) -> None:
        if self._on_trial and self.flights:
            return
        self._on_trial = False
        while len(self.flights) < self.limit:
            if self._waiting:
                self._submit(*self._waiting.popleft())
            elif (task := next(tasks)) is not None:
                self._submit(task, 0)
            else:
                break
        if not self.flights and self._suspects:
            self._on_trial = True
            self._submit(*self._suspects.popleft())

    def _submit(self, task: T, tries: int) -> None:
        flight = self.submit(task, tries)
        self.flights[flight.futures[0]] = flight
        flight.futures[0].add_done_callback(self._finished.put)

    def _take_finished(self) -> list[Future]:
        try:
            found = [self._finished.get(timeout=LOOK_SECONDS)]
        except Empty:
            return []
        while not self._finished.empty():
            found.append(self._finished.get())
        return found

    def _outcome(self, future: Future, flight: Flight[T]) -> Iterator[tuple[T, Any]]:
        again = (flight.task, flight.tries + 1)
        if future.status in {"lost", "cancelled"}:
            self._waiting.append(again)
            return
        alone, self._on_trial = self._on_trial, False
        try:
            error = future.exception() if future.status == "error" else None
            outcome = future.result() if error is None else None
        except (OSError, CancelledError):  # the scheduler, or the worker that held the outcome, went away just now
            self._waiting.append(again)
            return
        if error is None:
            yield flight.task, self.counted(outcome, flight.tries)
        elif is_killed_worker(error) and not alone:
            self._suspects.append(again)
        else:
            yield flight.task, self.failed(flight.task, error)


def is_killed_worker(error: BaseException) -> bool:
    """Return whether Dask gave a task up because workers died under it."""
    return type(error).__name__ == "KilledWorker"
