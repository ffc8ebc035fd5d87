"""The plan of an ingest: from counted observations, which object goes where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

PARTITION_BYTES = 64 * 2**20
"""Of a partition uncompressed, where nobody says how many there are to be: 4 million observations of 16 bytes."""

PARTITION_OBJECTS = 2**20
"""At most in a partition, where nobody says so."""

ORPHANS_SHOWN = 5
"""Identifiers without object that are kept."""

# HEALPix order of the smallest pixels: 1.7 arcmin.
_HIGHEST_ORDER = 11

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class IngestPlan:
    """Where each of n objects goes."""

    counts: IntArray
    """Int64 (n,). Observations of each object, in the order of the table of objects."""
    order: IntArray
    """Int64 (n,). Objects in the order of the survey. Where the observations come grouped by object that is the
    order they come in, so that they pass through; else it is the order of the table of objects. An object without
    observations follows the one it follows in that table."""
    bounds: IntArray
    """Int64 (partitions + 1,). Partition p holds ``order[bounds[p]:bounds[p + 1]]``."""
    observations: int
    """Read in all."""
    orphan_ids: tuple[str, ...]
    """A few identifiers that no object has."""

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return len(self.bounds) - 1

    @property
    def orphans(self) -> int:
        """Observations that belong to no object."""
        return self.observations - int(self.counts.sum())

    @property
    def rows(self) -> IntArray:
        """Observations of each partition."""
        return np.add.reduceat(self.counts[self.order], self.bounds[:-1])

    def members(self, partition: int) -> IntArray:
        """Return the objects of a partition, by their index in the table of objects."""
        return self.order[self.bounds[partition] : self.bounds[partition + 1]]

    def places(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return the partition of each object and its place in it, int32 (n,)."""
        sizes = np.diff(self.bounds)
        partition, place = np.empty((2, len(self.order)), np.int32)
        partition[self.order] = np.repeat(np.arange(self.partitions), sizes)
        place[self.order] = np.arange(len(self.order)) - np.repeat(self.bounds[:-1], sizes)
        return partition, place


@dataclass(frozen=True)
class Widths:
    """Bytes of an observation and of an object without them, uncompressed; at least 1 each."""

    observation: int = 16
    object: int = 16

    def of(self, counts: IntArray) -> IntArray:
        """Return the bytes of objects with so many observations, int64."""
        return counts * self.observation + self.object


def make_plan(
    positions: Iterable[tuple[IntArray, tuple[str, ...]]], n_objects: int, partitions: int | None, widths: Widths
) -> IngestPlan:
    """Count observations and place the objects.

    Parameters
    ----------
    positions : iterable of (int64 array (m,), tuple of str)
        Of consecutive observations the index of their object, -1 for orphans, and some identifiers of orphans.
    n_objects : int
        At least 1.
    partitions : int or None
        Number of partitions; None for a number that suits the observations.
    widths : Widths
        Bytes of rows.
    """
    tally = _Counter(n_objects)
    for index, orphan_ids in positions:
        tally.add(index, orphan_ids)
    objects = np.arange(n_objects)
    order = objects
    if tally.is_grouped:
        anchor = np.maximum.accumulate(np.where(tally.counts > 0, objects, -1))
        order = np.lexsort((objects, np.where(anchor >= 0, tally.first[anchor], -1)))
    return IngestPlan(
        tally.counts,
        order,
        _bounds(widths.of(tally.counts[order]), partitions),
        tally.observations,
        tuple(tally.orphan_ids),
    )


class _Counter:
    def __init__(self, n_objects: int) -> None:
        self.counts = np.zeros(n_objects, np.int64)
        self.first = np.full(n_objects, -1, np.int64)
        self.observations = 0
        self.orphan_ids: list[str] = []
        self._runs = self._met = 0
        self._last = -1

    @property
    def is_grouped(self) -> bool:
        """Whether the observations of each object came one after the other."""
        return self._runs == self._met

    def add(self, index: IntArray, orphan_ids: tuple[str, ...]) -> None:
        self.observations += len(index)
        new = [name for name in orphan_ids if name not in self.orphan_ids]
        self.orphan_ids += new[: ORPHANS_SHOWN - len(self.orphan_ids)]
        known = index[index >= 0]
        if not len(known):
            return
        starts = np.flatnonzero(np.diff(known, prepend=-1))
        runs = known[starts]
        lengths = np.diff(starts, append=len(known))
        self._runs += len(runs) - int(runs[0] == self._last)
        self._last = int(known[-1])
        np.add.at(self.counts, runs, lengths)
        met, where = np.unique(runs[self.first[runs] < 0], return_index=True)
        # In the order of appearance: `where` is the first run of each.
        self.first[met[np.argsort(where)]] = self._met + np.arange(len(met))
        self._met += len(met)


def _bounds(weights: IntArray, partitions: int | None) -> IntArray:
    """Cut objects of these bytes into runs of about the same."""
    n = len(weights)
    ends = np.cumsum(weights)
    if partitions is None:
        partitions = max(-(-int(ends[-1]) // PARTITION_BYTES), -(-n // PARTITION_OBJECTS))
    inner = np.searchsorted(ends, ends[-1] * np.arange(1, partitions) / partitions) + 1
    # Bounds fall together where single objects outweigh a partition, or where there are fewer objects than partitions.
    return np.unique(np.concatenate([[0], inner, [n]])).astype(np.int64)


def plan_pixels(
    plan: IngestPlan, cells: IntArray, partitions: int | None, widths: Widths
) -> tuple[IngestPlan, list[str]]:
    """Place n objects by HEALPix pixels, balanced by bytes, and never with too many objects.

    Parameters
    ----------
    plan : IngestPlan
        With the counts of observations.
    cells : int64 array (n,)
        Of order 29.
    partitions : int or None
        Aimed at; pixels are divided by four, so that there may be several times as many. None for a number that suits
        the observations.
    widths : Widths
        Bytes of rows.

    Returns
    -------
    IngestPlan, list of str
        The plan in the order of the cells, and the key of each partition.
    """
    order = np.argsort(cells, kind="stable")
    ascending = cells[order]
    ends = np.append(0, np.cumsum(widths.of(plan.counts[order])))
    most = PARTITION_BYTES if partitions is None else -(-int(ends[-1]) // partitions)
    bounds, keys = [0], []
    waiting = [(0, pixel) for pixel in range(11, -1, -1)]
    while waiting:
        level, pixel = waiting.pop()
        shift = 2 * (29 - level)
        edges = np.array([pixel, pixel + 1], np.int64) << np.int64(shift)
        start, stop = np.searchsorted(ascending, edges)
        if start == stop:
            continue
        is_large = ends[stop] - ends[start] > most or stop - start > PARTITION_OBJECTS
        if is_large and level < _HIGHEST_ORDER and stop - start > 1:
            waiting += [(level + 1, 4 * pixel + part) for part in range(3, -1, -1)]
            continue
        bounds.append(int(stop))
        keys.append(f"dataset/Norder={level}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet")
    return replace(plan, order=order, bounds=np.array(bounds, np.int64)), keys
