"""Rows on their way to their partitions, out of core: units of the input are scattered, then partitions gathered.

Each unit becomes one file, its rows grouped by partition; each partition is put together of its pieces of all these
files. Units and partitions know nothing of each other: they are done in parallel, and after an interruption only those
are done that are missing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.files.digests import HashingSink, digest_of, read_sealed, write_sealed
from varstar_batch.files.local_write import TEMPORARY_PREFIX
from varstar_batch.ingest.object_lookup import Positions
from varstar_batch.ingest.observations import Observations, changed_meanwhile
from varstar_batch.ingest.plan import IngestPlan, IntArray

# Of a row: the place of its object in its partition. No column of a survey has a name like this.
_SLOT = "\0slot"

_DIGEST = 64
"""Characters of the digest of a unit's rows, before its index."""


@dataclass(frozen=True)
class Pieces:
    """Where the rows of partition p are: of the pieces ``starts[p]`` to ``starts[p + 1]`` the unit and record batch."""

    starts: IntArray
    unit: IntArray
    record: IntArray


class Shuffle:
    """Brings observations to their partitions, sorted by object and time.

    Its methods raise InputError where the observations are not those that were counted for the plan.

    Parameters
    ----------
    observations : Observations
        Read unit by unit.
    positions : Positions
        Finds their objects.
    plan : IngestPlan
        Says how many observations to expect of each object, and where it goes.
    folder : Path
        Where units wait: as large as the observations uncompressed.
    correct : callable or None
        Takes the index of each row's object and rows, and returns rows with other times.
    """

    def __init__(
        self,
        observations: Observations,
        positions: Positions,
        plan: IngestPlan,
        folder: Path,
        correct: Callable[[IntArray, pa.Table], pa.Table] | None,
    ) -> None:
        self._observations, self._positions, self._plan, self._folder = observations, positions, plan, folder
        self._correct = correct
        self._partition, self._slot = plan.places()
        folder.mkdir(exist_ok=True)

    def scatter(self, number: int) -> int:
        """Write the file of a unit, unless there is a whole one already; return its number of observations."""
        unit = self._observations.units[number]
        done = read_sealed(self._index_file(number))
        if done is not None and digest_of(self._rows_file(number)) == done[:_DIGEST].decode():
            return unit.rows
        pieces: list[tuple[int, int]] = []
        types = self._observations.types
        schema = pa.schema([*types.items(), (_SLOT, pa.int32())])
        # Names of its own: a worker that is taken for dead may still be writing when another one does the same.
        temporary = self._folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}.arrow"
        with temporary.open("wb") as file, pa.ipc.new_file(hashing := HashingSink(file.write), schema) as sink:
            for index, read in self._observations.rows(self._positions, unit):
                partition, rows = self._grouped(index, read)
                for start, stop in _runs(partition):
                    sink.write_table(rows.slice(start, stop - start))
                    pieces.append((int(partition[start]), stop - start))
        # The index comes last: with it the unit is complete. What a power cut takes of the rows, their digest tells.
        temporary.replace(self._rows_file(number))
        content = np.array(pieces, np.int64).reshape(-1, 2).tobytes()
        write_sealed(self._index_file(number), hashing.hexdigest().encode() + content)
        return unit.rows

    def pieces(self) -> Pieces:
        """Return where the rows of each partition are, once all units are scattered."""
        indices = [self._index(number) for number in range(len(self._observations.units))]
        counts = [len(index) for index in indices]
        unit = np.repeat(np.arange(len(indices)), counts)
        record = np.arange(sum(counts)) - np.repeat(np.cumsum([0, *counts])[:-1], counts)
        partition, rows = np.concatenate([np.empty((0, 2), np.int64), *indices]).T
        order = np.argsort(partition, kind="stable")
        held = np.bincount(partition, weights=rows, minlength=self._plan.partitions)
        if not np.array_equal(held, self._plan.rows):
            raise changed_meanwhile()
        starts = np.searchsorted(partition[order], np.arange(self._plan.partitions + 1))
        return Pieces(starts, unit[order], record[order])

    def gather(self, pieces: Pieces, number: int) -> pa.Table:
        """Return the observations of a partition: those of its first object by time, those of its second ..."""
        found = [self._observations.nothing.append_column(_SLOT, pa.array([], pa.int32()))]
        run = slice(int(pieces.starts[number]), int(pieces.starts[number + 1]))
        unit, record = pieces.unit[run], pieces.record[run]
        for start, stop in _runs(unit):
            with pa.OSFile(str(self._rows_file(int(unit[start])))) as file:
                reader = pa.ipc.open_file(file)
                found += [pa.Table.from_batches([reader.get_batch(int(i))]) for i in record[start:stop]]
        rows = pa.concat_tables(found).combine_chunks()
        slot = rows[_SLOT].to_numpy()
        members = self._plan.members(number)
        if not np.array_equal(np.bincount(slot, minlength=len(members)), self._plan.counts[members]):
            raise changed_meanwhile()
        if not _is_sorted(slot, rows["time"].to_numpy()):
            # Stable, and NaN last: observations at the same time stay as they came.
            rows = rows.take(pc.sort_indices(rows, sort_keys=[(_SLOT, "ascending"), ("time", "ascending")]))
        return rows.drop_columns([_SLOT])

    def _grouped(self, index: IntArray, rows: pa.Table) -> tuple[npt.NDArray[np.int32], pa.Table]:
        """Return rows by partition, without orphans, and the partition of each."""
        if self._correct is not None:
            rows = self._correct(index, rows)
        known = index >= 0
        if not known.all():
            index, rows = index[known], rows.filter(pa.array(known))
        partition = self._partition[index]
        rows = rows.append_column(_SLOT, pa.array(self._slot[index]))
        if (np.diff(partition) < 0).any():
            order = np.argsort(partition, kind="stable")
            partition, rows = partition[order], rows.take(pa.array(order))
        return partition, rows.combine_chunks()

    def _index(self, number: int) -> IntArray:
        content = read_sealed(self._index_file(number))
        if content is None:
            raise changed_meanwhile()
        return np.frombuffer(content, np.int64, offset=_DIGEST).reshape(-1, 2)

    def _rows_file(self, number: int) -> Path:
        return self._folder / f"{number}.arrow"

    def _index_file(self, number: int) -> Path:
        return self._folder / f"{number}.index"


def _runs(values: npt.NDArray[np.integer[Any]]) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of equal values, none of which is negative."""
    starts = np.flatnonzero(np.diff(values, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(values)], strict=True)) if starts else []


def _is_sorted(slot: npt.NDArray[np.int32], time: npt.NDArray[np.float64]) -> bool:
    same = slot[1:] == slot[:-1]
    later = (time[1:] >= time[:-1]) | np.isnan(time[1:])
    return bool(((slot[1:] > slot[:-1]) | (same & later)).all())
