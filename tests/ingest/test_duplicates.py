"""One star, one light curve, knowingly: copies of observations and of files are told, and nothing is lost silently."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.archive_files import PLAIN_TABLE
from varstar_batch.cli.app import main
from varstar_batch.errors import ExitCode, InputError, NothingMatchedError
from varstar_batch.files.location import locate
from varstar_batch.ingest.duplicates import count_written, find_repeated
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import ArchiveOptions, ArchiveReport, IngestOptions
from varstar_batch.survey.columns import SurveyConfig


@pytest.mark.parametrize("seed", range(20))
def test_what_is_repeated_is_what_a_dictionary_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 12, 8)
    counts[[0, -1]] = 0, seed % 3
    offsets = np.concatenate([[0], np.cumsum(counts)])
    n = int(offsets[-1])
    time = np.concatenate([[], *(np.sort(rng.choice([1.0, 2.0, np.nan], count)) for count in counts)])
    mag = rng.choice([10.0, 11.0, np.nan], n).astype(np.float32)
    columns = {"time": pa.array(time), "mag": pa.array(mag), "mag_err": pa.array(rng.choice([0.1, 0.2], n))}
    columns["band"] = pa.array(rng.choice(["V", "g", None], n).tolist(), pa.large_string())
    rows = pa.table(columns)
    seen: set[tuple[object, ...]] = set()
    expected = []
    objects = np.repeat(np.arange(len(counts)), counts)
    for index, row in zip(objects.tolist(), rows.to_pylist(), strict=True):
        # What has no time is not the same as anything.
        key = (index, *(str(value) for value in row.values()))
        expected.append(key in seen and not np.isnan(row["time"]))
        seen.add(key)
    assert find_repeated(rows, offsets, "band").tolist() == expected


def test_real_observations_that_are_there_twice(shared_data: Path, tmp_path: Path) -> None:
    tables = [shared_data / "crts-north" / f"{name}.parquet" for name in ("observations", "objects")]
    report = ingest(*tables, tmp_path / "out")
    once = pq.read_table(tables[0]).group_by(["object_id", "time", "mag", "mag_err"]).aggregate([])
    assert report.observations_written == once.num_rows
    assert report.duplicates == report.observations - once.num_rows == 195


@pytest.mark.parametrize("column", ["band", "filter", "colour"])
def test_the_same_in_another_band_is_another_observation(tmp_path: Path, column: str) -> None:
    table = pa.table(
        {
            "object_id": ["a"] * 4,
            "time": [50000.0, 50000.0, 50000.0, 50001.0],
            "mag": [14.0, 14.0, 14.0, 14.0],
            "mag_err": [0.1, 0.1, 0.1, 0.1],
            column: ["V", "I", "V", "V"],
        }
    )
    pq.write_table(table, tmp_path / "observations.parquet")
    pq.write_table(pa.table({"object_id": ["a"], "period": [1.0]}), tmp_path / "objects.parquet")
    options = IngestOptions(time_system="MJD", band="fuse", columns=SurveyConfig(band=column))
    report = ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", tmp_path / "out", options)
    assert (report.observations_written, report.duplicates) == (3, 1)


def archive(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def ingested(folder: Path, out: Path, **options: object) -> ArchiveReport:
    return ingest_archive(folder, None, out, ArchiveOptions(format="table", time_system="HJD", **options))


COPIES = {
    "in two folders": {"a__star_csv": PLAIN_TABLE, "b__star_csv": PLAIN_TABLE},
    "packed and not": {"star_csv": PLAIN_TABLE, "star_csv_gz": gzip.compress(PLAIN_TABLE)},
    "named inside": {
        name: PLAIN_TABLE.replace(b"time", b"object_id,time", 1).replace(b"\n24", b"\nstar,24")
        for name in ("x_csv", "y_csv")
    },
    "of other endings": {"star_csv": PLAIN_TABLE, "star_dat": PLAIN_TABLE.replace(b",", b" ")},
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_a_file_are_told_and_count_once(tmp_path: Path, kind: str) -> None:
    folder = archive(tmp_path / "in", **COPIES[kind], other_csv=PLAIN_TABLE)
    report = ingested(folder, tmp_path / "out")
    survey = report.ingest
    assert (survey.observations, survey.observations_written, survey.duplicates, survey.orphans) == (9, 6, 3, 0)
    assert report.tally.repeated == {"star"}
    rows = pq.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    assert {row["object_id"]: len(row["lightcurve"]["time"]) for row in rows} == {"star": 3, "other": 3}
    assert count_written(locate(tmp_path / "out" / "part-00000.parquet", what="file"), 0) == 6
    assert ingested(folder, tmp_path / "all", duplicates="keep").ingest.observations_written == 9
    with pytest.raises(InputError, match=r"'star'.*--duplicates drop"):
        ingested(folder, tmp_path / "none", duplicates="refuse")
    assert not (tmp_path / "none").exists()


def test_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = archive(tmp_path / "in", **COPIES["in two folders"])
    with pytest.raises(SystemExit) as done:
        main(["ingest", str(folder), str(tmp_path / "out"), "--format", "table", "--time-system", "HJD"])
    assert done.value.code == ExitCode.DONE
    told = capsys.readouterr().err
    assert "1 objects are in several files, now one light curve each: star" in told
    assert "3 observations left out, since another one of the object has the same time" in told


def test_where_nothing_matches_there_is_no_survey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = archive(tmp_path / "in", star_csv=PLAIN_TABLE)
    (tmp_path / "objects.csv").write_text("object_id,period\nV0001,0.5\n")
    options = ArchiveOptions(format="table", time_system="HJD")
    with pytest.raises(NothingMatchedError, match=r"V0001.*3 observations of others.*star"):
        ingest_archive(folder, tmp_path / "objects.csv", tmp_path / "out", options)
    words = ["ingest", str(folder), str(tmp_path / "out"), "--objects", str(tmp_path / "objects.csv")]
    with pytest.raises(SystemExit) as done:
        main([*words, "--format", "table", "--time-system", "HJD"])
    assert done.value.code == ExitCode.FAILURES
    assert len([line for line in capsys.readouterr().err.splitlines() if "observations of others" in line]) == 1
    assert not (tmp_path / "out").exists()
