"""Ingest on Dask's workers: the same survey as threads give, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varstar_batch.cluster.dask_crew import DaskCrew, Job, open_crew, run_item
from varstar_batch.errors import InputError, WorkersLostError
from varstar_batch.ingest import observations as ingest_observations
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import IngestOptions

ROWS, OBJECTS = 30_000, 300


@pytest.fixture(scope="module")
def crew() -> Iterator[DaskCrew]:
    with open_crew(2, None) as opened:
        assert isinstance(opened, DaskCrew)
        yield opened


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Shuffled observations in thirty units, and their objects."""
    rng = np.random.default_rng(9)
    observations = pa.table(
        {
            "object_id": rng.integers(0, OBJECTS, ROWS),
            "time": rng.uniform(58000, 59000, ROWS),
            "mag": rng.normal(14, 0.3, ROWS),
        }
    )
    pq.write_table(observations, tmp_path / "observations.parquet", row_group_size=1000)
    pq.write_table(
        pa.table({"object_id": np.arange(OBJECTS), "period": rng.uniform(0.1, 10, OBJECTS)}), tmp_path / "o.parquet"
    )
    monkeypatch.setattr(ingest_observations, "UNIT_ROWS", 1000)
    return tmp_path / "observations.parquet", tmp_path / "o.parquet"


def content(survey: Path) -> dict[str, bytes]:
    return {str(path.relative_to(survey)): path.read_bytes() for path in survey.rglob("*") if path.is_file()}


def clean(folder: Path) -> bool:
    return not list(folder.rglob(".tmp-*"))


def test_the_same_survey_byte_for_byte(tmp_path: Path, tables: tuple[Path, Path], crew: DaskCrew) -> None:
    options = IngestOptions(time_system="MJD", partitions=9)
    by_threads = ingest(*tables, tmp_path / "threads", options)
    assert by_threads == ingest(*tables, tmp_path / "dask", options, crew=crew)
    assert content(tmp_path / "threads") == content(tmp_path / "dask")
    assert clean(tmp_path)


def test_files_of_an_archive_and_those_set_aside(tmp_path: Path, crew: DaskCrew) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        lines = [f"{2457000.5 + day},2014-12-09.5,ba,1.8,15.5,{13 + day / 100:.3f},0.02,4.4,0.4" for day in range(9)]
        head = "HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err"
        (tmp_path / "in" / f"{number}.csv").write_text("\n".join([head, *lines]) + "\n")
    (tmp_path / "in" / "bad.csv").write_text("no light curve\n")
    there = ingest_archive(tmp_path / "in", None, tmp_path / "threads")
    here = ingest_archive(tmp_path / "in", None, tmp_path / "dask", crew=crew)
    assert here == there
    assert [one.file for one in here.tally.rejected] == ["bad.csv"]
    assert here.ingest.observations_written == 45
    assert content(tmp_path / "threads") == content(tmp_path / "dask")


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    expected = ingest(*tables, tmp_path / "threads", IngestOptions(time_system="MJD", partitions=9))
    with open_crew(2, None) as crew:
        assert isinstance(crew, DaskCrew)
        victims = list(crew.client.run(os.getpid).values())
        killed: list[int] = []

        def kill_once(_: int) -> None:
            if not killed:
                killed.append(victims[0])
                os.kill(victims[0], signal.SIGKILL)

        options = IngestOptions(time_system="MJD", partitions=9)
        report = ingest(*tables, tmp_path / "dask", options, kill_once, crew)
    assert killed
    assert report == expected
    assert report.observations == report.observations_written == ROWS
    assert content(tmp_path / "threads") == content(tmp_path / "dask")
    assert clean(tmp_path)


def test_a_scheduler_that_goes_away_leaves_what_is_done(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    done = 0
    with open_crew(1, None) as crew:
        assert isinstance(crew, DaskCrew)
        client = crew.client

        def stop(rows: int) -> None:
            nonlocal done
            done += rows
            if done == 5000:
                client.close()

        options = IngestOptions(time_system="MJD", partitions=9)
        with pytest.raises(WorkersLostError, match="the same command goes on from there"):
            ingest(*tables, tmp_path / "survey", options, stop, crew)
    (left,) = tmp_path.glob(".tmp-ingest-*/shuffle")
    assert len(list(left.glob("[0-9]*.index"))) >= 5
    report = ingest(*tables, tmp_path / "survey", IngestOptions(time_system="MJD", partitions=9))
    assert report.observations_written == ROWS
    assert clean(tmp_path)


def test_a_worker_that_does_not_see_the_work_says_so(tmp_path: Path, crew: DaskCrew) -> None:
    results = crew.in_order(int, ["1", "2"], tmp_path)
    assert list(results) == [1, 2]
    (path,) = tmp_path.glob("job-*.pickle")
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="a folder that every worker sees") as caught:
        run_item(Job(str(tmp_path / "elsewhere"), "0" * 64), 1)
    assert "--scratch" in str(caught.value)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="another one"):
        run_item(Job(str(path), "0" * 64), 1)
