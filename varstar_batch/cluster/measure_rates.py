"""A short measurement of how fast this machine is on a survey: the rates that an estimate needs."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq

from varstar_batch.catalog.columns.schema import Provenance, sort_rows, write_options
from varstar_batch.catalog.run_files.finish import load_ahead
from varstar_batch.cluster.client import default_workers, open_client
from varstar_batch.errors import InputError, PartitionError
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.engines.engine import Engine
from varstar_batch.model.engines.open import open_engine
from varstar_batch.runs.chunks import peak_memory
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.estimate import Rates, Workload, measure_workload
from varstar_batch.runs.plan import RunPlan, split
from varstar_batch.runs.prepare import sample_footers
from varstar_batch.runs.questioned import classify_questioned, fold_questioned, rows_of
from varstar_batch.survey.open import Partition, Source
from varstar_batch.survey.read import SurveyBatch, batch_observations, read_batches

SAMPLE_OBJECTS = 6_000
"""Light curves that a worker is timed with: a second or so."""

FIRST_OBJECTS = 64
"""Light curves that a worker starts with, untimed: imports, compiled kernels, the engine."""

WARM_OBJECTS = 500
"""Light curves that its engine sees before the clock runs."""

CANDIDATES = 16
"""Partitions that the sample may come from."""

MAX_OBSERVATIONS = 3_000_000
"""Of the sample, however long its light curves are."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one worker measured: counts, and seconds by stage; `idle_memory` is what it holds then, bytes."""

    objects: int
    observations: int
    prepare: float
    classify: float
    write: float
    idle_memory: int


def survey_workload(plan: RunPlan) -> Workload:
    """Return how much a run has to do, from the footers of its survey.

    Raises
    ------
    InputError
        No footer can be read.
    """
    partitions, memory = plan.survey.partitions, plan.config.chunk_memory
    shapes = [
        (partition.size, shape, len(split(partition, shape, memory)))
        for partition, shape in sample_footers(plan.survey)
    ]
    if not shapes:
        raise InputError(
            expected="a partition whose footer can be read",
            got="none",
            where=plan.survey.source.url,
            fix="look at the survey",
        )
    return measure_workload(shapes, len(partitions), sum(partition.size for partition in partitions))


def measure_rates(plan: RunPlan, bundle: Bundle, workers: int) -> Rates:
    """Measure rates with light curves of the survey itself, on a local cluster as `varstar classify` starts it.

    All workers that this machine has cores for are timed at once, since they share its memory.

    Parameters
    ----------
    plan : RunPlan
    bundle : Bundle
    workers : int
        That the run will have; on this machine no more than its cores are started.

    Raises
    ------
    InputError
        No partition can be read.
    """
    count = max(1, min(workers, default_workers()))
    arguments = (plan.survey.source, _candidates(plan), bundle, plan.config)
    with open_client(count, None) as client:
        if client is None:
            raise AssertionError("unreachable: a local cluster of one or more workers")
        names = list(client.scheduler_info(n_workers=-1)["workers"])

        def everywhere(objects: int) -> list[Sample | None]:
            tasks = [client.submit(measure, *arguments, objects, workers=[name], pure=False) for name in names]
            return list(client.gather(tasks))

        loading = load_ahead(plan.survey)  # as a run does: it is part of what the command holds
        everywhere(FIRST_OBJECTS)
        start_up = _process_age()
        loading.join()  # which would take a core from the workers: little of a long run, much of this short one
        found = [sample for sample in everywhere(SAMPLE_OBJECTS) if sample is not None]
        # Beside it there is the process that workers are forked from.
        command = _memory() + sum(child.memory_full_info().pss for child in psutil.Process().children())
    if not found:
        raise InputError(
            expected="a partition with light curves to measure with",
            got="none that can be read",
            where=plan.survey.source.url,
            fix="give --rates of an earlier measurement",
        )
    return combine(found, start_up=start_up, command_memory=command)


def combine(samples: Sequence[Sample], *, start_up: float, command_memory: int) -> Rates:
    """Return the rates of one worker from what several measured at once."""
    objects = sum(sample.objects for sample in samples)
    observations = sum(sample.observations for sample in samples)
    return Rates(
        classify=objects / sum(sample.classify for sample in samples),
        prepare=observations / sum(sample.prepare for sample in samples),
        write=objects / sum(sample.write for sample in samples),
        start_up=start_up,
        worker_memory=max(sample.idle_memory for sample in samples),
        command_memory=command_memory,
        observations_per_object=observations / objects,
    )


