"""Surveys and catalogs on an object store, moto's: the fast tests. Those against a real Ceph are in test_ceph.py."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import s3fs

from tests.makers import s3_server
from tests.makers.catalogs import RunSpec, in_pixels, in_slices, run_name, sky_rows, write_run
from tests.makers.runs import Hooks, read_rows, run, without_run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.checks import verify_run_files
from varstar_batch.catalog.run_files.finish import finish_run_files, lost_files
from varstar_batch.catalog.run_files.root import open_catalog_root, output_key
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.cli import main
from varstar_batch.errors import InputError, RefusedError
from varstar_batch.files.location import locate
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import InProcess, execute
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.runs.stages import execute_run
from varstar_batch.survey.open import open_survey


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server.moto_server() as url:
        yield url


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    with s3_server.bucket_of(request.node.name, server, monkeypatch) as address:
        yield address


@pytest.fixture(scope="module")
def local_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("s3") / "survey")


def test_a_survey_and_a_catalog_on_s3_are_as_on_a_disk(store: str, local_survey: Path, tmp_path: Path) -> None:
    s3_server.upload(local_survey, f"{store}/survey")
    record, _ = run(f"{store}/survey", f"{store}/catalog")
    run(local_survey, tmp_path / "catalog")
    assert record["rows"] == 120
    assert without_run(read_rows(f"{store}/catalog")).equals(without_run(read_rows(tmp_path / "catalog")))


def test_a_run_that_was_cut_off_goes_on_and_an_unchanged_partition_is_copied_on_the_server(
    store: str, local_survey: Path
) -> None:
    s3_server.upload(local_survey, f"{store}/survey")
    plan, bundle = plan_run(f"{store}/survey", None, RunConfig())
    prepared = prepare(plan, bundle, f"{store}/catalog")
    seen: list[int] = []

    def stop_after_one(rows: int) -> None:
        seen.append(rows)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute_run(prepared, InProcess(), Hooks(stop_after_one))
    record, resumed = run(f"{store}/survey", f"{store}/catalog")
    assert resumed.run_id == prepared.run_id
    assert record["resumed_partitions"] == 1
    s3_server.upload(write_survey(local_survey.parent / "other", (40,), seed=9), f"{store}/survey")
    record, _ = run(f"{store}/survey", f"{store}/catalog", incremental=True)
    assert (record["carried_partitions"], record["classified_partitions"]) == (2, 1)
    assert read_rows(f"{store}/catalog").num_rows == 120


def test_a_small_partition_costs_one_request_to_read_one_to_write_and_one_to_own(
    store: str, server: str, local_survey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.upload(local_survey, f"{store}/survey")
    proxy = s3_server.FaultyProxy(server)
    proxy.start()
    s3_server.use(monkeypatch, proxy.url)
    plan, bundle = plan_run(f"{store}/survey", None, RunConfig())
    prepared = prepare(plan, bundle, f"{store}/catalog")
    requests = []
    for partition in plan.survey.partitions:
        before = proxy.requests
        assert all(
            isinstance(each, tuple) for each in execute(prepared.context, [partition], (), InProcess(), lambda _: None)
        )
        requests.append(proxy.requests - before)
    proxy.stop()
    # With the first, the worker fetches the model. The third asks whether somebody has closed the run meanwhile.
    assert requests[1:] == [3] * (len(requests) - 1)


@pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The inplace keyword in NestedFrame:DeprecationWarning")
def test_publishing_a_hats_catalog_asks_twice_for_a_partition(
    store: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()

    class Counting(s3_server.FaultyProxy):
        def handle(self, request: BaseHTTPRequestHandler) -> None:
            if request.command != "PUT" and (found := re.search(r"Norder(?:=|%3D)\d.*", request.path)):
                asked[found[0]] += 1
            super().handle(request)

    def finish(*what: Any) -> None:
        asked.clear()
        finish_run_files(*what)

    monkeypatch.setattr("tests.makers.catalogs.finish_run_files", finish)
    proxy = Counting(server)
    proxy.start()
    s3_server.use(monkeypatch, proxy.url)
    pixels = in_pixels(sky_rows(200, seed=8), order=0)
    write_run(f"{store}/catalog", run_name(1), RunSpec(partitions=pixels, layout="hats"))
    proxy.stop()
    # Once for the index of row groups, once for the map of the sky and the common metadata; no listing names a pixel.
    assert len(asked) == len(pixels)
    assert set(asked.values()) == {2}
    s3_server.use(monkeypatch, server)
    reader = open_catalog(f"{store}/catalog")
    assert verify_catalog(reader) == []
    (wanted,) = reader.to_arrow(["object_id"])["object_id"].slice(3, 1).to_pylist()
    found = reader.to_lsdb().id_search({"object_id": wanted}).compute(progress_bar=False)
    assert found["object_id"].tolist() == [wanted]
    extension = (reader.run / "variability.properties").read_bytes().decode()
    assert f"hats_assn_join_table_url={reader.run}\n" in extension.replace("\\", "")


@pytest.mark.parametrize("layout", ["directory", "hats"])
def test_what_a_listing_does_not_show_yet_is_in_the_manifest(
    server: str, store: str, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    proxy = s3_server.FaultyProxy(server)
    proxy.lag = 60.0  # longer than all of this takes: the worst case of 3 s
    proxy.start()
    s3_server.use(monkeypatch, proxy.url)
    rows = sky_rows(200, seed=8)
    partitions = in_pixels(rows, order=0) if layout == "hats" else in_slices(rows)
    catalog = write_run(f"{store}/catalog", run_name(1), RunSpec(partitions=partitions, layout=layout))
    run_folder = catalog.run(run_name(1))
    keys = {output_key(layout, key) for key in partitions}
    assert not run_folder.files()
    assert proxy.hidden > len(partitions)
    assert catalog.current().run_id == run_name(1)
    assert lost_files(run_folder) == []
    verify_run_files(run_folder, {output_key(layout, key): part.num_rows for key, part in partitions.items()}, keys)
    proxy.lag = 0.0
    written = {info.key for info in run_folder.files()}
    assert json.loads((run_folder / "manifest.json").read_bytes()).keys() == written - keys - {"manifest.json"}
    assert verify_catalog(open_catalog(f"{store}/catalog")) == []
    proxy.stop()


def test_a_run_on_a_store_whose_listings_lag_is_whole(
    server: str, store: str, local_survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.upload(local_survey, f"{store}/survey")
    proxy = s3_server.FaultyProxy(server)
    proxy.lag = 60.0
    proxy.start()
    s3_server.use(monkeypatch, proxy.url)
    record, _ = run(f"{store}/survey", f"{store}/catalog")
    again, _ = run(f"{store}/survey", f"{store}/catalog")
    assert (again["run_id"], record["rows"]) == (record["run_id"], 120)
    proxy.lag = 0.0
    assert verify_catalog(open_catalog(f"{store}/catalog"), open_survey(f"{store}/survey")) == []
    proxy.stop()
    s3_server.use(monkeypatch, server)


def test_of_many_publishers_exactly_one_succeeds(store: str, local_survey: Path) -> None:
    s3_server.upload(local_survey, f"{store}/survey")
    run(f"{store}/survey", f"{store}/catalog")
    catalog = open_catalog_root(f"{store}/catalog")
    for based_on in range(1, 6):
        won: list[str] = []
        lost: list[str] = []

        def publish_one(name: str, based_on: int = based_on, won: list[str] = won, lost: list[str] = lost) -> None:
            try:
                catalog.publish(name, based_on=based_on)
            except RefusedError:
                lost.append(name)
            else:
                won.append(name)

        names = [f"20260101T0000{number:02d}Z-0123abcd" for number in range(8)]
        threads = [threading.Thread(target=publish_one, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert len(lost) == 7
        assert catalog.current().run_id == won[0]


def test_no_secret_is_told(
    store: str,
    local_survey: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    s3_server.upload(local_survey, f"{store}/survey")
    s3fs.S3FileSystem().pipe_file(f"{store}/survey/part-00001.parquet", b"PAR1 damaged")
    caplog.set_level(logging.DEBUG)
    record, prepared = run(f"{store}/survey", f"{store}/catalog", workers=1)
    assert record["failed_partitions"] == 1
    fs = s3fs.S3FileSystem()
    written = b"".join(fs.cat_file(path) for path in fs.find(f"{store}/catalog"))
    captured = capfd.readouterr()
    everything = [written.decode("latin-1"), caplog.text, captured.out, captured.err, repr(prepared), str(record)]
    assert not [text for text in everything if s3_server.SECRET in text]
    with pytest.raises(InputError) as failed:
        locate(f"s3://{s3_server.KEY}:{s3_server.SECRET}@bucket/survey", what="survey")
    assert s3_server.SECRET not in str(failed.value) + repr(failed.value)


@pytest.mark.parametrize("what", ["survey", "catalog"])
def test_a_missing_bucket_is_one_line(store: str, local_survey: Path, what: str, capsys) -> None:
    s3_server.upload(local_survey, f"{store}/survey")
    places = {"survey": f"{store}/survey", "catalog": f"{store}/catalog"} | {what: "s3://not-there/x"}
    refused(capsys, places["survey"], places["catalog"], "a bucket that exists", "not-there")


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken"])
def test_bad_credentials_are_one_line(
    store: str, server: str, monkeypatch: pytest.MonkeyPatch, code: str, capsys
) -> None:
    proxy = s3_server.FaultyProxy(server)
    proxy.start()
    proxy.denied = code
    s3_server.use(monkeypatch, proxy.url)
    refused(capsys, f"{store}/survey", f"{store}/catalog", "credentials that", "AWS_SECRET_ACCESS_KEY")
    proxy.stop()


def test_no_credentials_and_nobody_there_are_one_line(store: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    refused(capsys, f"{store}/survey", f"{store}/catalog", "an object store that answers")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    refused(capsys, f"{store}/survey", f"{store}/catalog", "credentials that")


def refused(capsys: pytest.CaptureFixture[str], survey: str, catalog: str, *words: str) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["classify", survey, catalog, "--workers", "0"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert exited.value.code == 2
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert s3_server.SECRET not in lines[0]


def test_what_is_uploaded_in_parts_appears_whole_or_not_at_all(store: str) -> None:
    target = locate(f"{store}/large", what="file")
    with suppress(RuntimeError), target.atomic_output() as sink:
        sink.write(b"x" * 12_000_000)
        raise RuntimeError("cut off")
    assert not target.exists()
    with target.atomic_output() as sink:
        sink.write(b"x" * 12_000_000)
    assert len(target.read_bytes()) == 12_000_000


NAMES = ("run [v2]", "[b]", "st*r", "what?", "{a,b}", "100%", "ha#sh", "a+b=c", "é")


@pytest.fixture(scope="module")
def small_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One partition: requests take their time, and what they name is what is asked."""
    return write_survey(tmp_path_factory.mktemp("s3-small") / "survey", (20,))


@pytest.mark.parametrize("name", NAMES)
def test_names_on_a_store_are_no_patterns(store: str, small_survey: Path, name: str) -> None:
    s3_server.upload(small_survey, f"{store}/survey/{name}")
    catalog = f"{store}/{name}"
    record, _ = run(f"{store}/survey", catalog)
    assert record["rows"] == 20
    reader = open_catalog(catalog)
    assert verify_catalog(reader) == []
    assert reader.query("SELECT count(*) AS n FROM catalog")["n"].to_pylist() == [20]


def test_a_key_with_an_empty_name_is_one_line(store: str, local_survey: Path) -> None:
    s3_server.upload(local_survey, f"{store}/survey")
    with pytest.raises(InputError, match="two slashes"):
        run(f"{store}/survey", f"{store}//catalog")
    file = min(local_survey.glob("*.parquet"))
    s3fs.S3FileSystem().pipe_file(f"{store}/survey/a//{file.name}", file.read_bytes())
    with pytest.raises(InputError, match=r"survey/a//.*: expected names between all slashes"):
        run(f"{store}/survey", f"{store}/catalog")
