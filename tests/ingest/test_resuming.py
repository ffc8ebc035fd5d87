"""An ingest that was interrupted is no survey, and goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from tests.makers.ingest_tables import MJD, make_objects, make_observations, rows_of
from tests.makers.survey_files import write
from varstar_batch.errors import InputError
from varstar_batch.files.parquet import UNFINISHED
from varstar_batch.ingest import observations as ingest_observations
from varstar_batch.ingest import shuffle as ingest_shuffle
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import ArchiveOptions, IngestOptions
from varstar_batch.parallel import Threads
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.open import open_survey


class Killed(BaseException):
    """Stands for a process that is killed."""


def test_an_interrupted_ingest_is_no_survey_and_goes_on(tmp_path: Path) -> None:
    observations = write(tmp_path / "observations.parquet", make_observations([1, 2]))
    objects = write(tmp_path / "objects.parquet", make_objects([1, 2]))

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(observations, objects, tmp_path / "survey", MJD, interrupt)
    left = [path.name for path in tmp_path.iterdir() if not path.name.endswith(".parquet")]
    assert len(left) == 3
    assert all(name.startswith(".tmp-") for name in left)
    # Something else into the same place: what is left there is of no use.
    ingest(observations, objects, tmp_path / "survey", IngestOptions(time_system="HMJD"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["objects.parquet", "observations.parquet", "survey"]


INGEST = """
import sys
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest import observations as ingest_observations
from varstar_batch.ingest import shuffle as ingest_shuffle
from varstar_batch.ingest.options import ArchiveOptions, IngestOptions
from varstar_batch.parallel import Threads
ingest_observations.UNIT_ROWS = 1000
done = 0
def progress(rows):
    global done
    done += rows
    if done >= int(sys.argv[4]):
        print("now", flush=True)
        sys.stdin.read()
