"""Parquet files of archives that are larger than what is decoded at once: streamed, and whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varstar_batch.archives import folder, parquet
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.options import ArchiveOptions, ArchiveReport

G = ArchiveOptions(band="g")


def ztf_table(objects: int, observations: int, first: int = 0, kind: str = "nested") -> pa.Table:
    """Objects of a release of ZTF as HATS, each with so many observations, every tenth of them flagged."""
    n = objects * observations
    rng = np.random.default_rng(first)
    offsets = pa.array(np.arange(0, n + 1, observations), pa.int32())
    values = {
        "hmjd": 58000 + np.sort(rng.uniform(0, 1000, (objects, observations))).ravel(),
        "mag": rng.normal(15, 0.2, n).astype(np.float32),
        "magerr": np.full(n, 0.02, np.float32),
        "clrcoeff": np.zeros(n, np.float32),
        "catflags": np.where(np.arange(n) % 10, 0, 32768).astype(np.int32),
    }
    lists = {name: pa.ListArray.from_arrays(offsets, pa.array(one)) for name, one in values.items()}
    columns: dict[str, Any] = {
        "objectid": np.arange(first, first + objects) + 686103400000000,
        "filterid": np.ones(objects, np.int8),
        "objra": np.linspace(180, 181, objects),
        "objdec": np.linspace(-1, 1, objects),
    }
    columns |= (
        {"lightcurve": pa.StructArray.from_arrays(list(lists.values()), list(lists))} if kind == "nested" else lists
    )
    return pa.table(columns)


def content(survey: Path) -> dict[str, bytes]:
    return {str(path.relative_to(survey)): path.read_bytes() for path in survey.rglob("*") if path.is_file()}


def ingested(tmp_path: Path, name: str) -> tuple[ArchiveReport, dict[str, bytes]]:
    report = ingest_archive(tmp_path / "in", None, tmp_path / name, G)
    assert not list(tmp_path.rglob(".tmp-*"))
    return report, content(tmp_path / name)


@pytest.mark.parametrize("kind", ["nested", "lists"])
@pytest.mark.parametrize("row_group", [7, 300])
def test_slices_give_what_the_whole_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, row_group: int
) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(ztf_table(300, 20, kind=kind), tmp_path / "in" / "a.parquet", row_group_size=row_group)
    pq.write_table(ztf_table(3, 20, 1000, kind), tmp_path / "in" / "b.parquet")
    whole = ingested(tmp_path, "whole")
    assert whole[0].tally.files == 2
    assert (whole[0].tally.observations, whole[0].tally.kept, whole[0].ingest.objects) == (6060, 5454, 303)
    assert whole[0].tally.formats == {"ztf-hats": 2}
    monkeypatch.setattr(parquet, "SLICE_BYTES", 10_000)
    monkeypatch.setattr(folder, "MAX_BYTES", 1000)  # a partition is not set aside for being large
    assert (tmp_path / "in" / "a.parquet").stat().st_size > 1000
    assert ingested(tmp_path, "sliced") == whole


def test_a_file_that_is_damaged_far_inside_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    bad, good = tmp_path / "in" / "bad.parquet", tmp_path / "in" / "good.parquet"
    pq.write_table(ztf_table(300, 20), bad, row_group_size=50, write_page_checksum=True)
    pq.write_table(ztf_table(300, 20, 1000), good, row_group_size=50)
    raw = bytearray(bad.read_bytes())
    place = len(raw) * 4 // 5
    raw[place : place + 50] = bytes(50)
    bad.write_bytes(raw)
    monkeypatch.setattr(parquet, "SLICE_BYTES", 10_000)
    report, _ = ingested(tmp_path, "out")
    assert [one.file for one in report.tally.rejected] == ["bad.parquet"]
    assert (report.tally.observations, report.tally.kept, report.ingest.objects) == (6000, 5400, 300)
    assert report.tally.formats == {"ztf-hats": 1}


def test_what_is_too_large_and_no_parquet_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(ztf_table(30, 20), tmp_path / "in" / "a.parquet")
    (tmp_path / "in" / "b.csv").write_text("HJD,mag\n" * 1000)
    monkeypatch.setattr(folder, "MAX_BYTES", 1000)
    report, _ = ingested(tmp_path, "out")
    (one,) = report.tally.rejected
    assert (one.file, one.error) == ("b.csv", "expected at most 1000 bytes, or a name in .parquet, got 8000")


def test_files_that_may_be_large_are_spread_over_more_hands() -> None:
    keys = ["a.csv"] * 2000 + ["b.parquet"] * 40 + ["c.dat"]
    assert [len(unit) for unit in folder._units(keys)] == [1024, 976, 16, 16, 8, 1]


CHILD = """
import json, sys
from pathlib import Path
import pyarrow as pa
from varstar_batch.archives.folder import read_archive
from varstar_batch.archives.formats import FORMATS
from varstar_batch.files.location import locate
from varstar_batch.parallel import Threads

place, target = locate(sys.argv[1], what="archive"), Path(sys.argv[2])
tally = read_archive(place, list(FORMATS.values()), "g", target, Threads(1))
print(json.dumps([pa.default_memory_pool().max_memory(), tally.kept]))
"""


def test_the_memory_of_a_large_partition_is_bounded(tmp_path: Path) -> None:
    """One row group of 4 million observations: 96 MB of arrays, 300 MB once each observation is a row."""
    (tmp_path / "in").mkdir()
    pq.write_table(ztf_table(20_000, 200), tmp_path / "in" / "a.parquet", row_group_size=20_000)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    peak, kept = json.loads(done.stdout)
    assert kept == 3_600_000
    assert peak < 250 * 2**20
