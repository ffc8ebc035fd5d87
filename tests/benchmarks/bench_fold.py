"""Light curves per second of the fold kernel, beside the same work by a generic argsort in Numba and in NumPy.

    python tests/benchmarks/bench_fold.py [--objects 20000] [--observations 230] [--threads 1 2] [--repeat 5]

Every line gives the median of the repeats and, in brackets, the slowest and the fastest of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import numba
import numpy as np

from varstar_batch.light_curves import LightCurves, Limits, Preprocessing, fold

N_PHASE = 512


def make_light_curves(n: int, n_observations: int, seed: int = 0) -> tuple[LightCurves, np.ndarray]:
    """Return noisy two-harmonic light curves with 1 % of sentinels, and their periods [d]."""
    rng = np.random.default_rng(seed)
    shape = (n, n_observations)
    period = 10 ** rng.uniform(-1, 2.5, (n, 1))
    times = 2457000 + np.sort(rng.uniform(0, 2000, shape), axis=1)
    angle = 2 * np.pi * times / period
    mag = 14 + 0.4 * np.sin(angle) + 0.2 * np.sin(2 * angle) + rng.normal(0, 0.03, shape)
    mag_err = np.where(rng.random(shape) < 0.01, 99.99, 0.03)
    columns = (column.ravel().astype(np.float32) for column in (mag, mag_err))
    offsets = np.arange(n + 1, dtype=np.int64) * n_observations
    return LightCurves(offsets, times.ravel(), *columns), period.ravel()


@numba.njit(nogil=True, error_model="numpy")
def fold_by_argsort(offsets, times, mags, mag_errs, periods, curves):
    """Fold object by object as the kernel does, but with np.argsort, np.interp and new arrays for each object."""
    grid = np.arange(N_PHASE) / N_PHASE
    for i in range(len(periods)):
        first, last = offsets[i], offsets[i + 1]
        t, m = np.empty(last - first), np.empty(last - first)
        n = 0
        for j in range(first, last):
            if np.isfinite(times[j]) and abs(mags[j]) < 29 and 0 <= mag_errs[j] < 99:
                t[n], m[n] = times[j], mags[j]
                n += 1
        phase = ((t[:n] - t[:n].min()) / periods[i]) % 1
        order = np.argsort(phase)
        phase, m = phase[order], m[order]
        mean, limit = m.mean(), 3 * m.std()
        # One place more at each end, for the neighbours across phase 0.
        x, y = np.empty(n + 2), np.empty(n + 2)
        used = 0
        for j in range(n):
            beyond = abs(m[j] - mean) > limit
            if not beyond or abs(m[j - 1] - mean) > limit or abs(m[(j + 1) % n] - mean) > limit:
                used += 1
                x[used], y[used] = phase[j], m[j]
        x[0], y[0], x[used + 1], y[used + 1] = x[used] - 1, y[used], x[1] + 1, y[1]
        curve = np.interp(grid, x[: used + 2], y[: used + 2])
        low, span = curve.min(), curve.max() - curve.min()
        for k in range(N_PHASE):
            curves[i, k] = (curve[k] - low) / span


def fold_by_numpy(curves: LightCurves, period: np.ndarray) -> np.ndarray:
    """Fold in a Python loop over objects."""
    grid = np.arange(N_PHASE) / N_PHASE
    out = np.empty((len(curves), N_PHASE), np.float32)
    for i, (first, last) in enumerate(pairwise(curves.offsets)):
        t, m, error = curves.time[first:last], curves.mag[first:last], curves.mag_err[first:last]
        good = np.isfinite(t) & (np.abs(m) < 29) & (error >= 0) & (error < 99)
        t, m = t[good], m[good].astype(np.float64)
        phase = ((t - t.min()) / period[i]) % 1
        order = np.argsort(phase)
        phase, m = phase[order], m[order]
        beyond = np.abs(m - m.mean()) > 3 * m.std()
        used = ~(beyond & ~np.roll(beyond, 1) & ~np.roll(beyond, -1))
        curve = np.interp(grid, phase[used], m[used], period=1)
        out[i] = (curve - curve.min()) / np.ptp(curve)
    return out


def report(name: str, n: int, repeat: int, call: Callable[[], object]) -> None:
    call()
    rates = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        rates.append(n / (time.perf_counter() - start))
    print(f"{name:34s} {statistics.median(rates):10,.0f} light curves/s ({min(rates):,.0f} - {max(rates):,.0f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--observations", type=int, default=230)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    n = options.objects
    curves, period = make_light_curves(n, options.observations)
    print(f"{n:,} light curves of {options.observations} observations, float32 magnitudes, {N_PHASE} phases, minmax")
    rules, limits = Preprocessing(n_phase=N_PHASE), Limits()
    start = time.perf_counter()
    folded = fold(curves.slice(0, 1), period[:1], rules, limits)
    print(f"first call, with compiling or loading from the cache: {time.perf_counter() - start:.2f} s")
    for n_threads in options.threads:
        name = f"fold, {n_threads} thread{'s'[: n_threads > 1]}"
        report(
            name,
            n,
            options.repeat,
            lambda n_threads=n_threads: fold(curves, period, rules, limits, n_threads=n_threads),
        )
    generic = np.empty((n, N_PHASE), np.float32)
    columns = curves.offsets, curves.time, curves.mag, curves.mag_err, period, generic
    report("Numba with np.argsort, 1 thread", n, options.repeat, lambda: fold_by_argsort(*columns))
    folded = fold(curves, period, rules, limits)
    print(f"largest difference of the two: {np.abs(folded.curve - generic)[folded.ok].max():.1e}")
    few = curves.slice(0, max(1, n // 20))
    report("NumPy in a loop over objects", len(few), options.repeat, lambda: fold_by_numpy(few, period[: len(few)]))


if __name__ == "__main__":
    main()
