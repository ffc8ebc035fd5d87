"""How everything here is measured: in turns, whole processes with the memory of all their children, a known machine."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.measures import Row, paired_ratio, spread

ROOT = Path(__file__).resolve().parents[2]
NAIVE = ROOT.parent / "shared" / "baseline" / "naive.py"
MFLOP = 15.2
"""Millions of floating-point operations that the paper's network needs for a light curve."""

SAMPLE_SECONDS = 0.5
"""Between two looks at the memory of a process and its children."""

PACKAGES = (
    "numpy",
    "pyarrow",
    "numba",
    "openvino",
    "tensorflow",
    "keras",
    "dask",
    "distributed",
    "lsdb",
    "nested-pandas",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the person at the keyboard chose; every part takes it.

    Attributes
    ----------
    quick : bool
        Small sizes, to see that everything works: the figures are not worth quoting.
    rounds, rival_rounds : int
        Repeats, and repeats of rivals that take minutes.
    objects : int
        Light curves of the end-to-end survey.
    scaling_objects : int
        Light curves of the largest survey of the scaling; the others have a tenth and a hundredth.
    scaling_partitions : int
        Files of the most finely cut survey.
    workers : int
        Processes of this project and of its rivals.
    scratch : Path
        Where surveys and catalogs go; surveys are kept there for the next time.
    """

    quick: bool = False
    rounds: int = 5
    rival_rounds: int = 2
    objects: int = 200_000
    scaling_objects: int = 200_000
    scaling_partitions: int = 10_000
    workers: int = 2
    scratch: Path = ROOT / "build" / "benchmarks"


@dataclass
class Part:
    """The results of one part."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the part as JSON-ready data."""
        return {
            "title": self.title,
            "rows": [row.to_json() for row in self.rows],
            "notes": self.notes,
            "facts": self.facts,
        }


@dataclass(frozen=True)
class ProcessRun:
    """What a process printed, how long it took and what it and its children held at most together (PSS, bytes)."""

    code: int
    seconds: float
    memory: int
    started: float
    out: str
    err: str


def in_turns(calls: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each in turn (A B C, A B C, ...), after a warm-up, and return what each returned, round by round."""
    for call in calls.values():
        call()
    values: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            values[name].append(call())
    return values


def rate_of(function: Callable[[], object], n: int) -> Callable[[], float]:
    """Return a call that does `function` once and returns how many of `n` per second that was."""

    def call() -> float:
        start = time.perf_counter()
        function()
        return n / (time.perf_counter() - start)

    return call


def rows_of(values: Mapping[str, Sequence[float]]) -> list[Row]:
    """Return one row for each name, with its ratio to the first."""
    names = list(values)
    base = values[names[0]]
    return [
        Row(
            name=name,
            value=spread(found),
            rounds=len(found),
            ratio=None if name == names[0] else paired_ratio(found, base),
            against="" if name == names[0] else names[0],
        )
        for name, found in values.items()
    ]


def run_process(command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 1200.0) -> ProcessRun:
    """Run a command to its end, watching the memory of the whole tree of processes.

    Raises
    ------
    subprocess.TimeoutExpired
        It took longer than `timeout` seconds; the whole tree was ended.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.time()
        start = time.perf_counter()
        process = psutil.Popen(list(command), stdout=out, stderr=err, env={**os.environ, **(env or {})}, cwd=ROOT)
        memory = 0
        while process.poll() is None:
            memory = max(memory, tree_memory(process))
            if time.perf_counter() - start > timeout:
                _end(process)
                raise subprocess.TimeoutExpired(list(command), timeout)
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(SAMPLE_SECONDS)
        seconds = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        return ProcessRun(process.returncode, seconds, memory, started, out.read(), err.read())


def checked(run: ProcessRun) -> ProcessRun:
    """Return the run, or raise RuntimeError with the end of what it said when it failed."""
    if run.code:
        said = (run.err.strip() or run.out.strip()).splitlines()
        raise RuntimeError(f"exit code {run.code}: {' | '.join(said[-3:])}")
    return run


def tree_memory(process: psutil.Process) -> int:
    """Return the proportional set size of a process and all below it, bytes; what they share counts once."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
            total += member.memory_full_info().pss
    return total


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    entries = {key.strip(): value.strip() for key, value in lines.items()}
    flags = set(entries.get("flags", "").split())
    instructions = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return {
        "processor": entries.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": instructions,
        "memory": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def varstar(*arguments: str) -> list[str]:
    """Return the command line of this project."""
    return [sys.executable, "-m", "varstar_batch", *arguments]


def _end(process: psutil.Process) -> None:
    for member in [*process.children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
