"""Workers are forked from a process that is ready, and that no thread would be lost of."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from varstar_batch.cluster.client import open_client

NURSERY = """
import os, sys, threading
import varstar_batch.cluster.forkserver_preload
names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
print(len(threading.enumerate()), *sorted(set(names) - {"jemalloc_bg_thd"}))
print(*sorted({"distributed", "numba", "openvino", "varstar_batch.runs.tasks"} & set(sys.modules)))
"""


def test_what_workers_are_forked_from_has_one_thread() -> None:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", NURSERY]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()
    assert out[0].split()[0] == "1"
    assert len(out[0].split()) == 2, "threads of libraries"
    assert out[1].split() == ["distributed", "numba", "openvino", "varstar_batch.runs.tasks"]


def _state(name: str) -> tuple[str | None, str | None, list[str], int]:
    return os.environ.get(name), os.environ.get("OPENBLAS_NUM_THREADS"), sorted(sys.modules), os.getpid()


def test_workers_are_ready_and_have_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    for value in ("first", "second"):
        monkeypatch.setenv("VARSTAR_TEST_OF_FORKING", value)
        with open_client(2, None) as client:
            assert client is not None
            states = client.run(_state, "VARSTAR_TEST_OF_FORKING")
            assert len(states) == 2
            for seen, blas, modules, pid in states.values():
                assert (seen, blas) == (value, "1")
                assert {"numba", "openvino"} <= set(modules)
                assert not {"pandas", "duckdb", "typer"} & set(modules)
                assert psutil.Process(pid).ppid() != os.getpid()
        assert not any(psutil.pid_exists(pid) for _, _, _, pid in states.values())
    assert "OPENBLAS_NUM_THREADS" not in os.environ
