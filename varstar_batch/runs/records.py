"""What becomes of chunks and partitions: records that add up, and what a worker has done, counted for Prometheus.

Dask serves the counters with its own at ``/metrics`` of each worker. They are of a process, since it began, over all
runs; by nothing but states, stages and kinds, of which there are few. Of what a run became as a whole its record says
more.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.catalog.run_files.tables import COUNTS, add_counts
from varstar_batch.files.parquet import as_table
from varstar_batch.light_curves.status import STATUS_LABELS
from varstar_batch.runs.plan import Chunk
from varstar_batch.survey.open import Failure

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

STAGES = ("read", "fold", "classify", "write")

SYSTEMIC = frozenset({"storage", "disk_full", "credentials"})
"""Kinds that say nothing of the partition: the system failed, and the same partition may do later."""

TASKS_SCHEMA = pa.schema(
    [
        ("partition", pa.string()),
        ("chunk", pa.int32()),
        ("chunks", pa.int32()),
        ("rows", pa.int64()),
        ("observations", pa.int64()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("status", COUNTS),
        ("classes", COUNTS),
        ("periods", COUNTS),
        ("dropped", COUNTS),
        ("labels", COUNTS),
        ("left_out", COUNTS),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("started", pa.float64()),
        ("sha256", pa.string()),
        ("worker", pa.string()),
        ("classifier", pa.string()),
        ("peak_memory", pa.int64()),
        ("retries", pa.int32()),
        ("run_id", pa.string()),
        ("kept", pa.string()),
    ]
)

BATCH = 1_000
"""Records that wait to become columns together."""

_MAKING_COUNTERS = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class ChunkRecord:
    """What became of a chunk: counts that add up, and where the time went."""

    partition: str
    """Key of the partition."""
    chunk: int
    chunks: int
    """Number of the chunk, from 0, and of how many."""
    rows: int
    observations: int
    """Light curves and observations read; `rows` is also the number of catalog rows written."""
    bytes_in: int
    bytes_out: int
    """Size of the partition (of the first chunk only, so that sums add up) and of the file written."""
    status: dict[str, int]
    classes: dict[str, int]
    periods: dict[str, int]
    dropped: dict[str, int]
    labels: dict[str, int]
    left_out: dict[str, int]
    """Objects by status, by class and by what their periods are (`period_flag`), observations by reason of their
    removal, objects by "class of the survey's label>class found", and objects by labels that name no class."""
    seconds: dict[str, float]
    """By stage: read, fold, classify, write."""
    started: float
    """POSIX time."""
    sha256: str
    """Of the file written."""
    worker: str
    classifier: str
    """Host and process that folded and that classified; the same unless GPU workers take part."""
    peak_memory: int
    """Largest resident size of the process so far, bytes."""
    input_sha256: str = ""
    """Of the partition in the survey, in its first chunk; empty on an object store, whose versions tell the content."""
    retries: int = 0
    """Tries that failed before this one: storage that did not answer, workers that died."""
    run_id: str
    """Run that classified the chunk; another run than the one it is in where it was carried over."""
    kept: str = ""
    """Kind and message of the failure because of which these are the rows of an earlier run."""


Outcome = ChunkRecord | Failure | tuple[Chunk, ...]
"""Of a partition's first task: done, failed, or too large for one chunk and cut into these."""


class Ledger:
    """Takes records as they come."""

    def __init__(self) -> None:
        self._waiting: list[ChunkRecord] = []
        self._tables: list[pa.Table] = [TASKS_SCHEMA.empty_table()]

    def add(self, records: Iterable[ChunkRecord]) -> None:
        """Take the records of a partition."""
        self._waiting.extend(records)
        if len(self._waiting) >= BATCH:
            self._store()

    def table(self) -> pa.Table:
        """Return all of them, `TASKS_SCHEMA`, by partition and chunk."""
        self._store()
        return pa.concat_tables(self._tables).sort_by([("partition", "ascending"), ("chunk", "ascending")])

    def _store(self) -> None:
        self._tables.append(as_table((vars(record) for record in self._waiting), TASKS_SCHEMA))
        self._waiting.clear()


def total(tasks: pa.Table, name: str) -> Any:
    """Return the sum of a column of numbers, 0 for none."""
    return pc.sum(tasks[name], min_count=0).as_py()


def counts(tasks: pa.Table, name: str) -> dict[str, Any]:
    """Return the sums of a column of maps by their keys, the largest first, then by name."""
    maps = tasks[name].combine_chunks()
    pairs = pa.table({"key": maps.keys, "value": maps.items})
    sums = pairs.group_by("key").aggregate([("value", "sum")])
    sums = sums.sort_by([("value_sum", "descending"), ("key", "ascending")])
    return dict(zip(sums["key"].to_pylist(), sums["value_sum"].to_pylist(), strict=True))