ingest(*sys.argv[1:4], IngestOptions(time_system="MJD", partitions=9), progress, Threads(1))
"""


@pytest.mark.parametrize("progress", [3000, 9000])
def test_an_ingest_that_was_killed_does_only_what_is_missing(
    tmp_path: Path, progress: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.random.default_rng(5).integers(0, 50, 10_000).tolist()
    observations = write(tmp_path / "observations.parquet", make_observations(ids), 1000)
    objects = write(tmp_path / "objects.parquet", make_objects(list(range(50))))
    monkeypatch.setattr(ingest_observations, "UNIT_ROWS", 1000)
    options = IngestOptions(time_system="MJD", partitions=9)
    expected = ingest(observations, objects, tmp_path / "whole", options)
    words = [str(word) for word in (observations, objects, tmp_path / "survey", progress)]
    killed = subprocess.Popen(
        [sys.executable, "-c", INGEST, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "now\n"
        with pytest.raises(InputError, match="one ingest into a place at a time"):
            ingest(observations, objects, tmp_path / "survey", options, crew=Threads(1))
        killed.kill()
    assert not (tmp_path / "survey").exists()
    read: list[ingest_observations.Unit] = []
    rows = ingest_observations.Observations.rows

    def watched(self: ingest_observations.Observations, positions: Any, unit: ingest_observations.Unit) -> Any:
        read.append(unit)
        return rows(self, positions, unit)

    def not_again(*_: Any) -> Any:
        raise AssertionError("counted twice")

    monkeypatch.setattr(ingest_observations.Observations, "rows", watched)
    monkeypatch.setattr(ingest_observations.Observations, "positions", not_again)
    assert ingest(observations, objects, tmp_path / "survey", options, crew=Threads(1)) == expected
    assert 0 <= len(read) <= 10 - progress // 1000
    same_files(tmp_path / "whole", tmp_path / "survey")
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]) == 0


def test_partitions_that_are_written_are_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(6).integers(0, 50, 2000).tolist()
    observations = write(tmp_path / "observations.parquet", make_observations(ids))
    objects = write(tmp_path / "objects.parquet", make_objects(list(range(50))))
    options = IngestOptions(time_system="MJD", partitions=6)
    ingest(observations, objects, tmp_path / "whole", options)
    gather, gathered = ingest_shuffle.Shuffle.gather, []

    def watched(self: Any, pieces: Any, number: int) -> Any:
        if len(gathered) == 4:
            gathered.append(-1)
            raise Killed
        gathered.append(number)
        return gather(self, pieces, number)

    monkeypatch.setattr(ingest_shuffle.Shuffle, "gather", watched)
    with pytest.raises(Killed):
        ingest(observations, objects, tmp_path / "survey", options, crew=Threads(1))
    ingest(observations, objects, tmp_path / "survey", options, crew=Threads(1))
    assert sorted(gathered) == [-1, 0, 1, 2, 3, 4, 5]
    same_files(tmp_path / "whole", tmp_path / "survey")


def same_files(one: Path, other: Path) -> None:
    """Check that two folders hold the same files, byte for byte."""
    files = [
        {path.relative_to(top): path.read_bytes() for path in top.rglob("*") if path.is_file()} for top in (one, other)
    ]
    assert files[0] == files[1]


def test_on_an_object_store(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    observations = write(tmp_path / "observations.parquet", make_observations([1, 1, 2]))
    objects = write(tmp_path / "objects.parquet", make_objects([1, 2, 3]))
    try:
        report = ingest(observations, objects, "memory://test-ingest/good", MJD)
        survey = open_survey("memory://test-ingest/good")
        assert report.objects_written == len(rows_of(survey)) == 3
        assert not memory.exists(f"/test-ingest/good/{UNFINISHED}")

        def interrupt(_: int) -> None:
            raise Killed

        with pytest.raises(Killed):
            ingest(observations, objects, "memory://test-ingest/killed", MJD, interrupt)
        with pytest.raises(InputError, match="a finished survey, got one whose writing was interrupted") as caught:
            open_survey("memory://test-ingest/killed")
        assert "remove the folder" in caught.value.fix
        with pytest.raises(InputError, match=UNFINISHED):
            ingest(observations, objects, "memory://test-ingest/killed", IngestOptions(time_system="HMJD"))
        # The same again goes on.
        assert ingest(observations, objects, "memory://test-ingest/killed", MJD) == report
        assert not memory.exists(f"/test-ingest/killed/{UNFINISHED}")
    finally:
        memory.rm("/test-ingest", recursive=True)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def zeroed(path: Path) -> None:
    """Leave the size and take the content of a run of blocks, as a power cut does to what was not synced."""
    content = bytearray(path.read_bytes())
    start = len(content) // 3
    content[start : start + 2**16] = bytes(len(content[start : start + 2**16]))
    path.write_bytes(content)


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, options: IngestOptions) -> tuple[Path, Path]:
    """Leave an ingest of a table that was killed when half of its partitions were written; return its inputs."""
    ids = np.random.default_rng(7).integers(0, 50, 4000).tolist()
    observations = write(folder / "observations.parquet", make_observations(ids), 1000)
    objects = write(folder / "objects.parquet", make_objects(list(range(50))))
    gather, gathered = ingest_shuffle.Shuffle.gather, []

    def killed(self: Any, pieces: Any, number: int) -> Any:
        gathered.append(number)
        if len(gathered) == 4:
            raise Killed
        return gather(self, pieces, number)

    with monkeypatch.context() as patch:
        patch.setattr(ingest_observations, "UNIT_ROWS", 1000)
        patch.setattr(ingest_shuffle.Shuffle, "gather", killed)
        with pytest.raises(Killed):
            ingest(observations, objects, folder / "survey", options, crew=Threads(1))
    return observations, objects


@pytest.mark.parametrize("harm", [emptied, cut_short, zeroed])
def test_what_a_power_cut_took_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Any) -> None:
    """Every file that an interrupted ingest has left is harmed once: the survey comes out the same."""
    monkeypatch.setattr(ingest_observations, "UNIT_ROWS", 1000)
    options = IngestOptions(time_system="MJD", partitions=6)
    observations, objects = interrupted(tmp_path / "count", monkeypatch, options)
    left = [path for top in (tmp_path / "count").glob(".tmp-*") for path in top.rglob("*") if path.is_file()]
    ingest(observations, objects, tmp_path / "whole", options)
    assert len(left) >= 10  # 4 units of rows and their index, 3 partitions and their digests, the plan
    for number in range(len(left)):
        folder = tmp_path / str(number)
        observations, objects = interrupted(folder, monkeypatch, options)
        there = [path for top in folder.glob(".tmp-*") for path in top.rglob("*") if path.is_file()]
        victim = sorted(there, key=lambda path: (path.suffix, path.name))[number % len(there)]
        harm(victim)
        ingest(observations, objects, folder / "survey", options, crew=Threads(1))
        same_files(tmp_path / "whole", folder / "survey")


@pytest.mark.parametrize("harm", [emptied, cut_short, zeroed])
def test_what_a_power_cut_took_of_an_archive_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Any
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    rows = make_observations(np.repeat(np.arange(6), 60).tolist()).to_pandas()
    for name, star in rows.groupby("object_id"):
        lines = ["mjd,mag,mag_err"] + [f"{t},{m},{e}" for t, m, e in star[["time", "mag", "mag_err"]].to_numpy()]
        (archive / f"{name}.csv").write_text("\n".join(lines))
    options = ArchiveOptions(format="table", time_system="MJD", columns=SurveyConfig(time="mjd"))
    ingest_archive(archive, None, tmp_path / "whole", options)

    def left_in(folder: Path) -> list[Path]:
        with monkeypatch.context() as patch:
            patch.setattr(ingest_shuffle.Shuffle, "pieces", lambda _: (_ for _ in ()).throw(Killed()))
            with pytest.raises(Killed):
                ingest_archive(archive, None, folder / "survey", options, crew=Threads(1))
        return sorted(path for path in folder.glob(".tmp-*/files/*") if path.is_file())

    count = len(left_in(tmp_path / "count"))
    assert count >= 2
    for number in range(count):
        harm(left_in(tmp_path / str(number))[number])
        ingest_archive(archive, None, tmp_path / str(number) / "survey", options, crew=Threads(1))
        same_files(tmp_path / "whole", tmp_path / str(number) / "survey")
