"""The last files of a run before it is published: index, definitions, HATS, and the checksums of all of them."""

from __future__ import annotations

import hashlib
import importlib
import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.index import build_index, write_index
from varstar_batch.catalog.root import output_key
from varstar_batch.files.hats_write import finish_hats
from varstar_batch.files.location import TEMPORARY_PREFIX, Location, listed, write_json
from varstar_batch.files.parquet import read_table
from varstar_batch.survey.open import Survey

MANIFEST = "manifest.json"
"""Size and SHA-256 of every file of a run except itself and the partitions, whose own are in ``partitions.parquet``."""

_HASHED_AT_ONCE = 2**22
_READERS = 8


def finish_run_files(run: Location, survey: Survey, record: Mapping[str, Any]) -> None:
    """Write what a run needs besides its rows and records, so that it can be searched, opened by others and verified.

    Called after ``partitions.parquet`` and ``run.json`` are written and before the catalog's pointer moves. Doing it
    again, after a crash, writes the same.

    Parameters
    ----------
    run : Location
        The run's folder.
    survey : Survey
        What was classified.
    record : mapping
        The content of ``run.json``.
    """
    files = run_files(run, record["layout"])
    _remove_unfinished(run)
    write_index(run, build_index(listed(run), files))
    write_definitions(run, record)
    if record["layout"] == "hats" and files:
        finish_hats(run, files, survey.hats_properties or {}, record)
    write_json(run / MANIFEST, manifest(run, files))


def load_ahead(survey: Survey) -> threading.Thread:
    """Begin to import, beside other work, what `finish_run_files` will need: for HATS that takes seconds."""
    needed = "hats.catalog" if survey.source.layout == "hats" else __name__
    thread = threading.Thread(target=importlib.import_module, args=(needed,), name="load-ahead")
    thread.start()
    return thread


def _remove_unfinished(run: Location) -> None:
    # A worker that was killed while it wrote leaves a file that other readers of the folder would stumble over.
    for path in run.fs.find(run.path):
        if path.rsplit("/", 1)[-1].startswith(TEMPORARY_PREFIX):
            run.fs.rm_file(path)


def run_files(run: Location, layout: str) -> list[str]:
    """Return the keys of a run's dataset files, as ``partitions.parquet`` has them. Raises FileNotFoundError."""
    partitions = read_table(run / "partitions.parquet")["partition"].to_pylist()
    return [output_key(layout, partition) for partition in partitions]


def manifest(run: Location, partitions: list[str]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of a run's files as they are now, `partitions` and the manifest itself left out."""
    skipped = {*partitions, MANIFEST}
    # Parts of partitions are gone, or will be, when the run is published.
    keys = [info.key for info in run.files() if info.key not in skipped and not info.key.startswith("parts/")]
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(keys, pool.map(lambda key: fingerprint_file(run / key), keys), strict=True))


def fingerprint_file(location: Location) -> dict[str, Any]:
    """Return the size in bytes and the SHA-256 of a file, read in pieces. Raises FileNotFoundError."""
    digest = hashlib.sha256()
    size = 0
    with location.open_input() as stream:
        while piece := stream.read(_HASHED_AT_ONCE):
            digest.update(piece)
            size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


CLASS_DESCRIPTIONS = {
    "CEP": ("Cepheids", "Pulsating supergiants with periods of days to months: classical, type II and anomalous"),
    "DSCUT": ("delta Scuti stars", "Short-period pulsators of spectral type A to F, high-amplitude ones included"),
    "ECL": ("Eclipsing binaries", "Detached, semi-detached and contact binaries"),
    "M": ("Mira variables", "Long-period pulsating giants of large amplitude"),
    "RR": ("RR Lyrae stars", "Pulsating horizontal-branch stars, fundamental mode and overtone"),
    "SR": ("Semi-regular variables", "Giants and supergiants that pulsate with noticeable, disturbed periodicity"),
}
"""Name and description of the classes of the science; a bundle may bring others, which are described by their name."""


NAMES = ("run", "classifier", "class")


def definition_tables(record: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Return the tables ``run``, ``classifier`` and ``class`` of a run from its record (``run.json``)."""
    model = record["model"]
    classifier = f"{model['name']} {model['version']}"
    described = [CLASS_DESCRIPTIONS.get(name, (name, "")) for name in model["classes"]]
    run = {
        "run_id": record["run_id"],
        "classifier_name": classifier,
        "survey": record["survey"],
        "finished": record["finished"],
        "code_version": record["code_version"],
        "configuration": json.dumps(record["configuration"], sort_keys=True),
        "fingerprint": record["fingerprint"],
        "n_objects": record["rows"],
        "n_classified": record["status"].get("ok", 0),
        "n_failed_partitions": record["failed_partitions"],
    }
    definition = {
        "run_id": record["run_id"],
        "classifier_name": classifier,
        "classifier_description": f"{model['architecture']} on phase-folded light curves",
        "model_hash": model["hash"],
    }
    return {
        "run": pa.Table.from_pylist([run]),
        "classifier": pa.Table.from_pylist([definition]),
        "class": pa.table(
            {
                "run_id": [record["run_id"]] * len(described),
                "classifier_name": [classifier] * len(described),
                "class_name": list(model["classes"]),
                "class_title": [title for title, _ in described],
                "class_description": [text for _, text in described],
                "n_objects": [int(record["classes"].get(name, 0)) for name in model["classes"]],
            }
        ),
    }


def write_definitions(run: Location, record: Mapping[str, Any]) -> None:
    """Store the three tables in a run's folder ``definitions``."""
    for name, table in definition_tables(record).items():
        with (run / f"definitions/{name}.parquet").atomic_output() as sink:
            pq.write_table(table, sink, compression="zstd")
