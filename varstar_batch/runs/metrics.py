"""What a worker has done, counted for Prometheus: Dask serves it with its own at ``/metrics`` of each worker.

Counters are of a process, since it began, over all runs; by nothing but states, stages and kinds, of which there are
few. Of what a run became as a whole its record says more.
"""

from __future__ import annotations

import sys
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from varstar_batch.light_curves.status import STATUS_LABELS
from varstar_batch.runs.records import STAGES, ChunkRecord

if TYPE_CHECKING:
    from prometheus_client import Counter

_MAKING = threading.Lock()


class Counters(NamedTuple):
    """One for each metric; their descriptions stand where they are made."""

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
    with _MAKING:  # a second set would be refused, and with it the chunk of another thread of this worker
        return _counters()


@lru_cache(maxsize=1)
def _counters() -> Counters:
    from prometheus_client import Counter

    made = Counters(
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
    for stage in STAGES:
        made.seconds.labels(stage)
    return made
