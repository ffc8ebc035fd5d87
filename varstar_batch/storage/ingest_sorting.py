"""Rows on their way to their partitions: held until the last of a partition has come, on disk where memory is short."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError
from varstar_batch.storage.ingest_plan import IngestPlan, IntArray

_SLOT = "\0slot"
# Of a row: the place of its object in its partition. No column of a survey has a name like this.


class PartitionSorter:
    """Collects observations by partition and hands each partition on, sorted by object and time, once it is complete.

    Parameters
    ----------
    plan : IngestPlan
        Says how many observations to expect of each object, and where it goes.
    nothing : pa.Table
        The observations' columns without any row.
    write : callable
        Takes the number of a partition and its observations, sorted: those of its first object, those of its second ...
    memory : int
        Bytes that may be held; beyond it all goes to disk.
    scratch : str or None
        Local folder for that; None for the system's.
    """

    def __init__(
        self,
        plan: IngestPlan,
        nothing: pa.Table,
        write: Callable[[int, pa.Table], None],
        memory: int,
        scratch: str | None,
    ) -> None:
        self._plan, self._nothing, self._write, self._memory = plan, nothing, write, memory
        sizes = np.diff(plan.bounds)
        self._partition = np.empty(len(plan.order), np.int32)
        self._partition[plan.order] = np.repeat(np.arange(plan.partitions), sizes)
        self._slot = np.empty(len(plan.order), np.int32)
        self._slot[plan.order] = np.arange(len(plan.order)) - np.repeat(plan.bounds[:-1], sizes)
        self._missing = np.add.reduceat(plan.counts[plan.order], plan.bounds[:-1])
        self._held: dict[int, list[pa.Table]] = {}
        self._held_bytes = 0
        self._spilled: dict[int, list[str]] = {}
        self._files = 0
        self._folder = tempfile.TemporaryDirectory(prefix="varstar-ingest-", dir=scratch)

    def __enter__(self) -> PartitionSorter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, index: IntArray, rows: pa.Table) -> None:
        """Take consecutive observations and the index of each one's object; those with -1 are left out.

        Raises
        ------
        InputError
            There are more than the plan has counted.
        """
        known = index >= 0
        if not known.all():
            index, rows = index[known], rows.filter(pa.array(known))
        if not len(index):
            return
        partition = self._partition[index]
        rows = rows.append_column(_SLOT, pa.array(self._slot[index]))
        if (np.diff(partition) < 0).any():
            order = np.argsort(partition, kind="stable")
            partition, rows = partition[order], rows.take(pa.array(order))
        starts = np.flatnonzero(np.diff(partition, prepend=-1))
        for start, stop in zip(starts, np.append(starts[1:], len(partition)), strict=True):
            self._hold(int(partition[start]), rows.slice(start, stop - start))
        if self._held_bytes > self._memory:
            self._spill()

    def finish(self) -> None:
        """Hand on the partitions that have no observations at all.

        Raises
        ------
        InputError
            There were fewer observations than the plan has counted.
        """
        if self._missing.any():
            raise _changed()
        counts = np.add.reduceat(self._plan.counts[self._plan.order], self._plan.bounds[:-1])
        for number in np.flatnonzero(counts == 0):
            self._write(int(number), self._nothing)

    def _hold(self, number: int, rows: pa.Table) -> None:
        self._missing[number] -= rows.num_rows
        if self._missing[number] < 0:
            raise _changed()
        self._held.setdefault(number, []).append(rows)
        self._held_bytes += rows.nbytes
        if self._missing[number] == 0:
            self._complete(number)

    def _spill(self) -> None:
        # All at once: the rows of different partitions are slices of the same memory, which only the last one frees.
        for number, pieces in self._held.items():
            path = str(Path(self._folder.name) / f"{self._files}.arrow")
            self._files += 1
            with pa.ipc.new_file(path, pieces[0].schema) as sink:
                for piece in pieces:
                    sink.write_table(piece)
            self._spilled.setdefault(number, []).append(path)
        self._held.clear()
        self._held_bytes = 0

    def _complete(self, number: int) -> None:
        pieces = []
        for path in self._spilled.pop(number, []):
            with pa.OSFile(path) as file:
                pieces.append(pa.ipc.open_file(file).read_all())
            Path(path).unlink()
        held = self._held.pop(number)
        self._held_bytes -= sum(piece.nbytes for piece in held)
        rows = pa.concat_tables([*pieces, *held]).combine_chunks()
        slot = rows[_SLOT].to_numpy()
        members = self._plan.members(number)
        if not np.array_equal(np.bincount(slot, minlength=len(members)), self._plan.counts[members]):
            raise _changed()
        if not _is_sorted(slot, rows["time"].to_numpy()):
            # Stable, and NaN last: observations at the same time stay as they came.
            rows = rows.take(pc.sort_indices(rows, sort_keys=[(_SLOT, "ascending"), ("time", "ascending")]))
        self._write(number, rows.drop_columns([_SLOT]))


def _is_sorted(slot: npt.NDArray[np.int32], time: npt.NDArray[np.float64]) -> bool:
    same = slot[1:] == slot[:-1]
    later = (time[1:] >= time[:-1]) | np.isnan(time[1:])
    return bool(((slot[1:] > slot[:-1]) | (same & later)).all())


def _changed() -> InputError:
    return InputError(
        expected="the same observations in both passes",
        got="other ones: a file was written meanwhile",
        where="ingest",
        fix="ingest again when nobody writes to the table of observations",
    )
