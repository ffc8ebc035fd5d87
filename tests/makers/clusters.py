"""Dask clusters of real processes, which tests may kill."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PORTS_OF_CLIENTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
QUIET = {"DASK_LOGGING__DISTRIBUTED": "critical", "DASK_DISTRIBUTED__DASHBOARD__ENABLED": "False"}


def free_port() -> int:
    """Return a port that nobody listens on, for a server that begins to in a moment, or again after a while.

    It is below those that the system gives to whoever connects: any of these may be taken in between, also by a client
    that asks the very port for its server, which then speaks to itself.
    """
    first = int(PORTS_OF_CLIENTS.read_text().split()[0]) if PORTS_OF_CLIENTS.is_file() else 32_768
    while True:
        port = random.SystemRandom().randrange(min(10_000, first - 1_000), first)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Cluster:
    """A scheduler and workers, each a process of its own; a worker under a nanny comes back when it is killed."""

    def __init__(self, prefix: tuple[str, ...] = (), host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.address = f"tcp://{host}:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.start_scheduler(prefix)

    def start_scheduler(self, prefix: tuple[str, ...] = ()) -> None:
        host = self.address.removeprefix("tcp://").partition(":")[0]
        words = ["dask", "scheduler", "--host", host, "--port", str(self.port), "--no-dashboard"]
        self._start("scheduler", prefix, words, {})

    def start_worker(
        self,
        name: str,
        *options: str,
        nanny: bool = True,
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        words = ["dask", "worker", self.address, "--name", name, "--nthreads", "1", "--no-dashboard"]
        words += ["--nanny" if nanny else "--no-nanny", *options]
        self._start(name, prefix, words, environment or {})

    def kill(self, name: str) -> None:
        """Kill a process and its children, as a machine that loses power does."""
        family(self.processes[name].pid, kill=True)
        self.processes.pop(name).wait()

    def worker_process(self, name: str) -> psutil.Process | None:
        """Return the process that works below a nanny, if it runs right now."""
        for child in psutil.Process(self.processes[name].pid).children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                return child
        return None

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def _start(self, name: str, prefix: tuple[str, ...], words: list[str], environment: Mapping[str, str]) -> None:
        command = [*prefix, sys.executable, "-m", *words]
        self.processes[name] = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | QUIET | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def cluster(**workers: tuple[str, ...]) -> Iterator[Cluster]:
    """Yield a cluster of workers with the given options, by name."""
    it = Cluster()
    try:
        for name, options in workers.items():
            it.start_worker(name, *options)
        wait_for_workers(it.address, len(workers))
        yield it
    finally:
        it.stop()


def wait_for_workers(address: str, count: int, seconds: float = 90) -> None:
    """Wait until so many workers are there."""
    from distributed import Client

    with Client(address, timeout=seconds, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=seconds)


def family(pid: int, *, kill: bool) -> list[int]:
    """Return a process and everything it started, killed if so asked."""
    try:
        processes = [psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return []
    processes += processes[0].children(recursive=True)
    for process in processes:
        if kill:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    return [process.pid for process in processes]


def wait_until(condition: object, seconds: float = 90) -> None:
    """Wait until a callable says yes; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
