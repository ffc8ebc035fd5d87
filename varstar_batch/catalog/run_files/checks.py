"""Checks of a run as it lies on storage: before it is published, and again whenever somebody asks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.run_files.index import READERS
from varstar_batch.catalog.sql.session import open_duckdb, quoted, scan
from varstar_batch.errors import ExitCode, PartitionError, VarstarError, one_line
from varstar_batch.files.location import Location, listed
from varstar_batch.files.parquet import opened_parquet
from varstar_batch.parallel import in_order

SUM_TOLERANCE = 1e-6
"""How far the probabilities of an object may be from adding up to 1: six roundings to float32 stay well below."""

MISSING = "no file"
"""What `read_footers` says of a file that is not there."""


class VerificationError(VarstarError):
    """What lies on storage is not what the run says: nothing is published."""

    exit_code = ExitCode.FAILURES


@dataclass(frozen=True)
class Finding:
    """Something that is off: its machine-readable kind, the file, and one line for people."""

    kind: str
    file: str
    message: str


def verify_run_files(run: Location, rows: Mapping[str, int], expected: Collection[str]) -> None:
    """Check that a run's files are all there, whole and sound, and that no object stands twice.

    Parameters
    ----------
    run : Location
        The run's folder.
    rows : mapping of str to int
        Rows by file (its key in the run's folder), as the workers counted them.
    expected : collection of str
        Files that must be there.

    Raises
    ------
    VerificationError
        Naming the first few differences.
    """
    wanted, got = f"all {len(expected)} partitions", ""
    if missing := sorted(set(expected) - set(rows)):
        got = f"none of {', '.join(missing[:3])}"
    elif findings := dataset_findings(listed(run, rows), rows):
        wanted = "the rows that were counted, sound, and every object_id once"
        got = "; ".join(f"{finding.file}: {finding.message}" for finding in findings[:3])
    if got:
        fix = "nothing was published; look at the run, or at partitions of the survey that share an object"
        raise VerificationError(expected=wanted, got=got, where=str(run), fix=fix)


def dataset_findings(run: Location, rows: Mapping[str, int]) -> list[Finding]:
    """Check a run's files by their footers and rows; `rows` by file, as they were counted."""
    footers = read_footers(run, list(rows))
    sound = {key: footer for key, footer in footers.items() if isinstance(footer, Footer)}
    findings = []
    for key, footer in footers.items():
        if isinstance(footer, str):
            kind = "lost" if footer == MISSING else "unreadable"
            findings.append(Finding(kind, key, f"{footer} instead of {rows[key]} rows"))
        elif footer.rows != rows[key]:
            findings.append(Finding("rows", key, f"{footer.rows} instead of {rows[key]} rows"))
    findings += [*schema_problems(sound), *content_problems(run, list(sound))]
    try:
        # Which files takes a second look, of those only that have something to look for.
        repeated = repeated_ids([run / key for key in sound], most=1)
        places = _files_of_repeated({key: run / key for key in sound}) if repeated else {}
    except duckdb.Error as error:
        return [*findings, Finding("unreadable", "dataset", one_line(error))]
    for name, keys in places.items():
        message = f"object_id {name} stands twice" + (f", also in {' and '.join(keys[1:])}" if len(keys) > 1 else "")
        findings.append(Finding("duplicate", keys[0], message))
    return findings


class Footer(NamedTuple):
    """What is kept of a file's footer: its rows, and its columns without their metadata (shared by equal files)."""

    rows: int
    columns: pa.Schema


def read_footers(run: Location, keys: Sequence[str]) -> dict[str, Footer | str]:
    """Return the footers of a run's files, or a few words where one cannot be read."""
    known: dict[pa.Schema, pa.Schema] = {}

    def footer(key: str) -> Footer | str:
        try:
            with opened_parquet(run / key) as file:
                columns = file.schema_arrow.remove_metadata()
                return Footer(file.metadata.num_rows, known.setdefault(columns, columns))
        except PartitionError as error:
            return MISSING if error.kind == "missing" else f"an unreadable file ({error.got})"

    return dict(zip(keys, in_order(footer, keys, READERS), strict=True))


def schema_problems(footers: Mapping[str, Footer]) -> list[Finding]:
    """Return the files whose columns differ from the first one's, with what differs."""
    if not footers:
        return []
    name, first = next(iter(footers.items()))
    return [
        Finding("schema", key, f"columns {_unlike(first.columns, footer.columns)} differ from those of {name}")
        for key, footer in footers.items()
        if footer.columns is not first.columns and not footer.columns.equals(first.columns)
    ]


def content_problems(run: Location, keys: Sequence[str]) -> list[Finding]:
    """Return what is wrong with the numbers in a run's files.

    Every probability lies in [0, 1]; those of an object add up to 1 within `SUM_TOLERANCE`; an object whose status is
    ``ok`` has all of them and its class is the most probable, any other object has none.
    """
    if not keys:
        return []
    with (run / keys[0]).open_input() as stream:
        names = [name for name in pq.read_schema(stream).names if name.startswith("prob_")]
    checks = _content_checks(names)
    counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in checks.values())
    any_wrong = " OR ".join(f"({condition})" for condition in checks.values())
    with open_duckdb() as connection:
        scan(connection, "rows", [run / key for key in keys], filename=True)
        try:
            found = connection.execute(
                f"SELECT filename, {counts} FROM rows WHERE {any_wrong} GROUP BY filename ORDER BY filename"
            ).fetchall()
        except duckdb.Error as error:
            return [Finding("content", str(run), f"cannot be read: {one_line(error)}")]
    start = len(str(run).rstrip("/")) + 1
    return [
        Finding("content", name[start:], f"{count} rows in which {what}")
        for name, *numbers in found
        for what, count in zip(checks, numbers, strict=True)
        if count
    ]


