"""The same against a real store: Ceph's gateway, from Debian's packages; skipped where these are not installed."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs

from tests.makers import s3_server
from tests.makers.clusters import ROOT, free_port
from tests.makers.runs import read_rows, run, without_run
from tests.makers.surveys import simulated_table, write_partition, write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.cli import main
from varstar_batch.files.location import locate

PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        pytest.skip(f"needs Debian's radosgw ceph-mon ceph-osd ceph-common; there is no {', '.join(missing)}")
    folder, port = tmp_path_factory.mktemp("ceph"), free_port()
    script = [str(ROOT / "tests" / "makers" / "ceph.sh")]
    try:
        # Into a file, not a pipe: what it leaves running would keep a pipe open.
        with (folder / "start.log").open("wb") as log:
            command = [*script, "start", str(folder), str(port), s3_server.KEY, s3_server.SECRET]
            subprocess.run(command, check=True, timeout=240, stdout=log, stderr=log)
        yield f"http://127.0.0.1:{port}"
    finally:
        subprocess.run([*script, "stop", str(folder)], check=True)


@pytest.fixture
def store(ceph: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    s3_server.use(monkeypatch, ceph)
    if not s3fs.S3FileSystem().exists("real"):
        s3_server.make_bucket("real")
    yield "s3://real"
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_survey_and_a_catalog_on_ceph_are_as_on_a_disk(store: str, tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (60, 60))
    write_partition(survey / "cut.parquet", simulated_table(500, 200), row_group_rows=40)
    s3_server.upload(survey, f"{store}/survey")
    record, _ = run(f"{store}/survey", f"{store}/catalog", workers=2)
    run(survey, tmp_path / "catalog")
    assert record["rows"] == 320
    assert without_run(read_rows(f"{store}/catalog")).equals(without_run(read_rows(tmp_path / "catalog")))
    write_partition(survey / "cut.parquet", simulated_table(900, 10))
    s3fs.S3FileSystem().put_file(str(survey / "cut.parquet"), f"{store}/survey/cut.parquet")
    record, _ = run(f"{store}/survey", f"{store}/catalog", incremental=True)
    assert (record["carried_partitions"], record["classified_partitions"], record["rows"]) == (2, 1, 130)
    assert verify_catalog(open_catalog(f"{store}/catalog")) == []


def test_one_of_many_writers_creates_a_marker(store: str) -> None:
    for number in range(5):
        target = locate(f"{store}/marker-{number}.json", what="marker")
        won: list[int] = []

        def create(name: int, target=target, won: list[int] = won) -> None:
            try:
                target.create(str(name).encode())
            except FileExistsError:
                return
            won.append(name)

        threads = [threading.Thread(target=create, args=(name,)) for name in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert target.read_bytes() == str(won[0]).encode()


def test_a_wrong_secret_and_a_missing_bucket_are_one_line(store: str, ceph: str, monkeypatch, capsys) -> None:
    def refused(*words: str) -> None:
        with pytest.raises(SystemExit) as exited:
            main(["classify", f"{words[0]}/survey", f"{store}/x", "--workers", "0"])
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert exited.value.code == 2
        for word in words[1:]:
            assert word in line
        assert "wr0ng" not in line

    refused("s3://not-there", "a bucket that exists")
    s3_server.use(monkeypatch, ceph, secret="wr0ng-secret")
    refused(store, "credentials that 127.0.0.1")
    s3_server.use(monkeypatch, ceph, key="NOBODY")
    refused(store, "credentials that 127.0.0.1")
