"""How many chunks are in flight: no more than workers and client have memory for; pure.

A chunk in flight is at work on a worker, or it waits. One that waits to be begun is a task on the scheduler and takes
next to nothing on a worker; one that was folded and waits for a GPU takes memory there (`waiting_memory`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from varstar_batch.survey.read import BYTES_PER_CURVE, BYTES_PER_OBSERVATION, COPIES

PER_THREAD = 3
"""Chunks in flight for each worker thread: one at work, the others at hand, and no more on the scheduler."""

LEAST = 8
"""Chunks in flight where few threads are there, or none yet: a cluster that grows with demand has to see some."""

USABLE = 0.8
"""Share of a worker's limit beyond which Dask pauses it."""

TASK_MEMORY = 16 * 2**10
"""Bytes of a task in flight in the client and the scheduler. Source: 11 to 14 kB each, for 500 to 4,000 tasks."""

CLIENT_MEMORY = 256 * 2**20
"""Bytes that tasks in flight may take there."""


@dataclass(frozen=True)
class Room:
    """What a worker has."""

    threads: int
    """Tasks that it does at once, at least 1."""
    memory: int
    """Its limit in bytes; 0 where it has none."""


def window(cpu: Sequence[Room], gpu: Sequence[Room], chunk_memory: int) -> int:
    """Return how many chunks may be in flight at once.

    Parameters
    ----------
    cpu : sequence of Room
        Workers that read, fold and write, and that classify where there are no others.
    gpu : sequence of Room
        Workers that only classify.
    chunk_memory : int
        Bytes that a chunk may take, as the configuration has it.

    Returns
    -------
    int
        At least 1. Where a worker has more threads than memory for as many chunks, it counts for those that fit only.
    """
    wanted = max(LEAST, PER_THREAD * sum(room.threads for room in (*cpu, *gpu)))
    bounds: list[float] = [wanted, CLIENT_MEMORY // TASK_MEMORY]
    waiting = waiting_memory(chunk_memory) if gpu else 0
    bounds += [_held(pool, chunk_memory, waiting) for pool in (cpu, gpu) if pool]
    return max(1, int(min(bounds)))


def _held(pool: Sequence[Room], chunk_memory: int, waiting: int) -> float:
    return sum(_held_by(room, chunk_memory, waiting) for room in pool)


def _held_by(room: Room, chunk_memory: int, waiting: int) -> float:
    if not room.memory:
        return math.inf
    free = USABLE * room.memory - WORKER_MEMORY
    peak = chunk_peak(chunk_memory)
    at_work = max(1, min(room.threads, int(free // peak)))
    if at_work < room.threads:
        return at_work
    return at_work + max(0, int((free - at_work * peak) // waiting)) if waiting else math.inf


WORKER_MEMORY = 450 * 2**20
"""Bytes of a worker process before any light curve: interpreter, kernels, engine. Source: 410 to 430 MiB, resident."""


CHUNK_OVERHEAD = 24 * 2**20
"""Bytes of a chunk whatever its size: of Arrow and of the engine. Source: up to 16 MiB
(tests/runs/test_bounded_memory.py)."""


BYTES_PER_ROW = 512
"""Of a catalog row until it is written: the row, sorted and unsorted, and its encoding."""


def projected_memory(rows: int, observations: int) -> int:
    """Return the bytes that `rows` light curves with `observations` observations in all take in a worker at the most.

    Where that is more than a chunk may take, they are streamed: see `chunk_peak`.
    """
    return COPIES * observations * BYTES_PER_OBSERVATION + 2 * rows * BYTES_PER_CURVE


def chunk_peak(chunk_memory: int, rows: int = 0, observations: int | None = None) -> int:
    """Return the bytes by which a worker grows at the most while it does a chunk.

    Parameters
    ----------
    chunk_memory : int
        Bytes of light curves and curves that may be held at once, as the configuration has it.
    rows, observations : int
        Of the chunk; without `observations`, any chunk that is cut to `chunk_memory`.

    Source: measured peaks of reading, folding, classifying and writing; tests/runs/test_bounded_memory.py holds it to
    them.
    """
    held = chunk_memory if observations is None else min(chunk_memory, projected_memory(rows, observations))
    return CHUNK_OVERHEAD + held + rows * BYTES_PER_ROW


def waiting_memory(chunk_memory: int) -> int:
    """Return the bytes that a folded chunk may take while it waits for a GPU worker.

    A quarter of what a chunk may take while it is worked on, since others are being folded meanwhile.
    """
    return chunk_memory // 4


def packed_rows(chunk_memory: int) -> int:
    """Return how many folded light curves fit into `waiting_memory`.

    Two bytes for each point, and less than 200 bytes for what else there is to know of an object.
    """
    return max(1, waiting_memory(chunk_memory) // (BYTES_PER_CURVE // 2 + 200))
