"""Ingest from an object store and to one: what comes out is what a disk gives, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from tests.archives.test_streamed import ztf_table
from tests.makers import s3_server
from tests.makers.command_line import exit_code
from varstar_batch.survey.open import open_survey

OBJECTS = 60


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server.moto_server() as url:
        yield url


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    with s3_server.bucket_of(request.node.name, server, monkeypatch) as address:
        yield address


def write_inputs(folder: Path) -> None:
    """Long-form observations in several files, their objects, and files of two archives."""
    rng = np.random.default_rng(3)
    for number in range(3):
        columns = {"object_id": rng.integers(0, OBJECTS, 900), "time": rng.uniform(58000, 59000, 900)}
        columns |= {"mag": rng.normal(14, 0.3, 900), "mag_err": np.full(900, 0.02)}
        (folder / "long").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / "long" / f"{number}.parquet", row_group_size=300)
    spots = {"ra": np.linspace(10, 11, OBJECTS), "dec": np.linspace(-5, 5, OBJECTS)}
    objects = pa.table({"object_id": np.arange(OBJECTS), "period": rng.uniform(0.1, 9, OBJECTS)} | spots)
    pq.write_table(objects, folder / "objects.parquet")
    (folder / "csv").mkdir()
    for number in range(5):
        lines = [f"{2457000.5 + day},2014-12-09.5,ba,1.8,15.5,{13 + day / 100:.3f},0.02,4.4,0.4" for day in range(9)]
        head = "HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err"
        (folder / "csv" / f"{number}.csv").write_text("\n".join([head, *lines]) + "\n")
    (folder / "csv" / "bad.csv").write_text("no light curve\n")
    (folder / "ztf").mkdir()
    pq.write_table(ztf_table(40, 10), folder / "ztf" / "a.parquet", row_group_size=9)


def undated(content: bytes) -> bytes:
    """A file without the minute in which it was made, which HATS asks for."""
    return re.sub(rb"hats_creation_date=\S*", b"", content)


def on_disk(survey: Path) -> dict[str, bytes]:
    files = [path for path in survey.rglob("*") if path.is_file()]
    return {path.relative_to(survey).as_posix(): undated(path.read_bytes()) for path in files}


def on_store(url: str) -> dict[str, bytes]:
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    root = url.removeprefix("s3://")
    return {path.removeprefix(f"{root}/"): undated(fs.cat_file(path)) for path in fs.find(root)}


CASES: dict[str, tuple[int, str, list[str]]] = {
    "plain": (0, "long", ["--objects", "objects.parquet", "--time-system", "MJD", "--partitions", "4"]),
    "hats": (0, "long", ["--objects", "objects.parquet", "--time-system", "MJD", "--hats"]),
    "csv": (1, "csv", ["--format", "auto"]),
    "ztf": (0, "ztf", ["--format", "ztf-hats", "--band", "g"]),
}


def compare(store: str, folder: Path, name: str, *workers: str) -> None:
    """Ingest from disk to disk by threads, and from store to store, and see the same files."""
    code, source, options = CASES[name]

    def words(root: object) -> list[str]:
        return [f"{root}/{word}" if word.endswith(".parquet") else word for word in options]

    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    survey = folder / name / "survey"
    assert exit_code("ingest", folder / "in" / source, survey, *words(folder / "in")) == code
    far = [*words(f"{store}/in"), "--scratch", str(scratch), *workers]
    assert exit_code("ingest", f"{store}/in/{source}", f"{store}/{name}/survey", *far) == code
    assert on_store(f"{store}/{name}/survey") == on_disk(survey)
    assert open_survey(f"{store}/{name}/survey").source.time_system is not None
    assert not list(scratch.iterdir())


def test_the_same_survey_as_on_a_disk(store: str, tmp_path: Path) -> None:
    write_inputs(tmp_path / "in")
    s3_server.upload(tmp_path / "in", f"{store}/in")
    for name in CASES:
        compare(store, tmp_path, name)
    # From a store to a disk, and from a disk to a store.
    more = ["--objects", tmp_path / "in" / "objects.parquet", "--time-system", "MJD", "--partitions", "4"]
    assert exit_code("ingest", f"{store}/in/long", tmp_path / "near", *more) == 0
    assert exit_code("ingest", tmp_path / "in" / "long", f"{store}/far", *more) == 0
    assert on_disk(tmp_path / "near") == on_disk(tmp_path / "plain" / "survey") == on_store(f"{store}/far")


@pytest.mark.slow
def test_the_same_survey_by_two_workers(store: str, tmp_path: Path) -> None:
    write_inputs(tmp_path / "in")
    s3_server.upload(tmp_path / "in", f"{store}/in")
    compare(store, tmp_path, "csv", "--workers", "2")
