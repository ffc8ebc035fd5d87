"""`varstar fold`: the folded curves of a survey as Parquet, to look at them or to train on them elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.errors import PartitionError
from varstar_batch.files.location import Location, locate
from varstar_batch.files.new_folder import new_folder
from varstar_batch.light_curves.fold import Folded
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.light_curves.status import STATUS_LABELS
from varstar_batch.parallel import in_order
from varstar_batch.survey.decode import fold_batch
from varstar_batch.survey.open import Failure, Partition, Source, Survey
from varstar_batch.survey.read import SurveyBatch, batch_observations, read_batches

BATCH_MEMORY = 128 * 2**20
"""Bytes of light curves and curves in memory at once, for each thread."""


@dataclass(frozen=True)
class FoldReport:
    """What became of the objects: counts by status, and the partitions that could not be read."""

    status: dict[str, int]
    failures: tuple[Failure, ...]


def fold_survey(
    survey: Survey, out_url: str, preprocessing: Preprocessing, threads: int, on_rows: Callable[[int], None]
) -> FoldReport:
    """Write object_id, status, n_obs, n_used, amplitude and curve of every object, one file for each partition.

    There is nothing yet at `out_url`. `threads` partitions are folded at once; `on_rows` is told the number of objects
    of every batch.

    Raises
    ------
    InputError
        The output holds something, or cannot be written.
    """
    counts = np.zeros(len(STATUS_LABELS), np.int64)
    failures = []
    with new_folder(locate(out_url, what="output"), "folded curves") as out:
        work = partial(_fold_partition, survey.source, out, preprocessing, on_rows)
        for result in in_order(work, survey.partitions, threads):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                counts += result
    status = {label: int(count) for label, count in zip(STATUS_LABELS, counts, strict=True) if count}
    return FoldReport(status, tuple(failures))


def _fold_partition(
    source: Source, out: Location, preprocessing: Preprocessing, on_rows: Callable[[int], None], partition: Partition
) -> np.ndarray | Failure:
    counts = np.zeros(len(STATUS_LABELS), np.int64)
    schema = folded_schema(source, preprocessing)
    try:
        with (
            (out / partition.key).atomic_output() as sink,
            pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=["status"]) as writer,
        ):
            for batch in read_batches(source, partition, None, batch_observations(BATCH_MEMORY)):
                folded = fold_batch(batch, preprocessing, source.limits).of_objects()
                writer.write_table(folded_rows(batch, folded, schema))
                counts += np.bincount(folded.status, minlength=len(counts))
                on_rows(len(folded))
    except PartitionError as error:
        return Failure(partition.key, error.kind, str(error))
    return counts


def folded_schema(source: Source, preprocessing: Preprocessing) -> pa.Schema:
    """Return the schema of `folded_rows`."""
    return pa.schema(
        [
            ("object_id", source.object_id_type),
            ("status", pa.string()),
            ("n_obs", pa.int32()),
            ("n_used", pa.int32()),
            ("amplitude", pa.float32()),
            ("curve", pa.list_(pa.float32(), preprocessing.n_phase)),
        ]
    )


def folded_rows(batch: SurveyBatch, folded: Folded, schema: pa.Schema) -> pa.Table:
    """Return object_id, status, n_obs, n_used, amplitude and curve of every object."""
    curves = pa.FixedSizeListArray.from_arrays(
        pa.array(folded.curve.reshape(-1)), folded.curve.shape[1], mask=pa.array(~folded.ok)
    )
    columns = [
        batch.objects["object_id"],
        pa.array(STATUS_LABELS, pa.string()).take(pa.array(folded.status)),
        pa.array(folded.n_obs),
        pa.array(folded.n_used),
        pa.array(folded.amplitude, from_pandas=True),
        curves,
    ]
    return pa.table(columns, schema=schema)
