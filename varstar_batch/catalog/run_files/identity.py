"""Whether a survey's files are still those that a run has read: by size and version, or else by content."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq

from varstar_batch.catalog.run_files.root import output_key
from varstar_batch.catalog.run_files.tables import RECORDS_KEY
from varstar_batch.files.digests import digest_of
from varstar_batch.files.location import Location, same_place
from varstar_batch.files.parquet import read_table
from varstar_batch.parallel import in_order
from varstar_batch.survey.open import Partition, Survey

_READERS = 8

_SHOWN = 3


def with_known_versions(survey: Survey, run: Location) -> Survey:
    """Return a survey in which files with the bytes that a run has read have the versions that it was planned with.

    A copy, or a file that was touched, has another time of modification: its content tells that it is the same. On an
    object store its version is of the content already.

    Parameters
    ----------
    survey : Survey
    run : Location
        The run's folder. The files of its catalog say what the survey's files were.
    """
    place, layout = survey.source.location, survey.source.layout
    planned = _planned(run) if place.is_local else {}
    # Files of two folders may have one time and one size: there only their content tells.
    trusted = bool(planned) and same_place(json.loads((run / "plan.json").read_bytes())["survey"], survey.source.url)

    def settled(partition: Partition) -> Partition:
        size, version = planned.get(partition.key, (-1, ""))
        if size != partition.size or (trusted and version == partition.version):
            return partition
        then = _input_digest(run / output_key(layout, partition.key))
        now = _content(place.path, partition.key, partition.version)
        if then and then == now:
            return replace(partition, version=version)
        return replace(partition, version=f"{version}:{now}") if version == partition.version else partition

    if not planned or (trusted and all(planned.get(p.key, (0, p.version))[1] == p.version for p in survey.partitions)):
        return survey
    return replace(survey, partitions=tuple(in_order(settled, survey.partitions, _READERS)))


def changed_files(survey: Survey, run: Location) -> str:
    """Return in a few words which files of a survey are not those that a run was planned with; empty for none."""
    then = _planned(run)
    now = {partition.key: (partition.size, partition.version) for partition in survey.partitions}
    kinds = {
        "changed": [key for key in now if key in then and now[key] != then[key]],
        "new": [key for key in now if key not in then],
        "gone": [key for key in then if key not in now],
    }
    return ", ".join(
        f"{len(keys):,} files of the survey {kind}: " + ", ".join([*keys[:_SHOWN], "..."][: len(keys)])
        for kind, keys in kinds.items()
        if keys
    )


def _planned(run: Location) -> dict[str, tuple[int, str]]:
    try:
        rows = read_table(run / "plan.parquet").to_pylist()
    except FileNotFoundError:
        return {}
    return {row["partition"]: (row["size"], row["version"]) for row in rows}


def _input_digest(file: Location) -> str | None:
    """Return the SHA-256 of the survey's file that a catalog file was made of; None where that is not known."""
    try:
        with file.open_input() as stream:
            metadata = pq.read_schema(stream).metadata or {}
        record = json.loads(metadata.get(RECORDS_KEY, b"{}"))
    except (OSError, ValueError):  # not written yet, or damaged
        return None
    return record.get("input_sha256") if isinstance(record, dict) else None


@lru_cache(maxsize=100_000)
def _content(folder: str, key: str, version: str) -> str | None:
    del version  # another one is another content
    return digest_of(Path(folder) / key if key else Path(folder))
