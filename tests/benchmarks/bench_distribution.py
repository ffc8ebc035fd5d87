"""What distribution costs: two Dask workers against two processes without Dask, plans and runs of very many partitions.

Run by ``make bench``, or alone: ``python -m pytest tests/benchmarks/bench_distribution.py -s``. Sizes shrink with
``VARSTAR_BENCH_OBJECTS`` and ``VARSTAR_BENCH_PARTITIONS``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests import s3_server
from tests.benchmarks.surveys import SurveySize, write_survey
from tests.making import simulated_table, write_partition
from varstar_batch.cluster.clients import open_client
from varstar_batch.cluster.configuration import RunConfig
from varstar_batch.cluster.execute import execute
from varstar_batch.cluster.outcomes import Failure
from varstar_batch.cluster.plan import make_plan
from varstar_batch.cluster.runs import execute_run, plan_run, prepare
from varstar_batch.storage.bundles import read_bundle
from varstar_batch.storage.surveys import Partition, open_survey

OBJECTS = int(os.environ.get("VARSTAR_BENCH_OBJECTS", "200000"))
PARTITIONS = int(os.environ.get("VARSTAR_BENCH_PARTITIONS", "100000"))

pytestmark = pytest.mark.timeout(3600)

ALONE = """
import sys, time
from varstar_batch.cluster.configuration import RunConfig
from varstar_batch.cluster.context import load_bundle, load_engine
from varstar_batch.cluster.execute import execute
from varstar_batch.cluster.runs import plan_run, prepare
survey, catalog, first = sys.argv[1:]
plan, bundle = plan_run(survey, None, RunConfig())
prepared = prepare(plan, bundle, catalog)
mine = plan.survey.partitions[int(first)::2]
next(iter(execute(prepared.context, mine[:1], (), None, lambda rows: None)))
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
for result in execute(prepared.context, mine[1:], (), None, lambda rows: None):
    assert isinstance(result, tuple), result
print(time.perf_counter() - start)
"""


def load() -> str:
    return f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def test_two_dask_workers_against_two_processes(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", SurveySize(objects=OBJECTS, partitions=40))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE, str(survey), str(tmp_path / f"alone{number}"), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    start = time.perf_counter()
    for process in processes:
        process.communicate("go\n")
    alone = time.perf_counter() - start
    assert [process.returncode for process in processes] == [0, 0]
    plan, bundle = plan_run(str(survey), None, RunConfig())
    prepared = prepare(plan, bundle, str(tmp_path / "dask"))
    partitions = plan.survey.partitions
    with open_client(2, None) as client:
        warm = list(execute(prepared.context, partitions[:2], (), client, lambda _: None))
        start = time.perf_counter()
        done = list(execute(prepared.context, partitions[2:], (), client, lambda _: None))
        dask = time.perf_counter() - start
    assert not [each for each in warm + done if isinstance(each, Failure)]
    rows = OBJECTS * 38 / 40
    print(
        f"\n{rows:,.0f} light curves after a warm-up: two processes {alone:.1f} s ({rows / alone:,.0f}/s), "
        f"two Dask workers {dask:.1f} s ({rows / dask:,.0f}/s), overhead {dask / alone - 1:+.1%}; {load()}"
    )


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
    count = PARTITIONS // 10
    write_partition(tmp_path / "survey" / "p000000.parquet", simulated_table(0, 1))
    content = (tmp_path / "survey" / "p000000.parquet").read_bytes()
    for number in range(1, count):
        (tmp_path / "survey" / f"p{number:06d}.parquet").write_bytes(content)
    plan, bundle = plan_run(str(tmp_path / "survey"), None, RunConfig())
    prepared = prepare(plan, bundle, str(tmp_path / "catalog"))
    me = psutil.Process()
    marks: list[tuple[int, float, float]] = []
    start = time.perf_counter()
    seen = 0

    def on_rows(_: int) -> None:
        nonlocal seen
        seen += 1
        if seen % (count // 10) == 0:
            marks.append((seen, time.perf_counter() - start, me.memory_info().rss / 2**20))

    with open_client(2, None) as client:
        executed = execute_run(prepared, client, on_rows, lambda _: None)
    assert executed.tasks.num_rows == count
    print(f"\n{count:,} partitions of one object, client and scheduler in one process; {load()}")
    for done, seconds, memory in marks:
        print(f"  {done:>7,} partitions {seconds:7.1f} s  {1000 * seconds / done:5.1f} ms each  {memory:6.0f} MiB")


def test_s3_against_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = OBJECTS // 4
    survey = write_survey(tmp_path / "survey", SurveySize(objects=objects, partitions=8))
    with s3_server.moto_server() as url:
        s3_server.use(monkeypatch, url)
        s3_server.make_bucket("bench")
        s3_server.upload(survey, "s3://bench/survey")
        rates = {}
        for name, place in (("disk", str(tmp_path)), ("S3", "s3://bench")):
            plan, bundle = plan_run(f"{place}/survey", None, RunConfig())
            prepared = prepare(plan, bundle, f"{place}/catalog")
            with open_client(2, None) as client:
                list(execute(prepared.context, plan.survey.partitions[:2], (), client, lambda _: None))
                start = time.perf_counter()
                done = list(execute(prepared.context, plan.survey.partitions[2:], (), client, lambda _: None))
                rates[name] = objects * 6 / 8 / (time.perf_counter() - start)
            assert not [each for each in done if isinstance(each, Failure)]
    print(
        f"\n{objects * 6 // 8:,} light curves: disk {rates['disk']:,.0f}/s, S3 {rates['S3']:,.0f}/s "
        f"({rates['S3'] / rates['disk']:.0%}); {load()}, moto's server on it too"
    )
