"""The executor: a thin interpreter of the plan. One future per chunk, a bounded window, results as they come."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from varstar_batch.cluster.plan import Chunk
from varstar_batch.cluster.work import (
    ChunkRecord,
    Failure,
    RunContext,
    assemble,
    classify_chunk,
    persist,
    recover,
    start_partition,
)
from varstar_batch.errors import one_line
from varstar_batch.storage.surveys import Partition

if TYPE_CHECKING:
    from distributed import Client, Future

WINDOW_PER_THREAD = 3
"""Tasks in flight for each worker thread: one running, the others at hand, and no more on the scheduler."""

PartitionResult = tuple[ChunkRecord, ...] | Failure
Task = tuple[str, Callable[..., Any], tuple[Any, ...]]


def execute(
    context: RunContext,
    partitions: Iterable[Partition],
    done: Collection[str],
    client: Client | None,
    on_rows: Callable[[int], None],
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
    client : Client or None
        A Dask client, or None to work in this process.
    on_rows : callable
        Called with the number of light curves of every chunk that is done.

    Yields
    ------
    tuple of ChunkRecord, or Failure
        One for each partition, whatever happens to the others.
    """
    run = _run_in_process if client is None else _dask_runner(client)
    progress = _Progress(context)
    first = (
        (partition.key, recover if partition.key in done else start_partition, (context, partition))
        for partition in partitions
    )
    for task, outcome in run(progress.tasks(first)):
        yield from progress.take(task, outcome, on_rows)


class _Progress:
    """Which tasks follow from which outcome: chunks when a partition was cut, its assembly after the last of them."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.next: deque[Task] = deque()
        self.awaited: dict[str, int] = {}
        self.records: dict[str, list[ChunkRecord]] = defaultdict(list)
        self.failed: dict[str, Failure] = {}

    def tasks(self, first: Iterator[Task]) -> Iterator[Task | None]:
        """Yield follow-up tasks before new partitions, and None when there is nothing to do right now."""
        while True:
            yield self.next.popleft() if self.next else next(first, None)

    def take(self, task: Task, outcome: Any, on_rows: Callable[[int], None]) -> Iterator[PartitionResult]:
        _, function, arguments = task
        if function is start_partition:
            key = arguments[1].key
            if isinstance(outcome, ChunkRecord):
                on_rows(outcome.rows)
                yield (outcome,)
            elif isinstance(outcome, Failure):
                yield outcome
            else:
                self.awaited[key] = len(outcome)
                self.next.extend((chunk.key, classify_chunk, (self.context, chunk)) for chunk in outcome)
        elif function is classify_chunk:
            yield from self._take_chunk(arguments[1], outcome, on_rows)
        else:
            if function is recover and not isinstance(outcome, Failure):
                on_rows(sum(record.rows for record in outcome))
            yield outcome

    def _take_chunk(
        self, chunk: Chunk, outcome: ChunkRecord | Failure, on_rows: Callable[[int], None]
    ) -> Iterator[PartitionResult]:
        key = chunk.partition.key
        self.awaited[key] -= 1
        if isinstance(outcome, Failure):
            self.failed.setdefault(key, outcome)
        else:
            self.records[key].append(outcome)
            on_rows(outcome.rows)
        if self.awaited[key]:
            return
        records = self.records.pop(key, [])
        if key in self.failed:
            yield self.failed.pop(key)
        else:
            self.next.append((key, assemble, (self.context, records)))


def _run_in_process(tasks: Iterator[Task | None]) -> Iterator[tuple[Task, Any]]:
    for task in iter(lambda: next(tasks), None):
        name, function, arguments = task
        try:
            outcome = persist(function, *arguments)
        except OSError as error:
            outcome = _failure(arguments, name, error)
        yield task, outcome


def _dask_runner(client: Client) -> Callable[[Iterator[Task | None]], Iterator[tuple[Task, Any]]]:
    def run(tasks: Iterator[Task | None]) -> Iterator[tuple[Task, Any]]:
        from distributed import as_completed

        window = WINDOW_PER_THREAD * max(1, sum(client.nthreads().values()))
        pending: dict[Future, Task] = {}
        finished = as_completed(loop=client.loop)
        while True:
            while len(pending) < window and (task := next(tasks)) is not None:
                future = _submit(client, task)
                pending[future] = task
                finished.add(future)
            if not pending:
                return
            future = next(finished)
            task = pending.pop(future)
            yield task, _outcome(future, task)

    return run


def _submit(client: Client, task: Task) -> Future:
    name, function, arguments = task
    run_id = arguments[0].run_id
    return client.submit(persist, function, *arguments, key=f"{function.__name__}-{run_id}-{name}", pure=False)


def _outcome(future: Future, task: Task) -> Any:
    name, _, arguments = task
    error = future.exception() if future.status == "error" else None
    if error is not None:
        return _failure(arguments, name, error)
    return future.result()


def _failure(arguments: tuple[Any, ...], name: str, error: BaseException) -> Failure:
    subject = arguments[1]
    if isinstance(subject, list):
        key = subject[0].partition
    else:
        key = subject.key if isinstance(subject, Partition) else subject.partition.key
    name_of = type(error).__name__
    kind = "storage" if isinstance(error, OSError) else "killed_worker" if name_of == "KilledWorker" else "error"
    return Failure(key, kind, f"{name}: {type(error).__name__}: {one_line(error)}")