def measure(
    source: Source, partitions: Sequence[Partition], bundle: Bundle, config: RunConfig, objects: int
) -> Sample | None:
    """Read, fold, classify and write `objects` light curves, those of several partitions if need be, and time it."""
    opened = open_engine(bundle, config.engine, config.precision, 1)
    at_once = min(batch_observations(config.chunk_memory), MAX_OBSERVATIONS)
    warm, sample = False, None
    for partition in partitions:
        start = time.perf_counter()
        try:
            found = _first_rows(source, partition, objects - (sample.objects if sample else 0), at_once)
        except (PartitionError, OSError):
            continue
        if found is None:
            continue
        batch, share = found
        reading = (time.perf_counter() - start) * share
        if not warm:
            # What a run does only once, too: memory is asked for, the engine lays out its weights.
            _work(_first(batch, WARM_OBJECTS), source, bundle, opened)
            warm = True
        each = _work(batch, source, bundle, opened)
        each = replace(each, prepare=each.prepare + reading)
        sample = each if sample is None else _sum(sample, each)
        if sample.objects >= objects:
            break
    return sample


def _work(batch: SurveyBatch, source: Source, bundle: Bundle, engine: Engine) -> Sample:
    """Fold, classify and write a batch, and time it."""
    contract = bundle.contract
    times = [time.perf_counter()]
    folded = fold_questioned(batch, bundle, source.limits, 1)
    times.append(time.perf_counter())
    classified = classify_questioned(bundle, engine, folded)
    times.append(time.perf_counter())
    provenance = Provenance(
        outputs=contract.outputs, model_version=contract.model_version, run_id="estimate", labels={}
    )
    rows = sort_rows(rows_of(classified, provenance))
    pq.write_table(rows, io.BytesIO(), **write_options(rows.num_rows))
    times.append(time.perf_counter())
    prepare, classifying, write = np.diff(times).tolist()
    return Sample(
        objects=len(batch.period),
        observations=int(folded.folded.n_obs.sum()),
        prepare=prepare,
        classify=classifying,
        write=write,
        # What it shares with others counts in full, as it does where a worker's memory is limited.
        idle_memory=psutil.Process().memory_info().rss,
    )


def _sum(one: Sample, other: Sample) -> Sample:
    counted = ("objects", "observations", "prepare", "classify", "write")
    return replace(other, **{name: getattr(one, name) + getattr(other, name) for name in counted})


def with_rates(rates: Rates, *, classify_rate: float | None, gpu_rate: float | None) -> Rates:
    """Return rates with what somebody knows better.

    Raises
    ------
    InputError
        A rate is not above zero.
    """
    for option, value in (("--rate", classify_rate), ("--gpu-rate", gpu_rate)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InputError(
                expected="light curves per second > 0", got=str(value), where=option, fix="give a measured rate"
            )
    return replace(
        rates,
        classify=rates.classify if classify_rate is None else classify_rate,
        gpu=rates.gpu if gpu_rate is None else gpu_rate,
    )


def _candidates(plan: RunPlan) -> tuple[Partition, ...]:
    """Return the partitions to take a sample from: those of middling size, which are the least peculiar."""
    by_size = sorted(plan.survey.partitions, key=lambda partition: partition.size)
    first = max(0, len(by_size) // 2 - CANDIDATES // 2)
    return tuple(by_size[first : first + CANDIDATES])


def _first_rows(source: Source, partition: Partition, objects: int, at_once: int) -> tuple[SurveyBatch, float] | None:
    """Return the first objects of a partition, and which share they are of what was read for them."""
    for batch in read_batches(source, partition, None, at_once):
        read = int(batch.light_curves.offsets[-1])
        if len(batch.period) == 0:
            continue
        kept = _first(batch, objects)
        return kept, int(kept.light_curves.offsets[-1]) / max(1, read)
    return None


def _first(batch: SurveyBatch, n: int) -> SurveyBatch:
    return batch.slice(0, min(n, len(batch.period)))


def _process_age() -> float:
    """Return the seconds since this process was started, interpreter and imports included."""
    try:
        # After the name in brackets, which may hold blanks: the 22nd field, in ticks since the machine's start.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return time.process_time()  # not on Linux: what was computed so far is most of it
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


def _memory() -> int:
    """Return the bytes that this process holds; what it shares with others counts by its share."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return peak_memory()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
