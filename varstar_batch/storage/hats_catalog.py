"""What makes a run of a HATS survey a HATS catalog itself: properties, pixel list, metadata files, map of the sky.

Everything is written with the `hats` library, whose import takes seconds and so stays inside of the functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from varstar_batch.storage.columns import HEALPIX_COLUMN
from varstar_batch.storage.files import Location
from varstar_batch.storage.sky_cells import cells_of

METADATA_PARTITIONS = 2_000
"""Beyond this there is no `_metadata`, which holds every footer, and HATS does without it: to write it takes 100 kB of
memory for each, and to read it as much."""

SKYMAP_ORDERS = (6, 10)
"""Least and greatest HEALPix order of the map of the sky: cells of 0.9 degrees (400 kB) to 3.4 arcmin (100 MB)."""

_READERS = 4

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
    from hats.io.parquet_metadata import write_parquet_metadata
    from hats.io.paths import get_healpix_from_path
    from hats.io.skymap import write_skymap
    from upath import UPath

    base = UPath(str(run), **({} if run.is_local else run.fs.storage_options))
    pixels = PartitionInfo([get_healpix_from_path(key) for key in files])
    order = int(np.clip(pixels.get_highest_order(), *SKYMAP_ORDERS))
    write_parquet_metadata(base, create_thumbnail=True, create_metadata=len(files) <= METADATA_PARTITIONS)
    columns = _write_common_metadata(run, files[0])
    pixels.write_to_file(catalog_path=base)
    write_skymap(sky_histogram(run, files, order), base)
    described = _properties(properties, record, base, order=order, coverage=pixels.calculate_fractional_coverage())
    if HEALPIX_COLUMN in columns:
        described |= {"hats_col_healpix": HEALPIX_COLUMN, "hats_col_healpix_order": 29}
    TableProperties(**described).to_properties_file(base)


def sky_histogram(run: Location, files: Sequence[str], order: int) -> npt.NDArray[np.int64]:
    """Return the number of objects in every HEALPix cell of an order (nested): int64 (12 * 4**order,)."""
    counts = np.zeros(12 * 4**order, np.int64)
    with ThreadPoolExecutor(_READERS) as pool:
        for cells, found in pool.map(lambda key: _cell_counts(run / key, order), files):
            counts[cells] += found
    return counts


def _cell_counts(file: Location, order: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    with file.open_input() as stream, pq.ParquetFile(stream) as parquet:
        if HEALPIX_COLUMN in parquet.schema_arrow.names:
            column = parquet.read(columns=[HEALPIX_COLUMN])[HEALPIX_COLUMN]
            cells = column.drop_null().to_numpy() >> (2 * (29 - order))
        else:
            rows = parquet.read(columns=["ra", "dec"])
            cells = cells_of(rows["ra"].to_numpy(), rows["dec"].to_numpy(), order)
            cells = cells[cells >= 0]
    unique, counts = np.unique(cells, return_counts=True)
    return unique.astype(np.int64), counts.astype(np.int64)


def _write_common_metadata(run: Location, first: str) -> list[str]:
    # hats takes the schema of the first file with all its metadata; what belongs to that one file must not stay.
    with (run / first).open_input() as stream:
        schema = pq.read_schema(stream)
    kept = {key: value for key, value in schema.metadata.items() if not key.startswith(b"varstar.")}
    with (run / "dataset/_common_metadata").atomic_output() as sink:
        pq.write_metadata(schema.with_metadata(kept), sink)
    return list(schema.names)


def _properties(
    survey: Mapping[str, str], record: Mapping[str, Any], base: Any, *, order: int, coverage: float
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
    provenance: dict[str, Any] = TableProperties.new_provenance_dict(base, builder=builder)
    # That library dates every catalog's release to one fixed day.
    provenance["hats_release_date"] = record["finished"][:10]
    return inherited | mine | provenance
