"""The way of one chunk through a worker: read, fold, classify, write; counted and timed on the way.

What every chunk of a run has in common travels with it; the model stays in a worker's process between chunks.
"""

from __future__ import annotations

import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.catalog.columns.schema import (
    ROW_GROUP_ROWS,
    Provenance,
    catalog_schema,
    sort_rows,
    write_options,
)
from varstar_batch.catalog.run_files.root import output_key
from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.digests import digest_of
from varstar_batch.files.location import Location
from varstar_batch.files.parquet import one_chunk
from varstar_batch.light_curves.fold import Folded
from varstar_batch.light_curves.status import DropReason
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.engines.engine import Engine, EngineName, Precision
from varstar_batch.model.engines.open import open_engine
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.plan import Chunk
from varstar_batch.runs.questioned import ClassifiedBatch, FoldedBatch, fold_questioned, rows_of
from varstar_batch.runs.records import STAGES, ChunkRecord, count_chunk
from varstar_batch.runs.written import new_catalog_file, read_record, read_written, with_record, write_measured
from varstar_batch.survey.open import Source
from varstar_batch.survey.read import SurveyBatch, batch_observations, read_batches

MOST_LABELS = 200
"""Different labels without a class that a chunk's record names: a column of free texts has one for each object."""

_PROC_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What every chunk of a run has in common; small, since it travels with each."""

    source: Source
    """The survey, without its list of partitions."""
    run: Location
    """The run's folder, where the bundle stands and the output goes."""
    work: Location
    """Folder beside the runs for what is needed only until the run is finished."""
    run_id: str
    bundle_hash: str
    """Identity of the run and of its model."""
    config: RunConfig
    """Engine, its arithmetic, and the memory of a chunk in a worker."""
    threads: int = 1
    """Cores that one task may use."""
    carried_from: Location | None = None
    """Folder of the run that unchanged partitions are carried over from."""

    def output(self, key: str) -> Location:
        """Return where the catalog file of the partition `key` stands."""
        return self.run / output_key(self.source.layout, key)

    def target(self, chunk: Chunk) -> Location:
        """Return where a chunk is written: the partition's own file, or a part that waits for the others.

        The part's name says which row groups it holds, so that a run that is resumed with another memory takes none for
        what it is not.
        """
        if chunk.total == 1:
            return self.output(chunk.partition.key)
        groups = chunk.row_groups or (0,)
        rows = "" if chunk.rows is None else f"-rows{chunk.rows[0]}-{chunk.rows[1]}"
        return self.work / f"parts/{chunk.partition.key}/groups{groups[0]}-{groups[-1]}{rows}.parquet"


def load_bundle(context: RunContext) -> Bundle:
    """Return the bundle of a run, read once in each worker process and anew when it changes."""
    return _bundle(context.run, context.bundle_hash)


def load_engine(context: RunContext) -> Engine:
    """Return an engine for the bundle of a run, opened once in each worker process and anew when it changes."""
    return _engine(context.run, context.bundle_hash, context.config.engine, context.config.precision, context.threads)


def this_worker() -> str:
    """Return host and process, as records name them."""
    return f"{socket.gethostname()}:{os.getpid()}"


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    # A process inherits ru_maxrss from the one that started it, which may be much larger; VmHWM is its own.
    if _PROC_STATUS.exists():
        for line in _PROC_STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@lru_cache(maxsize=1)
def _bundle(run: Location, bundle_hash: str) -> Bundle:
    folder = run / "model"
    try:
        bundle = read_bundle(str(folder))
    except InputError as error:
        # A store that does not answer is no bad bundle: another try may do.
        cause = error.__context__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError | PermissionError):
            raise cause from None
        raise
    if bundle.hash != bundle_hash:
        raise PartitionError(
            kind="model",
            expected=f"the bundle {bundle_hash[:12]} that the run was planned with",
            got=bundle.hash[:12],
            where=str(folder),
            fix="start the run afresh",
        )
    return bundle


@lru_cache(maxsize=1)
def _engine(run: Location, bundle_hash: str, engine: EngineName, precision: Precision, threads: int) -> Engine:
    return open_engine(_bundle(run, bundle_hash), engine, precision, threads)


@dataclass
class Tally:
    """What is counted while a chunk streams through; it travels with a chunk that changes workers."""

    started: float = field(default_factory=time.time)
    observations: int = 0
    dropped: np.ndarray = field(default_factory=lambda: np.zeros(len(DropReason), np.int64))
    labels: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    folder: str = field(default_factory=this_worker)
    classifier: str = ""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def count_folded(self, folded: Folded) -> None:
        """Count observations."""
        self.observations += int(folded.n_obs.sum())
        self.dropped += folded.dropped.sum(axis=0)

    def count_labels(self, rows: pa.Table) -> None:
        """Count catalog rows by the class that the survey's label means and the class found; what means none apart."""
        means = pc.is_valid(rows["label_class"])
        pairs = pc.binary_join_element_wise(
            rows["label_class"], rows["class"], ">", null_handling="replace", null_replacement=""
        )
        self.labels.update(_counts(pairs.filter(means)))
        self.left_out.update(_counts(rows["label"].filter(pc.invert(means))))


def folded_batches(context: RunContext, chunk: Chunk, tally: Tally) -> Iterator[FoldedBatch]:
    """Read and fold a chunk, one bounded batch after the other, and question its periods."""
    bundle = load_bundle(context)
    batches = read_batches(
        context.source, chunk.partition, chunk.row_groups, batch_observations(context.config.chunk_memory)
    )
    for batch in _timed_each(_within(batches, chunk.rows), tally):
        with tally.timed("fold"):
            folded = fold_questioned(batch, bundle, context.source.limits, context.threads)
        tally.count_folded(folded.folded)
        yield folded


