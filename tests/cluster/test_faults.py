"""The fault matrix: real processes killed, real servers failing; rows in = rows out, and nothing twice.

A few of each by default; ``VARSTAR_FAULTS=full`` runs all of them (minutes).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import s3fs

from tests.makers import s3_server
from tests.makers.clusters import ROOT, Cluster, cluster, family, wait_until
from tests.makers.runbook import check_said
from tests.makers.runs import Hooks, at_the_first, read_rows, run, without_run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.cluster.dask_runner import DaskRunner
from varstar_batch.errors import WorkersLostError
from varstar_batch.runs import execute
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import InProcess, StorageLostError
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.runs.stages import RunObserver, execute_run

SHIPPED = ROOT / "varstar_batch/model/bundles/default"
FULL = os.environ.get("VARSTAR_FAULTS") == "full"
KILLS = 20 if FULL else 4
PARTITIONS = 24 if FULL else 6
OBJECTS = 600 if FULL else 400
STAGES = ("plan", "first", "half", "verify", "tables", "publish") if FULL else ("plan", "half", "publish")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800 if FULL else 600)]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("faults") / "survey", (OBJECTS,) * PARTITIONS)


@pytest.fixture(scope="module")
def undisturbed(survey: Path, tmp_path_factory: pytest.TempPathFactory):
    """The data of a run that nothing disturbed."""
    catalog = tmp_path_factory.mktemp("undisturbed")
    run(survey, catalog)
    return without_run(read_rows(catalog))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey of fewer partitions, where each request takes its time."""
    return write_survey(tmp_path_factory.mktemp("small") / "survey", (100,) * (PARTITIONS // 2))


@pytest.fixture(scope="module")
def small_undisturbed(small: Path, tmp_path_factory: pytest.TempPathFactory):
    catalog = tmp_path_factory.mktemp("small-undisturbed")
    run(small, catalog)
    return without_run(read_rows(catalog))


def check(catalog: str | Path, undisturbed) -> None:
    """As many rows as objects, none twice, and the data of an undisturbed run, byte for byte."""
    rows = read_rows(catalog)
    assert pc.count_distinct(rows["object_id"]).as_py() == rows.num_rows == undisturbed.num_rows
    assert without_run(rows).equals(undisturbed)


def classify(survey: str | Path, catalog: str | Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "varstar_batch", "classify", str(survey), str(catalog), "--json", *options]


def test_workers_are_killed_again_and_again(survey: Path, undisturbed, tmp_path: Path) -> None:
    draw = random.Random(4)
    catalog = tmp_path / "catalog"
    killed: list[int] = []
    over = threading.Event()

    with cluster(a=(), b=()) as processes:

        def kill() -> None:
            while len(killed) < KILLS and not over.wait(draw.uniform(0.2, 1.5)):
                worker = processes.worker_process(draw.choice("ab"))
                if worker is not None:
                    worker.send_signal(signal.SIGKILL)
                    killed.append(worker.pid)

        thread = threading.Thread(target=kill)
        thread.start()
        for _ in range(20):  # a run that is through before all are killed is done again
            record, prepared = run(survey, catalog, scheduler=processes.address, fresh=True)
            assert record["failed_partitions"] == 0, pq.read_table(
                f"{prepared.context.run}/failures.parquet"
            ).to_pylist()
            check(catalog, undisturbed)
            if len(killed) >= KILLS:
                break
        over.set()
        thread.join()
    print(f"{len(killed)} workers killed")
    assert len(killed) == KILLS


def test_a_chunk_that_kills_its_workers_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask
    import distributed  # before its configuration is changed for a while: it is filled when it is imported

    assert distributed.__version__
    survey = write_survey(tmp_path / "survey", (60,) * 6)
    monkeypatch.setenv("VARSTAR_POISON", "part-00002.parquet")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with dask.config.set({"distributed.worker.preload": ["tests.makers.poison"]}):
        record, prepared = run(survey, tmp_path / "catalog", workers=2)
    (failure,) = pq.read_table(f"{prepared.context.run}/failures.parquet").to_pylist()
    assert (failure["partition"], failure["kind"]) == ("part-00002.parquet", "killed_worker")
    check_said("partition kills workers", failure["message"])
    assert record["rows"] == read_rows(tmp_path / "catalog").num_rows == 300


def test_a_task_that_asks_for_more_memory_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask
    import distributed

    assert distributed.__version__
    survey = write_survey(tmp_path / "survey", (60,) * 3)
    monkeypatch.setenv("VARSTAR_POISON", "part-00001.parquet")
    monkeypatch.setenv("VARSTAR_POISON_KIND", "memory")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with dask.config.set({"distributed.worker.preload": ["tests.makers.poison"]}):
        record, prepared = run(survey, tmp_path / "catalog", workers=1)
    (failure,) = pq.read_table(f"{prepared.context.run}/failures.parquet").to_pylist()
    assert (failure["partition"], failure["kind"]) == ("part-00001.parquet", "memory")
    check_said("memory", failure["message"])
    assert record["rows"] == 120
    # Where there is enough, the same command does the rest.
    monkeypatch.delenv("VARSTAR_POISON")
    record, _ = run(survey, tmp_path / "catalog", workers=1)
    assert (record["rows"], record["failed_partitions"]) == (180, 0)


def test_a_worker_that_is_drained_hands_its_work_on(survey: Path, undisturbed, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    with cluster(a=(), b=()) as processes:

        def drain() -> None:
            # What a kubelet sends the processes of a pod whose node is drained.
            processes.processes["a"].send_signal(signal.SIGTERM)

        record, _ = run(survey, catalog, scheduler=processes.address, on_partition=at_the_first(drain))
        wait_until(lambda: processes.processes["a"].poll() is not None)
        assert processes.processes["b"].poll() is None
    assert record["failed_partitions"] == 0
    check(catalog, undisturbed)


def test_a_scheduler_that_is_killed_ends_the_run_and_the_next_one_goes_on(
    survey: Path, undisturbed, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog"
    with cluster(a=()) as processes:
        plan, bundle = plan_run(str(survey), None, RunConfig())
        prepared = prepare(plan, bundle, str(catalog))
        from distributed import Client

        kill = at_the_first(lambda: processes.kill("scheduler"))
        with Client(processes.address, set_as_default=False) as client, pytest.raises(WorkersLostError) as lost:
            execute_run(prepared, DaskRunner(client, prepared.plan.config, lost_seconds=3.0), Hooks(on_partition=kill))
    check_said("scheduler gone", str(lost.value))
    record, again = run(survey, catalog)
    assert again.run_id == prepared.run_id
    assert record["resumed_partitions"] > 0
    check(catalog, undisturbed)


def test_a_scheduler_that_comes_back_is_worked_with_again(survey: Path, undisturbed, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    with cluster(a=()) as processes:

        def restart() -> None:
            processes.kill("scheduler")
            processes.kill("a")
            processes.start_scheduler()
            processes.start_worker("b")

        record, _ = run(survey, catalog, scheduler=processes.address, on_partition=at_the_first(restart))
    assert record["retries"] > 0
    check(catalog, undisturbed)


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_that_is_killed_at_a_stage_goes_on(survey: Path, undisturbed, tmp_path: Path, stage: str) -> None:
    catalog = tmp_path / "catalog"

    def there(pattern: str, least: int = 1) -> bool:
        return len(list(catalog.glob(pattern))) >= least

    reached = {
        "plan": lambda: there("runs/*/claim.json"),
        "first": lambda: there("runs/*/dataset/part-*.parquet"),
        "half": lambda: there("runs/*/dataset/part-*.parquet", PARTITIONS // 2),
        "verify": lambda: there("runs/*/dataset/part-*.parquet", PARTITIONS),
        "tables": lambda: there("runs/*/tasks.parquet"),
        "publish": lambda: there("runs/*/run.json"),
    }[stage]
    command = classify(survey, catalog, "--workers", "1")
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as first:
        wait_until(reached)
        family(first.pid, kill=True)
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(second.stdout)["rows"] == undisturbed.num_rows
    check(catalog, undisturbed)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server.moto_server() as url:
        yield url


@pytest.fixture
def proxy(
    server: str, small: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[s3_server.FaultyProxy]:
    """A proxy before a store that holds the survey in the bucket ``faults``."""
    s3_server.use(monkeypatch, server)
    if not s3fs.S3FileSystem().exists("faults"):
        s3_server.make_bucket("faults")
        s3_server.upload(small, "s3://faults/survey")
    it = s3_server.FaultyProxy(server)
    it.start()
    s3_server.use(monkeypatch, it.url)
    yield it
    it.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("status", [503, 429])
def test_a_store_that_answers_503_or_429_to_three_of_ten(
    proxy: s3_server.FaultyProxy, small_undisturbed, status: int
) -> None:
    proxy.busy = (status, {503: "ServiceUnavailable", 429: "TooManyRequests"}[status])
    proxy.share_busy = 0.3
    record, _ = run("s3://faults/survey", f"s3://faults/busy-{status}", workers=2)
    assert proxy.failed > 0.2 * proxy.requests > 20
    assert record["failed_partitions"] == 0
    proxy.share_busy = 0.0
    check(f"s3://faults/busy-{status}", small_undisturbed)


def test_a_store_that_is_gone_for_20_seconds(proxy: s3_server.FaultyProxy, small_undisturbed) -> None:
    stop = threading.Event()

    def outage() -> None:
        # Planning takes some 50 requests; then the chunks begin.
        wait_until(lambda: proxy.requests > 55)
        with s3_server.stopped_for(proxy, 20.0 if FULL else 8.0):
            stop.set()

    thread = threading.Thread(target=outage)
    thread.start()
    record, _ = run("s3://faults/survey", "s3://faults/gone", workers=2)
    thread.join()
    assert stop.is_set()
    assert record["failed_partitions"] == 0
    check("s3://faults/gone", small_undisturbed)


def test_a_store_that_is_gone_for_good_ends_the_run_and_the_next_one_goes_on(
    proxy: s3_server.FaultyProxy, small_undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than anybody waits, which is made shorter here."""
    monkeypatch.setattr(execute, "FIRST_PAUSE", 0.01)
    plan, bundle = plan_run("s3://faults/survey", None, RunConfig())
    prepared = prepare(plan, bundle, "s3://faults/lost")
    gone = at_the_first(proxy.stop)
    with pytest.raises(StorageLostError) as lost:
        execute_run(prepared, InProcess(first_pause=0.01), Hooks(on_partition=gone))
    check_said("store gone for an hour", str(lost.value))
    proxy.start()
    record, again = run("s3://faults/survey", "s3://faults/lost")
    assert again.run_id == prepared.run_id
    assert record["resumed_partitions"] > 0
    check("s3://faults/lost", small_undisturbed)


def test_credentials_that_expire_midway(proxy: s3_server.FaultyProxy, small_undisturbed) -> None:
    plan, bundle = plan_run("s3://faults/survey", None, RunConfig())
    prepared = prepare(plan, bundle, "s3://faults/expired")
    # Two requests a partition: some are done by then, not all.
    proxy.deny_after = proxy.requests + 7
    proxy.denied = "ExpiredToken"
    with pytest.raises(StorageLostError, match="credentials") as lost:
        execute_run(prepared, InProcess(), RunObserver())
    check_said("credentials expired", str(lost.value))
    assert s3_server.SECRET not in str(lost.value)
    proxy.denied = ""
    record, again = run("s3://faults/survey", "s3://faults/expired")
    assert again.run_id == prepared.run_id
    assert record["resumed_partitions"] > 0
    check("s3://faults/expired", small_undisturbed)


def test_a_disk_that_fills(survey: Path, undisturbed, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs a machine on which a tmpfs can be mounted")
    try:
        ballast = disk / "ballast"
        # Room for the run's copy of the model and a little more: it fills while the catalog is being written.
        model = sum(path.stat().st_size for path in SHIPPED.iterdir())
        ballast.write_bytes(bytes(64 * 2**20 - model - 100_000))
        catalog = disk / "catalog"
        command = classify(survey, catalog, "--workers", "1")
        first = subprocess.run(command, capture_output=True, text=True, check=False)
        assert first.returncode in {1, 2}
        lines = [line for line in first.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        check_said("disk full", lines[0])
        assert not (catalog / "current").exists()
        ballast.unlink()
        second = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(second.stdout)["failed_partitions"] == 0
        check(catalog, undisturbed)
        assert not list(catalog.rglob(".tmp-*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_failures_of_different_kinds_are_told_apart(survey: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    mine = tmp_path / "survey"
    shutil.copytree(survey, mine)
    paths = sorted(mine.iterdir())
    paths[1].write_bytes(paths[1].read_bytes()[:5000])
    table = pq.read_table(paths[2])
    renamed = table.rename_columns({"period": "Period"})
    pq.write_table(renamed.replace_schema_metadata(table.schema.metadata), paths[2])
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), paths[3])
    record, prepared = run(mine, tmp_path / "catalog", workers=1)
    failures = pq.read_table(f"{prepared.context.run}/failures.parquet").to_pylist()
    assert [failure["kind"] for failure in failures] == ["unreadable", "schema", "duplicate_object_id"]
    check_said("damaged files", " ".join(failure["kind"] for failure in failures))
    assert record["rows"] == OBJECTS * (PARTITIONS - 3)
    assert open_catalog_root(tmp_path / "catalog").current().run_id == prepared.run_id


def test_a_network_that_is_cut_between_hosts(survey: Path, undisturbed, tmp_path: Path) -> None:
    script = ROOT / "tests" / "makers" / "hosts.sh"
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and iproute2, to make network namespaces")
    made = subprocess.run([str(script), "up", "2"], capture_output=True, text=True, check=False)
    if made.returncode:
        subprocess.run([str(script), "down", "2"], check=False)
        pytest.skip(f"needs a machine with network namespaces: {made.stderr.strip()[:100]}")
    host = [("ip", "netns", "exec", f"vsh{number}") for number in range(3)]
    catalog = tmp_path / "catalog"
    with ExitStack() as stack:
        stack.callback(subprocess.run, [str(script), "down", "2"], check=False)
        processes = Cluster(prefix=host[0], host="10.77.0.10")
        stack.callback(processes.stop)
        for number in (1, 2):
            processes.start_worker(f"w{number}", prefix=host[number])
        command = [*host[0], *classify(survey, catalog, "--scheduler", processes.address, "--insecure-scheduler")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            wait_until(lambda: list(catalog.glob("runs/*/dataset/part-*.parquet")))
            subprocess.run([str(script), "cut", "2"], check=True)
            out, _ = running.communicate(timeout=300)
        assert running.returncode == 0
    assert json.loads(out)["failed_partitions"] == 0
    check(catalog, undisturbed)
