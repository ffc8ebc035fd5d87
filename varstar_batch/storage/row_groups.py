"""The index of a run: what every row group of its dataset spans, in one small table.

A reader of one star or of a cone asks this table, instead of 10^5 footers, which row groups can hold what it looks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.storage.columns import HEALPIX_COLUMN
from varstar_batch.storage.files import Location

INDEX_NAME = "row_groups.parquet"
"""Name of the index in a run's folder."""

READERS = 16
"""Footers that are fetched at once: on an object store each costs a round trip."""

_SMALLEST_CONE = 1e-6
"""Degrees (4 mas): below this a cone is widened for finding row groups; what is in it is decided exactly afterwards."""

_SPANNED = ("object_id", "ra", "dec", HEALPIX_COLUMN)


@dataclass(frozen=True)
class RowGroup:
    """One row group: the file (its key in the run's folder), its number in the file, and its rows."""

    file: str
    number: int
    rows: int


@dataclass(frozen=True)
class RowGroupIndex:
    """The row groups of a run and what they span.

    Attributes
    ----------
    table : pa.Table
        Columns file, row_group, rows and, for object_id, ra, dec and _healpix_29, ``<name>_min`` and ``<name>_max``
        (null where the file has no statistics or the column is all null).
    """

    table: pa.Table

    @property
    def rows(self) -> int:
        """Rows of the run."""
        return int(pc.sum(self.table["rows"]).as_py() or 0)

    def with_object(self, value: Any) -> list[RowGroup]:
        """Return the row groups whose span of object_id holds `value`, an int or str as the column is."""
        low, high = self.table["object_id_min"], self.table["object_id_max"]
        wanted = pa.scalar(value, low.type)
        inside = pc.and_kleene(pc.less_equal(low, wanted), pc.greater_equal(high, wanted))
        return self._where(pc.fill_null(inside, True).to_numpy())

    def within(self, ra: float, dec: float, radius: float) -> list[RowGroup]:
        """Return the row groups that may hold an object within `radius` of a position, all in degrees."""
        radius += _SMALLEST_CONE  # a position on the very edge must not fall to a rounding error
        near = self._box_overlaps(ra, dec, radius)
        if f"{HEALPIX_COLUMN}_min" in self.table.column_names:
            near &= self._cells_overlap(ra, dec, radius)
        return self._where(near)

    def _where(self, mask: npt.NDArray[np.bool_]) -> list[RowGroup]:
        rows = self.table.select(["file", "row_group", "rows"]).filter(pa.array(mask)).to_pylist()
        return [RowGroup(row["file"], row["row_group"], row["rows"]) for row in rows]

    def _floats(self, name: str) -> npt.NDArray[np.float64]:
        return np.asarray(self.table[name].to_numpy(), np.float64)

    def _box_overlaps(self, ra: float, dec: float, radius: float) -> npt.NDArray[np.bool_]:
        # A comparison with NaN is false, so what is told apart is what certainly lies outside.
        low, high = self._floats("dec_min"), self._floats("dec_max")
        outside = (high < dec - radius) | (low > dec + radius)
        # Without any position a row group has no statistics at all, and no row that lies in a cone.
        outside |= np.isnan(low) & self._no_position()
        half_width = _half_width(dec, radius)
        if half_width < 180.0:
            left, right = self._floats("ra_min"), self._floats("ra_max")
            missed = np.ones(len(low), bool)
            for turn in (-720.0, -360.0, 0.0, 360.0, 720.0):
                missed &= (right < ra + turn - half_width) | (left > ra + turn + half_width)
            outside |= missed
        return ~outside

    def _no_position(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.table["without_position"].to_numpy(zero_copy_only=False), bool)

    def _cells_overlap(self, ra: float, dec: float, radius: float) -> npt.NDArray[np.bool_]:
        ranges = cone_ranges(ra, dec, radius)
        low = self.table[f"{HEALPIX_COLUMN}_min"].to_numpy()
        high = self.table[f"{HEALPIX_COLUMN}_max"].to_numpy()
        # The first range that ends after a row group's first cell must begin before its last cell ends.
        first = np.searchsorted(ranges[:, 1], low, side="right")
        begins = np.append(ranges[:, 0], np.iinfo(np.int64).max)[first]
        overlap: npt.NDArray[np.bool_] = np.isnan(low.astype(float)) | (begins <= high)
        return overlap