def batch_rows(context: RunContext, classified: ClassifiedBatch, tally: Tally) -> pa.Table:
    """Return the catalog rows of a classified batch."""
    contract = load_bundle(context).contract
    provenance = Provenance(
        outputs=contract.outputs,
        model_version=contract.model_version,
        run_id=context.run_id,
        labels=context.config.labels,
    )
    with tally.timed("write"):
        rows = rows_of(classified, provenance, use_best_period=context.config.use_best_period)
    tally.count_labels(rows)
    return rows


def write_chunk(context: RunContext, chunk: Chunk, tables: Iterable[pa.Table], tally: Tally) -> ChunkRecord:
    """Check a chunk's rows and write them, as the partition's file or as a part of it.

    Raises
    ------
    PartitionError
        Kind ``"rows_lost"`` or ``"duplicate_object_id"``.
    """
    schema = catalog_schema(
        pa.type_for_alias(context.source.object_id_type),
        load_bundle(context).contract.classes,
        healpix=context.source.columns.healpix is not None,
    )
    table = pa.concat_tables([schema.empty_table(), *tables])
    if chunk.expected_rows is not None and table.num_rows != chunk.expected_rows:
        raise PartitionError(
            kind="rows_lost",
            expected=f"{chunk.expected_rows} rows, as its footer says",
            got=str(table.num_rows),
            where=chunk.key,
            fix="read the file with another program; it may be damaged",
        )
    with tally.timed("write"):
        table = sort_rows(table)
        check_unique(table["object_id"], chunk.key)
    record = _record(context, chunk, table, tally)
    options = write_options(table.num_rows)
    target = context.target(chunk)
    try:
        with tally.timed("write"):
            if chunk.total > 1:
                table = table.cast(with_record(table.schema, record, measured=True))
                with target.atomic_output(exclusive=True) as part:
                    pq.write_table(table, part, row_group_size=ROW_GROUP_ROWS, **options)
            else:
                write_measured(context.work, record)
                table = table.cast(with_record(table.schema, record))
                with new_catalog_file(context.run, target) as sink:
                    pq.write_table(table, sink, row_group_size=ROW_GROUP_ROWS, **options)
                record = replace(record, bytes_out=sink.size, sha256=sink.hexdigest())
    except FileExistsError:  # another process did the same and was first
        return written_chunk(context, chunk)
    record = replace(record, seconds=dict(tally.seconds))
    count_chunk(record)
    return record


def written_chunk(context: RunContext, chunk: Chunk) -> ChunkRecord:
    """Return the record of a chunk that is written already. Raises FileNotFoundError."""
    target = context.target(chunk)
    if chunk.total > 1:
        return replace(read_record(target), chunk=chunk.index, chunks=chunk.total)
    return read_written(context.work, target, chunk.partition.key)


def check_unique(object_id: pa.ChunkedArray, where: str) -> None:
    """Refuse rows in which an identifier stands twice. Raises PartitionError."""
    # Sorted, not counted: a table of hashes takes 200 bytes for each identifier, the order takes 8.
    column = one_chunk(object_id)
    order = pc.sort_indices(column)
    repeated: set[int | str] = set()
    for start in range(0, len(order), ROW_GROUP_ROWS):
        values = column.take(order.slice(start, ROW_GROUP_ROWS + 1))
        repeated.update(values[1:].filter(pc.equal(values[1:], values[:-1])).to_pylist())
    if repeated:
        examples = ", ".join(str(value) for value in sorted(repeated)[:3])
        raise PartitionError(
            kind="duplicate_object_id",
            expected="every object_id once",
            got=f"{len(repeated)} repeated, for example {examples}",
            where=where,
            fix="remove the repeated objects from the survey, or give bands of one star identifiers of their own",
        )


def _record(context: RunContext, chunk: Chunk, table: pa.Table, tally: Tally) -> ChunkRecord:
    return ChunkRecord(
        partition=chunk.partition.key,
        chunk=chunk.index,
        chunks=chunk.total,
        rows=table.num_rows,
        observations=tally.observations,
        bytes_in=chunk.partition.size if chunk.index == 0 else 0,
        input_sha256=_input_digest(context, chunk),
        bytes_out=0,
        status=_counts(table["status"]),
        classes=_counts(table["class"]),
        periods=_counts(table["period_flag"]),
        dropped={reason.name.lower(): int(tally.dropped[reason]) for reason in DropReason},
        labels=dict(tally.labels),
        left_out=dict(tally.left_out.most_common(MOST_LABELS)),
        seconds=dict(tally.seconds),
        started=tally.started,
        sha256="",
        worker=tally.folder,
        classifier=tally.classifier,
        peak_memory=peak_memory(),
        run_id=context.run_id,
    )


def _input_digest(context: RunContext, chunk: Chunk) -> str:
    file = context.source.location / chunk.partition.key
    return (digest_of(Path(file.path)) or "") if chunk.index == 0 and file.is_local else ""


def _within(batches: Iterator[SurveyBatch], rows: tuple[int, int] | None) -> Iterator[SurveyBatch]:
    """Yield what lies in a slice of the rows; a column cannot be entered midway, so what comes before is decoded."""
    if rows is None:
        yield from batches
        return
    first, end = rows
    position = 0
    for batch in batches:
        size = len(batch.light_curves)
        start, stop = max(first - position, 0), min(end - position, size)
        if start < stop:
            yield batch.slice(start, stop)
        position += size
        if position >= end:
            return


def _timed_each(batches: Iterator[SurveyBatch], tally: Tally) -> Iterator[SurveyBatch]:
    while True:
        with tally.timed("read"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {
        str(entry["values"]): int(entry["counts"])
        for entry in pc.value_counts(values).to_pylist()
        if entry["values"] is not None
    }
