"""An ingest's work as tasks on Dask's workers, which see the folders that it reads and writes.

What a task does is left in a file in the ingest's workspace, once for all items, and each worker loads it once: a table
of a million objects goes neither through the scheduler nor into its memory, and a worker that dies takes nothing along.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from varstar_batch.cluster.client import open_client
from varstar_batch.errors import InputError, WorkersLostError
from varstar_batch.parallel import Crew
from varstar_batch.requests import ClusterOptions

if TYPE_CHECKING:
    from distributed import Client, Future

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

TRIES = 3
"""Of an item: each ends when Dask gives it up, after the death of several workers under it (`clients.DEATHS`)."""

_PER_THREAD = 2
_LEAST = 4
# Items in flight.

_CLIENT_LOG = "distributed.client"


@contextmanager
def open_crew(
    workers: int | None, scheduler: str | None, options: ClusterOptions | None = None
) -> Iterator[Crew | None]:
    """Yield who is to ingest: None, for threads of this process, unless workers or a scheduler are asked for.

    Parameters
    ----------
    workers : int or None
        Processes of a local cluster; None or 0 for none.
    scheduler : str or None
        Address of a running scheduler, whose workers see the same folders; excludes `workers`.
    options : ClusterOptions, optional

    Raises
    ------
    InputError
        As `open_client` says.
    """
    chosen = 0 if workers is None and scheduler is None else workers
    logger = logging.getLogger(_CLIENT_LOG)
    level = logger.level
    try:
        with open_client(chosen, scheduler, options) as client:
            yield None if client is None else DaskCrew(client)
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class DaskCrew:
    """Dask's workers."""

    client: Client

    def in_order(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item], folder: Path, at_once: int | None = None
    ) -> Iterator[_Result]:
        """Yield ``function(item)`` of every item, in their order; as `Crew` says.

        Raises
        ------
        InputError
            A worker does not see the folder.
        WorkersLostError
            The scheduler is gone, or workers die again and again.
        """
        del at_once  # that is about the memory of this process
        job = _leave(function, folder.resolve())
        window = max(_LEAST, _PER_THREAD * sum(self._ask(self.client.nthreads).values()))
        waiting: deque[tuple[Any, Future]] = deque()
        try:
            for item in items:
                waiting.append((item, self._submit(job, item)))
                if len(waiting) >= window:
                    yield self._result(job, *waiting.popleft())
            while waiting:
                yield self._result(job, *waiting.popleft())
        finally:
            if waiting and self.client.status == "running":
                self.client.cancel([future for _, future in waiting])

    def _submit(self, job: Job, item: Any) -> Future:
        return self._ask(self.client.submit, run_item, job, item, pure=False)

    def _result(self, job: Job, item: Any, future: Future) -> Any:
        from distributed import KilledWorker

        for _ in range(TRIES):
            try:
                return future.result()
            except CancelledError as error:
                raise _lost(self.client) from error
            except KilledWorker:
                # A worker's death accuses every task that waited there, the innocent as well.
                future = self._submit(job, item)
        raise WorkersLostError(
            expected="workers that stay",
            got=f"several that died one after the other over item {item!r}",
            where="ingest",
            fix="see whether they have memory enough; what is done is kept, and the same command goes on from there",
        )

    def _ask(self, action: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        from distributed.client import ClosedClientError

        try:
            return action(*arguments, **named)
        except (OSError, CancelledError, ClosedClientError) as error:
            raise _lost(self.client) from error


@dataclass(frozen=True)
class Job:
    """A function that lies in a file."""

    path: str
    digest: str
    """Of the file, and its SHA-256: nothing else is loaded."""


def _leave(function: Callable[[Any], Any], folder: Path) -> Job:
    from distributed.protocol.pickle import dumps  # which takes nested functions too

    content: bytes = dumps(function)
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"job-{digest[:16]}.pickle"
    temporary = path.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}")
    # For nobody else: it may hold what opens an object store.
    temporary.touch(mode=0o600, exist_ok=False)
    temporary.write_bytes(content)
    temporary.replace(path)
    return Job(str(path), digest)


def run_item(job: Job, item: Any) -> Any:
    """Do an item's work, on a worker.

    Raises
    ------
    InputError
        The worker does not see the file with the work.
    """
    return _load(job)(item)


@lru_cache(maxsize=2)
def _load(job: Job) -> Callable[[Any], Any]:
    try:
        content = Path(job.path).read_bytes()
    except OSError as error:
        raise _unseen(job, type(error).__name__) from None
    if hashlib.sha256(content).hexdigest() != job.digest:
        raise _unseen(job, "another one")
    function: Callable[[Any], Any] = pickle.loads(content)
    return function


def _unseen(job: Job, got: str) -> InputError:
    return InputError(
        expected=f"a folder that every worker sees, with the ingest's work in it ({Path(job.path).parent})",
        got=f"{got} on worker {socket.gethostname()}",
        where="ingest on Dask",
        fix="put the survey, or the folder that --scratch names, on storage that all of them share",
    )


def _lost(client: Client) -> WorkersLostError:
    # It would complain, while it is closed, of what the error says.
    logging.getLogger(_CLIENT_LOG).setLevel(logging.CRITICAL)
    return WorkersLostError(
        expected="a Dask scheduler that stays",
        got=f"a connection that is {client.status}",
        where="ingest on Dask",
        fix="what is done is kept: start the scheduler, and the same command goes on from there",
    )
