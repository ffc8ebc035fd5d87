"""Plans and runs of very many partitions: time, memory, and that neither grows with time.

Run by hand: ``python -m pytest tests/benchmarks/bench_distribution.py -s``. Sizes shrink with
``VARSTAR_BENCH_PARTITIONS`` (plans) and ``VARSTAR_BENCH_EMPTY`` (the run of near-empty partitions).
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.makers.runs import Hooks
from tests.makers.surveys import simulated_table, write_partition
from varstar_batch.cluster.client import open_client
from varstar_batch.cluster.dask_runner import DaskRunner
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.plan import make_plan
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.runs.stages import execute_run
from varstar_batch.survey.open import Partition, open_survey

PARTITIONS = int(os.environ.get("VARSTAR_BENCH_PARTITIONS", "100000"))

EMPTY = int(os.environ.get("VARSTAR_BENCH_EMPTY", "10000"))

pytestmark = pytest.mark.timeout(3600)


def load() -> str:
    return f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def test_planning_very_many_partitions(tmp_path: Path) -> None:
    write_partition(tmp_path / "survey" / "a.parquet", simulated_table(0, 5))
    survey = open_survey(str(tmp_path / "survey"))
    bundle = read_bundle()
    before = psutil.Process().memory_info().rss
    start, cpu = time.perf_counter(), time.process_time()
    many = tuple(Partition(f"Norder=7/Dir={i // 1000}/Npix={i}.parquet", 1000, f"{i:x}") for i in range(PARTITIONS))
    plan = make_plan(replace(survey, partitions=many), bundle, RunConfig())
    prepared = prepare(plan, bundle, str(tmp_path / "catalog"))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = psutil.Process().memory_info().rss - before
    print(
        f"\nplan of {PARTITIONS:,} partitions, written: {seconds:.1f} s ({cpu:.1f} s of a core), "
        f"{memory / 2**20:.0f} MiB; {load()}"
    )
    assert len(prepared.plan.survey.partitions) == PARTITIONS
    # Of the core's time: what others do on the machine is not the plan's.
    assert cpu < 30
    assert memory < 2**30


def test_listing_very_many_files(tmp_path: Path) -> None:
    first = tmp_path / "survey" / "00" / "000000.parquet"
    write_partition(first, simulated_table(0, 2))
    content = first.read_bytes()
    for number in range(1, PARTITIONS):
        path = tmp_path / "survey" / f"{number % 100:02d}" / f"{number:06d}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content[:100])
    start = time.perf_counter()
    survey = open_survey(str(tmp_path / "survey"))
    print(f"\nlisting {len(survey.partitions):,} files: {time.perf_counter() - start:.1f} s; {load()}")
    assert len(survey.partitions) == PARTITIONS


def test_very_many_near_empty_partitions(tmp_path: Path) -> None:
    write_partition(tmp_path / "survey" / "p000000.parquet", simulated_table(0, 1))
    content = (tmp_path / "survey" / "p000000.parquet").read_bytes()
    for number in range(1, EMPTY):
        (tmp_path / "survey" / f"p{number:06d}.parquet").write_bytes(content)
    plan, bundle = plan_run(str(tmp_path / "survey"), None, RunConfig())
    prepared = prepare(plan, bundle, str(tmp_path / "catalog"))
    me = psutil.Process()
    marks: list[tuple[int, float, int, int]] = []
    start = time.perf_counter()
    seen = 0

    def on_rows(_: int) -> None:
        nonlocal seen
        seen += 1
        if seen % (EMPTY // 10) == 0:
            workers = [child.memory_info().rss for child in me.children(recursive=True)]
            marks.append((seen, time.perf_counter() - start, me.memory_info().rss, max(workers)))

    with open_client(2, None) as client:
        executed = execute_run(prepared, DaskRunner(client, prepared.plan.config), Hooks(on_rows))
    assert executed.tasks.num_rows == EMPTY
    kept = executed.tasks.nbytes / EMPTY
    print(f"\n{EMPTY:,} partitions of one object; client and scheduler in one process, the larger worker; {load()}")
    for done, seconds, mine, worker in marks:
        each = f"{1000 * seconds / done:5.1f} ms each"
        print(f"  {done:>7,} partitions {seconds:7.1f} s  {each}  {mine / 2**20:6.0f} MiB  {worker / 2**20:6.0f} MiB")
    (half, _, mine, worker), (whole, _, mine_at_last, worker_at_last) = marks[len(marks) // 2], marks[-1]
    grown, grown_worker = (mine_at_last - mine) / (whole - half), (worker_at_last - worker) / (whole - half)
    print(
        f"  in the second half {grown:.0f} B a partition, of which {kept:.0f} B are kept; worker {grown_worker:.0f} B"
    )
    # Beyond what is kept: a share for the allocator.
    assert grown < 2 * kept + 1000
    assert grown_worker < 2000
