"""Checks of a run as it lies on storage, before it is published."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow.parquet as pq

from varstar_batch.errors import VarstarError
from varstar_batch.storage.files import Location

MEMORY_LIMIT = "1GB"
"""Of the search for repeated identifiers; beyond it DuckDB spills to disk."""


class VerificationError(VarstarError):
    """What lies on storage is not what the run says: nothing is published."""

    exit_code = 1


def verify_run_files(run: Location, rows: Mapping[str, int], expected: Collection[str]) -> None:
    """Check that a run's files are all there, with the rows that were counted, and that no object stands twice.

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
    missing = sorted(set(expected) - set(rows))
    if missing:
        raise _error(f"all {len(expected)} partitions", f"none of {', '.join(missing[:3])}", run)
    files = {key: run / key for key in rows}
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(files, pool.map(_count_rows, files.values()), strict=True))
    wrong = [f"{key}: {found[key]} instead of {rows[key]}" for key in rows if found[key] != rows[key]]
    if wrong:
        raise _error("the rows that were counted", "; ".join(wrong[:3]), run)
    repeated = _repeated_ids(list(files.values()))
    if repeated:
        raise _error("every object_id once", f"repeated {', '.join(repeated)}", run)


def _count_rows(location: Location) -> int:
    try:
        with location.open_input() as stream:
            return int(pq.read_metadata(stream).num_rows)
    except FileNotFoundError:
        return -1


def _repeated_ids(files: list[Location], most: int = 3) -> list[str]:
    if not files:
        return []
    with duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT}) as connection:
        if not files[0].is_local:
            connection.register_filesystem(files[0].fs)
        found = connection.execute(
            "SELECT object_id FROM read_parquet(?) GROUP BY object_id HAVING count(*) > 1 LIMIT ?",
            [[str(file) for file in files], most],
        ).fetchall()
    return [str(row[0]) for row in found]


def _error(expected: str, got: str, run: Location) -> VerificationError:
    return VerificationError(expected=expected, got=got, where=str(run), fix="nothing was published; look at the run")
