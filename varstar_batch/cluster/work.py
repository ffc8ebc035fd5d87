"""What a worker does with a chunk: read, fold, classify, write. Plain functions: they run from a REPL as well.

A chunk is streamed in batches of bounded size; of a chunk only the catalog rows, some hundred bytes each, are ever
held whole. A chunk that is a whole partition writes the partition's catalog file; of a partition in several chunks each
writes a part, and `assemble` puts the parts together.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.arithmetic.fold import fold
from varstar_batch.arithmetic.status import DropReason
from varstar_batch.cluster.plan import Chunk, batch_observations, split
from varstar_batch.errors import PartitionError
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.classify import classify
from varstar_batch.model.engines import Engine, EngineName, Precision, open_engine
from varstar_batch.storage.bundles import read_bundle
from varstar_batch.storage.catalog_schema import (
    ROW_GROUP_ROWS,
    Provenance,
    catalog_rows,
    catalog_schema,
    sort_rows,
    write_options,
)
from varstar_batch.storage.files import Location
from varstar_batch.storage.publishing import output_key
from varstar_batch.storage.reading import partition_shape, read_batches
from varstar_batch.storage.surveys import Partition, Source

STAGES = ("read", "fold", "classify", "write")

TRIES = 4
"""Of a task, before what the system refuses is taken for a failure."""

FIRST_PAUSE = 0.5
"""Seconds between the first two tries; each further pause is twice as long."""

T = TypeVar("T")

RECORDS_KEY = b"varstar.records"
"""Key of the Parquet metadata under which a catalog file carries the records of its chunks."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What every chunk of a run has in common; small, since it travels with each.

    Attributes
    ----------
    source : Source
        The survey, without its list of partitions.
    run : Location
        The run's folder, where the bundle stands and the output goes.
    run_id, bundle_hash : str
        Identity of the run and of its model.
    engine, precision : str
        Inference engine and its arithmetic.
    chunk_memory : int
        Bytes that a chunk may take in a worker.
    threads : int
        Cores that one task may use.
    """

    source: Source
    run: Location
    run_id: str
    bundle_hash: str
    engine: EngineName = "auto"
    precision: Precision = "float32"
    chunk_memory: int
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class ChunkRecord:
    """What became of a chunk: counts that add up, and where the time went.

    Attributes
    ----------
    partition : str
        Key of the partition.
    chunk, chunks : int
        Number of the chunk, from 0, and of how many.
    rows, observations : int
        Light curves and observations read; `rows` is also the number of catalog rows written.
    bytes_in, bytes_out : int
        Size of the partition (of the first chunk only, so that sums add up) and of the file written.
    status, classes, dropped, labels : dict
        Objects by status and by class, observations by reason of their removal, and objects by "label>class" where the
        survey has labels.
    seconds : dict
        By stage: read, fold, classify, write.
    started : float
        POSIX time.
    sha256 : str
        Of the file written.
    worker : str
        Host and process.
    peak_memory : int
        Largest resident size of the process so far, bytes.
    """

    partition: str
    chunk: int
    chunks: int
    rows: int
    observations: int
    bytes_in: int
    bytes_out: int
    status: dict[str, int]
    classes: dict[str, int]
    dropped: dict[str, int]
    labels: dict[str, int]
    seconds: dict[str, float]
    started: float
    sha256: str
    worker: str
    peak_memory: int


@dataclass(frozen=True)
class Failure:
    """A partition that could not be classified, with the machine-readable kind of cause and one line for people."""

    partition: str
    kind: str
    message: str


Outcome = ChunkRecord | Failure | tuple[Chunk, ...]
"""Of a partition's first task: done, failed, or too large for one chunk and cut into these."""


def persist(function: Callable[..., T], *arguments: Any) -> T:
    """Call `function`, and again after a pause that doubles when the system failed: storage that did not answer, say.

    Raises
    ------
    OSError
        It failed `TRIES` times.
    """
    for attempt in range(1, TRIES):
        try:
            return function(*arguments)
        except OSError:
            time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
    return function(*arguments)


def start_partition(context: RunContext, partition: Partition) -> Outcome:
    """Classify a partition whole if it fits into a chunk, else return the chunks to cut it into."""
    try:
        shape = partition_shape(context.source, partition)
        chunks = split(partition, shape, context.chunk_memory)
        if len(chunks) > 1:
            return chunks
        return _classify_chunk(context, chunks[0], expected_rows=shape.rows)
    except PartitionError as error:
        return Failure(partition.key, error.kind, str(error))


