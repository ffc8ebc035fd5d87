"""A person's SQL in a process of its own, which has a deadline, a limit of memory and of what it spills, and no secret.

A fresh interpreter, since a fork of a process with threads may hang; it is there before the catalog's records are read.
"""

from __future__ import annotations

import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pyarrow as pa
from pydantic import Field

from varstar_batch.catalog.sql.session import Answer, out_of_memory, spill_folder, threads
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location
from varstar_batch.files.served import serve_files
from varstar_batch.requests import Bytes, Request

SPILL_SHARE = 8
"""How much a query may spill, as a multiple of its memory."""

_PASSED_ON = ("LD_LIBRARY_PATH", "TZ")
"""Of the environment, what the child gets: nothing that says who or where somebody is."""


class QueryLimits(Request):
    """What one query may take."""

    timeout: float = Field(300.0, gt=0, description="Seconds that the query may take")
    memory: Bytes = Field(
        2**30, ge=2**29, description="Memory that the query may take; up to eight times as much is spilled to disk"
    )


Parameters = Sequence[Any] | Mapping[str, Any] | None
"""Values of a query's ``?`` in their order, or of its ``$name`` by name."""


class QueryProcess:
    """A child that waits for its query. Use `open_process`."""

    def __init__(self, limits: QueryLimits, spill: str) -> None:
        self._limits = limits
        self._spill = spill
        self._waited = 0.0
        self._serves = False
        self._ends = [socket.socketpair() for _ in range(threads() + 1)]
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # One arena and the system's allocator: others reserve address space by the gigabyte.
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "1"}
        environment |= {"ARROW_DEFAULT_MEMORY_POOL": "system", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        self._child = subprocess.Popen(
            [sys.executable, "-c", "from varstar_batch.catalog.sql.child import main; main()"],
            env=environment,
            cwd=spill,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=[theirs.fileno() for _, theirs in self._ends],
            # Ctrl-C is for this process, which ends that one.
            start_new_session=True,
        )

    def limit(self, limits: QueryLimits) -> None:
        """Change what the query may take, before it is asked."""
        self._limits = limits

    def ask(
        self, runs: Mapping[str, Sequence[Location]], current: str, sql: str, parameters: Parameters = None
    ) -> Answer:
        """Return the answer to one SELECT, as `catalog.sql.run_select` does. Raises InputError."""
        files = [file for each in runs.values() for file in each]
        remote = not files[0].is_local
        protocol = files[0].fs.protocol
        job = {
            "runs": {run: [str(file) for file in each] for run, each in runs.items()},
            "current": current,
            "sql": sql,
            "parameters": _plain(parameters),
            "memory": self._limits.memory,
            "spill": self._spill,
            "spilled": SPILL_SHARE * self._limits.memory,
            "sockets": [theirs.fileno() for _, theirs in self._ends] if remote else [],
            "protocol": protocol if isinstance(protocol, str) else protocol[0],
        }
        if remote:
            self._serves = True
            serve_files(files, [ours for ours, _ in self._ends])
        for _, theirs in self._ends:
            theirs.close()
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # it says itself why it ended
            _write(self._child.stdin.fileno(), json.dumps(job).encode() + b"\n")
        source = io.BufferedReader(_Pipe(self), 2**16)
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            raise self._reason() from None
        return Answer(reader.schema, self._batches(reader))

    def _batches(self, reader: Any) -> Iterator[pa.RecordBatch]:
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            except (pa.ArrowInvalid, OSError):
                raise self._reason() from None
            yield batch
        if self._child.wait(10):
            raise self._reason()

    def readinto(self, target: memoryview) -> int:
        """Read what the child writes, as soon as it does. Raises InputError after the deadline."""
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)
        start = time.monotonic()
        # Only waiting counts: whoever reads an answer slowly does not make it late.
        found = ready.poll(max(0.0, self._limits.timeout - self._waited) * 1000)
        self._waited += time.monotonic() - start
        if not found:
            raise InputError(
                expected=f"an answer within {self._limits.timeout:g} s",
                got="none yet",
                where="SQL",
                fix="ask for less (a WHERE, a smaller join), or allow more (--timeout)",
            )
        return os.readv(descriptor, [target])

    def end(self) -> None:
        """End the child at once, whatever it does."""
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            assert stream is not None
            stream.close()
        for ours, theirs in self._ends:
            theirs.close()
            if self._serves:
                # The thread that reads for the child notices, and closes it itself.
                with suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)
            else:
                ours.close()

    def _reason(self) -> InputError:
        assert self._child.stderr is not None
        said = self._child.stderr.read().decode(errors="replace").strip()
        code = self._child.wait()
        last = said.rsplit("\n", 1)[-1]
        with suppress(ValueError, TypeError, KeyError):
            return InputError(**json.loads(last))
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        # An allocation that fails where nobody expects it ends a process so.
        if code < 0:
            return out_of_memory(f"a process that ended ({name})")
        return InputError(
            expected="a process that answers",
            got=f"{name}: {last or 'no word'}",
            where="SQL",
            fix="see whether `python -c 'import duckdb, pyarrow'` works here",
        )


@contextmanager
def open_process(limits: QueryLimits | None = None) -> Iterator[QueryProcess]:
    """Yield a process that waits for its query; nothing of it is left afterwards, however the block ends."""
    with ExitStack() as stack:
        process = QueryProcess(limits or QueryLimits(), stack.enter_context(spill_folder()))
        stack.callback(process.end)
        yield process


def _plain(parameters: Parameters) -> Any:
    """Return parameters as JSON has them. Raises InputError where one is no number, text or truth value, or a list."""
    try:
        # NumPy's numbers become Python's.
        given = parameters if parameters is None or isinstance(parameters, Mapping) else list(parameters)
        return json.loads(json.dumps(given, default=lambda value: value.tolist()))
    except (TypeError, ValueError, AttributeError):
        raise InputError(
            expected="parameters that are numbers, texts, truth values, or lists of them",
            got=repr(parameters),
            where="SQL",
            fix="give dates as texts",
        ) from None


class _Pipe(io.RawIOBase):
    def __init__(self, process: QueryProcess) -> None:
        self._process = process

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        return self._process.readinto(memoryview(target))


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
