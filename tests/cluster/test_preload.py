"""What a worker of a cluster begins with: a GPU worker that sees no GPU ends with a line, or says so and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from varstar_batch.cluster import preload
from varstar_batch.cluster.preload import MISSING_GPU, check_gpu
from varstar_batch.errors import InputError, RefusedError
from varstar_batch.model.keras_runtime import nvidia_driver_is_loaded

GPU_WORKER = {"GPU": 1.0, "memory": 2.0}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine whose driver is loaded, and whose Keras sees no card."""
    monkeypatch.delenv(MISSING_GPU, raising=False)
    monkeypatch.setattr(preload, "nvidia_driver_is_loaded", lambda: True)
    monkeypatch.setattr(preload, "keras_sees_gpu", lambda: False)
    return monkeypatch


def test_a_gpu_worker_without_a_gpu_is_refused(machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match=r"^worker a: expected a GPU that Keras sees, .* GPU=1, got none; .*doctor"):
        check_gpu(GPU_WORKER, "a")
    machine.setattr(preload, "nvidia_driver_is_loaded", lambda: False)
    machine.setattr(preload, "keras_sees_gpu", lambda: pytest.fail("Keras was loaded for nothing"))
    with pytest.raises(RefusedError, match="no NVIDIA driver on this machine"):
        check_gpu(GPU_WORKER, "a")


def test_a_gpu_worker_without_a_gpu_says_so_where_it_may_go_on(machine: pytest.MonkeyPatch) -> None:
    machine.setenv(MISSING_GPU, "cpu")
    assert check_gpu(GPU_WORKER, "a") == "worker a declares GPU=1 and Keras sees none: it classifies on the CPU"


def test_nothing_is_said_where_nothing_is_wrong(machine: pytest.MonkeyPatch) -> None:
    assert check_gpu({}, "a") == ""
    assert check_gpu({"GPU": 0.0}, "a") == ""
    machine.setattr(preload, "keras_sees_gpu", lambda: True)
    assert check_gpu(GPU_WORKER, "a") == ""


def test_another_wish_is_refused(machine: pytest.MonkeyPatch) -> None:
    machine.setenv(MISSING_GPU, "wait")
    with pytest.raises(InputError, match="expected refuse or cpu, got 'wait'"):
        check_gpu({}, "a")


@pytest.mark.parametrize(
    ("then", "said"), [("refuse", "expected a GPU that Keras sees"), ("cpu", "it classifies on the CPU")]
)
def test_dask_ends_a_worker_or_lets_it_begin(then: str, said: str) -> None:
    if nvidia_driver_is_loaded():
        pytest.skip("needs a machine without a GPU")
    # Nobody listens there: the worker looks for its GPU before it looks for its scheduler, and ends in vain otherwise.
    words = ["worker", "tcp://127.0.0.1:1", "--no-nanny", "--no-dashboard", "--resources", "GPU=1"]
    words += ["--preload", "varstar_batch.cluster.preload", "--death-timeout", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "dask", *words],
        env=os.environ | {MISSING_GPU: then},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if said in line], done.stderr
    assert (done.returncode == 3) == (then == "refuse"), done.stderr
    assert "Traceback" not in done.stderr


def test_the_scheduler_tells_how_many_chunks_wait_for_a_gpu() -> None:
    from distributed import Client, LocalCluster
    from distributed.scheduler import Scheduler

    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as local,
        Client(local, set_as_default=False) as client,
    ):
        scheduler: Scheduler = local.scheduler
        told = preload.GpuTasks(scheduler)

        def counts() -> dict[str, float]:
            (metric,) = told.collect()
            assert metric.name == "varstar_gpu_tasks"
            return {sample.labels["state"]: sample.value for sample in metric.samples}

        assert counts() == {"waiting": 0, "no-worker": 0, "processing": 0}
        folded = client.submit(int, key="fold_chunk-2026-a")
        waits = client.submit(int, folded, key="classify_folded-2026-a", resources={"GPU": 1})
        ready = client.submit(int, key="classify_folded-2026-b", resources={"GPU": 1})
        deadline = time.monotonic() + 30
        while counts() != {"waiting": 1, "no-worker": 1, "processing": 0}:
            assert time.monotonic() < deadline, counts()
            time.sleep(0.05)
        del waits, ready