def rows_by_partition(tasks: pa.Table) -> dict[str, int]:
    """Return the rows of each partition, by its key."""
    sums = tasks.group_by("partition").aggregate([("rows", "sum")])
    return dict(zip(sums["partition"].to_pylist(), sums["rows_sum"].to_pylist(), strict=True))


def by_partition(tasks: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``partitions.parquet`` from tasks that are sorted by partition and chunk."""
    names = ["partition", "rows", "bytes_out", "sha256", "status", "classes"]
    batches = tasks.select(names).to_batches(max_chunksize=BATCH)
    entries = (entry for batch in batches for entry in batch.to_pylist())
    for key, chunks in groupby(entries, itemgetter("partition")):
        group = list(chunks)
        yield {
            "partition": key,
            "rows": sum(entry["rows"] for entry in group),
            "bytes": sum(entry["bytes_out"] for entry in group),
            "sha256": group[-1]["sha256"],
            "status": add_counts(dict(entry["status"]) for entry in group),
            "classes": add_counts(dict(entry["classes"]) for entry in group),
        }


class Counters(NamedTuple):
    """One for each metric; their descriptions stand where they are made."""

    gate_values: Gauge
    gate_limits: Gauge
    runs: Counter

    objects: Counter
    observations: Counter
    survey_bytes: Counter
    chunks: Counter
    partitions: Counter
    seconds: Counter
    retries: Counter
    failures: Counter


def count_chunk(record: ChunkRecord) -> None:
    """Count a chunk that this process has written."""
    counters = _served()
    if counters is None:
        return
    counters.chunks.inc()
    counters.observations.inc(record.observations)
    counters.survey_bytes.inc(record.bytes_in)
    for status, objects in record.status.items():
        counters.objects.labels(status).inc(objects)
    for stage, seconds in record.seconds.items():
        counters.seconds.labels(stage).inc(seconds)
    if record.chunks == 1:
        count_partition("classified")


def count_partition(outcome: str) -> None:
    """Count a partition that is done: ``"classified"``, or ``"carried"`` over from the run before."""
    counters = _served()
    if counters is not None:
        counters.partitions.labels(outcome).inc()


def count_retry() -> None:
    """Count a try that storage refused and that is made again."""
    counters = _served()
    if counters is not None:
        counters.retries.inc()


def count_run(_context: object, gate: Sequence[Mapping[str, Any]], held: bool) -> None:
    """Count a finished run, and show what its gate measured against which limits; ``classified`` has no key."""
    counters = _served()
    if counters is None:
        return
    counters.runs.labels("held" if held else "published").inc()
    for check in gate:
        name = check["limit_name"] or "classified"
        counters.gate_values.labels(name).set(check["value"])
        counters.gate_limits.labels(name).set(check["limit"])


def count_failure(kind: str) -> None:
    """Count a partition, or a chunk of one, that failed for good; one that killed its worker is counted by Dask."""
    counters = _served()
    if counters is not None:
        counters.failures.labels(kind).inc()


def register() -> None:
    """Make the counters, which begin at 0, in a process that serves metrics: rates count from there."""
    _served()


def _served() -> Counters | None:
    # Where metrics are served, somebody has imported this; elsewhere it would cost 50 ms to count for nobody.
    if "prometheus_client" not in sys.modules:
        return None
    with _MAKING_COUNTERS:  # a second set would be refused, and with it the chunk of another thread of this worker
        return _counters()


@lru_cache(maxsize=1)
def _counters() -> Counters:
    from prometheus_client import Counter, Gauge

    made = Counters(
        gate_values=Gauge("varstar_gate_value", "What the gate of the last run measured, by limit", ["limit"]),
        gate_limits=Gauge("varstar_gate_limit", "Limit of that measure", ["limit"]),
        runs=Counter("varstar_runs", "Runs that were finished: published, or held", ["outcome"]),
        objects=Counter("varstar_objects", "Light curves in catalog rows written, by status", ["status"]),
        observations=Counter("varstar_observations", "Observations of these light curves"),
        survey_bytes=Counter("varstar_survey_bytes", "Size of the partitions of these light curves in the survey"),
        chunks=Counter("varstar_chunks", "Chunks written"),
        partitions=Counter("varstar_partitions", "Partitions done: classified, or carried over", ["outcome"]),
        seconds=Counter("varstar_stage_seconds", "Seconds that chunks written took, by stage", ["stage"]),
        retries=Counter("varstar_retries", "Tries that storage refused and that were made again"),
        failures=Counter("varstar_failures", "Partitions, or chunks, that failed for good, by kind", ["kind"]),
    )
    # What begins at 0 is missed by no rate; kinds of failures are told as they come.
    for status in STATUS_LABELS:
        made.objects.labels(status)
    for outcome in ("classified", "carried"):
        made.partitions.labels(outcome)
    for outcome in ("published", "held"):
        made.runs.labels(outcome)
    for stage in STAGES:
        made.seconds.labels(stage)
    return made