def classify_chunk(context: RunContext, chunk: Chunk) -> ChunkRecord | Failure:
    """Classify one chunk of a partition and write it as a part, unless an earlier try of the run already did."""
    part = part_location(context.run, chunk.partition.key, chunk.index)
    if part.exists():
        return _read_records(part)[0]
    try:
        return _classify_chunk(context, chunk, expected_rows=None)
    except PartitionError as error:
        return Failure(chunk.partition.key, error.kind, str(error))


def assemble(context: RunContext, records: list[ChunkRecord]) -> tuple[ChunkRecord, ...] | Failure:
    """Put the parts of a partition together, in order, into its catalog file.

    Returns
    -------
    tuple of ChunkRecord
        The records as they were, the last one with the file's size, hash and the time of assembling added.
    """
    records = sorted(records, key=lambda record: record.chunk)
    key = records[0].partition
    started = time.perf_counter()
    parts = [part_location(context.run, key, record.chunk) for record in records]
    target = output_location(context, key)
    with parts[0].open_input() as stream:
        schema = _with_records(pq.read_schema(stream), records)
    rows, expected = 0, sum(record.rows for record in records)
    with _hashed_output(target) as sink, pq.ParquetWriter(sink, schema, **write_options(expected)) as writer:
        for part in parts:
            with part.open_input() as stream, pq.ParquetFile(stream) as file:
                for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS):
                    writer.write_batch(batch.replace_schema_metadata(schema.metadata))
                    rows += batch.num_rows
    if rows != expected:
        target.remove()
        return Failure(key, "rows_lost", f"{key}: expected {expected} rows from its chunks, got {rows}")
    for part in parts:
        part.remove()
    last = records[-1]
    seconds = last.seconds | {"write": last.seconds["write"] + time.perf_counter() - started}
    return (*records[:-1], replace(last, seconds=seconds, sha256=sink.hexdigest(), bytes_out=sink.size))


def recover(context: RunContext, partition: Partition) -> tuple[ChunkRecord, ...]:
    """Return the records of a partition that an earlier try of the run finished, from the file itself."""
    target = output_location(context, partition.key)
    *before, last = _read_records(target)
    content = target.read_bytes()
    return (*before, replace(last, bytes_out=len(content), sha256=hashlib.sha256(content).hexdigest()))


def output_location(context: RunContext, key: str) -> Location:
    """Return where the catalog file of a partition stands in a run."""
    return context.run / output_key(context.source.layout, key)


def part_location(run: Location, key: str, chunk: int) -> Location:
    """Return where one chunk of a partition waits to be put together with the others."""
    return run / f"parts/{key}/{chunk:06d}.parquet"


@lru_cache(maxsize=1)
def load_model(run: Location, bundle_hash: str, engine: str, precision: str, threads: int) -> tuple[Bundle, Engine]:
    """Return the bundle of a run and an engine for it, loaded once in each worker process and anew when it changes."""
    bundle = read_bundle(str(run / "model"))
    if bundle.hash != bundle_hash:
        raise PartitionError(
            kind="model",
            expected=f"the bundle {bundle_hash[:12]} that the run was planned with",
            got=bundle.hash[:12],
            where=str(run / "model"),
            fix="start the run afresh",
        )
    return bundle, open_engine(bundle, engine, precision, threads)  # type: ignore[arg-type]