def repeated_ids(files: Sequence[Location], most: int = 3) -> list[str]:
    """Return up to `most` identifiers that stand in several rows of a run; beyond bounded memory it spills to disk."""
    if not files:
        return []
    with open_duckdb() as connection:
        scan(connection, "rows", files)
        found = connection.execute(
            "SELECT object_id FROM rows GROUP BY object_id HAVING count(*) > 1 LIMIT ?", [most]
        ).fetchall()
    return [str(row[0]) for row in found]


def _files_of_repeated(files: Mapping[str, Location], most: int = 3) -> dict[str, list[str]]:
    """Return up to `most` identifiers that stand in several rows, each with its files, by their keys."""
    with open_duckdb() as connection:
        scan(connection, "rows", list(files.values()), filename=True)
        found = connection.execute(
            """SELECT DISTINCT object_id, filename FROM rows SEMI JOIN
            (SELECT object_id FROM rows GROUP BY object_id HAVING count(*) > 1 ORDER BY object_id LIMIT ?)
            USING (object_id) ORDER BY object_id, filename""",
            [most],
        ).fetchall()
    places: dict[str, list[str]] = {}
    for name, file in found:
        places.setdefault(str(name), []).append(next(key for key in files if file.endswith(key)))
    return places


def _content_checks(names: Sequence[str]) -> dict[str, str]:
    probabilities = [f'"{name}"::DOUBLE' for name in names]
    listed = ", ".join(probabilities)
    outside = " OR ".join(f"({p} < 0 OR {p} > 1 OR isnan({p}))" for p in probabilities)
    missing = " OR ".join(f"{p} IS NULL" for p in probabilities)
    present = " OR ".join(f"{p} IS NOT NULL" for p in [*probabilities, '"class"', "class_prob"])
    of_class = " ".join(f'WHEN {quoted(name.removeprefix("prob_"))} THEN "{name}"' for name in names)
    return {
        "a probability is outside [0, 1]": outside,
        "probabilities do not add up to 1": f"abs({' + '.join(probabilities)} - 1) > {SUM_TOLERANCE}",
        "the status is ok and a probability is missing": f"status = 'ok' AND ({missing})",
        "the status is not ok and there is a class": f"status <> 'ok' AND ({present})",
        "class_prob is not the greatest probability": f"abs(class_prob - greatest({listed})) > 0",
        "the class is not the one of class_prob": f"""class_prob IS DISTINCT FROM CASE "class" {of_class} END""",
    }


def _unlike(first: pa.Schema, other: pa.Schema) -> str:
    # A name can be there twice.
    names = [
        name
        for name in dict.fromkeys([*first.names, *other.names])
        if [field.type for field in first if field.name == name]
        != [field.type for field in other if field.name == name]
    ]
    return ", ".join(names) or "in another order"


def count_unfamiliar(files: Sequence[Location], score: float) -> tuple[int, int]:
    """Return how many classified rows of a run have an ``ood_score`` above `score`, and how many are classified.

    Raises
    ------
    VerificationError
        A file is lost or damaged.
    """
    with open_duckdb() as connection:
        try:
            scan(connection, "rows", files)
            counts = "count(*) FILTER (WHERE ood_score > ?), count(*)"
            [found] = connection.execute(f"SELECT {counts} FROM rows WHERE status = 'ok'", [score]).fetchall()
        except duckdb.Error as error:
            raise VerificationError(
                expected="a complete run", got=one_line(error), where=str(files[0]), fix="see `varstar verify`"
            ) from None
    return found[0], found[1]
