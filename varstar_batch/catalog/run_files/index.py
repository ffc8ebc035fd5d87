"""The index of a run: what every row group of its dataset spans, in one small table.

A reader of one star or of a cone asks this table, instead of 10^5 footers, which row groups can hold what it looks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.files.location import Location
from varstar_batch.parallel import in_order
from varstar_batch.sky import HEALPIX_COLUMN, SMALLEST_CONE, cells_of, cone_ranges

INDEX_NAME = "row_groups.parquet"
"""Name of the index in a run's folder."""

READERS = 16
"""Footers that are fetched at once: on an object store each costs a round trip."""

_SPANNED = ("object_id", "ra", "dec", HEALPIX_COLUMN)


@dataclass(frozen=True)
class RowGroup:
    """One row group: the file (its key in the run's folder), and its number in the file."""

    file: str
    number: int


@dataclass(frozen=True)
class RowGroupIndex:
    """The row groups of a run and what they span."""

    table: pa.Table
    """Columns file, row_group, rows and, for object_id, ra, dec and _healpix_29, ``<name>_min`` and ``<name>_max``
    (null where the column is all null). The cells are there even if the files have no such column."""

    def with_object(self, value: Any) -> list[RowGroup]:
        """Return the row groups whose span of object_id holds `value`, an int or str as the column is."""
        low, high = self.table["object_id_min"], self.table["object_id_max"]
        wanted = pa.scalar(value, low.type)
        inside = pc.and_kleene(pc.less_equal(low, wanted), pc.greater_equal(high, wanted))
        return self._where(pc.fill_null(inside, True).to_numpy())

    def within(self, ra: float, dec: float, radius: float) -> list[RowGroup]:
        """Return the row groups that may hold an object within `radius` of a position, all in degrees."""
        radius += SMALLEST_CONE  # a position on the very edge must not fall to a rounding error
        return self._where(self._box_overlaps(ra, dec, radius) & self._cells_overlap(ra, dec, radius))

    def _where(self, mask: npt.NDArray[np.bool_]) -> list[RowGroup]:
        rows = self.table.select(["file", "row_group"]).filter(pa.array(mask)).to_pylist()
        return [RowGroup(row["file"], row["row_group"]) for row in rows]

    def _floats(self, name: str) -> npt.NDArray[np.float64]:
        return np.asarray(self.table[name].to_numpy(), np.float64)

    def _box_overlaps(self, ra: float, dec: float, radius: float) -> npt.NDArray[np.bool_]:
        # A comparison with NaN is false, so what is told apart is what certainly lies outside.
        low, high = self._floats("dec_min"), self._floats("dec_max")
        outside = (high < dec - radius) | (low > dec + radius)
        half_width = _half_width(dec, radius)
        if half_width < 180.0:
            left, right = self._floats("ra_min"), self._floats("ra_max")
            missed = np.ones(len(low), bool)
            for turn in (-720.0, -360.0, 0.0, 360.0, 720.0):
                missed &= (right < ra + turn - half_width) | (left > ra + turn + half_width)
            outside |= missed
        return ~outside

    def _cells_overlap(self, ra: float, dec: float, radius: float) -> npt.NDArray[np.bool_]:
        ranges = cone_ranges(ra, dec, radius)
        low, high = (self.table[f"{HEALPIX_COLUMN}_{end}"] for end in ("min", "max"))
        # Row groups without any position get the cell -1, which lies in no cone.
        first, last = (column.fill_null(-1).to_numpy() for column in (low, high))
        # The first range that ends after a row group's first cell must begin before its last cell ends.
        range_number = np.searchsorted(ranges[:, 1], first, side="right")
        begins = np.append(ranges[:, 0], np.iinfo(np.int64).max)[range_number]
        overlap: npt.NDArray[np.bool_] = begins <= last
        return overlap


def build_index(run: Location, files: Sequence[str]) -> RowGroupIndex:
    """Return the index of a run from the footers of its dataset's files, which are given by key."""
    parts = list(in_order(lambda key: _file_rows(run, key), files, READERS))
    return RowGroupIndex(pa.concat_tables(parts, promote_options="default") if parts else _empty())


def _file_rows(run: Location, key: str) -> pa.Table:
    with (run / key).open_input() as stream, pq.ParquetFile(stream) as file:
        schema, metadata = file.schema_arrow, file.metadata
        numbers = range(metadata.num_row_groups)
        cells = [] if HEALPIX_COLUMN in schema.names else [_cell_span(file, number) for number in numbers]
    columns = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    content: dict[str, pa.Array] = {
        "file": pa.array([key] * len(numbers), pa.string()),
        "row_group": pa.array(numbers, pa.int32()),
        "rows": pa.array([metadata.row_group(number).num_rows for number in numbers], pa.int64()),
    }
    for name in _SPANNED:
        if name in columns:
            found = [metadata.row_group(number).column(columns[name]).statistics for number in numbers]
            low, high = ([_bound(statistics, end) for statistics in found] for end in ("min", "max"))
            kind = schema.field(name).type
        else:
            low, high, kind = [span[0] for span in cells], [span[1] for span in cells], pa.int64()
        content |= {f"{name}_min": pa.array(low, kind), f"{name}_max": pa.array(high, kind)}
    return pa.table(content)


def _cell_span(file: pq.ParquetFile, number: int) -> tuple[int | None, int | None]:
    """Return the first and last HEALPix cell of a row group. Positions span little, but boxes around a pole do not."""
    rows = file.read_row_group(number, columns=["ra", "dec"])
    cells = cells_of(rows["ra"].to_numpy(), rows["dec"].to_numpy(), 29)
    cells = cells[cells >= 0]
    return (int(cells.min()), int(cells.max())) if len(cells) else (None, None)


def _bound(statistics: Any, name: str) -> Any:
    return getattr(statistics, name) if statistics is not None and statistics.has_min_max else None


def _empty() -> pa.Table:
    columns: dict[str, pa.DataType] = {"file": pa.string(), "row_group": pa.int32(), "rows": pa.int64()}
    kinds = {"object_id": pa.int64(), "ra": pa.float64(), "dec": pa.float64(), HEALPIX_COLUMN: pa.int64()}
    columns |= {f"{name}_{end}": kind for name, kind in kinds.items() for end in ("min", "max")}
    return pa.schema(list(columns.items())).empty_table()


def _half_width(dec: float, radius: float) -> float:
    """Return how far in right ascension a cone reaches to either side [deg]; 180 where it holds a pole."""
    if abs(dec) + radius >= 90.0:
        return 180.0
    return float(np.degrees(np.arcsin(np.sin(np.radians(radius)) / np.cos(np.radians(dec)))))
