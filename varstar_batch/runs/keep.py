"""Objects of partitions that failed are not forgotten: the published run's rows are carried over, and marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.columns.schema import ROW_GROUP_ROWS, catalog_schema, write_options
from varstar_batch.catalog.run_files.checks import repeated_ids
from varstar_batch.catalog.run_files.finish import fingerprint_file
from varstar_batch.catalog.run_files.root import output_key
from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.location import Location, same_place, write_json
from varstar_batch.files.parquet import read_table
from varstar_batch.runs.chunks import RunContext, load_bundle
from varstar_batch.runs.execute import Runner, Task, do_all
from varstar_batch.runs.prepare import KEPT, Prepared
from varstar_batch.runs.records import ChunkRecord
from varstar_batch.runs.tasks import recover
from varstar_batch.runs.written import new_catalog_file, read_record, with_record
from varstar_batch.survey.open import Failure, Partition
from varstar_batch.survey.read import partition_shape


@dataclass(frozen=True)
class Published:
    """A partition as the published run has it."""

    file: Location
    sha256: str


def keep_published(
    context: RunContext, partition: Partition, published: Published, failure: Failure
) -> tuple[ChunkRecord, ...] | Failure:
    """Take over the published rows of a partition that failed; ``carried`` of each says so.

    Returns
    -------
    tuple of ChunkRecord, or Failure
        Of kind ``"not_kept"`` where the file is lost or damaged, or has other columns than this run's.
    """
    target = context.output(partition.key)
    try:
        if fingerprint_file(published.file)["sha256"] != published.sha256:
            return Failure(partition.key, "not_kept", f"{published.file}: the file is not what was published")
        record = replace(read_record(published.file), bytes_in=0, kept=f"{failure.kind}: {failure.message}")
        with published.file.open_input() as stream, pq.ParquetFile(stream) as file:
            mine = catalog_schema(
                pa.type_for_alias(context.source.object_id_type),
                load_bundle(context).contract.classes,
                healpix=context.source.columns.healpix is not None,
            )
            if not file.schema_arrow.equals(mine):
                return Failure(partition.key, "not_kept", f"{published.file}: its columns are not those of this run")
            schema = with_record(mine, record)
            with (
                new_catalog_file(context.run, target) as sink,
                pq.ParquetWriter(sink, schema, **write_options(record.rows)) as writer,
            ):
                place = schema.get_field_index("carried")
                for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS):
                    marked = batch.set_column(place, schema.field(place), pa.repeat(True, batch.num_rows))
                    writer.write_batch(marked.cast(schema))
    except FileExistsError:
        return recover(context, partition)  # another process that does the same run was first
    except (FileNotFoundError, pa.ArrowException) as error:
        return Failure(partition.key, "not_kept", f"{published.file}: {error}")
    return (replace(record, bytes_out=sink.size, sha256=sink.hexdigest()),)


def keep_failed(
    prepared: Prepared, failures: Sequence[Failure], done: Sequence[str], runner: Runner
) -> Iterator[tuple[ChunkRecord, ...]]:
    """Yield the records of the failed partitions whose published rows were taken over.

    Parameters
    ----------
    prepared : Prepared
    failures : sequence of Failure
        Of the run, all that there are.
    done : sequence of str
        Keys of the partitions that did not fail. Whoever moved from a partition that failed into one of these is in it.
    runner : Runner
        Who does it.
    """
    context = prepared.context
    published = _published(prepared, failures)
    if not published:
        return
    others = [context.output(key) for key in done]
    if repeated_ids([*others, *(each.file for each in published.values())]):
        published = {key: each for key, each in published.items() if not repeated_ids([*others, each.file])}
    write_json(context.work / KEPT, {"partitions": sorted(published)})
    partitions = {partition.key: partition for partition in prepared.plan.survey.partitions}
    tasks = [
        Task(failure.partition, failure.partition, keep_published, (context, partitions[key], published[key], failure))
        for failure in failures
        if (key := failure.partition) in published
    ]
    for outcome in do_all(runner, tasks):
        if not isinstance(outcome, Failure):
            yield outcome


def _published(prepared: Prepared, failures: Sequence[Failure]) -> dict[str, Published]:
    """Return what the current run has of the failed partitions, where it is a run of the same survey."""
    catalog, run_id, source = prepared.catalog, prepared.based_on.run_id, prepared.plan.survey.source
    if not failures or not run_id or prepared.plan.config.replace_survey:
        return {}
    try:
        record = catalog.read_json(run_id, "run.json") or {}
        table = read_table(catalog.run(run_id) / "partitions.parquet")
    except (FileNotFoundError, InputError):
        return {}
    if record.get("layout") != source.layout or not same_place(record.get("survey", ""), source.url):
        return {}
    hashes = dict(zip(table["partition"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    run = catalog.run(run_id)
    found = {
        failure.partition: Published(run / output_key(source.layout, failure.partition), hashes[failure.partition])
        for failure in failures
        if failure.partition in hashes
    }
    return {key: each for key, each in found.items() if each.file.exists()}


def objects_of_survey(prepared: Prepared, rows: dict[str, int], failures: Sequence[Failure]) -> tuple[int, bool]:
    """Return how many objects the survey has, and whether that is an estimate.

    Parameters
    ----------
    prepared : Prepared
    rows : dict of str to int
        Rows in the catalog by partition, carried ones too.
    failures : sequence of Failure
        A partition that cannot be read counts as what the catalog has of it, or else as the mean of the others.
    """
    survey = prepared.plan.survey
    failed = {failure.partition for failure in failures}
    known = {key: count for key, count in rows.items() if key not in failed}
    guessed = False
    total = sum(known.values())
    for partition in survey.partitions:
        if partition.key not in failed:
            continue
        try:
            count = partition_shape(survey.source, partition).rows
        except (PartitionError, OSError):
            count = None
        if count is None:
            count = rows.get(partition.key)
        if count is None:
            guessed, count = True, round(sum(known.values()) / max(1, len(known)))
        total += count
    stated = (survey.hats_properties or {}).get("hats_nrows", "")
    return (int(stated), False) if guessed and stated.isdecimal() else (total, guessed)