def _classify_chunk(context: RunContext, chunk: Chunk, *, expected_rows: int | None) -> ChunkRecord:
    bundle, engine = load_model(context.run, context.bundle_hash, context.engine, context.precision, context.threads)
    started = time.time()
    tally = _Tally(classes=bundle.contract.classes)
    schema = catalog_schema(
        pa.type_for_alias(context.source.object_id_type),
        bundle.contract.classes,
        healpix=context.source.columns.healpix is not None,
    )
    table = pa.concat_tables([schema.empty_table(), *_rows(context, chunk, bundle, engine, tally)])
    if expected_rows is not None and table.num_rows != expected_rows:
        raise PartitionError(
            kind="rows_lost",
            expected=f"{expected_rows} rows, as its footer says",
            got=str(table.num_rows),
            where=chunk.key,
            fix="read the file with another program; it may be damaged",
        )
    with tally.timed("write"):
        table = sort_rows(table)
        _check_unique(table["object_id"], chunk)
        key = chunk.partition.key
        whole = chunk.total == 1
        target = output_location(context, key) if whole else part_location(context.run, key, chunk.index)
    record = ChunkRecord(
        partition=key,
        chunk=chunk.index,
        chunks=chunk.total,
        rows=table.num_rows,
        observations=tally.observations,
        bytes_in=chunk.partition.size if chunk.index == 0 else 0,
        bytes_out=0,
        status=_counts(table["status"]),
        classes=_counts(table["class"]),
        dropped={reason.name.lower(): int(tally.dropped[reason]) for reason in DropReason},
        labels=dict(tally.labels),
        seconds=dict(tally.seconds),
        started=started,
        sha256="",
        worker=f"{socket.gethostname()}:{os.getpid()}",
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
    with tally.timed("write"), _hashed_output(target) as sink:
        table = table.cast(_with_records(table.schema, [record]))
        pq.write_table(table, sink, row_group_size=ROW_GROUP_ROWS, **write_options(table.num_rows))
    record = replace(record, seconds=dict(tally.seconds))
    return replace(record, bytes_out=sink.size, sha256=sink.hexdigest()) if whole else record


def _with_records(schema: pa.Schema, records: list[ChunkRecord]) -> pa.Schema:
    # The file itself says how it came to be, so that a resumed run can account for it without any other memory.
    text = json.dumps([asdict(record) for record in records])
    return schema.with_metadata((schema.metadata or {}) | {RECORDS_KEY: text})


def _read_records(location: Location) -> list[ChunkRecord]:
    with location.open_input() as stream:
        metadata = pq.read_schema(stream).metadata
    return [ChunkRecord(**record) for record in json.loads(metadata[RECORDS_KEY])]


@dataclass
class _Tally:
    """What is counted while a chunk streams through."""

    classes: tuple[str, ...]
    observations: int = 0
    dropped: np.ndarray = field(default_factory=lambda: np.zeros(len(DropReason), np.int64))
    labels: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def count_labels(self, labels: pa.ChunkedArray, classes: pa.ChunkedArray) -> None:
        pairs = pc.binary_join_element_wise(
            labels.cast(pa.string()), classes, ">", null_handling="replace", null_replacement=""
        )
        self.labels.update(_counts(pairs.filter(pc.is_valid(labels))))


def _rows(context: RunContext, chunk: Chunk, bundle: Bundle, engine: Engine, tally: _Tally) -> Iterator[pa.Table]:
    contract = bundle.contract
    provenance = Provenance(classes=contract.classes, model_version=contract.model_version, run_id=context.run_id)
    limits = context.source.limits
    batches = read_batches(context.source, chunk.partition, chunk.row_groups, batch_observations(context.chunk_memory))
    for batch in _timed_each(batches, tally):
        with tally.timed("fold"):
            folded = fold(batch.light_curves, batch.period, contract.preprocessing, limits, n_threads=context.threads)
        with tally.timed("classify"):
            result = classify(bundle, engine, folded)
        with tally.timed("write"):
            rows = catalog_rows(batch, folded, result, provenance)
        tally.observations += int(folded.n_obs.sum())
        tally.dropped += folded.dropped.sum(axis=0)
        if "class" in batch.objects.column_names:
            tally.count_labels(batch.objects["class"], rows["class"])
        yield rows


def _timed_each(batches: Iterator[Any], tally: _Tally) -> Iterator[Any]:
    while True:
        with tally.timed("read"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _check_unique(object_id: pa.ChunkedArray, chunk: Chunk) -> None:
    counts = pc.value_counts(object_id)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(repeated):
        examples = ", ".join(str(value) for value in repeated[:3].to_pylist())
        raise PartitionError(
            kind="duplicate_object_id",
            expected="every object_id once",
            got=f"{len(repeated)} repeated, for example {examples}",
            where=chunk.key,
            fix="remove the repeated objects from the survey, or give bands of one star identifiers of their own",
        )


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {
        str(entry["values"]): int(entry["counts"])
        for entry in pc.value_counts(values).to_pylist()
        if entry["values"] is not None
    }


class _HashingSink:
    """A writable stream that hashes and counts what passes through."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self._digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        self.size += len(content)
        self._write(content)
        return len(content)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        self.closed = True


@contextmanager
def _hashed_output(target: Location) -> Iterator[_HashingSink]:
    with target.atomic_output() as stream:
        yield _HashingSink(stream.write)
