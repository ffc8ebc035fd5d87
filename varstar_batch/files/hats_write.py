"""What makes a run of a HATS survey a HATS catalog itself: properties, pixel list, metadata files, map of the sky.

Everything is written with the `hats` library, whose import takes seconds and so stays inside of the functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch._version import __version__
from varstar_batch.files.location import Location, listed
from varstar_batch.files.parquet import WHOLE
from varstar_batch.sky import HEALPIX_COLUMN, cells_of

METADATA_PARTITIONS = 2_000
"""Beyond this there is no `_metadata`, which holds every footer, and HATS does without it: to write it takes 100 kB of
memory for each, and to read it as much."""

SKYMAP_ORDERS = (6, 10)
"""Least and greatest HEALPix order of the map of the sky: cells of 0.9 degrees (400 kB) to 3.4 arcmin (100 MB)."""

_READERS = 4

_THUMBNAIL_ROWS = 1_000
"""Written at once."""

_NOT_INHERITED = {
    # Of columns and sizes that the survey has and its catalog has not.
    "hats_col_healpix",
    "hats_col_healpix_order",
    "hats_cols_default",
    "hats_cols_sort",
    "hats_cols_survey_id",
    "hats_coordinate_epoch",
    "hats_max_rows",
    "hats_max_bytes",
    "hats_skymap_alt_orders",
    "hats_primary_table_url",
    "hats_frame",
}


def finish_hats(run: Location, files: Sequence[str], properties: Mapping[str, str], record: Mapping[str, Any]) -> None:
    """Add to a run's folder what makes it a HATS catalog.

    Parameters
    ----------
    run : Location
        The run's folder; its dataset is complete.
    files : sequence of str
        Keys of the dataset's files, one or more, of the form ``dataset/Norder=*/Dir=*/Npix=*``.
    properties : mapping of str to str
        ``hats.properties`` of the survey.
    record : mapping
        The run's record (``run.json``).
    """
    from hats.catalog import PartitionInfo, TableProperties
    from hats.io.paths import get_healpix_from_path
    from hats.io.skymap import write_skymap
    from hats.pixel_math.healpix_pixel_function import get_pixel_argsort
    from upath import UPath

    base = UPath(str(run), **({} if run.is_local else run.fs.storage_options))
    cells = [get_healpix_from_path(key) for key in files]
    pixels = PartitionInfo(cells)
    order = int(np.clip(pixels.get_highest_order(), *SKYMAP_ORDERS))
    schema, parts, counts = _look(run, files, order)
    _write_metadata(run, [parts[number] for number in get_pixel_argsort(cells)], schema)
    pixels.write_to_file(catalog_path=base)
    write_skymap(counts, base)
    described = _properties(properties, record, run, order=order, coverage=pixels.calculate_fractional_coverage())
    if HEALPIX_COLUMN in schema.names:
        described |= {"hats_col_healpix": HEALPIX_COLUMN, "hats_col_healpix_order": 29}
    TableProperties(**described).to_properties_file(base)


def sky_histogram(run: Location, files: Sequence[str], order: int) -> npt.NDArray[np.int64]:
    """Return the number of objects in every HEALPix cell of an order (nested): int64 (12 * 4**order,)."""

    def count(key: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        with (run / key).open_input() as stream, pq.ParquetFile(stream) as parquet:
            return _cell_counts(parquet, order)

    counts = np.zeros(12 * 4**order, np.int64)
    with ThreadPoolExecutor(_READERS) as pool:
        for cells, found in pool.map(count, files):
            counts[cells] += found
    return counts


@dataclass(frozen=True, eq=False)
class _Part:
    """What a catalog's own files take from one of the dataset."""

    first: bytes
    """Its first row as Arrow's IPC has it (an open record batch of one row takes 40 kB); nothing where it has no rows.
    """
    footer: pq.FileMetaData | None
    """None where footers are not kept."""


def _look(run: Location, files: Sequence[str], order: int) -> tuple[pa.Schema, list[_Part], npt.NDArray[np.int64]]:
    """Read what is needed of each file; return the schema of the first, and the objects in every cell of the sky."""
    # hats' own function asks an object store nine times for each file, one file after the other.
    look = partial(_look_at, listed(run), order=order, keep_footer=len(files) <= METADATA_PARTITIONS)
    counts = np.zeros(12 * 4**order, np.int64)
    schema: pa.Schema | None = None
    parts = []
    with ThreadPoolExecutor(_READERS) as pool:
        for its_schema, part, (cells, found) in pool.map(look, files):
            schema = schema or its_schema
            parts.append(part)
            counts[cells] += found
    return schema, parts, counts


