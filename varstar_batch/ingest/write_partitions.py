"""Writing the partitions of a survey: each is gathered from the pieces of the shuffle, sorted and written once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from varstar_batch.archives.input_tables import refused
from varstar_batch.errors import InputError
from varstar_batch.files.digests import digest_of, read_sealed, write_sealed
from varstar_batch.files.location import Location
from varstar_batch.files.parquet import one_chunk
from varstar_batch.ingest.duplicates import count_written, find_repeated
from varstar_batch.ingest.period_search import PeriodSearch, with_found
from varstar_batch.ingest.plan import IngestPlan, IntArray
from varstar_batch.ingest.shuffle import Pieces, Shuffle
from varstar_batch.survey.bands import Bands
from varstar_batch.survey.choose import check_one_band
from varstar_batch.survey.declared_units import OURS_KEY
from varstar_batch.survey.units import CANONICAL, canonical_field
from varstar_batch.survey.write import nested_light_curves, write_survey_file


def survey_schema(objects: pa.Table, nothing: pa.Table, told: dict[str, str], find_periods: bool) -> pa.Schema:
    """Return the schema of a survey of these objects, with what is told in its metadata.

    `nothing` is a table of no observations, with their columns.
    """
    example = objects.slice(0, 0)
    if find_periods:
        example = with_found(example, np.zeros(0, np.int64), [])
    parts = nested_light_curves(np.zeros(1, np.int64), columns_of(nothing)).type
    light_curve = pa.struct([canonical_field(one, one.name) if one.name in CANONICAL else one for one in parts])
    schema = example.schema.append(pa.field("lightcurve", light_curve, nullable=False))
    return schema.with_metadata(told | {OURS_KEY: "canonical"})


def columns_of(rows: pa.Table) -> dict[str, pa.Array]:
    """Return the columns of a table, each in one chunk."""
    return {name: one_chunk(rows[name]) for name in rows.column_names}


@dataclass(frozen=True)
class PartitionWriter:
    """Writes the partitions of a survey into a folder."""

    folder: Location
    objects: pa.Table
    shuffle: Shuffle
    pieces: Pieces
    plan: IngestPlan
    keys: Sequence[str]
    schema: pa.Schema
    search: PeriodSearch | None
    duplicates: str
    done: Path
    """Folder of the digests of those that are written."""
    band: str | None
    """Column of bands."""
    only_one_band: bool
    """Whether a light curve may have only one of them."""

    def __call__(self, number: int) -> tuple[int, int]:
        """Write the partition of this number, unless it is there, and return its objects and observations."""
        members = self.plan.members(number)
        file, done = self.folder / self.keys[number], self.done / str(number)
        # What is on an object store was whole when it appeared, and no power cut of this machine changes it.
        if file.is_file() and (not file.is_local or _is_whole(Path(file.path), done)):
            return len(members), count_written(file, int((self.plan.counts[members] == 0).sum()))
        rows = self.shuffle.gather(self.pieces, number)
        offsets = np.concatenate([[0], np.cumsum(self.plan.counts[members])])
        objects = self.objects.take(pa.array(members))
        if self.band is not None and self.only_one_band:
            with refused(file):
                check_one_band(Bands.read(one_chunk(rows[self.band]), self.band), offsets, "observations")
        if self.duplicates != "keep":
            rows, offsets = self._once_each(rows, offsets, objects)
        if self.search is not None:
            objects = self.search(objects, offsets, rows, self.band)
        light_curves = nested_light_curves(offsets, columns_of(rows))
        table = pa.Table.from_arrays([*objects.columns, light_curves], schema=self.schema)
        write_sealed(done, write_survey_file(file, self.schema, [table]).encode())
        return int(table.num_rows), int(rows.num_rows)

    def _once_each(self, rows: pa.Table, offsets: IntArray, objects: pa.Table) -> tuple[pa.Table, IntArray]:
        """Return the observations without those that say what another one has said, and where each object's begin."""
        repeated = find_repeated(rows, offsets, self.band)
        if not repeated.any():
            return rows, offsets
        if self.duplicates == "refuse":
            first = int(np.searchsorted(offsets, np.flatnonzero(repeated)[0], side="right")) - 1
            raise InputError(
                expected="every observation once",
                got=f"{int(repeated.sum()):,} with the time, magnitude and error of another one of their object, the "
                f"first of {objects['object_id'][first].as_py()!r}",
                where="observations",
                fix="see whether a file is there twice, or say --duplicates drop",
            )
        kept = np.append(0, np.cumsum(~repeated))
        return rows.filter(pa.array(~repeated)), kept[offsets]


def _is_whole(file: Path, done: Path) -> bool:
    """Whether a partition that an earlier ingest has written is still what it was."""
    digest = read_sealed(done)
    return digest is not None and digest_of(file) == digest.decode()
