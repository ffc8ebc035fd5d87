"""The last files of a run before it is published: index, definitions, HATS, and the checksums of all of them."""

from __future__ import annotations

import hashlib
import importlib
import json
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from varstar_batch.catalog.run_files.id_index import ID_INDEX, gather_identifiers
from varstar_batch.catalog.run_files.index import INDEX_NAME, build_index
from varstar_batch.catalog.run_files.root import output_key
from varstar_batch.catalog.run_files.tables import ACCOUNT, CLAIM, RECORDS_KEY, RUN_RECORD, definition_tables
from varstar_batch.files.hats_relations import collection_properties, extension_properties
from varstar_batch.files.hats_write import HatsExtras, finish_hats
from varstar_batch.files.location import Location, json_bytes, listed, write_once
from varstar_batch.files.parquet import read_table, write_table
from varstar_batch.parallel import in_order
from varstar_batch.sky import HEALPIX_COLUMN

if TYPE_CHECKING:
    from varstar_batch.survey.open import Survey

MANIFEST = "manifest.json"
"""Size and SHA-256 of every file of a run except itself and the partitions, whose own are in ``partitions.parquet``."""

_PLANNED = (CLAIM, "plan.json", "plan.parquet")
_ACCOUNTED = (ACCOUNT, "partitions.parquet", "failures.parquet", RUN_RECORD)

_HASHED_AT_ONCE = 2**22

_READERS = 8

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


def finish_run_files(run: Location, survey: Survey, record: Mapping[str, Any]) -> None:
    """Write what a run needs besides its rows and records, so that it can be searched, opened by others and verified.

    Called after ``partitions.parquet`` and ``run.json`` are written and before the catalog's pointer moves. Each file
    is created once: doing it again, after a crash or beside another process, adds only what is missing.

    Parameters
    ----------
    run : Location
        The run's folder.
    survey : Survey
        What was classified.
    record : mapping
        The content of ``run.json``.
    """
    from varstar_batch.model.bundle_files import WRITTEN

    files = run_files(run, record["layout"])
    run.remove_unfinished()
    tables = {f"definitions/{name}.parquet": table for name, table in definition_tables(record).items()}
    tables[INDEX_NAME] = build_index(listed(run, files), files).table
    for key, table in tables.items():
        with suppress(FileExistsError):
            write_table(run / key, table, table.schema, exclusive=True)
    written = [*_PLANNED, *(f"model/{name}" for name in WRITTEN), *_ACCOUNTED, *tables]
    if record["layout"] == "hats" and files:
        properties = _hats_properties(survey.hats_properties or {}, record)
        with gather_identifiers() as identifiers:
            extras = HatsExtras(
                private=(RECORDS_KEY,),
                summaries=True,
                released=record["finished"][:10],
                identifier="object_id",
                take=identifiers.take,
            )
            written += finish_hats(run, files, properties, extras, write_once)
            written += identifiers.write(run, properties)
        written += _write_relations(run, survey, properties)
    write_once(run / MANIFEST, json_bytes(manifest(run, written)))


def _write_relations(run: Location, survey: Survey, properties: Mapping[str, Any]) -> list[str]:
    """Write what makes a run a collection with its index, and an extension of its survey; return the keys."""
    with (run / "dataset/_common_metadata").open_input() as stream:
        names = pq.read_schema(stream).names
    columns = [name for name in names if name not in {"object_id", "ra", "dec", HEALPIX_COLUMN}]
    primary = survey.source.columns.object_id
    made = collection_properties(run, properties, {"object_id": ID_INDEX})
    made |= extension_properties(run, survey.source.url, columns, primary=primary, joined="object_id")
    for key, content in made.items():
        write_once(run / key, content)
    return list(made)


def load_ahead(survey: Survey) -> threading.Thread:
    """Begin to import, beside other work, what `finish_run_files` will need: for HATS that takes seconds."""
    needed = "hats.catalog" if survey.source.layout == "hats" else __name__
    thread = threading.Thread(target=importlib.import_module, args=(needed,), name="load-ahead")
    thread.start()
    return thread


def run_files(run: Location, layout: str) -> list[str]:
    """Return the keys of a run's dataset files, as ``partitions.parquet`` has them. Raises FileNotFoundError."""
    partitions = read_table(run / "partitions.parquet")["partition"].to_pylist()
    return [output_key(layout, partition) for partition in partitions]


def manifest(run: Location, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of files of a run as they are now. Raises FileNotFoundError."""
    keys = sorted(keys)
    return dict(zip(keys, in_order(lambda key: fingerprint_file(run / key), keys, _READERS), strict=True))


def lost_files(run: Location) -> list[str]:
    """Return the files of a finished run that are not there, or not as large as they were; none of them is read."""
    try:
        expected = {name: entry["bytes"] for name, entry in json.loads((run / MANIFEST).read_bytes()).items()}
        record = json.loads((run / RUN_RECORD).read_bytes())
        for entry in read_table(run / "partitions.parquet").select(["partition", "bytes"]).to_pylist():
            expected[output_key(record["layout"], entry["partition"])] = entry["bytes"]
    except FileNotFoundError as error:
        return [str(error.filename or MANIFEST)]
    except (ValueError, OSError, KeyError, TypeError):  # damaged: JSON's, Unicode's, Arrow's, and of what they hold
        return [MANIFEST]
    there = run.sizes(expected)
    return sorted(key for key, size in expected.items() if there.get(key) != size)


def fingerprint_file(location: Location) -> dict[str, Any]:
    """Return the size in bytes and the SHA-256 of a file, read in pieces. Raises FileNotFoundError."""
    digest = hashlib.sha256()
    size = 0
    with location.open_input() as stream:
        while piece := stream.read(_HASHED_AT_ONCE):
            digest.update(piece)
            size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _hats_properties(survey: Mapping[str, str], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``hats.properties`` of a run: the survey's, and whose classes these are."""
    name, model = survey.get("obs_collection", "survey"), record["model"]
    inherited = {key: value for key, value in survey.items() if key not in _NOT_INHERITED}
    return inherited | {
        "obs_collection": f"{name}_variability",
        "obs_title": f"Classes of the variable stars of {name}",
        "obs_description": "Class probabilities from phase-folded light curves by a one-dimensional CNN",
        "hats_nrows": record["rows"],
        "prov_progenitor": record["survey"],
        "varstar_run_id": record["run_id"],
        "varstar_model": f"{model['name']} {model['version']}",
        "varstar_model_hash": model["hash"],
        "varstar_code_version": record["code_version"],
        "varstar_fingerprint": record["fingerprint"],
    }