def _look_at(
    run: Location, key: str, *, order: int, keep_footer: bool
) -> tuple[pa.Schema, _Part, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    with _opened(run / key) as stream, pq.ParquetFile(stream) as parquet:
        first = b"".join(batch.serialize().to_pybytes() for batch in islice(parquet.iter_batches(batch_size=1), 1))
        footer = parquet.metadata if keep_footer else None
        if footer is not None:
            footer.set_file_path(key.removeprefix("dataset/"))
        return parquet.schema_arrow, _Part(first, footer), _cell_counts(parquet, order)


def _opened(file: Location) -> BinaryIO:
    """Open a file of a folder that is `listed`: one request, unless it is large."""
    is_small = not file.is_local and file.fs.size(file.path) <= WHOLE
    return BytesIO(file.read_bytes()) if is_small else file.open_input()


def _cell_counts(parquet: pq.ParquetFile, order: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if HEALPIX_COLUMN in parquet.schema_arrow.names:
        column = parquet.read(columns=[HEALPIX_COLUMN])[HEALPIX_COLUMN]
        cells = column.drop_null().to_numpy() >> (2 * (29 - order))
    else:
        rows = parquet.read(columns=["ra", "dec"])
        cells = cells_of(rows["ra"].to_numpy(), rows["dec"].to_numpy(), order)
        cells = cells[cells >= 0]
    unique, counts = np.unique(cells, return_counts=True)
    return unique.astype(np.int64), counts.astype(np.int64)


def _write_metadata(run: Location, parts: Sequence[_Part], schema: pa.Schema) -> None:
    """Write `_metadata` (where footers are kept), `_common_metadata` and the thumbnail, in the order of `parts`."""
    # What belongs to one file must not stand for all.
    kept = {key: value for key, value in (schema.metadata or {}).items() if not key.startswith(b"varstar.")}
    schema = schema.with_metadata(kept)
    with (run / "dataset/_common_metadata").atomic_output() as sink:
        pq.write_metadata(schema, sink)
    footers = [part.footer for part in parts if part.footer is not None]
    if footers:
        empty = BytesIO()
        pq.write_metadata(schema, empty)
        together = pq.read_metadata(BytesIO(empty.getvalue()))
        for footer in footers:
            together.append_row_groups(footer)
        with (run / "dataset/_metadata").atomic_output() as sink:
            together.write_metadata_file(sink)
    rows = [part.first for part in parts if part.first]
    with (
        (run / "data_thumbnail.parquet").atomic_output() as sink,
        pq.ParquetWriter(sink, schema, compression="zstd") as writer,
    ):
        for start in range(0, len(rows), _THUMBNAIL_ROWS):
            batches = [pa.ipc.read_record_batch(pa.py_buffer(row), schema) for row in rows[start:][:_THUMBNAIL_ROWS]]
            writer.write_table(pa.Table.from_batches(batches, schema))


def _properties(
    survey: Mapping[str, str], record: Mapping[str, Any], run: Location, *, order: int, coverage: float
) -> dict[str, Any]:
    from hats.catalog import TableProperties

    name = survey.get("obs_collection", "survey")
    model = record["model"]
    inherited = {key: value for key, value in survey.items() if key not in _NOT_INHERITED}
    mine = {
        "obs_collection": f"{name}_variability",
        "obs_title": f"Classes of the variable stars of {name}",
        "obs_description": "Class probabilities from phase-folded light curves by a one-dimensional CNN",
        "dataproduct_type": "object",
        "hats_nrows": record["rows"],
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_skymap_order": order,
        "moc_sky_fraction": round(coverage, 5),
        "prov_progenitor": record["survey"],
        "varstar_run_id": record["run_id"],
        "varstar_model": f"{model['name']} {model['version']}",
        "varstar_model_hash": model["hash"],
        "varstar_code_version": record["code_version"],
        "varstar_fingerprint": record["fingerprint"],
    }
    builder = f"varstar-batch v{record['code_version']}"
    provenance: dict[str, Any] = TableProperties.new_provenance_dict(builder=builder)
    # Given the folder, that library asks a store twice for each file's size, where a listing has them all.
    provenance["hats_estsize"] = sum(info.size for info in run.files()) // 1024
    # That library dates every catalog's release to one fixed day.
    provenance["hats_release_date"] = record["finished"][:10]
    return inherited | mine | provenance


def finish_hats_survey(folder: Location, keys: Sequence[str], name: str, rows: int) -> None:
    """Add to a folder, whose dataset is complete, what makes it a HATS catalog.

    Parameters
    ----------
    folder : Location
    keys : sequence of str
        Of the dataset's files.
    name : str
        Of the catalog.
    rows : int
        Objects in it.
    """
    from hats.catalog import PartitionInfo, TableProperties
    from hats.io.parquet_metadata import write_parquet_metadata
    from hats.io.paths import get_healpix_from_path
    from hats.io.skymap import write_skymap
    from upath import UPath

    base = UPath(str(folder), **({} if folder.is_local else folder.fs.storage_options))
    pixels = PartitionInfo([get_healpix_from_path(key) for key in keys])
    order = int(np.clip(pixels.get_highest_order(), *SKYMAP_ORDERS))
    write_parquet_metadata(base, create_thumbnail=False, create_metadata=len(keys) <= METADATA_PARTITIONS)
    pixels.write_to_file(catalog_path=base)
    write_skymap(sky_histogram(folder, keys, order), base)
    properties = {
        "obs_collection": name,
        "obs_title": f"Light curves of {name}",
        "dataproduct_type": "object",
        "hats_nrows": rows,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": HEALPIX_COLUMN,
        "hats_col_healpix_order": 29,
        "hats_skymap_order": order,
        "moc_sky_fraction": round(pixels.calculate_fractional_coverage(), 5),
    }
    provenance = TableProperties.new_provenance_dict(base, builder=f"varstar-batch v{__version__}")
    TableProperties(**properties, **provenance).to_properties_file(base)
