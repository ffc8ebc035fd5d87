"""An ingest's work as tasks on Dask's workers, which see the folders that it reads and writes.

What a task does is left in a file in the ingest's workspace, once for all items, and each worker loads it once: a table
of a million objects goes neither through the scheduler nor into its memory, and a worker that dies takes nothing along.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from varstar_batch.cluster.client import default_workers, open_client
from varstar_batch.cluster.future_loop import Flight, FutureLoop, is_killed_worker
from varstar_batch.errors import InputError, WorkersLostError
from varstar_batch.parallel import Crew, Threads
from varstar_batch.requests import ClusterOptions

if TYPE_CHECKING:
    from distributed import Client

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Items in flight.
_PER_THREAD = 2
_LEAST = 4


@contextmanager
def open_crew(workers: int | None, scheduler: str | None, options: ClusterOptions | None = None) -> Iterator[Crew]:
    """Yield who is to ingest: threads of this process, unless workers or a scheduler are asked for.

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
    with open_client(0 if workers is None and scheduler is None else workers, scheduler, options) as client:
        yield Threads(default_workers()) if client is None else DaskCrew(client)


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
        loop = _ItemLoop(self.client, _leave(function, folder.resolve()))
        results: dict[int, _Result] = {}
        yielded = 0

        def numbered() -> Iterator[tuple[int, _Item] | None]:
            for number, item in enumerate(items):
                while number - yielded >= loop.limit:  # so many results wait for one before them
                    yield None
                yield number, item
            while True:
                yield None

        for (number, _), result in loop.run(numbered()):
            results[number] = result
            while yielded in results:
                yield results.pop(yielded)
                yielded += 1


class _ItemLoop(FutureLoop[tuple[int, Any]]):
    """Does numbered items."""

    def __init__(self, client: Client, job: Job) -> None:
        super().__init__(client)
        self.job = job

    def look(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        self.limit = max(_LEAST, _PER_THREAD * sum(each["nthreads"] for each in workers.values()))

    def submit(self, task: tuple[int, Any], tries: int) -> Flight[tuple[int, Any]]:
        future = self.client.submit(run_item, self.job, task[1], pure=False)
        return Flight(task, tries, (future,), frozenset())

    def failed(self, task: tuple[int, Any], error: BaseException) -> NoReturn:
        if not is_killed_worker(error):
            raise error
        raise WorkersLostError(
            expected="workers that stay",
            got=f"several that died one after the other over item {task[1]!r}",
            where="ingest",
            fix="see whether they have memory enough; what is done is kept, and the same command goes on from there",
        )


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
