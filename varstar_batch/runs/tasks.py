"""The tasks of a run, as plain functions of a context and a partition or a chunk; no Dask here."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.columns.schema import ROW_GROUP_ROWS, write_options
from varstar_batch.catalog.run_files.root import output_key
from varstar_batch.errors import PartitionError
from varstar_batch.files.digests import HashingSink
from varstar_batch.files.location import Location
from varstar_batch.runs.chunks import (
    RunContext,
    Tally,
    batch_rows,
    check_unique,
    folded_batches,
    load_bundle,
    load_engine,
    this_worker,
    write_chunk,
    written_chunk,
)
from varstar_batch.runs.plan import Chunk, split
from varstar_batch.runs.questioned import classify_questioned
from varstar_batch.runs.records import ChunkRecord, Outcome, count_partition
from varstar_batch.runs.written import (
    check_open,
    combined,
    new_catalog_file,
    read_record,
    read_written,
    with_record,
    write_measured,
)
from varstar_batch.survey.open import Failure, Partition
from varstar_batch.survey.read import partition_shape


def start_partition(context: RunContext, partition: Partition) -> Outcome:
    """Classify a partition whole if it fits into a chunk, else return the chunks to cut it into."""
    chunks = split(partition, partition_shape(context.source, partition, read_next=True), context.config.chunk_memory)
    return chunks if len(chunks) > 1 else classify_chunk(context, chunks[0])


def classify_chunk(context: RunContext, chunk: Chunk) -> ChunkRecord:
    """Classify one chunk of a partition and write it, unless an earlier try of the run already did."""
    target = context.target(chunk)
    if chunk.total > 1 and target.exists():
        return written_chunk(context, chunk)
    tally = Tally(classifier=this_worker())
    return write_chunk(context, chunk, _classified(context, chunk, tally), tally)


def assemble(context: RunContext, chunks: tuple[Chunk, ...], records: list[ChunkRecord]) -> tuple[ChunkRecord, ...]:
    """Put the parts of a partition together, in order, into its catalog file.

    Returns
    -------
    tuple of ChunkRecord
        The records as they were, the last one with the file's size, hash and the time of assembling added.

    Raises
    ------
    PartitionError
        Kind ``"rows_lost"`` or ``"duplicate_object_id"``.
    """
    records = sorted(records, key=lambda record: record.chunk)
    partition = chunks[0].partition
    started = time.perf_counter()
    target = context.output(partition.key)
    parts = [context.target(chunk) for chunk in chunks]
    if not all(part.exists() for part in parts) and target.exists():
        return recover(context, partition)  # another process that resumed the same run was first
    try:
        sink = _joined(context, target, parts, combined(records))
    except (FileExistsError, FileNotFoundError):
        if not target.exists():
            raise
        return recover(context, partition)  # another process that does the same run was first
    for part in parts:
        part.remove()
    count_partition("classified")
    last = records[-1]
    seconds = last.seconds | {"write": last.seconds.get("write", 0.0) + time.perf_counter() - started}
    return (*records[:-1], replace(last, seconds=seconds, sha256=sink.hexdigest(), bytes_out=sink.size))


def _joined(context: RunContext, target: Location, parts: list[Location], record: ChunkRecord) -> HashingSink:
    with parts[0].open_input() as stream:
        schema = with_record(pq.read_schema(stream), record)
    write_measured(context.work, record)
    identifiers: list[pa.Array] = []
    with (
        new_catalog_file(context.run, target) as sink,
        pq.ParquetWriter(sink, schema, **write_options(record.rows)) as writer,
    ):
        for part in parts:
            with part.open_input() as stream, pq.ParquetFile(stream) as file:
                for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS):
                    writer.write_batch(batch.replace_schema_metadata(schema.metadata))
                    identifiers.append(batch["object_id"])
        object_id = pa.chunked_array(identifiers)
        check_unique(object_id, record.partition)
        if len(object_id) != record.rows:
            raise PartitionError(
                kind="rows_lost",
                expected=f"{record.rows} rows from its chunks",
                got=str(len(object_id)),
                where=record.partition,
                fix="start the run again",
            )
    return sink


def recover(context: RunContext, partition: Partition) -> tuple[ChunkRecord, ...]:
    """Return the records of a partition that an earlier try of the run finished, from the file itself."""
    return (read_written(context.work, context.output(partition.key), partition.key),)


def carry_over(context: RunContext, partition: Partition, sha256: str) -> tuple[ChunkRecord, ...] | Failure:
    """Take a partition's file from the run that this one follows, if it is still what was published there.

    Its rows keep the `run_id` of the run that classified them.

    Parameters
    ----------
    context : RunContext
    partition : Partition
    sha256 : str
        Of the file, as that run recorded it; empty where it was cut off before it recorded any.

    Returns
    -------
    tuple of ChunkRecord, or Failure
        Of kind ``"not_carried"`` where the file is lost or damaged: the partition has to be classified.
    """
    if context.carried_from is None:
        raise ValueError("carry_over: expected a context with carried_from")
    target = context.output(partition.key)
    source = context.carried_from / output_key(context.source.layout, partition.key)
    try:
        content = source.read_bytes()
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            return Failure(partition.key, "not_carried", f"{source}: the file is not what was published")
        if not sha256 and read_record(source).kept:
            return Failure(partition.key, "not_carried", f"{source}: the partition failed, and is tried again")
        with suppress(FileExistsError):  # another process did the same and was first
            source.link_or_copy(target)
            check_open(context.run, target)
        records = recover(context, partition)
    except FileNotFoundError:
        return Failure(partition.key, "not_carried", f"{source}: the file is missing")
    count_partition("carried")
    return records


def _classified(context: RunContext, chunk: Chunk, tally: Tally) -> Iterator[pa.Table]:
    bundle, engine = load_bundle(context), load_engine(context)
    for folded in folded_batches(context, chunk, tally):
        with tally.timed("classify"):
            classified = classify_questioned(bundle, engine, folded, context.config.mira_amplitude)
        yield batch_rows(context, classified, tally)
