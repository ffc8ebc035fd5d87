"""Steps of the fold kernel: the sort by phase.

Indices are unsigned where speed counts (a fifth of the whole kernel): Numba asks of each signed one whether it counts
from the end.
"""

from __future__ import annotations

import numpy as np

from varstar_batch.light_curves.compiling import helper, inlined
from varstar_batch.light_curves.kernel.data import MAX_BINS, Scratch

# A bin with more observations than this is sorted coarsely first, or insertion would take the square of its size.
_LONG_BIN = 24


@helper
def count_bins(n: int) -> int:
    """Return a power of two from 2n to 4n, at least 64 and at most `MAX_BINS`."""
    n_bins = 64
    while n_bins < 2 * n and n_bins < MAX_BINS:
        n_bins *= 2
    return n_bins


@inlined
def sort_by_phase(n: int, t_ref: float, period: float, scratch: Scratch) -> None:
    """Compute phases and sort by (phase, magnitude): counting into bins, then insertion.

    The magnitude makes the order, and with it every sum, independent of the order of delivery.
    """
    phase, bins, counts = scratch.phase, scratch.bins, scratch.counts
    sorted_phase, order = scratch.sorted_phase, scratch.order
    n_bins = count_bins(n)
    for b in range(n_bins):
        counts[b] = 0
    for i in range(n):
        cycles = (scratch.time[i] - t_ref) / period
        fraction = cycles - np.floor(cycles)
        # A tiny negative number of cycles rounds to 1.
        fraction = fraction if fraction < 1.0 else 0.0
        phase[i] = fraction
        bins[i] = np.int32(fraction * n_bins)
    for i in range(n):
        counts[np.uint32(bins[i])] += 1
    start, longest = np.int32(1), np.int32(0)
    for b in range(n_bins):
        count = counts[b]
        counts[b] = start
        start += count
        longest = max(longest, count)
    for i in range(n):
        bin_of_i = np.uint32(bins[i])
        place = np.uint32(counts[bin_of_i])
        counts[bin_of_i] += 1
        sorted_phase[place] = phase[i]
        order[place] = i
    if longest > _LONG_BIN:
        _presort_long_bins(n_bins, scratch)
    _insert(1, n + 1, 1, scratch)
    for j in range(1, n + 1):
        scratch.sorted_mag[j] = scratch.mag[np.uint32(order[j])]


@helper
def _presort_long_bins(n_bins: int, scratch: Scratch) -> None:
    """Shell-sort crowded bins down to gaps of 4; after counting, `counts` holds the end of each bin.

    Source: Knuth, The Art of Computer Programming 3, 5.2.1 (gaps 1, 4, 13, 40, ...).
    """
    first = 1
    for b in range(n_bins):
        size = scratch.counts[b] - first
        gap = 1
        while 3 * gap + 1 < size:
            gap = 3 * gap + 1
        while gap > 1:
            _insert(first, first + size, gap, scratch)
            gap //= 3
        first += size


@inlined
def _insert(first: int, last: int, gap: int, scratch: Scratch) -> None:
    """Sort each `gap`-th of the places first <= j < last by insertion."""
    sorted_phase, order, mag = scratch.sorted_phase, scratch.order, scratch.mag
    for i in range(first + gap, last):
        phase = sorted_phase[np.uint64(i)]
        if phase > sorted_phase[np.uint64(i - gap)]:
            continue
        moved = order[np.uint64(i)]
        j = i
        while j >= first + gap:
            before = np.uint64(j - gap)
            other = sorted_phase[before]
            if other < phase or (other == phase and mag[order[before]] <= mag[moved]):
                break
            sorted_phase[np.uint64(j)] = other
            order[np.uint64(j)] = order[before]
            j -= gap
        sorted_phase[np.uint64(j)] = phase
        order[np.uint64(j)] = moved