def cone_ranges(ra: float, dec: float, radius: float) -> npt.NDArray[np.int64]:
    """Return the HEALPix cells of order 29 (nested) that cover a cone: int64 (k, 2), half-open, ascending, disjoint."""
    from astropy.coordinates import Latitude, Longitude
    from astropy.units import deg
    from cdshealpix.nested import cone_search

    radius = max(radius, _SMALLEST_CONE)
    depth = _depth(radius)
    cells, depths, _ = cone_search(Longitude(ra, deg), Latitude(dec, deg), radius * deg, depth)
    shift = (2 * (29 - depths.astype(np.int64))).astype(np.int64)
    begin = cells.astype(np.int64) << shift
    order = np.argsort(begin)
    begin, end = begin[order], (begin + (np.int64(1) << shift))[order]
    new = np.append(True, begin[1:] > end[:-1])
    return np.stack([begin[new], end[np.append(np.flatnonzero(new)[1:] - 1, len(end) - 1)]], axis=1)


def build_index(run: Location, files: Sequence[str]) -> RowGroupIndex:
    """Return the index of a run's files from their footers.

    Parameters
    ----------
    run : Location
        The run's folder.
    files : sequence of str
        Keys of its dataset's files.
    """
    with ThreadPoolExecutor(READERS) as pool:
        parts = list(pool.map(lambda key: _file_rows(run, key), files))
    return RowGroupIndex(pa.concat_tables(parts, promote_options="default") if parts else _empty())


def write_index(run: Location, index: RowGroupIndex) -> None:
    """Store an index in its run's folder."""
    with (run / INDEX_NAME).atomic_output() as sink:
        pq.write_table(index.table, sink, compression="zstd")


def read_index(run: Location) -> RowGroupIndex:
    """Return the stored index of a run. Raises FileNotFoundError."""
    with (run / INDEX_NAME).open_input() as stream:
        return RowGroupIndex(pq.read_table(stream))


def _file_rows(run: Location, key: str) -> pa.Table:
    with (run / key).open_input() as stream, pq.ParquetFile(stream) as file:
        schema, metadata = file.schema_arrow, file.metadata
    names = [name for name in _SPANNED if name in schema.names]
    columns = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    content: dict[str, pa.Array] = {
        "file": pa.array([key] * len(groups), pa.string()),
        "row_group": pa.array(range(len(groups)), pa.int32()),
        "rows": pa.array([group.num_rows for group in groups], pa.int64()),
    }
    without = [False] * len(groups)
    for name in names:
        kind = schema.field(name).type
        found = [group.column(columns[name]).statistics for group in groups]
        content[f"{name}_min"] = pa.array([_bound(s, "min") for s in found], kind)
        content[f"{name}_max"] = pa.array([_bound(s, "max") for s in found], kind)
        if name in {"ra", "dec"}:
            without = [
                done or (s is not None and s.has_null_count and s.null_count == group.num_rows)
                for done, s, group in zip(without, found, groups, strict=True)
            ]
    return pa.table(content | {"without_position": pa.array(without, pa.bool_())})


def _bound(statistics: Any, name: str) -> Any:
    return getattr(statistics, name) if statistics is not None and statistics.has_min_max else None


def _empty() -> pa.Table:
    columns: dict[str, pa.DataType] = {"file": pa.string(), "row_group": pa.int32(), "rows": pa.int64()}
    columns |= {"object_id_min": pa.int64(), "object_id_max": pa.int64(), "without_position": pa.bool_()}
    columns |= {f"{name}_{end}": pa.float64() for name in ("ra", "dec") for end in ("min", "max")}
    return pa.schema(list(columns.items())).empty_table()


def _half_width(dec: float, radius: float) -> float:
    """Return how far in right ascension a cone reaches to either side [deg]; 180 where it holds a pole."""
    if abs(dec) + radius >= 90.0:
        return 180.0
    return float(np.degrees(np.arcsin(np.sin(np.radians(radius)) / np.cos(np.radians(dec)))))


def _depth(radius: float) -> int:
    """Return the HEALPix order whose cells are some 16 times smaller than a cone: a few hundred fit it closely."""
    return int(np.clip(np.floor(np.log2(58.6 / radius)) + 4, 3, 24))
