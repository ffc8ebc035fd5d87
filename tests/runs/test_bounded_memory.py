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
from varstar_batch.runs.plan import LIBRARY_MEMORY, WORKER_MEMORY, chunk_peak

RESET = Path("/proc/self/clear_refs")

PLAN = """
import pickle, sys
from pathlib import Path
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.plan import split
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.survey.read import partition_shape

work = []
for memory in (16 * 2**20, 64 * 2**20):
    plan, bundle = plan_run(sys.argv[1], None, RunConfig(chunk_memory=memory))
    context = prepare(plan, bundle, f"{sys.argv[2]}/{memory}").context
    for partition in plan.survey.partitions:
        shape = partition_shape(context.source, partition)
        for chunk in split(partition, shape, memory):
            groups = [shape.row_groups[i] for i in chunk.row_groups or range(len(shape.row_groups))]
            work.append((memory, context, chunk, sum(group.observations for group in groups)))
Path(sys.argv[2], "work").write_bytes(pickle.dumps(work))
"""

# As a worker of Dask does it: its own code is there, and what it is sent comes pickled.
WORK = """
import ctypes, gc, json, pickle, sys
from pathlib import Path
import distributed.nanny, distributed.worker
import pyarrow as pa
from varstar_batch.runs.chunks import peak_memory
from varstar_batch.runs.tasks import classify_chunk

def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))) << 10

for memory, context, chunk, observations in pickle.loads(Path(sys.argv[1], "work").read_bytes()):
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
    before = peak_memory()
    held = own()
    classify_chunk(context, chunk)
    print(json.dumps([memory, chunk.expected_rows, observations, held, peak_memory() - before]), flush=True)
"""


def run_script(script: str, *arguments: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    # As for workers, which are forked from a process that did it: the kernels are compiled and on disk.
    run_script("from varstar_batch.light_curves.fold import compile_kernels; compile_kernels()")
    run_script(PLAN, tmp_path / "survey", tmp_path)
    measured = [json.loads(line) for line in run_script(WORK, tmp_path).splitlines()]
    assert len(measured) == 8
    for memory, rows, observations, held, peak in measured[1:]:
        projected = chunk_peak(memory, rows, observations)
        print(
            f"{memory >> 20} MiB, {rows} rows: {peak / 2**20:.0f} of {projected / 2**20:.0f} MiB, beside {held >> 20}"
        )
        assert peak <= projected
        assert held <= WORKER_MEMORY - LIBRARY_MEMORY
    # Streamed where it would not fit: not the whole of it, which is more than three times as much.
    whole = next(entry for entry in measured if entry[0] == 16 * 2**20 and entry[1] == 4000)
    assert whole[4] < chunk_peak(2**40, whole[1], whole[2]) / 1.5
