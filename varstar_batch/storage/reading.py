"""Reading one partition of a survey as a stream of bounded batches of light curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.arithmetic.lightcurves import LightCurves
from varstar_batch.storage.surveys import Partition, Source


@dataclass(frozen=True)
class RowGroupShape:
    """One row group, from the footer alone.

    Attributes
    ----------
    rows : int
        Rows of the file: objects, or observations in the long form.
    observations : int
        Observations; an empty light curve counts as one, so this is never too small.
    compressed_bytes : int
        Of the columns that reading takes, on storage.
    """

    rows: int
    observations: int
    compressed_bytes: int


@dataclass(frozen=True)
class PartitionShape:
    """What a partition's footer tells before anything of it is read.

    Attributes
    ----------
    rows : int or None
        Objects; None in the long form, where only reading tells.
    row_groups : tuple of RowGroupShape
        In the order of the file.
    divisible : bool
        Whether a chunk may be some of the row groups. False in the long form (objects cross row groups): its only chunk is
        the whole file.
    """

    rows: int | None
    row_groups: tuple[RowGroupShape, ...]
    divisible: bool


@dataclass(frozen=True)
class SurveyBatch:
    """Some consecutive objects of a partition, in its order.

    Attributes
    ----------
    objects : pa.Table
        Columns object_id (int64, uint64 or large_string), ra, dec [deg], period [d] (float64, null where missing), class
        (large_string, null where missing), and _healpix_29 (int64) where the survey has it; n rows.
    light_curves : LightCurves
        Of the same n objects.
    period : float64 array (n,)
        Days; NaN where missing. Zero, negative and infinite values are kept as they are.
    """

    objects: pa.Table
    light_curves: LightCurves
    period: npt.NDArray[np.float64]


def partition_shape(source: Source, partition: Partition) -> PartitionShape:
    """Read the footer of a partition.

    Raises
    ------
    PartitionError
        Kind ``"missing"``, ``"forbidden"``, ``"unreadable"`` or ``"schema"``.
    OSError
        The storage failed; another try may do.
    """
    raise NotImplementedError(source, partition)


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
        Upper bound of the observations in a batch; only a single object with more goes above it.

    Raises
    ------
    PartitionError
        Kind ``"missing"``, ``"forbidden"``, ``"unreadable"``, ``"schema"`` or ``"unsorted"`` (long form).
    OSError
        The storage failed; another try may do.
    """
    raise NotImplementedError(source, partition, row_groups, max_observations)
