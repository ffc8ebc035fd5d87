"""Answering: ADQL is translated, run in the sandbox of SQL, and written to a file that is then sent.

An answer is whole before its first byte goes out: errors come with their status, and a client that reads slowly, or
not at all, keeps no query running.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from varstar_batch.catalog.cone import Cone, cone_schema, cone_tables
from varstar_batch.catalog.sql.process import QueryLimits, QueryProcess, open_process
from varstar_batch.errors import InputError
from varstar_batch.tap.adql import Translation, translate
from varstar_batch.tap.tables import Published, TapTable
from varstar_batch.tap.votable import Answered, plain_schema, write

MOST_BYTES = 4 * 2**30
"""Of an answer."""

SPARE = 2
"""Processes that wait for a query, so that nobody waits for one to start: 100 MB each."""


@dataclass(frozen=True)
class Query:
    """What somebody asks."""

    adql: str
    form: str
    """Of `tap.votable.FORMATS`."""
    maxrec: int
    timeout: float
    """Seconds."""


@dataclass
class Running:
    """A query that can be ended by another thread."""

    aborted: bool = False
    _end: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def runs(self, end: Callable[[], None] | None) -> None:
        """Say how it is ended, or that it has ended."""
        with self._lock:
            self._end = end
            if end is not None and self.aborted:
                end()

    def abort(self) -> None:
        """End it."""
        with self._lock:
            self.aborted = True
            if self._end is not None:
                self._end()


class Engine:
    """Answers queries; threads may ask at the same time."""

    def __init__(self, published: Published, limits: QueryLimits) -> None:
        self.published = published
        self.limits = limits
        self._waiting: deque[tuple[ExitStack, QueryProcess]] = deque()
        self._spawn()

    def close(self) -> None:
        """End the processes that wait."""
        while self._waiting:
            self._waiting.popleft()[0].close()

    def answer(self, query: Query, file: Path, running: Running | None = None) -> None:
        """Write the answer to a query into a file.

        Raises
        ------
        InputError
            It is no ADQL, or takes more than it may.
        """
        translation = translate(query.adql, self.published.names(), query.maxrec + 1)
        tables = self.published.tables()
        files = {key: tables[key].files_within(cone) for key, cone in translation.tables.items()}
        if not files:
            key = next(iter(tables))
            files = {key: tables[key].files[:1]}
        if len({locations[0].is_local for locations in files.values()}) > 1:
            raise InputError(
                expected="tables of one storage in a query",
                got=", ".join(files),
                where="ADQL",
                fix="ask for TAP_SCHEMA, and for catalogs here and there, in queries of their own",
            )
        with self._process(query.timeout) as process:
            if running is not None:
                running.runs(process.end)
            try:
                answer = process.ask(files, next(iter(files)), translation.sql)
                schema = plain_schema(answer.schema, _meanings(translation, tables))
                _spool(write(query.form, Answered(answer, schema, query.maxrec), query.adql), file)
            except InputError as error:
                raise _of_adql(error) from None
            finally:
                if running is not None:
                    running.runs(None)

    def cone(self, table: TapTable, cone: Cone | None, form: str, maxrec: int, file: Path) -> None:
        """Write the objects of a cone into a file; of None only the columns."""
        assert table.reader is not None
        schema = cone_schema(table.reader.schema, None)
        found = cone_tables(table.reader.run, table.reader.index, cone) if cone else iter(())
        batches = (batch for each in found for batch in each.to_batches())
        meanings = {each.name.lower(): dict(each.metadata or {}) for each in schema}
        # Simple Cone Search is older than UCD1+ and wants these three.
        old = {"object_id": b"ID_MAIN", "ra": b"POS_EQ_RA_MAIN", "dec": b"POS_EQ_DEC_MAIN"}
        for name, ucd in old.items():
            meanings[name] |= {b"ucd": ucd}
        plain = plain_schema(schema, meanings)
        if plain.field("object_id").type != pa.string():
            # It wants the identifier as a text.
            plain = plain.set(plain.get_field_index("object_id"), plain.field("object_id").with_type(pa.string()))
        described = f"cone {cone.ra} {cone.dec} {cone.radius}" if cone else "columns"
        _spool(write(form, Answered(batches, plain, maxrec), described), file)

    @contextmanager
    def _process(self, timeout: float) -> Iterator[QueryProcess]:
        limits = self.limits.model_copy(update={"timeout": min(timeout, self.limits.timeout)})
        try:
            stack, process = self._waiting.popleft()
        except IndexError:
            stack, process = self._started(limits)
        with stack:
            process.limit(limits)
            yield process
        self._spawn()

    def _spawn(self) -> None:
        while len(self._waiting) < SPARE:
            self._waiting.append(self._started(self.limits))

    def _started(self, limits: QueryLimits) -> tuple[ExitStack, QueryProcess]:
        stack = ExitStack()
        return stack, stack.enter_context(open_process(limits))


def _of_adql(error: InputError) -> InputError:
    """Return an error of the sandbox in the words of a client that knows nothing of SQL's."""
    if error.where != "SQL" or "DuckDB" not in error.expected:
        return error
    got = error.got.removeprefix("Binder Error: ")
    fix = "TAP_SCHEMA.columns lists the columns"
    return InputError(expected="a query that can be answered", got=got, where="ADQL", fix=fix)


def _spool(pieces: Iterable[bytes], file: Path) -> None:
    size, start = 0, time.monotonic()
    with file.open("wb") as sink:
        for piece in pieces:
            size += len(piece)
            if size > MOST_BYTES:
                raise InputError(
                    expected=f"an answer of at most {MOST_BYTES / 1e9:.0f} GB",
                    got=f"more, after {time.monotonic() - start:.0f} s",
                    where="ADQL",
                    fix="ask for less at once (fewer columns, a smaller MAXREC)",
                )
            sink.write(piece)


def _meanings(translation: Translation, tables: Mapping[str, TapTable]) -> dict[str, Mapping[bytes, bytes]]:
    """Return units, UCDs and descriptions of the columns of an answer that are columns of tables."""
    found: dict[str, Mapping[bytes, bytes]] = {}
    for key in translation.stars:
        found |= {each.name.lower(): each.metadata or {} for each in tables[key].schema}
    for name, (key, column) in translation.columns.items():
        by_name = {each.name.lower(): each for each in tables[key].schema}
        if column in by_name:
            found[name] = by_name[column].metadata or {}
    return found
