"""Reading one partition of a survey as a stream of bounded batches of light curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.parquet import WHOLE, open_fetched, opened_parquet
from varstar_batch.files.parquet_guard import GuardedParquetFile
from varstar_batch.survey.bands import FUSE, band_not_there
from varstar_batch.survey.column_types import SchemaMismatchError, object_id_type
from varstar_batch.survey.decode import (
    LEAST_OBSERVATIONS,
    SurveyBatch,
    check_longest,
    decode_lists,
    most_objects,
    split_batch,
)
from varstar_batch.survey.long_form import decode_long
from varstar_batch.survey.open import Partition, Source, Survey, check_declared
from varstar_batch.survey.schema import check_columns, is_leaf_of

__all__ = ["PartitionShape", "RowGroupShape", "SurveyBatch", "partition_shape", "read_batches"]

BATCH_OBSERVATIONS = 2**20
"""Of a batch where no chunk memory is given."""

FIRST_OBSERVATIONS = 2**18
"""That are looked at to tell whether light curves have several bands."""

_ASKED = 16
"""Partitions that are looked at to tell whether a band is there at all."""

BYTES_PER_OBSERVATION = 8 + 4 + 4
"""Of a decoded light curve: time float64, magnitude and its error float32."""

BYTES_PER_CURVE = 512 * 4
"""Of a folded curve."""

COPIES = 3
"""Times that a batch may be in memory at once: decoded by Arrow, being decoded ahead, and what folding makes of it."""

CURVES = 3
"""Of an object at once: folded with its period, with one that fits better, and on the way to the network."""


@dataclass(frozen=True)
class RowGroupShape:
    """One row group, from the footer alone."""

    rows: int
    """Rows of the file: objects, or observations in the long form."""
    observations: int
    """Observations; an empty light curve counts as one, so this is never too small."""
    compressed_bytes: int
    """Of the columns that reading takes, on storage."""


@dataclass(frozen=True)
class PartitionShape:
    """What a partition's footer tells before anything of it is read."""

    rows: int | None
    """Objects; None in the long form, where only reading tells."""
    row_groups: tuple[RowGroupShape, ...]
    """In the order of the file."""
    divisible: bool
    """Whether a chunk may be some of the row groups. False in the long form (objects cross row groups): its only chunk
    is the whole file."""


def partition_shape(source: Source, partition: Partition, *, read_next: bool = False) -> PartitionShape:
    """Read the footer of a partition.

    With `read_next` this process is about to read the partition, too: a small one is fetched from a store only once.

    Raises
    ------
    PartitionError
        Kind ``"missing"``, ``"forbidden"``, ``"unreadable"`` or ``"schema"``.
    OSError
        The storage failed; another try may do.
    """
    with _opened(source, partition, whole=read_next, keep=read_next) as parquet:
        is_long = source.form == "long"
        reader = _Reader(source, parquet, str(source.location / partition.key))
        row_groups = tuple(reader.row_group(i) for i in range(parquet.num_row_groups))
        rows = sum(group.rows for group in row_groups)
        reader.check_count("rows in all", parquet.metadata.num_rows, rows)
        return PartitionShape(None if is_long else rows, row_groups, not is_long)


