"""What a run will take: time, memory and cost from the plan's footers and from rates that were measured; pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from pydantic import Field

from varstar_batch.errors import InputError
from varstar_batch.runs.config import PlanRequest
from varstar_batch.runs.plan import WORKER_MEMORY, chunk_peak, projected_memory
from varstar_batch.survey.read import BYTES_PER_OBSERVATION, PartitionShape

HOUR = 3600.0


class EstimateRequest(PlanRequest):
    """Which run to foretell, on what, at which price."""

    workers: int | None = Field(None, description="Worker processes, a core each; by default one per core")
    gpus: int = Field(0, description="GPUs that classify while the workers read and fold")
    rates: str | None = Field(None, description="JSON file of rates measured elsewhere, instead of measuring here")
    save_rates: str | None = Field(None, description="Write the rates to this file, for --rates")
    rate: float | None = Field(None, description="Light curves/s of the CNN on one worker, if you know")
    gpu_rate: float | None = Field(None, description="Light curves/s of the CNN on one GPU")
    price_per_core_hour: float = Field(0.0, ge=0, description="In any currency")
    price_per_gpu_hour: float = Field(0.0, ge=0, description="In the same")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How much there is to do."""

    partitions: int
    chunks: int
    """Tasks that they are cut into."""
    objects: int | None
    """None in the long form, whose footers do not tell; `with_objects` fills it in."""
    observations: int
    bytes_in: int
    """On storage."""
    chunk_memory: int
    """Bytes that the light curves of the largest chunk would take in a worker, held at once."""
    chunk_rows: int = 0
    """Objects in it; 0 in the long form."""

    def with_objects(self, observations_per_object: float) -> Workload:
        """Return the workload with its number of objects, from a mean where the footers do not tell."""
        if self.objects is not None:
            return self
        return replace(self, objects=round(self.observations / max(1.0, observations_per_object)))


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How fast the machine is: of one worker (one core), but for `gpu`."""

    classify: float
    """Light curves per second of the CNN."""
    prepare: float
    """Observations per second read and folded."""
    write: float
    """Light curves per second made into catalog rows and written."""
    partition_seconds: float = 0.02
    """Of a worker, for each partition beyond its light curves: opening, a task of Dask."""
    start_up: float = 5.0
    """Seconds from the start of the command until all workers are at work."""
    finish: float = 0.7
    """Seconds after the last chunk: verifying, publishing, closing the cluster."""
    finish_partition: float = 0.002
    """Seconds more of that for each partition."""
    worker_memory: int = WORKER_MEMORY
    command_memory: int = 250 * 2**20
    """Bytes that a worker takes before any light curve, and that the command and its scheduler take."""
    observations_per_object: float = 200.0
    """Mean of the sample."""
    gpu: float | None = None
    """Light curves per second of the CNN on one GPU."""

    def __post_init__(self) -> None:
        for name in ("classify", "prepare", "write", "observations_per_object"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number > 0, got {getattr(self, name)}")
        if self.gpu is not None and not self.gpu > 0:
            raise ValueError(f"gpu: expected a number > 0, got {self.gpu}")

    def to_json(self) -> str:
        """Return the rates as the text that `read_rates` takes."""
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an hour costs, in any currency: of a core (a worker) and of a GPU."""

    core_hour: float = 0.0
    gpu_hour: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run is expected to take."""

    seconds: float
    """From the start of the command to the published catalog."""
    start_up: float
    working: float
    finish: float
    """Its three parts."""
    cpu_seconds: float
    gpu_seconds: float
    """Of all workers and of all GPUs together, while working."""
    limited_by: str
    """{"workers", "gpus"}. What more of would make it faster."""
    worker_memory: int
    """Bytes of one worker at the most."""
    memory: int
    """Bytes of all workers and the command together."""
    core_hours: float
    gpu_hours: float
    """That are paid for: all workers and GPUs from start to end."""
    cost: float


def measure_workload(shapes: Sequence[tuple[int, PartitionShape, int]], partitions: int, total_bytes: int) -> Workload:
    """Return the workload of a survey from the footers of all its partitions or of an even sample.

    Parameters
    ----------
    shapes : sequence of (bytes, PartitionShape, chunks)
        Of every partition that was looked at; partitions that cannot be read are left out.
    partitions, total_bytes : int
        Of the whole survey.

    Raises
    ------
    ValueError
        No shape was given.
    """
    if not shapes:
        raise ValueError("shapes: expected at least one partition, got none")
    seen = max(1, sum(size for size, _, _ in shapes))
    scale = total_bytes / seen if total_bytes else partitions / len(shapes)
    if len(shapes) == partitions:
        scale = 1.0
    observations = sum(group.observations for _, shape, _ in shapes for group in shape.row_groups)
    rows = [shape.rows for _, shape, _ in shapes if shape.rows is not None]
    return Workload(
        partitions=partitions,
        chunks=max(partitions, round(scale * sum(chunks for _, _, chunks in shapes))),
        objects=round(scale * sum(rows)) if len(rows) == len(shapes) else None,
        observations=round(scale * observations),
        bytes_in=total_bytes,
        chunk_memory=max(_chunk_memory(shape, chunks) for _, shape, chunks in shapes),
        chunk_rows=max(math.ceil((shape.rows or 0) / chunks) for _, shape, chunks in shapes),
    )


def foretell(
    workload: Workload, rates: Rates, *, workers: int, gpus: int = 0, chunk_memory: int, prices: Prices | None = None
) -> Estimate:
    """Return what a run will take.

    Parameters
    ----------
    workload : Workload
    rates : Rates
        Measured, by `varstar_batch.cluster.measure_rates` or by an earlier run.
    workers : int
        One core each; >= 1.
    gpus : int
        With any, the CNN runs on them while the workers read, fold and write.
    chunk_memory : int
        Bytes that a chunk may take in a worker (`RunConfig.chunk_memory`).
    prices : Prices, optional

    Raises
    ------
    InputError
        No worker, fewer than no GPU, or GPUs whose rate nobody measured.
    """
    if workers < 1 or gpus < 0:
        raise InputError(
            expected="at least one worker, and no fewer than 0 GPUs",
            got=f"{workers} workers, {gpus} GPUs",
            where="--workers, --gpus",
            fix="GPUs need workers that read and fold for them",
        )
    if gpus and rates.gpu is None:
        raise InputError(
            expected="a measured rate of the GPUs",
            got="none",
            where="--gpus",
            fix="give --gpu-rate: python -m tests.benchmarks.bench_gpu measures it on a machine that has one",
        )
    work = workload.with_objects(rates.observations_per_object)
    objects = work.objects or 0
    cpu = work.observations / rates.prepare + objects / rates.write + work.partitions * rates.partition_seconds
    gpu = 0.0
    if gpus and rates.gpu is not None:
        gpu = objects / rates.gpu
    else:
        cpu += objects / rates.classify
    # The last chunks leave workers idle: as many rounds as the fullest worker has.
    by_workers = cpu / max(1, work.chunks) * math.ceil(work.chunks / workers)
    by_gpus = gpu / gpus if gpus else 0.0
    working = max(by_workers, by_gpus)
    finish = rates.finish + rates.finish_partition * work.partitions
    seconds = rates.start_up + working + finish
    worker_memory = rates.worker_memory + chunk_peak(min(chunk_memory, work.chunk_memory), work.chunk_rows)
    core_hours, gpu_hours = workers * seconds / HOUR, gpus * seconds / HOUR
    prices = prices or Prices()
    return Estimate(
        seconds=seconds,
        start_up=rates.start_up,
        working=working,
        finish=finish,
        cpu_seconds=cpu,
        gpu_seconds=gpu,
        limited_by="gpus" if by_gpus > by_workers else "workers",
        worker_memory=worker_memory,
        memory=workers * worker_memory + rates.command_memory,
        core_hours=core_hours,
        gpu_hours=gpu_hours,
        cost=core_hours * prices.core_hour + gpu_hours * prices.gpu_hour,
    )


def read_rates(text: str, where: str) -> Rates:
    """Return the rates that a JSON text states.

    Raises
    ------
    InputError
        It is not JSON, has keys that are unknown or missing, or numbers that cannot be.
    """
    fix = "write the file with --save-rates, or give the keys that it would have"
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(expected="JSON", got=str(error), where=where, fix=fix) from None
    known = [field.name for field in fields(Rates)]
    if not isinstance(found, Mapping) or (unknown := sorted(set(found) - set(known))):
        got = f"unknown {', '.join(unknown)}" if isinstance(found, Mapping) else type(found).__name__
        raise InputError(expected=f"an object with keys of {', '.join(known)}", got=got, where=where, fix=fix)
    values: dict[str, Any] = dict(found)
    try:
        return Rates(**values)
    except (TypeError, ValueError) as error:
        raise InputError(expected="rates > 0", got=str(error), where=where, fix=fix) from None


def _chunk_memory(shape: PartitionShape, chunks: int) -> int:
    rows = sum(group.rows for group in shape.row_groups)
    observations = sum(group.observations for group in shape.row_groups)
    if shape.rows is None:  # the long form: rows are observations, and objects are few
        return math.ceil(3 * observations * BYTES_PER_OBSERVATION / chunks)
    return math.ceil(projected_memory(rows, observations) / chunks)
