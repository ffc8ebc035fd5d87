"""The executor: a thin interpreter of the plan. Tasks follow from outcomes; who does them is a runner's business."""

from __future__ import annotations

import functools
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any, ParamSpec, Protocol, TypeVar

from varstar_batch.errors import ExitCode, PartitionError, VarstarError, one_line
from varstar_batch.files.object_store import kind_of, storage_errors
from varstar_batch.runs.chunks import RunContext
from varstar_batch.runs.plan import Chunk
from varstar_batch.runs.records import ChunkRecord, count_failure, count_retry
from varstar_batch.runs.tasks import assemble, carry_over, classify_chunk, recover, start_partition
from varstar_batch.survey.open import Failure, Partition

TRIES = 4
"""Of a task, before what the system refuses is taken for a failure."""

FIRST_PAUSE = 0.5
"""Seconds between the first two tries; each further pause is twice as long."""

P = ParamSpec("P")
T = TypeVar("T")

PartitionResult = tuple[ChunkRecord, ...] | Failure


class StorageLostError(VarstarError):
    """The storage of survey or catalog failed for longer than it was waited for: the run can be resumed."""

    exit_code = ExitCode.FAILURES


def attempt(function: Callable[..., Any], partition: str, *arguments: Any, first_pause: float = FIRST_PAUSE) -> Any:
    """Do one task of a partition; what is wrong with the partition, or with the storage at last, is its outcome.

    Parameters
    ----------
    function : callable
        One of `varstar_batch.runs.tasks` or `varstar_batch.runs.gpu_tasks`.
    partition : str
        Key of the partition.
    *arguments
        What it takes.
    first_pause : float
        Seconds between the first two tries; each further pause is twice as long.

    Returns
    -------
    Any
        What the function returned, or a `Failure`.
    """
    for retries in range(TRIES):
        try:
            with storage_errors():
                outcome = function(*arguments)
        except PartitionError as error:
            count_failure(error.kind)
            return Failure(partition, error.kind, str(error))
        except OSError as error:
            kind = kind_of(error)
            if retries == TRIES - 1 or kind != "storage":
                count_failure(kind)
                return Failure(partition, kind, f"{partition}: {type(error).__name__}: {one_line(error)}")
            count_retry()
            time.sleep(first_pause * 2**retries)
        else:
            return replace(outcome, retries=retries) if isinstance(outcome, ChunkRecord) and retries else outcome
    raise AssertionError("unreachable: the last try returns")


def steadfast(function: Callable[P, T]) -> Callable[P, T]:
    """Let a stage of a run, which may be repeated without harm, outlast storage that does not answer for a while.

    Raises
    ------
    StorageLostError
        In one line, when it failed `TRIES` times, or for a reason that waiting does not mend.
    """

    @functools.wraps(function)
    def stage(*args: P.args, **kwargs: P.kwargs) -> T:
        retries = 0
        while True:
            try:
                with storage_errors():
                    return function(*args, **kwargs)
            except OSError as error:
                kind = kind_of(error)
                retries += 1
                if retries == TRIES or kind != "storage" or isinstance(error, FileNotFoundError):
                    raise StorageLostError(
                        expected="storage that reads and writes",
                        got=f"{kind}: {one_line(error) or type(error).__name__}",
                        where=function.__name__,
                        fix="nothing is lost: mend it, and the same command goes on from there",
                    ) from error
            time.sleep(FIRST_PAUSE * 2 ** (retries - 1))

    return stage


@dataclass(frozen=True, eq=False)
class Task:
    """A call to be made somewhere."""

    name: str
    """Key of the partition or chunk, as it stands in task keys and errors."""
    partition: str
    """Key of the partition."""
    function: Callable[..., Any]
    """Callable. One of `varstar_batch.runs.tasks`."""
    arguments: tuple[Any, ...]
    """What it takes."""


class Runner(Protocol):
    """Who does the tasks of a run."""

    def run(self, tasks: Iterator[Task | None]) -> Iterator[tuple[Task, Any]]:
        """Yield each task with its outcome, in the order in which they finish; None: none is due right now."""


def do_all(runner: Runner, tasks: Iterable[Task]) -> Iterator[Any]:
    """Have tasks done from which no other follows, and yield their outcomes."""
    for _, outcome in runner.run(chain(tasks, repeat(None))):
        yield outcome


