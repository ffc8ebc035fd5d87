"""What makes a folder of HEALPix pixels a HATS catalog: properties, pixel list, metadata files, map of the sky.

Everything is written with the `hats` library, whose import takes seconds and so stays inside of the functions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch._version import __version__
from varstar_batch.files.hats_statistics import StatisticsTable
from varstar_batch.files.location import Location, listed
from varstar_batch.files.parquet import WHOLE
from varstar_batch.parallel import in_order
from varstar_batch.sky import HEALPIX_COLUMN, cells_of

METADATA_PARTITIONS = 2_000
"""Beyond this there is no `_metadata`, which holds every footer, and HATS does without it: to write it takes 100 kB of
memory for each, and to read it as much."""

SKYMAP_ORDERS = (6, 10)
"""Least and greatest HEALPix order of the map of the sky: cells of 0.9 degrees (400 kB) to 3.4 arcmin (100 MB)."""

_READERS = 4

_THUMBNAIL_ROWS = 1_000
"""Written at once."""

_Cells = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Some cells of the sky, and the objects in each."""


@dataclass(frozen=True, kw_only=True)
class HatsExtras:
    """What a HATS catalog may have beyond the least."""

    private: Sequence[bytes] = ()
    """Keys of the files' metadata that belong to one file and must not stand for all."""
    summaries: bool = False
    """Whether to write ``data_thumbnail.parquet``, the first row of every file, and
    ``per_partition_statistics.parquet``, what every column of it spans."""
    released: str | None = None
    """Date of the release; by default the fixed day that `hats` gives to every catalog."""
    identifier: str | None = None
    """A column that is read, too."""
    take: Callable[[str, pa.ChunkedArray], None] = lambda _key, _values: None
    """Gets the key of every file, one after the other, and that column of it."""


def finish_hats(
    folder: Location,
    files: Sequence[str],
    properties: Mapping[str, Any],
    extras: HatsExtras | None = None,
    write: Callable[[Location, bytes], None] = Location.write_bytes,
) -> list[str]:
    """Add to a folder, whose dataset is complete, what makes it a HATS catalog of objects; return the keys of that.

    Parameters
    ----------
    folder : Location
    files : sequence of str
        Keys of the dataset's files, one or more, of the form ``dataset/Norder=*/Dir=*/Npix=*``. They have the columns
        ra and dec.
    properties : mapping
        Of ``hats.properties``, at least ``obs_collection`` and ``hats_nrows``; what the files themselves tell comes on
        top.
    extras : HatsExtras, optional
        None of them by default.
    write : callable
        Takes a file's location and content.
    """
    from hats.catalog import PartitionInfo, TableProperties
    from hats.io.paths import get_healpix_from_path
    from hats.io.skymap import write_skymap
    from hats.pixel_math.healpix_pixel_function import get_pixel_argsort
    from upath import UPath

    extras = extras or HatsExtras()
    cells = [get_healpix_from_path(key) for key in files]
    pixels = PartitionInfo(cells)
    order = int(np.clip(pixels.get_highest_order(), *SKYMAP_ORDERS))
    schema, parts, statistics, counts = _read_parts(folder, files, order, extras)
    schema = schema.with_metadata({k: v for k, v in (schema.metadata or {}).items() if k not in extras.private})
    sky_order = get_pixel_argsort(cells)
    parts = [parts[number] for number in sky_order]
    made = {"dataset/_common_metadata": (common := common_metadata(schema))}
    if footers := [part.footer for part in parts if part.footer is not None]:
        made["dataset/_metadata"] = joined_metadata(common, footers)
    if extras.summaries:
        made["data_thumbnail.parquet"] = _thumbnail([part.first for part in parts if part.first], schema)
        pixel = {"Norder": [cell.order for cell in cells], "Npix": [cell.pixel for cell in cells]}
        columns = {**pixel, "row_group_index": [0] * len(cells)} | dict(
            zip(statistics.column_names, statistics.columns, strict=True)
        )
        made["per_partition_statistics.parquet"] = _parquet_bytes(pa.table(columns).take(pa.array(sky_order)))
    told = {
        **properties,
        "dataproduct_type": "object",
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_skymap_order": order,
        "moc_sky_fraction": round(pixels.calculate_fractional_coverage(), 5),
    }
    if HEALPIX_COLUMN in schema.names:
        told |= {"hats_col_healpix": HEALPIX_COLUMN, "hats_col_healpix_order": 29}
    told |= _provenance(folder, files, extras)
    # That library writes in place, and nothing of it is on the disk when it returns.
    with tempfile.TemporaryDirectory() as place:
        base = UPath(place)
        pixels.write_to_file(catalog_path=base)
        write_skymap(counts, base)
        TableProperties(**told).to_properties_file(base)
        made |= {path.name: path.read_bytes() for path in sorted(Path(place).iterdir())}
    for key, content in made.items():
        write(folder / key, content)
    return list(made)


