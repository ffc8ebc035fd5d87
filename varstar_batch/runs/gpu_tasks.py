"""A chunk's way where GPU workers take part: folded on a CPU worker, classified on a GPU worker, written on a CPU one.

The three tasks overlap for different chunks. Curves travel packed (`varstar_batch.runs.gpu_tasks`), and only those.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.fold import Folded
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.runs.chunks import (
    RunContext,
    Tally,
    batch_rows,
    folded_batches,
    load_bundle,
    load_engine,
    this_worker,
    write_chunk,
    written_chunk,
)
from varstar_batch.runs.plan import Chunk, packed_rows, split
from varstar_batch.runs.questioned import ClassifiedBatch, FoldedBatch, classify_questioned
from varstar_batch.runs.records import ChunkRecord
from varstar_batch.survey.bands import FUSE
from varstar_batch.survey.open import Failure, Partition
from varstar_batch.survey.read import partition_shape

LEVELS = 65_535
"""Steps between the least and the greatest value of a curve. Half a step, 7.6e-6 of the range, is the greatest loss;
float16, as large, loses 2.4e-4. Measured on the shipped bundle: no probability moves by more than 3.4e-5 and no class
changes among 2,000 simulated stars (tests/cluster/test_gpu_workers.py holds it to 1e-3)."""

LEAST_SPAN = 1e-30
"""A curve of a smaller range is packed as a constant."""


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """A folded batch without light curves and curves, and those packed: with its own and with better periods."""

    of: FoldedBatch
    curves: PackedCurves
    again: PackedCurves


@dataclass(frozen=True, eq=False)
class FoldedChunk:
    """What a CPU worker hands to a GPU worker."""

    batches: tuple[PackedBatch, ...]
    tally: Tally


@dataclass(frozen=True, eq=False)
class ClassifiedChunk:
    """What a GPU worker hands back."""

    batches: tuple[ClassifiedBatch, ...]
    tally: Tally


def list_chunks(context: RunContext, partition: Partition) -> tuple[Chunk, ...]:
    """Return the chunks of a partition, also where it is a single one."""
    shape = partition_shape(context.source, partition)
    memory = context.config.chunk_memory
    return split(partition, shape, memory, max_rows=packed_rows(memory, fused=context.source.bands == FUSE))


def fold_chunk(context: RunContext, chunk: Chunk) -> FoldedChunk | ChunkRecord:
    """Read and fold a chunk on a CPU worker, unless an earlier try of the run already finished it."""
    target = context.target(chunk)
    if chunk.total > 1 and target.exists():
        return written_chunk(context, chunk)
    tally = Tally()
    batches = tuple(_packed(folded) for folded in folded_batches(context, chunk, tally))
    return FoldedChunk(batches, tally)


def classify_folded(
    context: RunContext, chunk: FoldedChunk | ChunkRecord | Failure
) -> ClassifiedChunk | ChunkRecord | Failure:
    """Classify a folded chunk on a GPU worker; what is decided already passes through."""
    if not isinstance(chunk, FoldedChunk):
        return chunk
    bundle, engine = load_bundle(context), load_engine(context)
    tally = deepcopy(chunk.tally)  # the other one may be needed again, should this worker die
    tally.classifier = this_worker()
    results = []
    for each in chunk.batches:
        with tally.timed("classify"):
            whole = replace(
                each.of, folded=_unpacked(each.of.folded, each.curves), again=_unpacked(each.of.again, each.again)
            )
            classified = classify_questioned(bundle, engine, whole, context.config.mira_amplitude)
            results.append(replace(classified, of=each.of))
    return ClassifiedChunk(tuple(results), tally)


def write_classified(
    context: RunContext, chunk: Chunk, classified: ClassifiedChunk | ChunkRecord | Failure
) -> ChunkRecord | Failure:
    """Write a classified chunk on a CPU worker."""
    if not isinstance(classified, ClassifiedChunk):
        return classified
    tally = deepcopy(classified.tally)
    tables = [batch_rows(context, each, tally) for each in classified.batches]
    return write_chunk(context, chunk, tables, tally)


def _packed(folded: FoldedBatch) -> PackedBatch:
    nothing = LightCurves(np.zeros(1, np.int64), np.empty(0), np.empty(0, np.float32), None, None)
    own, again = folded.folded, folded.again
    without = FoldedBatch(
        replace(folded.batch, light_curves=nothing, bands=None),
        replace(own, curve=own.curve[:, :0].copy()),
        folded.verdict,
        replace(again, curve=again.curve[:, :0].copy()),
    )
    return PackedBatch(without, pack(own.curve[own.ok]), pack(again.curve[again.ok]))


def _unpacked(folded: Folded, packed: PackedCurves) -> Folded:
    curve = np.full((len(folded), packed.codes.shape[1]), np.nan, np.float32)
    curve[folded.ok] = unpack(packed)
    return replace(folded, curve=curve)


@dataclass(frozen=True, eq=False)
class PackedCurves:
    """Curves on a scale of their own each."""

    codes: npt.NDArray[np.uint16]
    """Uint16 (n, n_phase)."""
    low: npt.NDArray[np.float32]
    span: npt.NDArray[np.float32]
    """Float32 (n,). Least value, and greatest less least value."""


def pack(curves: npt.NDArray[np.float32]) -> PackedCurves:
    """Pack curves, float32 (n, n_phase), all finite."""
    low = curves.min(axis=1, initial=np.inf)
    span = curves.max(axis=1, initial=-np.inf) - low
    scale = np.divide(LEVELS, span, out=np.zeros_like(span), where=span > LEAST_SPAN)
    scaled = curves - low[:, None]
    scaled *= scale[:, None]
    return PackedCurves(np.rint(scaled, out=scaled).astype(np.uint16), low, span)


def unpack(packed: PackedCurves) -> npt.NDArray[np.float32]:
    """Return the curves, float32 (n, n_phase), to half a step of their range."""
    curves = packed.codes.astype(np.float32)
    curves *= (packed.span / LEVELS)[:, None]
    curves += packed.low[:, None]
    return curves
