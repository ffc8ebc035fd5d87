"""`varstar verify`: whether a published run is still what it was when it was published, byte by byte, row by row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.catalog.reader import CatalogReader
from varstar_batch.catalog.run_files.checks import Finding, dataset_findings
from varstar_batch.catalog.run_files.finish import MANIFEST, fingerprint_file
from varstar_batch.catalog.run_files.identity import with_known_versions
from varstar_batch.catalog.run_files.root import output_key
from varstar_batch.catalog.run_files.tables import RUN_RECORD, add_counts
from varstar_batch.errors import PartitionError, one_line
from varstar_batch.files.location import Location
from varstar_batch.files.parquet import opened_parquet, read_table
from varstar_batch.parallel import in_order
from varstar_batch.survey.open import Partition, Survey
from varstar_batch.survey.read import partition_shape

_READERS = 8


def verify_catalog(reader: CatalogReader, survey: Survey | None = None) -> list[Finding]:
    """Check a published run: every file by size and SHA-256, every row, and the survey's objects if it is given.

    Parameters
    ----------
    reader : CatalogReader
        The run.
    survey : Survey, optional
        What was classified; then every object_id of it must be in the catalog, and no other.

    Returns
    -------
    list of Finding
        Empty if all is well.
    """
    run = reader.run
    try:
        record = _with_keys(json.loads((run / RUN_RECORD).read_bytes()), ("layout", "rows", "status", "classes"))
        expected = _with_keys(json.loads((run / MANIFEST).read_bytes()))
        for entry in expected.values():
            _with_keys(entry, ("bytes", "sha256"))
        partitions = read_table(run / "partitions.parquet").to_pylist()
        plan = {row["partition"]: row for row in read_table(run / "plan.parquet").to_pylist()}
        failures = read_table(run / "failures.parquet")["partition"].to_pylist()
    except FileNotFoundError as error:
        return [
            Finding("lost", str(error.filename or run), "a file without which the run cannot be verified is missing")
        ]
    except (ValueError, OSError) as error:  # JSON's, Unicode's and Arrow's; of damaged Parquet Arrow makes an OSError
        return [Finding("damaged", str(run), f"a record of the run cannot be read: {one_line(error)}")]
    keys = {output_key(record["layout"], entry["partition"]): entry for entry in partitions}
    findings = [*_checksums(reader, expected | keys), *_unexpected(reader, expected, keys)]
    findings += _totals(record, partitions, plan, failures)
    findings += _sealed(reader)
    found = dataset_findings(run, {key: entry["rows"] for key, entry in keys.items()})
    findings += [finding for finding in found if finding.kind != "lost"]  # told by its checksum already
    if survey is not None:
        findings += _against_survey(reader, survey, plan, keys)
    return findings


def _with_keys(content: Any, keys: Collection[str] = ()) -> dict[str, Any]:
    """Return a record that is a mapping and has the keys; one flipped bit may have renamed any of them."""
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        raise ValueError(f"not a mapping with {', '.join(keys) or 'files'}")
    return content


def _checksums(reader: CatalogReader, expected: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    def read(key: str) -> dict[str, Any] | None:
        try:
            return fingerprint_file(reader.run / key)
        except FileNotFoundError:
            return None

    for (key, said), found in zip(expected.items(), in_order(read, expected, _READERS), strict=True):
        if found is None:
            yield Finding("lost", key, "the file is missing")
        elif found["bytes"] != said["bytes"]:
            yield Finding("size", key, f"{found['bytes']} bytes instead of {said['bytes']}")
        elif found["sha256"] != said["sha256"]:
            yield Finding("checksum", key, f"SHA-256 {found['sha256'][:12]}... instead of {said['sha256'][:12]}...")


def _unexpected(reader: CatalogReader, expected: Mapping[str, Any], keys: Mapping[str, Any]) -> Iterator[Finding]:
    for info in reader.run.files():
        if info.key not in expected and info.key not in keys and info.key != MANIFEST:
            yield Finding("unexpected", info.key, "the file does not belong to the run")


def _totals(
    record: Mapping[str, Any], partitions: list[dict[str, Any]], plan: Iterable[str], failures: list[str]
) -> Iterator[Finding]:
    written = [entry["partition"] for entry in partitions]
    # One that failed may be there all the same, with the rows of the run before.
    accounted = Counter([*written, *({*failures} - {*written})])
    for key in plan:
        if accounted[key] != 1:
            yield Finding("partition", key, f"planned once, accounted for {accounted[key]} times")
    sums = {
        "rows": sum(entry["rows"] for entry in partitions),
        "status": add_counts(dict(entry["status"]) for entry in partitions),
        "classes": add_counts(dict(entry["classes"]) for entry in partitions),
    }
    for name, total in sums.items():
        if total != record[name]:
            yield Finding("totals", RUN_RECORD, f"{name}: {record[name]}, but the partitions add up to {total}")


def _sealed(reader: CatalogReader) -> Iterator[Finding]:
    """Compare what the gate of the run found with what it had found when the run was published."""
    catalog, run_id = reader.catalog, reader.run_id
    said = {pointer.gate_sha256 for pointer in catalog.history() if pointer.run_id == run_id} - {""}
    if said - {catalog.gate_sha256(run_id)}:
        yield Finding("checksum", f"gates/{run_id}.json", "not what the gate had found when the run was published")


def _against_survey(
    reader: CatalogReader, survey: Survey, plan: Mapping[str, Mapping[str, Any]], written: Collection[str]
) -> Iterator[Finding]:
    survey = with_known_versions(survey, reader.run)
    for partition in survey.partitions:
        key = output_key(reader.record["layout"], partition.key)
        if partition.key not in plan:
            yield Finding("survey", partition.key, "in the survey, but not in the run: it came later")
        elif key in written:
            yield from _objects(reader, survey, partition, key, plan[partition.key])
        else:
            rows = _rows(survey, partition)
            count = "the objects" if rows is None else f"all {rows:,} objects"
            yield Finding("objects", key, f"{count} of the survey are not in the catalog: the partition failed")
    for name in sorted(plan.keys() - {partition.key for partition in survey.partitions}):
        yield Finding("survey", name, "in the run, but no longer in the survey")


def _rows(survey: Survey, partition: Partition) -> int | None:
    try:
        return partition_shape(survey.source, partition).rows
    except (PartitionError, OSError):
        return None


def _objects(
    reader: CatalogReader, survey: Survey, partition: Partition, key: str, planned: Mapping[str, Any]
) -> Iterator[Finding]:
    if (planned["size"], planned["version"]) != (partition.size, partition.version):
        yield Finding("survey", partition.key, "the survey's file changed after the run")
    kind = reader.schema.field("object_id").type
    try:
        there = _identifiers(survey.source.location / partition.key, survey.source.columns.object_id, kind)
        mine = _identifiers(reader.run / key, "object_id", kind)
    except PartitionError as error:
        yield Finding(error.kind, partition.key, f"object_id cannot be compared: {error.got}")
        return
    lost, extra = np.setdiff1d(there, mine), np.setdiff1d(mine, there)
    if len(lost):
        yield Finding("objects", key, f"{len(lost)} objects of the survey are missing, for example {lost[0]}")
    if len(extra):
        yield Finding("objects", key, f"{len(extra)} objects are not in the survey, for example {extra[0]}")


def _identifiers(file: Location, column: str, kind: pa.DataType) -> np.ndarray[Any, Any]:
    with opened_parquet(file) as parquet:
        # The long form repeats an identifier for each observation: one batch at a time is all that is held.
        batches = parquet.iter_batches(columns=[column])
        unique = [pc.unique(batch.column(0).cast(kind)) for batch in batches]
    if any(ids.null_count for ids in unique):
        raise PartitionError(
            kind="null_object_id",
            expected=f"an identifier in {column!r} of every row",
            got="rows without one",
            where=str(file),
            fix="fill them or leave these rows out",
        )
    if not unique:
        return np.empty(0, object)
    return np.asarray(pc.unique(pa.concat_arrays(unique)).to_numpy(zero_copy_only=False))