class InProcess:
    """Does one task after the other, in this process; `first_pause` is as `attempt` has it."""

    def __init__(self, first_pause: float = FIRST_PAUSE) -> None:
        self.first_pause = first_pause

    def run(self, tasks: Iterator[Task | None]) -> Iterator[tuple[Task, Any]]:
        """Yield each task with its outcome."""
        for task in iter(lambda: next(tasks), None):
            yield task, attempt(task.function, task.partition, *task.arguments, first_pause=self.first_pause)


def execute(
    context: RunContext,
    partitions: Iterable[Partition],
    done: Collection[str],
    runner: Runner,
    on_rows: Callable[[int], None],
    *,
    carried: Mapping[str, str] | None = None,
) -> Iterator[PartitionResult]:
    """Classify partitions and yield what became of each, in the order in which they finish.

    Parameters
    ----------
    context : RunContext
        What the chunks have in common.
    partitions : iterable of Partition
        All of the survey's.
    done : collection of str
        Keys of those that are on storage already: they are only accounted for.
    runner : Runner
        Who does the tasks.
    on_rows : callable
        Called with the number of light curves of every chunk that is done.
    carried : mapping of str to str, optional
        SHA-256 by key of the partitions that are taken over from the run that this one follows.

    Yields
    ------
    tuple of ChunkRecord, or Failure
        One for each partition, whatever happens to the others.
    """
    progress = _Progress(context)
    first = (_first_task(context, partition, done, carried or {}) for partition in partitions)
    for task, outcome in runner.run(progress.tasks(first)):
        yield from progress.take(task, outcome, on_rows)


def _first_task(context: RunContext, partition: Partition, done: Collection[str], carried: Mapping[str, str]) -> Task:
    key = partition.key
    if key in done:
        return Task(key, key, recover, (context, partition))
    if key in carried:
        return Task(key, key, carry_over, (context, partition, carried[key]))
    return Task(key, key, start_partition, (context, partition))


class _Progress:
    """Which tasks follow from which outcome: chunks when a partition was cut, its assembly after the last of them."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.next: deque[Task] = deque()
        self.chunks: dict[str, tuple[Chunk, ...]] = {}
        self.awaited: dict[str, int] = {}
        self.records: dict[str, list[ChunkRecord]] = defaultdict(list)
        self.failed: dict[str, Failure] = {}

    def tasks(self, first: Iterator[Task]) -> Iterator[Task | None]:
        """Yield follow-up tasks before new partitions, and None when there is nothing to do right now."""
        while True:
            yield self.next.popleft() if self.next else next(first, None)

    def take(self, task: Task, outcome: Any, on_rows: Callable[[int], None]) -> Iterator[PartitionResult]:
        """Take an outcome and yield what became of the partition if that is known now."""
        key = task.partition
        if task.function is classify_chunk:
            yield from self._take_chunk(task, outcome, on_rows)
        elif isinstance(outcome, Failure):
            if outcome.kind == "not_carried":
                self.next.append(Task(key, key, start_partition, (self.context, task.arguments[1])))
            else:
                yield outcome
        elif task.function is start_partition:
            yield from self._take_start(key, outcome, on_rows)
        else:
            if task.function is not assemble:
                on_rows(sum(record.rows for record in outcome))
            yield outcome

    def _take_start(
        self, key: str, outcome: ChunkRecord | tuple[Chunk, ...], on_rows: Callable[[int], None]
    ) -> Iterator[PartitionResult]:
        if isinstance(outcome, ChunkRecord):
            on_rows(outcome.rows)
            yield (outcome,)
            return
        self.chunks[key] = outcome
        self.awaited[key] = len(outcome)
        self.next.extend(Task(chunk.key, key, classify_chunk, (self.context, chunk)) for chunk in outcome)

    def _take_chunk(
        self, task: Task, outcome: ChunkRecord | Failure, on_rows: Callable[[int], None]
    ) -> Iterator[PartitionResult]:
        key = task.partition
        self.awaited[key] -= 1
        if isinstance(outcome, Failure):
            self.failed.setdefault(key, outcome)
        else:
            self.records[key].append(outcome)
            on_rows(outcome.rows)
        if self.awaited[key]:
            return
        chunks, records = self.chunks.pop(key), self.records.pop(key, [])
        del self.awaited[key]
        if key in self.failed:
            yield self.failed.pop(key)
        elif len(chunks) == 1:
            yield tuple(records)
        else:
            self.next.append(Task(key, key, assemble, (self.context, chunks, records)))
