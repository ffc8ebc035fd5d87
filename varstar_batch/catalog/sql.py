"""SQL over a catalog through DuckDB, locked so that a query can read the catalog and do nothing else.

What keeps it so: one statement, and only a SELECT; of the whole file system only the files of the runs that the query
names can be opened; extensions, Python's variables and every change of configuration are switched off.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from varstar_batch.errors import InputError, one_line
from varstar_batch.files.location import Location

MEMORY_LIMIT = "640MB"
"""What DuckDB may take; beyond it, it spills to a temporary folder."""

SPILL_LIMIT = "64GB"

BATCH_ROWS = 65_536

CACHED_FOOTERS = 2_000
"""Files whose footers are kept for the next question to the same session: 50 kB each."""

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY_LIMIT,
    "max_temp_directory_size": SPILL_LIMIT,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_unsigned_extensions": False,
    # A catalog is read-only: the order of its rows is no part of a query's meaning, and keeping it costs memory.
    "preserve_insertion_order": False,
}


@contextmanager
def open_duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB connection with bounded memory, which spills to a folder of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="varstar-sql-") as spill:
        config = _SETTINGS | {"temp_directory": spill, "threads": len(os.sched_getaffinity(0))}
        with duckdb.connect(":memory:", config=config) as connection:
            yield connection


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
    if not files[0].is_local:
        protocol = files[0].fs.protocol
        if not connection.filesystem_is_registered(protocol if isinstance(protocol, str) else protocol[0]):
            connection.register_filesystem(files[0].fs)
    paths = [str(file) for file in files]
    connection.read_parquet(paths, hive_partitioning=False, filename=filename).create_view(name)


@contextmanager
def open_session(runs: Mapping[str, Sequence[Location]], current: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a locked DuckDB connection in which ``catalog`` is the current run and ``catalog_at('run')`` any of `runs`.

    `runs` has the files of every run that can be read, at least one each; `current` is one of them.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    with open_duckdb() as connection:
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
            except (duckdb.Error, OSError) as error:  # Arrow hands on what happens inside of DuckDB as an OSError
                raise _sql_error(error) from None
            if batch is None:
                return
            yield batch

    def table(self) -> pa.Table:
        """Return the whole answer. Raises InputError where the query fails midway."""
        return pa.Table.from_batches(self, schema=self.schema)


def run_select(connection: duckdb.DuckDBPyConnection, sql: str) -> Answer:
    """Return the answer to one SELECT, valid as long as the connection is open.

    Raises
    ------
    InputError
        The text is not one SELECT (WITH, VALUES, FROM, DESCRIBE and SUMMARIZE count as such), or DuckDB refuses it.
    """
    try:
        statements = connection.extract_statements(sql)
        _check_select(statements)
        reader = connection.sql(sql).to_arrow_reader(BATCH_ROWS)
    except duckdb.Error as error:
        raise _sql_error(error) from None
    return Answer(reader.schema, iter(reader))


def _check_select(statements: Sequence[duckdb.Statement]) -> None:
    if len(statements) != 1:
        raise InputError(
            expected="one SELECT", got=f"{len(statements)} statements", where="SQL", fix="ask one question at a time"
        )
    try:
        kind = statements[0].type
    except ValueError:  # a kind of statement that DuckDB's Python module has no name for
        kind = duckdb.StatementType.INVALID
    if kind != duckdb.StatementType.SELECT:
        raise InputError(
            expected="a SELECT: catalogs are read-only", got=kind.name, where="SQL", fix="write the result with --out"
        )


def _sql_error(error: Exception) -> InputError:
    # What follows the first line is the query again, or every function of that name.
    text = str(error).split("\n")[0]
    fix = "the table is `catalog`, other runs are catalog_at('run')"
    if "disabled by configuration" in text or "Permission Error" in text:
        fix = "a query can read nothing but the catalog"
    if "catalog@" in text:
        fix = "`varstar runs CATALOG` lists the runs"
    return InputError(expected="a query that DuckDB can answer", got=one_line(text), where="SQL", fix=fix)


def quoted(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
