"""Work whose results come in order: in threads of this process, or by whoever else is handed in for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

_RESULTS_AHEAD = 2
"""For each thread, done and waiting for their turn."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Crew(Protocol):
    """Who does the work of an ingest. An item may be done twice, also at the same time: the work has to bear that."""

    def in_order(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item], folder: Path, at_once: int | None = None
    ) -> Iterator[_Result]:
        """Yield ``function(item)`` of every item, in their order.

        Parameters
        ----------
        function : callable
            May raise: what it raises ends the iteration.
        items : iterable
        folder : Path
            That all who work can see; the function may be left there for them.
        at_once : int or None
            Items that have memory in this process at the same time, at least 1; None for as many as there are hands.
        """
        ...


@dataclass(frozen=True)
class Threads:
    """Threads of this process: Arrow, which does the work, lets go of the interpreter meanwhile."""

    workers: int
    """At least 1."""

    def in_order(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item], folder: Path, at_once: int | None = None
    ) -> Iterator[_Result]:
        """Yield ``function(item)`` of every item, in their order; as `Crew` says."""
        del folder  # threads see all that this process does
        return in_order(function, items, self.workers if at_once is None else min(at_once, self.workers))


def in_order(function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int) -> Iterator[_Result]:
    """Yield ``function(item)`` of every item, in their order; what it raises ends the iteration.

    `workers` are threads, at least 1; twice as many results are in memory at most.
    """
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= _RESULTS_AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
