"""The process that answers one person's SQL: it reads what to do from its input and writes an Arrow stream.

It has no credentials, an address space that ends, and a parent that ends it: see `catalog.sql.process`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from varstar_batch.catalog.sql.session import MEMORY_WORDS, open_session, out_of_memory, run_select
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location, locate
from varstar_batch.files.served import ServedFileSystem

UNCOUNTED = 384 * 2**20
"""Bytes of the memory beside those that DuckDB counts, and keeps to by spilling: a large sort took 250 MiB of them."""


def main() -> NoReturn:
    """Answer, and end: 0 done, 2 refused (the last line on standard error is an `InputError` as JSON)."""
    # The stream is ours alone: whatever else prints, prints to standard error.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    job = json.loads(_line(0))
    threading.Thread(target=_end_with_parent, args=(job["spill"],), daemon=True).start()
    try:
        _answer(job, stream)
        stream.flush()
        code = 0
    except InputError as error:
        _tell(error)
        code = 2
    except MemoryError:
        _tell(out_of_memory(MEMORY_WORDS))
        code = 2
    # At once: what is open is in memory or goes with the parent's folder.
    os._exit(code)


def _answer(job: dict[str, Any], stream: Any) -> None:
    runs = _runs(job)
    duck = job["memory"] - UNCOUNTED
    with open_session(runs, job["current"], memory=duck, spill=job["spill"], spilled=job["spilled"]) as connection:
        # What is loaded and reserved by now is not the query's.
        _limit(resource.RLIMIT_AS, _address_space() + job["memory"])
        _limit(resource.RLIMIT_CORE, 0)
        answer = run_select(connection, job["sql"], job["parameters"])
        with pa.ipc.new_stream(stream, answer.schema) as writer:
            for batch in answer:
                writer.write_batch(batch)


def _runs(job: dict[str, Any]) -> dict[str, list[Location]]:
    if job["sockets"]:
        paths = [path for files in job["runs"].values() for path in files]
        ends = [socket.socket(fileno=number) for number in job["sockets"]]
        fs = ServedFileSystem(job["protocol"], paths, ends)
        return {run: [Location(fs, path) for path in files] for run, files in job["runs"].items()}
    return {run: [locate(path, what="catalog") for path in files] for run, files in job["runs"].items()}


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _limit(which: int, value: int) -> None:
    resource.setrlimit(which, (value, value))


def _line(descriptor: int) -> bytes:
    """Read up to the end of a line, and not a byte more: the thread that waits for the end reads on."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 1)
        if not part:
            os._exit(1)
        line += part
    return bytes(line)


def _end_with_parent(spill: str) -> None:
    os.read(0, 1)
    shutil.rmtree(spill, ignore_errors=True)
    os._exit(1)


def _tell(error: InputError) -> None:
    said = {name: getattr(error, name)[:4000] for name in ("expected", "got", "where", "fix")}
    sys.stderr.write("\n" + json.dumps(said) + "\n")
    sys.stderr.flush()