def read_batches(
    source: Source, partition: Partition, row_groups: Sequence[int] | None, max_observations: int
) -> Iterator[SurveyBatch]:
    """Stream a partition, or some of its row groups, without ever holding a row group whole.

    Parameters
    ----------
    source : Source
        `Survey.source`.
    partition : Partition
        One of `Survey.partitions`.
    row_groups : sequence of int or None
        Which row groups; None for all of them (the only choice where the shape is not divisible).
    max_observations : int
        Upper bound of the observations in a batch, at least 1; only a single object with more goes above it. What is
        decoded at once is bounded by it too where the objects of a row group have similar numbers of observations.

    Raises
    ------
    PartitionError
        Kind ``"missing"``, ``"forbidden"``, ``"unreadable"``, ``"schema"``, ``"null_object_id"``; in the long form
        also ``"unsorted"`` (an object comes back later); ``"too_long"``, as `check_longest` says.
    OSError
        The storage failed; another try may do.
    ValueError
        A row group that the file does not have, or some of the row groups of a long form.
    """
    if max_observations < 1:
        raise ValueError(f"max_observations: expected at least 1, got {max_observations}")
    if row_groups is not None and source.form == "long":
        raise ValueError("row_groups: expected None for the long form, whose objects cross row groups")
    with _opened(source, partition, whole=row_groups is None) as parquet:
        where = str(source.location / partition.key)
        reader = _Reader(source, parquet, where)
        groups = range(parquet.num_row_groups) if row_groups is None else row_groups
        if source.form == "long":
            # Half of it, for the rows held back of the last object come on top.
            stream = reader.batches(max(1, max_observations // 2), groups)
            yield from decode_long(source, stream, max_observations, where)
            return
        if any(not 0 <= i < parquet.num_row_groups for i in groups):
            raise ValueError(f"row_groups: expected 0 to {parquet.num_row_groups - 1}, got {list(groups)}")
        for span, rows in reader.spans(groups, max_observations):
            for record in reader.batches(rows, span):
                yield from split_batch(decode_lists(source, record, where), max_observations, where)


def check_bands(survey: Survey) -> None:
    """Refuse a survey whose light curves have several bands where none was chosen, by its first observations.

    What comes later is looked at when it is read: see `choose`.

    Raises
    ------
    InputError
        They have.
    """
    source = survey.source
    if source.columns.band is not None and source.bands not in (None, FUSE):
        _check_chosen(survey)
    if source.columns.band is None or source.bands is not None:
        return
    for partition in survey.partitions:
        groups = None if source.form == "long" else (0,)
        try:
            next(read_batches(source, partition, groups, FIRST_OBSERVATIONS), None)
        except PartitionError as error:
            if error.kind == "bands":
                raise InputError(expected=error.expected, got=error.got, where=error.where, fix=error.fix) from None
            continue  # the run will say what is wrong with it
        except ValueError:
            continue  # without any row group
        return


def _check_chosen(survey: Survey) -> None:
    """Refuse a band that none of the first observations of some partitions is of."""
    source, seen = replace(survey.source, bands=FUSE), Counter[str]()
    for partition in survey.partitions[:: max(1, len(survey.partitions) // _ASKED)]:
        groups = None if source.form == "long" else (0,)
        try:
            batch = next(read_batches(source, partition, groups, FIRST_OBSERVATIONS), None)
        except (PartitionError, ValueError):
            continue  # the run will say what is wrong with it
        seen.update({} if batch is None or batch.by_band is None else batch.by_band.total())
        if seen[str(survey.source.bands)]:
            return
    if seen:
        raise band_not_there(str(survey.source.bands), seen, source.url)


@contextmanager
def _opened(source: Source, partition: Partition, *, whole: bool, keep: bool = False) -> Iterator[GuardedParquetFile]:
    file = source.location / partition.key
    is_fetched = whole and not file.is_local and partition.size <= WHOLE
    opener = partial(open_fetched, file, partition.size, partition.version, keep=keep) if is_fetched else None
    with opened_parquet(file, opener) as parquet:
        schema = parquet.schema_arrow
        try:
            check_columns(schema, source.form, source.columns)
            check_declared(source, schema)
            id_type = object_id_type(schema, source.columns.object_id)
            if id_type != source.object_id_type:
                raise SchemaMismatchError(
                    expected=f"{source.object_id_type} in {source.columns.object_id!r}",
                    got=id_type,
                    fix="write the partition with the survey's types",
                )
        except SchemaMismatchError as error:
            raise PartitionError(
                kind="schema",
                expected=f"{error.expected}, as in the survey's first partition, {source.declared_in}",
                got=error.got,
                where=str(file),
                fix="write the partition as the survey's other ones are",
            ) from error
        yield parquet


class _Reader:
    """An open partition, and which of its Parquet columns are read: no field of the light curves that nobody needs."""

    def __init__(self, source: Source, parquet: GuardedParquetFile, where: str) -> None:
        self._parquet, self._where = parquet, where
        columns = source.columns
        paths = [parquet.schema.column(k).path for k in range(len(parquet.schema.names))]
        self._leaves = {
            path: k
            for k, path in enumerate(paths)
            if path in columns.scalars or any(is_leaf_of(path, columns, name) for name in columns.observed)
        }
        self._ids = columns.object_id
        self._names = [name for name in (columns.object_id, columns.class_) if name is not None]
        self._times = next(path for path in self._leaves if is_leaf_of(path, columns, columns.time))
        self._shapes: dict[int, RowGroupShape] = {}

    def row_group(self, i: int) -> RowGroupShape:
        """Return the shape of a row group."""
        if i not in self._shapes:
            rows = self._parquet.metadata.row_group(i).num_rows
            chunks = self._parquet.column_chunks(i, self._leaves)
            self.check_count(f"rows in row group {i}", chunks[self._ids].num_values, rows)
            compressed = sum(chunk.total_compressed_size for chunk in chunks.values())
            self._shapes[i] = RowGroupShape(rows, chunks[self._times].num_values, compressed)
        return self._shapes[i]

    def batches(self, batch_rows: int, row_groups: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Stream the rows of some row groups; a batch may cross them."""
        expected, rows = sum(self.row_group(i).rows for i in row_groups), 0
        stream = self._parquet.iter_batches(
            batch_size=batch_rows, row_groups=list(row_groups), columns=list(self._leaves), use_threads=False
        )
        for record in stream:
            rows += record.num_rows
            for name in self._names:
                record.column(name).validate(full=True)  # texts may not be UTF-8, which Arrow tells only if asked
            self.check_identified(record.column(self._ids))
            yield record
        self.check_count(f"rows in {len(row_groups)} row groups", expected, rows)

    def check_identified(self, ids: pa.Array) -> None:
        """Refuse rows of no object: a catalog could never say whose they are."""
        if ids.null_count:
            raise PartitionError(
                kind="null_object_id",
                expected=f"an object in {self._ids!r} of every row",
                got=f"{ids.null_count} nulls",
                where=self._where,
                fix="fill them or leave these rows out",
            )

    def check_count(self, what: str, expected: int, got: int) -> None:
        """Refuse a file that contradicts itself: rows that are lost silently would be the worst of all faults."""
        if got != expected:
            raise PartitionError(
                kind="unreadable",
                expected=f"{expected} {what}",
                got=str(got),
                where=self._where,
                fix="write the file again, or remove it",
            )

    def spans(self, row_groups: Sequence[int], max_observations: int) -> Iterator[tuple[list[int], int]]:
        """Yield runs of row groups to read in one go, each with the number of rows to decode at once.

        Small row groups are joined up to the bound, and a large one is cut by its own mean number of observations, so
        that neither the size nor the unevenness of row groups shows in the batches.
        """
        span: list[int] = []
        rows = observations = 0
        most = most_objects(max_observations)
        for i in row_groups:
            shape = self.row_group(i)
            if span and observations + shape.observations > max_observations:
                yield span, min(rows, most)
                span, rows, observations = [], 0, 0
            # One of them has as many as they have on average, or more.
            check_longest(shape.observations // max(1, shape.rows), max_observations, self._where)
            if shape.observations > max_observations:
                yield [i], max(1, min(most, shape.rows * max_observations // shape.observations))
            elif shape.rows:
                span.append(i)
                rows += shape.rows
                observations += shape.observations
        if span:
            yield span, min(rows, most)


def batch_observations(memory: int) -> int:
    """Return how many observations a batch may hold so that it stays within `memory` bytes.

    A batch has no more objects than if each had `LEAST_OBSERVATIONS`: see `most_objects`.
    """
    per_observation = COPIES * BYTES_PER_OBSERVATION + CURVES * BYTES_PER_CURVE / LEAST_OBSERVATIONS
    return max(1, int(memory / per_observation))
