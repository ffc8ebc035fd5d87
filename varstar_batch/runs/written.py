"""What a run writes of a partition: a file that is created once, its bytes following from its input; times beside.

Whoever does the same work at the same time, or wakes up late, finds the file there and takes it as it is. A run that is
closed (its account is written) takes no further file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.run_files.tables import ACCOUNT, RECORDS_KEY, add_counts
from varstar_batch.errors import PartitionError
from varstar_batch.files.digests import HashingSink
from varstar_batch.files.location import Location, write_json
from varstar_batch.runs.records import ChunkRecord

_MEASURED: dict[str, Any] = {
    "seconds": {},
    "started": 0.0,
    "worker": "",
    "classifier": "",
    "peak_memory": 0,
    "retries": 0,
}
"""Fields of a record that differ from one try to the next, as they are where nobody knows them."""

_OF_FILE: dict[str, Any] = {"bytes_out": 0, "sha256": ""}
"""Fields of a record that only the finished file tells."""


@contextmanager
def new_catalog_file(run: Location, target: Location) -> Iterator[HashingSink]:
    """Open a catalog file for writing; it appears whole when the block ends, and its hash is known.

    Raises
    ------
    FileExistsError
        It is there already: another process did the same.
    PartitionError
        Kind ``"closed"``: the run is.
    """
    with target.atomic_output(exclusive=True) as stream:
        yield HashingSink(stream.write)
    check_open(run, target)


def check_open(run: Location, target: Location) -> None:
    """Take a new catalog file back where its run was closed meanwhile: who closed it does not know of the file.

    Raises
    ------
    PartitionError
        Kind ``"closed"``.
    """
    account = run / ACCOUNT
    try:
        account.fs.cat_file(account.path, start=0, end=1)  # one request, where to ask whether it is there takes two
    except FileNotFoundError:
        return
    target.remove()
    raise PartitionError(
        kind="closed",
        expected="a run that is still being classified",
        got="one that another process has finished meanwhile",
        where=str(target),
        fix="look at it with `varstar runs`; the same command begins what is missing anew",
    )


def write_measured(work: Location, record: ChunkRecord) -> None:
    """Leave in a local run's work folder what was measured of a partition, for a run that is resumed.

    On an object store it would be a request more for each partition, for nothing but times of those done before.
    """
    if work.is_local:
        write_json(_measured_file(work, record.partition), {name: getattr(record, name) for name in _MEASURED})


def with_record(schema: pa.Schema, record: ChunkRecord, *, measured: bool = False) -> pa.Schema:
    """Return a schema that carries a record: the file itself says what it holds. `measured` only in parts of a file."""
    left_out = _OF_FILE if measured else _OF_FILE | _MEASURED
    content = {name: value for name, value in asdict(record).items() if name not in left_out}
    return schema.with_metadata((schema.metadata or {}) | {RECORDS_KEY: json.dumps(content)})


def read_record(location: Location, measured: Mapping[str, Any] | None = None) -> ChunkRecord:
    """Return the record that a catalog file or a part of one carries. Raises FileNotFoundError."""
    with location.open_input() as stream:
        metadata = pq.read_schema(stream).metadata
    return ChunkRecord(**{**_MEASURED, **_OF_FILE, **(measured or {}), **json.loads(metadata[RECORDS_KEY])})


def read_written(work: Location, target: Location, partition: str) -> ChunkRecord:
    """Return the record of a partition that is finished, from its file and what was measured.

    Raises FileNotFoundError.
    """
    try:
        measured = json.loads(_measured_file(work, partition).read_bytes())
    except (FileNotFoundError, ValueError):
        measured = None  # of another run, removed with the work of a run that is finished, or cut short
    content = target.read_bytes()
    record = read_record(target, measured)
    return replace(record, bytes_out=len(content), sha256=hashlib.sha256(content).hexdigest())


def combined(records: Sequence[ChunkRecord]) -> ChunkRecord:
    """Return the record of a partition from those of its chunks."""
    counts: dict[str, Any] = {
        name: add_counts(getattr(record, name) for record in records)
        for name in ("status", "classes", "periods", "dropped", "labels")
    }
    for name in ("rows", "observations", "bytes_in"):
        counts[name] = sum(getattr(record, name) for record in records)
    seconds: dict[str, float] = {}
    for record in records:
        for stage, value in record.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    peak = max(record.peak_memory for record in records)
    return replace(records[0], chunk=0, chunks=1, seconds=seconds, peak_memory=peak, **counts)


def _measured_file(work: Location, partition: str) -> Location:
    return work / f"measured/{partition}.json"
