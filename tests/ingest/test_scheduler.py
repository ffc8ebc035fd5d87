"""Ingest on a scheduler of its own, which is killed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.clusters import cluster, wait_for_workers
from tests.makers.command_line import exit_code
from varstar_batch.cli import ingest
from varstar_batch.ingest import observations as ingest_observations

ROWS, OBJECTS = 30_000, 300


def write_tables(folder: Path) -> None:
    rng = np.random.default_rng(9)
    observations = {
        "object_id": rng.integers(0, OBJECTS, ROWS),
        "time": rng.uniform(58000, 59000, ROWS),
        "mag": rng.normal(14, 0.3, ROWS),
    }
    pq.write_table(pa.table(observations), folder / "observations.parquet", row_group_size=1000)
    objects = {"object_id": np.arange(OBJECTS), "period": rng.uniform(0.1, 10, OBJECTS)}
    pq.write_table(pa.table(objects), folder / "objects.parquet")


def content(survey: Path) -> dict[str, bytes]:
    return {str(path.relative_to(survey)): path.read_bytes() for path in survey.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_scheduler_that_is_killed_midway_leaves_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tables(tmp_path)
    monkeypatch.setattr(ingest_observations, "UNIT_ROWS", 1000)
    base = ["ingest", str(tmp_path / "observations.parquet")]
    more = ["--objects", str(tmp_path / "objects.parquet"), "--time-system", "MJD", "--partitions", "9"]
    assert exit_code(*base, str(tmp_path / "threads"), *more) == 0

    def acting(act: Callable[[], None]) -> None:
        @contextmanager
        def progress(*_: object) -> Iterator[Callable[[int], None]]:
            yield lambda amount: act()

        monkeypatch.setattr(ingest, "progress", progress)

    with cluster(one=()) as site:
        dask = [*base, str(tmp_path / "dask"), *more, "--scheduler", site.address]

        def kill_once() -> None:
            if "scheduler" in site.processes:
                site.kill("scheduler")

        acting(kill_once)
        capsys.readouterr()
        assert exit_code(*dask) == 1
        said = capsys.readouterr()
        (line,) = said.err.strip().splitlines()
        assert "expected a Dask scheduler that stays" in line
        assert "the same command goes on from there" in line
        assert not (tmp_path / "dask").exists()
        (left,) = tmp_path.glob(".tmp-ingest-*/shuffle")
        done = {path.name: path.stat().st_mtime_ns for path in left.glob("[0-9]*.index")}
        assert 1 <= len(done) < 30

        def unchanged() -> None:
            assert all((left / name).stat().st_mtime_ns == at for name, at in done.items())

        acting(unchanged)
        site.kill("one")
        site.start_scheduler()
        site.start_worker("two")
        wait_for_workers(site.address, 1)
        assert exit_code(*dask) == 0
    assert f"{ROWS:,} observations in, {ROWS:,} out" in capsys.readouterr().out
    assert content(tmp_path / "dask") == content(tmp_path / "threads")
    assert not list(tmp_path.glob(".tmp-*"))
