"""Peak memory of a worker: one partition of 300,000 light curves x 230 observations in a single row group, in 2 GiB.

Run by ``make bench``, or alone: ``python -m pytest tests/benchmarks/bench_memory.py -s``. Measures the resident size of
the worker process itself, and holds the projection of the plan to it.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.surveys import simulated_table
from varstar_batch.cluster.client import open_client
from varstar_batch.cluster.dask_runner import DaskRunner
from varstar_batch.requests import ClusterOptions
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.runs.stages import RunObserver, execute_run, publish, verify
from varstar_batch.survey.write import survey_write_options

OBJECTS = int(os.environ.get("VARSTAR_BENCH_OBJECTS", "300000"))
LIMIT = 2 * 2**30


def write_one_row_group(path: Path, objects: int, distinct: int = 10_000) -> None:
    """Write `objects` light curves as one row group; `distinct` simulated ones, again and again under new names."""
    table = simulated_table(0, min(distinct, objects))
    copies = [table] * -(-objects // table.num_rows)
    whole = pa.concat_tables(copies).slice(0, objects).combine_chunks()
    whole = whole.set_column(0, "object_id", pa.array(np.arange(objects), table["object_id"].type))
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, whole.schema, **survey_write_options(whole.schema)) as writer:
        writer.write_table(whole, row_group_size=objects)


class Watch:
    """The largest resident size of this process's workers, sampled."""

    def __init__(self) -> None:
        self.peak = 0
        self.baseline = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            for child in psutil.Process().children(recursive=True):
                try:
                    self.peak = max(self.peak, child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue


@pytest.mark.timeout(1200)
def test_a_huge_row_group_runs_in_a_small_worker(tmp_path: Path) -> None:
    write_one_row_group(tmp_path / "survey" / "a.parquet", OBJECTS)
    metadata = pq.read_metadata(tmp_path / "survey" / "a.parquet")
    assert metadata.num_row_groups == 1
    config = RunConfig()
    plan, bundle = plan_run(str(tmp_path / "survey"), None, config)
    prepared = prepare(plan, bundle, str(tmp_path / "catalog"))
    start = time.perf_counter()
    with open_client(1, None, ClusterOptions(worker_memory=LIMIT)) as client, Watch() as watch:
        executed = execute_run(prepared, DaskRunner(client, prepared.plan.config), RunObserver())
    seconds = time.perf_counter() - start
    (record,) = executed.tasks.to_pylist()
    print(
        f"\n{OBJECTS:,} light curves, {record['observations']:,} observations in one row group "
        f"({(tmp_path / 'survey' / 'a.parquet').stat().st_size / 2**20:.0f} MiB): "
        f"{seconds:.1f} s, peak of the worker {watch.peak / 2**20:.0f} MiB (its own count "
        f"{record['peak_memory'] / 2**20:.0f} MiB), limit {LIMIT / 2**20:.0f} MiB, "
        f"--chunk-memory {config.chunk_memory / 2**20:.0f} MiB"
    )
    assert record["retries"] == 0
    assert watch.peak < LIMIT * 0.95
    verify(prepared, executed)
    assert publish(prepared, executed)["rows"] == OBJECTS
