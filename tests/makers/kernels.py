"""Compile the kernels before the tests of a fresh checkout, side by side: else the tests that come first would each.

The machine code stays on disk beside the kernels, as for every user; where it is there already this takes two seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from varstar_batch.light_curves.fold import compile_kernels, fold
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.simulation.objects import simulate_objects


def simulate() -> None:
    """Compile what draws simulated stars."""
    simulate_objects(0, 1, 0)


def fold_doubles() -> None:
    """Compile the kernel for float64 magnitudes."""
    time = np.arange(2.0)
    fold(LightCurves(np.array([0, 2]), time, time, time), [1.0], Preprocessing(), Limits())


KERNELS: tuple[Callable[[], None], ...] = (compile_kernels, fold_doubles, simulate)

if __name__ == "__main__":
    # Spawned: what compiles has threads.
    with ProcessPoolExecutor(len(KERNELS), get_context("spawn")) as pool:
        for kernel in [pool.submit(each) for each in KERNELS]:
            kernel.result()
