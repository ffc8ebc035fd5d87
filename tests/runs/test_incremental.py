"""Runs that go on where another stopped, or take over what did not change; in one process, for storage is the truth."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.makers.failures import fail_calls
from tests.makers.runs import OPEN_GATE, Hooks, read_rows, run, start, without_run
from tests.makers.surveys import simulated_table, write_partition, write_survey
from varstar_batch.catalog.compare import open_comparison
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.errors import RefusedError
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.bundle_files import read_bundle, write_bundle
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import InProcess, StorageLostError
from varstar_batch.runs.prepare import Prepared, plan_run, prepare
from varstar_batch.runs.stages import RunObserver, execute_run, publish, verify


class StopHereError(Exception):
    """What a test stops a run with."""


def cut_off(prepared: Prepared, after: int) -> None:
    """Execute a run and stop it after some chunks, as if its process were killed."""
    seen: list[int] = []

    def count(rows: int) -> None:
        seen.append(rows)
        if len(seen) == after:
            raise StopHereError

    with pytest.raises(StopHereError):
        execute_run(prepared, InProcess(), Hooks(count))


def test_only_what_changed_is_classified_and_the_rest_keeps_its_run(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (30, 30, 30, 30)), tmp_path / "catalog"
    _, first = run(survey, catalog)
    write_partition(survey / "part-00001.parquet", simulated_table(30, 30, seed=8))  # changed
    (survey / "part-00002.parquet").unlink()  # vanished
    write_partition(survey / "part-00009.parquet", simulated_table(900, 25))  # new
    record, second = run(survey, catalog, config=RunConfig(gate=OPEN_GATE), incremental=True)
    assert (record["carried_partitions"], record["classified_partitions"], record["rows"]) == (2, 2, 115)
    assert record["rows"] == sum(record["status"].values())
    rows = read_rows(catalog)
    assert sorted(pc.unique(rows["run_id"]).to_pylist()) == sorted([first.run_id, second.run_id])
    assert pc.sum(pc.equal(rows["run_id"], second.run_id)).as_py() == 55
    before, after = Path(f"{first.context.run}/dataset"), Path(f"{second.context.run}/dataset")
    assert (before / "part-00000.parquet").stat().st_ino == (after / "part-00000.parquet").stat().st_ino
    assert not (after / "part-00002.parquet").exists()
    run(survey, tmp_path / "afresh")
    assert without_run(rows).equals(without_run(read_rows(tmp_path / "afresh")))


def test_verification_and_comparison_accept_carried_rows(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (30, 30)), tmp_path / "catalog"
    _, first = run(survey, catalog)
    write_partition(survey / "part-00001.parquet", simulated_table(30, 30, seed=8))
    run(survey, catalog, config=RunConfig(gate=OPEN_GATE), incremental=True)
    reader = open_catalog(str(catalog))
    assert verify_catalog(reader) == []
    with open_comparison(reader.at(first.run_id), reader) as comparison:
        assert comparison.summary() is not None


def test_the_same_delivery_twice_is_nothing_to_do_and_a_failed_partition_alone_is_tried_again(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (30, 30)), tmp_path / "catalog"
    whole = (survey / "part-00001.parquet").read_bytes()
    (survey / "part-00001.parquet").write_bytes(whole[:999])
    run(survey, catalog)
    record, _ = run(survey, catalog, incremental=True)  # the same delivery, still damaged
    assert (record["carried_partitions"], record["failed_partitions"], record["rows"]) == (1, 1, 30)
    (survey / "part-00001.parquet").write_bytes(whole)
    record, _ = run(survey, catalog, incremental=True)
    assert (record["carried_partitions"], record["classified_partitions"], record["rows"]) == (1, 1, 60)
    assert start(survey, catalog, incremental=True).up_to_date
    assert read_rows(catalog).num_rows == 60


def test_another_model_or_configuration_carries_nothing(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (20, 20)), tmp_path / "catalog"
    run(survey, catalog)
    record, _ = run(survey, catalog, config=RunConfig(precision="bfloat16"), incremental=True)
    assert (record["carried_partitions"], record["classified_partitions"]) == (0, 2)


def test_a_carried_file_that_is_lost_or_damaged_is_classified_again(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (20, 20, 20)), tmp_path / "catalog"
    _, first = run(survey, catalog)
    dataset = Path(f"{first.context.run}/dataset")
    (dataset / "part-00000.parquet").unlink()
    damaged = bytearray((dataset / "part-00001.parquet").read_bytes())
    damaged[100] ^= 1
    (dataset / "part-00001.parquet").write_bytes(damaged)
    write_partition(survey / "part-00003.parquet", simulated_table(900, 10))
    record, _ = run(survey, catalog, incremental=True)
    assert (record["carried_partitions"], record["classified_partitions"], record["rows"]) == (1, 3, 70)
    assert verify_catalog(open_catalog(str(catalog))) == []


def test_an_incremental_run_that_was_cut_off_goes_on_as_one(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (20,) * 4), tmp_path / "catalog"
    _, first = run(survey, catalog)
    write_partition(survey / "part-00003.parquet", simulated_table(900, 10))
    cut_off(start(survey, catalog, incremental=True), after=2)
    record, again = run(survey, catalog)
    assert record["resumed_partitions"] == 2
    assert (record["carried_partitions"], record["classified_partitions"]) == (3, 1)
    assert first.run_id != again.run_id


@pytest.mark.parametrize("then", [2**20, 2 * 2**20])
def test_a_partition_cut_off_between_its_chunks_comes_out_the_same_whatever_the_memory(
    tmp_path: Path, then: int
) -> None:
    write_partition(tmp_path / "survey" / "a.parquet", simulated_table(0, 300), row_group_rows=40)
    run(tmp_path / "survey", tmp_path / "whole")
    catalog = tmp_path / "cut"
    cut_off(start(tmp_path / "survey", catalog, RunConfig(chunk_memory=2**20)), after=2)
    parts = list(catalog.glob("work/*/parts/**/groups*.parquet"))
    assert len(parts) == 2
    record, prepared = run(tmp_path / "survey", catalog, config=RunConfig(chunk_memory=then))
    assert record["rows"] == 300
    assert without_run(read_rows(catalog)).equals(without_run(read_rows(tmp_path / "whole")))
    assert not Path(f"{prepared.context.work}/parts").exists()


def test_an_object_twice_in_different_chunks_of_a_partition_fails_it_alone(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (30,))
    table = simulated_table(100, 120)
    import pyarrow as pa

    write_partition(survey / "twice.parquet", pa.concat_tables([table, table.slice(2, 1)]), row_group_rows=40)
    record, prepared = run(survey, tmp_path / "catalog", config=RunConfig(chunk_memory=2**20))
    (failure,) = pq.read_table(f"{prepared.context.run}/failures.parquet").to_pylist()
    assert failure["kind"] == "duplicate_object_id"
    assert record["rows"] == 30


def test_runs_begun_in_the_same_second_are_two(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (10,)), tmp_path / "catalog"
    plan, bundle = plan_run(str(survey), None, RunConfig())
    found: list[str] = []
    together = threading.Barrier(3)

    def begin() -> None:
        together.wait()
        found.append(prepare(plan, bundle, str(catalog), fresh=True).run_id)

    threads = [threading.Thread(target=begin) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 3


def test_the_run_to_go_on_with_is_found_among_others(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (10, 10, 10)), tmp_path / "catalog"
    mine = start(survey, catalog)
    cut_off(mine, after=1)
    other = start(survey, catalog, RunConfig(precision="bfloat16"), fresh=True)  # newer, of another configuration
    nameless = Path(f"{other.context.run}").with_name("20990101T000000Z-00000000")
    nameless.mkdir()  # cut off before it had a plan
    (Path(f"{mine.context.run}") / "dataset" / ".tmp-left-part-00002.parquet").write_bytes(b"half")
    record, again = run(survey, catalog)
    assert again.run_id == mine.run_id
    assert record["resumed_partitions"] == 1
    assert not list(Path(f"{mine.context.run}").rglob(".tmp-*"))
    assert verify_catalog(open_catalog(str(catalog))) == []


def test_what_differs_is_told_when_an_unfinished_run_is_in_the_way(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (10, 10)), tmp_path / "catalog"
    plan, bundle = plan_run(str(survey), None, RunConfig())
    cut_off(prepare(plan, bundle, str(catalog)), after=1)
    content = json.loads(bundle.contract.to_json())
    content["model_version"] = "other-1"
    other = Bundle(type(bundle.contract).model_validate(content), bundle.keras_file, bundle.card)
    write_bundle(other, str(tmp_path / "model"))
    changed, changed_bundle = plan_run(str(survey), str(tmp_path / "model"), RunConfig())
    assert changed_bundle.hash == read_bundle(str(tmp_path / "model")).hash != bundle.hash
    with pytest.raises(RefusedError, match=r"model\.hash: .* then, .* now; model\.version") as refused:
        prepare(changed, changed_bundle, str(catalog))
    assert refused.value.exit_code == 3


def test_a_publication_whose_answer_was_lost_is_no_conflict(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (10,)), tmp_path / "catalog"
    prepared = start(survey, catalog)
    executed = execute_run(prepared, InProcess(), RunObserver())
    verify(prepared, executed)
    open_catalog_root(catalog).publish(prepared.run_id, based_on=0)
    assert publish(prepared, executed)["rows"] == 10
    assert open_catalog_root(catalog).current().number == 1


def test_storage_that_fails_is_no_fault_of_the_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (10, 10, 10)), tmp_path / "catalog"
    run(survey, tmp_path / "whole")
    # The first one once, then it goes; the other one for good.
    failures = {2: OSError(errno.EIO, os.strerror(errno.EIO)), 4: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))}
    prepared = start(survey, catalog)
    fail_calls(monkeypatch, "atomic_output", failures, of="dataset/")
    with pytest.raises(StorageLostError, match="disk_full"):
        execute_run(prepared, InProcess(first_pause=0.01), RunObserver())
    (failure,) = pq.read_table(f"{prepared.context.work}/failures.parquet").to_pylist()
    assert failure["kind"] == "disk_full"
    monkeypatch.undo()
    record, again = run(survey, catalog)
    assert again.run_id == prepared.run_id
    assert record["resumed_partitions"] == 2
    assert without_run(read_rows(catalog)).equals(without_run(read_rows(tmp_path / "whole")))


def test_tasks_tell_times_retries_and_memory(tmp_path: Path) -> None:
    _, prepared = run(write_survey(tmp_path / "survey", (20, 20)), tmp_path / "catalog")
    tasks = pq.read_table(f"{prepared.context.run}/tasks.parquet").to_pylist()
    for task in tasks:
        assert set(dict(task["seconds"])) == {"read", "fold", "classify", "write"}
        assert task["worker"] == task["classifier"]
        assert task["retries"] == 0
        assert task["run_id"] == prepared.run_id
        assert 50 * 2**20 < task["peak_memory"] < 2**36
        assert task["bytes_in"] > task["rows"] > 0
