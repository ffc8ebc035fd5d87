"""What the hardware allows: bytes over the bandwidth of the disk, operations over the peak of the processor.

Both are measured here, in the same session as everything else.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numba
import numpy as np

from tests.benchmarks.harness import MFLOP, machine

TERMS = 32
"""Multiply-adds on a value before the next one."""

BFLOAT16_FACTORS = {"amx_bf16": 32, "avx512_bf16": 2}
"""Operations of a cycle in bfloat16 over those in float32, the better instruction set first; 1 without either."""


def disk_bytes_per_second(folder: Path, size: int = 2**28) -> float:
    """Return how fast a file of `size` bytes is read that is not in the page cache; a network disk counts as one."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "disk.bin"
    block = os.urandom(2**22)
    with file.open("wb") as sink:
        for _ in range(size // len(block)):
            sink.write(block)
        sink.flush()
        os.fsync(sink.fileno())
    with file.open("rb", buffering=0) as source:
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        while source.read(2**22):
            pass
        seconds = time.perf_counter() - start
    file.unlink()
    return size / seconds


def peak_flops(precision: str, cores: int, repeats: int = 5) -> float:
    """Return the floating-point operations per second of `cores` cores, from what one does in its registers.

    float32 is measured: multiply-adds on values that stay in the nearest cache, the best of `repeats`, by the time of
    the processor. bfloat16 is that times what the instruction set does more in a cycle.
    """
    values = np.full(2048, 0.5, np.float32)
    passes = 4000
    _multiply_add(values, 1)
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        _multiply_add(values, passes)
        best = min(best, time.process_time() - start)
    float32 = passes * values.size * TERMS * 2 / best * cores
    if precision == "float32":
        return float32
    instructions = machine()["instructions"]
    return float32 * next((factor for name, factor in BFLOAT16_FACTORS.items() if name in instructions), 1)


@numba.njit(fastmath=True)
def _multiply_add(values, passes):
    # A polynomial whose terms stay in registers: nothing but multiply-adds, on many values at once.
    for _ in range(passes):
        for i in range(values.size):
            x = values[i]
            y = x
            for _ in range(TERMS):
                y = y * x + x
            values[i] = y * np.float32(1e-3) + np.float32(0.4)


def light_curves_by_operations(flops: float) -> float:
    """Return the light curves per second that an arithmetic of `flops` operations per second allows."""
    return flops / (MFLOP * 1e6)
