"""SQL over a catalog through DuckDB, locked so that a query can read the catalog and do nothing else.

What keeps it so: one statement, and only a SELECT of what `catalog.sql.rules` lets pass; of the whole file system only
the files of the runs that the query names can be opened; extensions, Python's variables and every change of
configuration are switched off. What a person asks runs in a process of its own besides (`catalog.sql.process`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from varstar_batch.catalog.sql.rules import check_select
from varstar_batch.errors import InputError, one_line
from varstar_batch.files.location import Location
from varstar_batch.files.served import NamedFileSystem, ServedFileSystem

MEMORY_LIMIT = 640 * 10**6
"""Bytes that DuckDB may take; beyond it, it spills to a temporary folder."""

SPILL_LIMIT = 64 * 10**9

MEMORY_WORDS = "no memory left"

BATCH_ROWS = 65_536

SPILL_PREFIX = "varstar-sql-"

SPILL_AGE = 60.0
"""Seconds after which a folder that nobody holds is left over from a process that was killed."""

CACHED_FOOTERS = 2_000
"""Files whose footers are kept for the next question to the same session: 50 kB each."""

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_unsigned_extensions": False,
    # A catalog is read-only: the order of its rows is no part of a query's meaning, and keeping it costs memory.
    "preserve_insertion_order": False,
}


@contextmanager
def open_duckdb(
    memory: int = MEMORY_LIMIT, spill: str | None = None, spilled: int = SPILL_LIMIT
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB connection with bounded memory, which spills at most `spilled` bytes.

    Where no folder `spill` is given, it is one that is removed afterwards.
    """
    if spill is None:
        with spill_folder() as folder, open_duckdb(memory, folder, spilled) as connection:
            yield connection
        return
    bounds = {"memory_limit": _size(memory), "max_temp_directory_size": _size(spilled), "temp_directory": spill}
    with duckdb.connect(":memory:", config=_SETTINGS | bounds | {"threads": threads()}) as connection:
        yield connection


@contextmanager
def spill_folder() -> Iterator[str]:
    """Yield a folder for what does not fit into memory; it is removed afterwards, by the next process if this one dies.

    Whoever uses a folder holds its lock, which ends with the process, however that ends.
    """
    _remove_left_folders()
    with tempfile.TemporaryDirectory(prefix=SPILL_PREFIX, ignore_cleanup_errors=True) as folder:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(lock)


def _remove_left_folders() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{SPILL_PREFIX}*"):
        with suppress(OSError):
            state = left.lstat()
            # Between its making and its lock a new one is nobody's.
            if state.st_uid != os.getuid() or time.time() - state.st_mtime < SPILL_AGE:
                continue
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def scan(
    connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Location], *, filename: bool = False
) -> None:
    """Make a view over one or more Parquet files of one schema, local or on an object store.

    With `filename` the view has a column of that name, with the file that a row comes from.

    Raises
    ------
    duckdb.Error
        The first file is missing or damaged.
    """
    rows = connection.read_parquet(paths_for(connection, files), hive_partitioning=False, filename=filename)
    rows.create_view(name)


def paths_for(connection: duckdb.DuckDBPyConnection, files: Sequence[Location]) -> list[str]:
    """Return what a connection calls one or more files of the same storage; it can open them from now on."""
    if not files[0].is_local:
        protocol = files[0].fs.protocol
        if not connection.filesystem_is_registered(protocol if isinstance(protocol, str) else protocol[0]):
            fs = files[0].fs
            connection.register_filesystem(fs if isinstance(fs, ServedFileSystem) else NamedFileSystem(fs))
    return [str(file) for file in files]


@contextmanager
def open_session(
    runs: Mapping[str, Sequence[Location]],
    current: str,
    *,
    memory: int = MEMORY_LIMIT,
    spill: str | None = None,
    spilled: int = SPILL_LIMIT,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a locked DuckDB connection in which ``catalog`` is the current run and ``catalog_at('run')`` any of `runs`.

    `runs` has the files of every run that can be read, at least one each; `current` is one of them. The rest is
    as for `open_duckdb`.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    with open_duckdb(memory, spill, spilled) as connection:
        for run_id, files in runs.items():
            try:
                scan(connection, f"catalog@{run_id}", files)
            except duckdb.Error as error:
                raise InputError(
                    expected=f"the files of run {run_id}",
                    got=one_line(error),
                    where="catalog",
                    fix="`varstar verify CATALOG` says what is damaged, `varstar rollback` goes back to an earlier run",
                ) from None
        connection.execute(f'CREATE VIEW catalog AS FROM "catalog@{current}"')
        connection.execute("CREATE MACRO catalog_at(run) AS TABLE FROM query_table('catalog@' || run)")
        paths = [str(file) for files in runs.values() for file in files]
        connection.execute(f"SET parquet_metadata_cache = {len(paths) <= CACHED_FOOTERS}")
        connection.execute(f"SET allowed_paths = [{', '.join(map(quoted, paths))}]")
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        yield connection


@dataclass(frozen=True)
class Answer:
    """The answer to a query, as a stream: iterate it once."""

    schema: pa.Schema
    """Of the batches."""
    _batches: Iterator[pa.RecordBatch]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield bounded batches. Raises InputError where the query fails midway."""
        while True:
            try:
                batch = next(self._batches, None)
            # Arrow hands on what happens inside of DuckDB as an OSError.
            except (duckdb.Error, OSError, MemoryError) as error:
                raise _sql_error(error) from None
            if batch is None:
                return
            yield batch

    def table(self) -> pa.Table:
        """Return the whole answer. Raises InputError where the query fails midway."""
        return pa.Table.from_batches(self, schema=self.schema)


def run_select(connection: duckdb.DuckDBPyConnection, sql: str, parameters: object = None) -> Answer:
    """Return the answer to one SELECT, valid as long as the connection is open.

    Raises
    ------
    InputError
        The text is not one SELECT (WITH, VALUES, FROM, DESCRIBE and SUMMARIZE count as such), or DuckDB refuses it.
    """
    try:
        check_select(connection, sql)
        reader = connection.sql(sql, params=parameters).to_arrow_reader(BATCH_ROWS)
    except (duckdb.Error, MemoryError) as error:
        raise _sql_error(error) from None
    return Answer(reader.schema, iter(reader))


def _sql_error(error: Exception) -> InputError:
    # What follows the first line is the query again, or every function of that name.
    text = str(error).split("\n")[0]
    if isinstance(error, duckdb.OutOfMemoryException | MemoryError) or "Out of Memory" in text:
        return out_of_memory(text)
    fix = "the table is `catalog`, other runs are catalog_at('run')"
    if "disabled by configuration" in text or "Permission Error" in text:
        fix = "a query can read nothing but the catalog"
    if "catalog@" in text:
        fix = "`varstar runs CATALOG` lists the runs"
    return InputError(expected="a query that DuckDB can answer", got=one_line(text), where="SQL", fix=fix)


def out_of_memory(got: str) -> InputError:
    """Return what is said of a query that wants more memory, or space to spill, than it may have."""
    return InputError(
        expected="a query that keeps to its memory",
        got=one_line(got),
        where="SQL",
        fix="ask for less at once (fewer columns, a WHERE, a smaller join), or allow more (--memory)",
    )


def threads() -> int:
    """Return the number of threads of a connection: one for each core that this process may use."""
    return len(os.sched_getaffinity(0))


def _size(count: int) -> str:
    return f"{count // 1024}KiB"


def quoted(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