def _provenance(folder: Location, files: Sequence[str], extras: HatsExtras) -> dict[str, Any]:
    """Return the properties that say who made a catalog, when, and how large it is."""
    from hats.catalog import TableProperties

    told: dict[str, Any] = TableProperties.new_provenance_dict(builder=f"varstar-batch v{__version__}")
    # Given the folder, that library asks a store twice for each file's size, where a listing has them all.
    told["hats_estsize"] = sum(folder.sizes(files).values()) // 1024
    if extras.released is not None:
        told["hats_release_date"] = extras.released
    return told


def pixel_of(key: str) -> tuple[int, int]:
    """Return the HEALPix order and pixel that the key of a catalog's file names."""
    from hats.io.paths import get_healpix_from_path

    cell = get_healpix_from_path(key)
    return cell.order, cell.pixel


@dataclass(frozen=True, eq=False)
class _Part:
    """What a catalog's own files take from one of the dataset."""

    first: bytes
    """Its first row as Arrow's IPC has it (an open record batch of one row takes 40 kB); nothing where it has no rows.
    """
    footer: pq.FileMetaData | None
    """None where footers are not kept."""


def _read_parts(
    folder: Location, files: Sequence[str], order: int, extras: HatsExtras
) -> tuple[pa.Schema, list[_Part], pa.Table, npt.NDArray[np.int64]]:
    """Read what is needed of each file; return the schema of the first, what each file is like and its columns span,
    and the objects in every cell of the sky.
    """
    # hats' own function asks an object store nine times for each file, one file after the other.
    read = partial(_read_part, listed(folder, files), order=order, identifier=extras.identifier)
    counts = np.zeros(12 * 4**order, np.int64)
    schema: pa.Schema | None = None
    parts = []
    statistics = StatisticsTable()
    for key, (its_schema, footer, first, (cells, found), values) in zip(
        files, in_order(read, files, _READERS), strict=True
    ):
        schema = schema or its_schema
        parts.append(_Part(first, footer if len(files) <= METADATA_PARTITIONS else None))
        counts[cells] += found
        if extras.summaries:
            statistics.add(its_schema, footer)
        if values is not None:
            extras.take(key, values)
    return schema, parts, statistics.table(), counts


def _read_part(
    folder: Location, key: str, *, order: int, identifier: str | None
) -> tuple[pa.Schema, pq.FileMetaData, bytes, _Cells, pa.ChunkedArray | None]:
    with _opened(folder / key) as stream, pq.ParquetFile(stream) as parquet:
        first = b"".join(batch.serialize().to_pybytes() for batch in islice(parquet.iter_batches(batch_size=1), 1))
        footer = parquet.metadata
        footer.set_file_path(key.removeprefix("dataset/"))
        values = None if identifier is None else parquet.read(columns=[identifier])[identifier]
        return parquet.schema_arrow, footer, first, _count_cells(parquet, order), values


def _opened(file: Location) -> BinaryIO:
    """Open a file of a folder that is `listed`: one request, unless it is large."""
    is_small = not file.is_local and file.fs.size(file.path) <= WHOLE
    return BytesIO(file.read_bytes()) if is_small else file.open_input()


def _count_cells(parquet: pq.ParquetFile, order: int) -> _Cells:
    if HEALPIX_COLUMN in parquet.schema_arrow.names:
        column = parquet.read(columns=[HEALPIX_COLUMN])[HEALPIX_COLUMN]
        cells = column.drop_null().to_numpy() >> (2 * (29 - order))
    else:
        rows = parquet.read(columns=["ra", "dec"])
        cells = cells_of(rows["ra"].to_numpy(), rows["dec"].to_numpy(), order)
        cells = cells[cells >= 0]
    unique, counts = np.unique(cells, return_counts=True)
    return unique.astype(np.int64), counts.astype(np.int64)


def common_metadata(schema: pa.Schema) -> bytes:
    """Return the content of `_common_metadata`: a Parquet file without rows."""
    common = BytesIO()
    pq.write_metadata(schema, common)
    return common.getvalue()


def joined_metadata(common: bytes, footers: Sequence[pq.FileMetaData]) -> bytes:
    """Return the content of `_metadata`: the footers of all files, which know their paths, behind one another."""
    together = pq.read_metadata(BytesIO(common))
    for footer in footers:
        together.append_row_groups(footer)
    sink = BytesIO()
    together.write_metadata_file(sink)
    return sink.getvalue()


def _parquet_bytes(table: pa.Table) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _thumbnail(rows: Sequence[bytes], schema: pa.Schema) -> bytes:
    sink = BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for start in range(0, len(rows), _THUMBNAIL_ROWS):
            batches = [pa.ipc.read_record_batch(pa.py_buffer(row), schema) for row in rows[start:][:_THUMBNAIL_ROWS]]
            writer.write_table(pa.Table.from_batches(batches, schema))
    return sink.getvalue()
