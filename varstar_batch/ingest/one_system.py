"""Files of one folder whose times differ in where the light is timed: brought to one system by the stars' positions."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.archives.content import OBSERVATIONS
from varstar_batch.archives.folder import TIME_SYSTEM
from varstar_batch.files.local_write import TEMPORARY_PREFIX
from varstar_batch.ingest.object_lookup import Positions
from varstar_batch.ingest.objects import positions_of
from varstar_batch.ingest.time_correction import TimeCorrection
from varstar_batch.light_curves.times import parse_time_system
from varstar_batch.sky import unit_vectors

_BATCH_ROWS = 2**20

_REFERENCES = ("TOPOCENTER", "HELIOCENTER", "BARYCENTER")


def common_system(systems: Collection[str]) -> str | None:
    """Return the one of some systems that all the others' times can be brought to; None where there is none.

    They have the same zero and the same scale: JD and HJD, but not MJD and HJD, in which some file may be wrong.
    """
    if len(systems) == 1:
        return next(iter(systems))
    parsed = [parse_time_system(one) for one in sorted(systems)]
    if len({(one.jd_offset, one.scale) for one in parsed}) > 1 or parsed[0].jd_offset is None:
        return None
    return max(parsed, key=lambda one: _REFERENCES.index(str(one.reference))).text


def in_one_system(
    staged: Path, target: Path, system: str, objects: pa.Table, names: Mapping[str, str]
) -> dict[str, int]:
    """Write the observations of an archive again, with all times in one system.

    Parameters
    ----------
    staged, target : Path
        Folders of files of observations, each with its `TIME_SYSTEM`, and of those without.
    system : str
        See `common_system`.
    objects : pa.Table
        With positions, where they are known.
    names : mapping of str to str
        What the table calls the objects of the files, where it calls them otherwise.

    Returns
    -------
    dict of str to int
        Observations by what became of their times: they were turned, or stay for want of a position.
    """
    target.mkdir(exist_ok=True)
    turn = _Turn.make(system, objects, names)
    for file in sorted(staged.glob("*.parquet")):
        temporary = target / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{file.name}"
        with pq.ParquetFile(file) as source, pq.ParquetWriter(temporary, OBSERVATIONS, compression="lz4") as writer:
            for batch in source.iter_batches(_BATCH_ROWS):
                writer.write_table(turn(pa.Table.from_batches([batch])))
        temporary.replace(target / file.name)
    return {text: count for text, count in turn.done.items() if count}


@dataclass(frozen=True)
class _Turn:
    """Turns times into a system; the other fields are of n objects."""

    system: str
    names: Mapping[str, str]
    positions: Positions
    is_known: npt.NDArray[np.bool_]
    directions: npt.NDArray[np.float64]
    """Float64 (n, 3). Zero where there is no position: light is not early or late then."""
    done: Counter[str] = field(default_factory=Counter)

    @classmethod
    def make(cls, system: str, objects: pa.Table, names: Mapping[str, str]) -> _Turn:
        ra, dec = positions_of(objects)
        is_known = np.isfinite(ra) & (np.abs(dec) <= 90)
        directions = np.zeros((len(objects), 3))
        directions[is_known] = unit_vectors(ra[is_known], dec[is_known])
        return cls(system, names, Positions(objects["object_id"]), is_known, directions)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return observations without their systems, with times in the one."""
        ids = rows["object_id"].combine_chunks().dictionary_encode()
        called = [self.names.get(name, name) for name in ids.dictionary.to_pylist()]
        index, _ = self.positions.find(pa.array(called, pa.large_string()).take(ids.indices))
        time = rows["time"].to_numpy().copy()
        systems = rows[TIME_SYSTEM].combine_chunks()
        for code, given in enumerate(systems.dictionary.to_pylist()):
            its = np.flatnonzero(systems.indices.to_numpy() == code)
            if given == self.system or not len(its):
                continue
            correction = TimeCorrection(parse_time_system(given), parse_time_system(self.system), self.directions)
            time[its] = correction.apply(index[its], time[its])
            met = index[its][index[its] >= 0]
            placed = int(self.is_known[met].sum())
            self.done[f"times turned from {given} into {self.system}"] += placed
            stay = f"times of stars without a position stay {given}, up to 8.4 minutes off {self.system}"
            self.done[stay] += len(met) - placed
        columns = [pa.chunked_array([time]) if name == "time" else rows[name] for name in OBSERVATIONS.names]
        return pa.Table.from_arrays(columns, schema=OBSERVATIONS)
