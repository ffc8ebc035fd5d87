"""What Dask, an object store and Prefect cost: the same work with and without each, in turns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import s3fs

from tests.benchmarks.harness import Options, Part, checked, in_turns, rows_of, run_process, varstar
from tests.benchmarks.measures import Row, Spread, paired_ratio, spread
from tests.benchmarks.models import paper_bundle
from tests.benchmarks.surveys import SurveySize, write_survey
from tests.makers import s3_server
from tests.makers.clusters import ROOT, free_port
from tests.makers.flow_site import Site, running_site
from varstar_batch.cluster.client import open_client
from varstar_batch.cluster.dask_runner import DaskRunner
from varstar_batch.cluster.forking import ENVIRONMENT
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import PartitionResult, execute
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.runs.records import ChunkRecord
from varstar_batch.survey.open import Failure
from varstar_batch.survey.read import partition_shape

CEPH = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool")
WARM_UP = 2
"""Partitions that are done before the clock runs: kernels are loaded, the model is compiled."""

ALONE = """
import sys
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import InProcess, execute
from varstar_batch.runs.prepare import plan_run, prepare
survey, catalog, first, step, model = sys.argv[1:]
plan, bundle = plan_run(survey, model or None, RunConfig())
prepared = prepare(plan, bundle, catalog, fresh=True)
warm, rest = plan.survey.partitions[:1], plan.survey.partitions[2:][int(first)::int(step)]
assert all(isinstance(each, tuple) for each in execute(prepared.context, warm, (), InProcess(), lambda rows: None))
print("ready", flush=True)
sys.stdin.readline()
assert all(isinstance(each, tuple) for each in execute(prepared.context, rest, (), InProcess(), lambda rows: None))
"""
"""A process of its own, without Dask, that does every `step`-th partition; it begins when it is told to."""

FLOW = """
import sys
from varstar_batch.flows.reclassify import ReclassifyParameters, reclassify
survey, catalog, workers = sys.argv[1:]
reclassify(ReclassifyParameters(survey=survey, catalog=catalog, mode="full", workers=int(workers)))
"""


def survey_of(options: Options, objects: int) -> Path:
    """Return a survey of so many light curves, made where there is none."""
    size = SurveySize(objects=objects, partitions=min(64, max(8, objects // 1000)))
    return write_survey(options.scratch / f"survey-{size.objects}-{size.partitions}-{size.observations}", size)


def measure_overhead(options: Options) -> Part:
    """Measure Dask workers beside as many plain processes, and beside one; with the network that ships, and another."""
    survey, many = survey_of(options, options.objects), options.workers
    place = options.scratch / "catalog-distribution"
    one, plain, dask = "one process without Dask", f"{many} processes without Dask", f"{many} Dask workers"
    calls: dict[str, Callable[[], float]] = {
        plain: lambda: _without_dask(survey, place, many),
        dask: lambda: _with_dask(str(survey), str(place), many),
        one: lambda: _without_dask(survey, place, 1),
    }
    values = in_turns(calls, options.rounds)
    part = Part(f"Cost of distribution: {options.objects:,} light curves, after a warm-up", rows_of(values))
    overhead = _overhead(values[plain], values[dask])
    part.facts["overhead"] = round(overhead.median, 4)
    part.notes.append(
        f"Overhead of Dask: {overhead.median:+.1%} ({overhead.low:+.1%} - {overhead.high:+.1%}) over {plain}, of which "
        f"each does its part and none waits for another. Aim: 10 %."
    )
    speedup = paired_ratio(values[dask], values[one])
    part.notes.append(f"{dask} are {speedup.median:.2f} ({speedup.low:.2f} - {speedup.high:.2f}) times {one}.")
    fewer, model = survey_of(options, max(2_000, options.objects // 4)), str(paper_bundle(options.scratch))
    calls = {
        plain: lambda: _without_dask(fewer, place, many, model),
        dask: lambda: _with_dask(str(fewer), str(place), many, model),
    }
    values = in_turns(calls, options.rounds)
    part.rows += [replace(row, name=f"{row.name}, the paper's network") for row in rows_of(values)]
    overhead = _overhead(values[plain], values[dask])
    part.facts["overhead_paper"] = round(overhead.median, 4)
    part.notes.append(
        f"With the paper's network: {overhead.median:+.1%} ({overhead.low:+.1%} - {overhead.high:+.1%}), with a "
        "quarter of the light curves."
    )
    return part


def measure_s3(options: Options) -> Part:
    """Measure a survey and a catalog on an object store beside the same on a disk, with two networks."""
    objects = max(2_000, options.objects // 4)
    survey = survey_of(options, objects)
    part = Part(f"On an object store beside a disk: {objects:,} light curves, {options.workers} workers")
    models = {"": None, ", the paper's network": str(paper_bundle(options.scratch))}
    with tempfile.TemporaryDirectory() as folder, _store(Path(folder)) as (store, url), _environment(url):
        s3_server.make_bucket("bench")
        s3_server.upload(survey, "s3://bench/survey")
        for suffix, model in models.items():
            disk = partial(_with_dask, str(survey), str(options.scratch / "catalog-disk"), options.workers, model)
            remote = partial(_with_dask, "s3://bench/survey", "s3://bench/catalog", options.workers, model)
            values = in_turns({"disk": disk, store: remote}, options.rounds)
            ratio = paired_ratio(values[store], values["disk"])
            part.rows += [replace(row, name=row.name + suffix) for row in rows_of(values)]
            part.facts["ratio_paper" if suffix else "ratio"] = round(ratio.median, 4)
            part.notes.append(
                f"The store runs on the same cores as the workers{suffix}: {ratio.median:.0%} of the disk. Aim: 80 %."
            )
    return part


def measure_flow(options: Options) -> Part:
    """Measure the flow beside the command, whole processes, and a deployed run from the request to its end."""
    survey, workers = survey_of(options, options.objects), str(options.workers)
    with tempfile.TemporaryDirectory() as folder, running_site(Path(folder)) as site:
        place = Path(folder) / "catalog"
        command = varstar("classify", str(survey), str(place), "--fresh", "--workers", workers, "--json")
        flow = [sys.executable, "-c", FLOW, str(survey), str(place), workers]
        here = {name: value for name, value in site.environment.items() if name.startswith("PREFECT_")}
        calls: dict[str, Callable[[], float]] = {
            "varstar classify": lambda: checked(run_process(command)).seconds,
            "the flow, with its server": lambda: checked(run_process(flow, env=here)).seconds,
            "a deployed run, asked for by the API": lambda: _deployed(site, survey, place, options.workers),
        }
        values = in_turns(calls, options.rounds)
    part = Part(f"The flow beside the command: {options.objects:,} light curves, {workers} workers")
    base = values["varstar classify"]
    for name, seconds in values.items():
        more = spread([found - other for found, other in zip(seconds, base, strict=True)])
        note = "" if seconds is base else f"{more.median:+.1f} s ({more.low:+.1f} - {more.high:+.1f})"
        part.rows.append(Row(name=name, value=spread(seconds), unit="s", rounds=len(seconds), note=note))
        part.facts[name] = round(more.median, 2)
    allowed = 5 + 0.02 * spread(base).median
    part.notes.append(
        f"Aim: 5 s and 2 % more than the command, which is {allowed:.1f} s here. Published and reported alike."
    )
    return part


def _overhead(plain: list[float], dask: list[float]) -> Spread:
    return spread([base / rate - 1 for base, rate in zip(plain, dask, strict=True)])


def _with_dask(survey: str, catalog: str, workers: int, model: str | None = None) -> float:
    plan, bundle = plan_run(survey, model, RunConfig())
    prepared = prepare(plan, bundle, catalog, fresh=True)
    partitions = plan.survey.partitions
    with open_client(workers, None) as client:
        assert client is not None
        runner = DaskRunner(client, prepared.plan.config)
        _check(execute(prepared.context, partitions[:WARM_UP], (), runner, lambda _: None))
        start = time.perf_counter()
        records = _check(execute(prepared.context, partitions[WARM_UP:], (), runner, lambda _: None))
        seconds = time.perf_counter() - start
    run = prepared.context.run
    run.fs.rm(run.path, recursive=True)
    return sum(record.rows for record in records) / seconds


def _without_dask(survey: Path, catalog: Path, count: int, model: str = "") -> float:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE, str(survey), f"{catalog}-{number}", str(number), str(count), model],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,  # or their libraries' threads would fight for the cores, as Dask's do not
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a process without Dask did not get ready")
    start = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    seconds = time.perf_counter() - start
    if any(process.returncode for process in processes):
        raise RuntimeError("a process without Dask failed")
    for number in range(count):
        shutil.rmtree(f"{catalog}-{number}")
    plan, _ = plan_run(str(survey), None, RunConfig())
    rows = (partition_shape(plan.survey.source, partition).rows for partition in plan.survey.partitions[WARM_UP:])
    return sum(count or 0 for count in rows) / seconds


def _deployed(site: Site, survey: Path, catalog: Path, workers: int) -> float:
    start = time.perf_counter()
    run = site.start("reclassify/full", survey=str(survey), catalog=str(catalog), mode="full", workers=workers)
    site.ended(run, "COMPLETED", 1200)
    return time.perf_counter() - start


def _check(done: Iterable[PartitionResult]) -> list[ChunkRecord]:
    records = []
    for result in done:
        if isinstance(result, Failure):
            raise RuntimeError(f"a partition failed: {result.message}")
        records += result
    return records


@contextmanager
def _store(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and address of a real store: Ceph's gateway where Debian's packages are there, else moto's server."""
    port = free_port()
    if all(shutil.which(name) for name in CEPH):
        script = [str(ROOT / "tests" / "ceph.sh")]
        try:
            with (folder / "start.log").open("wb") as log:
                words = [*script, "start", str(folder), str(port), s3_server.KEY, s3_server.SECRET]
                subprocess.run(words, check=True, timeout=240, stdout=log, stderr=log)
            yield "Ceph's gateway", f"http://127.0.0.1:{port}"
        finally:
            subprocess.run([*script, "stop", str(folder)], check=True)
        return
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield "moto's server", f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@contextmanager
def _environment(url: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ |= s3_server.environment(url)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before
        s3fs.S3FileSystem.clear_instance_cache()
