"""How many chunks are in flight: as many as workers and client have memory for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varstar_batch.cluster.dask_runner import (
    CLIENT_MEMORY,
    LEAST,
    PER_THREAD,
    TASK_MEMORY,
    USABLE,
    Room,
    chunks_in_flight,
)
from varstar_batch.runs.plan import WORKER_MEMORY, chunk_peak, packed_rows, waiting_memory

GIB = 2**30
CHUNK = 256 * 2**20

rooms = st.lists(st.builds(Room, st.integers(1, 16), st.integers(0, 64 * GIB)), max_size=6)
chunk_memories = st.integers(2**20, 4 * GIB)


def test_no_worker_yet_is_a_small_window() -> None:
    assert chunks_in_flight([], [], CHUNK) == LEAST


def test_threads_decide_where_there_is_memory() -> None:
    assert chunks_in_flight([Room(1, 2 * GIB)] * 10, [], CHUNK) == 10 * PER_THREAD
    assert chunks_in_flight([Room(4, 0)] * 10, [], CHUNK) == 40 * PER_THREAD  # no limit is known


def test_a_worker_of_many_threads_and_little_memory_counts_for_what_fits() -> None:
    fit = int((USABLE * 2 * GIB - WORKER_MEMORY) // chunk_peak(CHUNK))
    assert 1 < fit < 16
    assert chunks_in_flight([Room(16, 2 * GIB)], [], CHUNK) == fit
    assert chunks_in_flight([Room(16, 2 * GIB)] * 3, [], CHUNK) == 3 * fit
    assert chunks_in_flight([Room(16, GIB // 2)], [], CHUNK) == 1  # something must be tried


@pytest.mark.parametrize("cpu_is_small", [True, False])
def test_folded_chunks_that_wait_for_a_gpu_fit_on_either_side(cpu_is_small: bool) -> None:
    small, large = [Room(1, 1000 * 2**20)] * 4, [Room(1, 64 * GIB)] * 4
    cpu, gpu = (small, large) if cpu_is_small else (large, small)
    free = USABLE * small[0].memory - WORKER_MEMORY - chunk_peak(CHUNK)
    each = 1 + int(free // waiting_memory(CHUNK))
    assert each < PER_THREAD
    assert chunks_in_flight(cpu, gpu, CHUNK) == 4 * each
    assert chunks_in_flight(large, large, CHUNK) == 8 * PER_THREAD


def test_the_clients_memory_bounds_a_very_large_cluster() -> None:
    assert chunks_in_flight([Room(1, 0)] * 20_000, [], CHUNK) == CLIENT_MEMORY // TASK_MEMORY


@given(rooms, rooms, chunk_memories)
def test_there_is_always_one_and_never_more_than_fits(cpu: list[Room], gpu: list[Room], chunk_memory: int) -> None:
    found = chunks_in_flight(cpu, gpu, chunk_memory)
    assert 1 <= found <= max(LEAST, PER_THREAD * sum(room.threads for room in (*cpu, *gpu)))
    assert found <= CLIENT_MEMORY // TASK_MEMORY
    for pool in (cpu, gpu) if gpu else ():
        limited = [room for room in pool if room.memory]
        if not pool or len(limited) < len(pool):
            continue
        # Chunks beyond the one that every worker must try fit, at work or waiting.
        free = sum(max(0.0, USABLE * room.memory - WORKER_MEMORY) for room in limited)
        at_least = min(chunk_peak(chunk_memory), waiting_memory(chunk_memory))
        assert found <= len(limited) + free / at_least
    assert chunks_in_flight([*cpu, Room(1, 0)], gpu, chunk_memory) >= found or not cpu


@given(chunk_memories)
def test_what_waits_is_smaller_than_what_is_at_work(chunk_memory: int) -> None:
    assert waiting_memory(chunk_memory) < chunk_peak(chunk_memory)
    assert packed_rows(chunk_memory) * (2 * 512 + 200) <= waiting_memory(chunk_memory) or packed_rows(chunk_memory) == 1
    assert chunk_peak(chunk_memory, 0, 0) <= chunk_peak(chunk_memory) <= chunk_peak(chunk_memory, 10)
