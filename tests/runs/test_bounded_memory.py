"""What a chunk takes in a worker is never more than the plan projects: measured, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.makers.clusters import ROOT
from tests.makers.surveys import simulated_table, write_partition
from varstar_batch.runs.plan import WORKER_MEMORY, chunk_peak

RESET = Path("/proc/self/clear_refs")

MEASURE = """
import ctypes, gc, json, sys
from pathlib import Path
import pyarrow as pa
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.chunks import peak_memory
from varstar_batch.runs.plan import split
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.runs.tasks import classify_chunk
from varstar_batch.survey.read import partition_shape

def reset():
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
    return peak_memory()

for memory in (16 * 2**20, 64 * 2**20):
    plan, bundle = plan_run(sys.argv[1], None, RunConfig(chunk_memory=memory))
    context = prepare(plan, bundle, f"{sys.argv[2]}/{memory}").context
    for partition in plan.survey.partitions:
        shape = partition_shape(context.source, partition)
        for chunk in split(partition, shape, memory):
            groups = [shape.row_groups[i] for i in chunk.row_groups or range(len(shape.row_groups))]
            before = reset()
            classify_chunk(context, chunk)
            observations = sum(group.observations for group in groups)
            print(json.dumps([memory, chunk.expected_rows, observations, before, peak_memory() - before]), flush=True)
"""


def test_peaks_stay_below_what_is_projected(tmp_path: Path) -> None:
    try:
        RESET.write_text("5")
    except OSError:
        pytest.skip("needs Linux's /proc/self/clear_refs, to measure a peak")
    table = simulated_table(0, 1000)
    # The first warms up what a worker has once: kernels, engine, buffers.
    for number, count in enumerate((5, 100, 1000, 4000)):
        whole = pa.concat_tables([table] * -(-count // 1000)).slice(0, count).combine_chunks()
        names = pa.array(np.arange(count) + number * 10_000, table["object_id"].type)
        write_partition(tmp_path / "survey" / f"{number}.parquet", whole.set_column(0, "object_id", names))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "survey"), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(measured) == 8
    for memory, rows, observations, before, peak in measured[1:]:
        projected = chunk_peak(memory, rows, observations)
        print(f"{memory >> 20} MiB, {rows} rows: {peak / 2**20:.0f} of {projected / 2**20:.0f} MiB, on {before >> 20}")
        assert peak <= projected
        assert before <= WORKER_MEMORY
    # Streamed where it would not fit: not the whole of it, which is more than three times as much.
    whole = next(entry for entry in measured if entry[0] == 16 * 2**20 and entry[1] == 4000)
    assert whole[4] < chunk_peak(2**40, whole[1], whole[2]) / 1.5
