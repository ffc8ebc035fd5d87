"""The run, end to end: a survey in, a published catalog out, one row for every object, whatever happens between."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.makers.runs import Hooks, read_rows, run, without_run
from tests.makers.surveys import simulated_table, write_partition, write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.checks import VerificationError
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.errors import InputError, RefusedError
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.fold import fold
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.classify import classify
from varstar_batch.model.engines.open import open_engine
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import InProcess
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.runs.stages import Executed, RunObserver, execute_run, publish, verify
from varstar_batch.survey.open import open_survey
from varstar_batch.survey.read import read_batches


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("survey"))


def test_one_row_for_every_object_with_what_the_layers_below_say(survey: Path, tmp_path: Path) -> None:
    record, prepared = run(survey, tmp_path / "catalog")
    rows = read_rows(tmp_path / "catalog")
    bundle = read_bundle()
    engine = open_engine(bundle)
    opened = open_survey(str(survey))
    batches = [batch for part in opened.partitions for batch in read_batches(opened.source, part, None, 10**6)]
    ids = pa.concat_arrays([batch.objects["object_id"].combine_chunks() for batch in batches])
    assert rows["object_id"].to_pylist() == sorted(ids.to_pylist())
    results = []
    for batch in batches:
        rules, limits = bundle.contract.preprocessing, opened.source.limits
        folded = fold(batch.light_curves, batch.period, rules, limits, features=True)
        results.append(classify(bundle, engine, folded))
    order = np.argsort(ids.to_numpy())
    expected = np.concatenate([result.probabilities for result in results])[order]
    found = np.stack([rows[f"prob_{name}"].to_numpy() for name in CLASSES], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert record["rows"] == rows.num_rows == 120
    assert sum(record["status"].values()) == 120
    assert set(rows["run_id"].to_pylist()) == {prepared.run_id}


def test_probabilities_are_probabilities_and_null_exactly_where_the_status_says_why(
    survey: Path, tmp_path: Path
) -> None:
    run(survey, tmp_path / "catalog")
    rows = read_rows(tmp_path / "catalog")
    ok = pc.equal(rows["status"], "ok").to_numpy()
    assert 0 < ok.sum() < len(ok)
    found = np.stack([rows[f"prob_{name}"].to_numpy() for name in CLASSES], axis=1)
    assert np.abs(found[ok].astype(np.float64).sum(axis=1) - 1).max() <= 1e-6
    assert found[ok].min() >= 0
    for name in ("class", "class_prob", "second_class", "margin", "entropy", *(f"prob_{name}" for name in CLASSES)):
        assert (pc.is_null(rows[name]).to_numpy() == ~ok).all(), name
    best = np.array(CLASSES)[found[ok].argmax(axis=1)]
    assert rows.filter(pa.array(ok))["class"].to_pylist() == best.tolist()


def test_two_processes_write_the_same_data_as_none(survey: Path, tmp_path: Path) -> None:
    run(survey, tmp_path / "alone")
    run(survey, tmp_path / "cluster", workers=2)
    alone, cluster = read_rows(tmp_path / "alone"), read_rows(tmp_path / "cluster")
    assert without_run(alone).equals(without_run(cluster))


def test_chunks_of_a_partition_come_out_as_the_whole(tmp_path: Path) -> None:
    table = simulated_table(0, 300)
    write_partition(tmp_path / "whole" / "a.parquet", table)
    write_partition(tmp_path / "cut" / "a.parquet", table, row_group_rows=40)
    run(tmp_path / "whole", tmp_path / "one")
    # 40 light curves are about 0.6 MB, so that a MiB holds one row group.
    record, prepared = run(tmp_path / "cut", tmp_path / "many", config=RunConfig(chunk_memory=2**20))
    assert without_run(read_rows(tmp_path / "one")).equals(without_run(read_rows(tmp_path / "many")))
    tasks = pq.read_table(f"{prepared.context.run}/tasks.parquet")
    assert tasks.num_rows > 3
    assert pc.sum(tasks["rows"]).as_py() == record["rows"] == 300
    assert not Path(f"{prepared.context.work}/parts").exists()


def test_a_bad_partition_is_recorded_and_the_others_finish(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey")
    victim = survey / "part-00001.parquet"
    victim.write_bytes(victim.read_bytes()[:2000])
    record, prepared = run(survey, tmp_path / "catalog")
    failures = pq.read_table(f"{prepared.context.run}/failures.parquet").to_pylist()
    assert [(failure["partition"], failure["kind"]) for failure in failures] == [("part-00001.parquet", "unreadable")]
    assert "\n" not in failures[0]["message"]
    assert record["failed_partitions"] == 1
    assert read_rows(tmp_path / "catalog").num_rows == record["rows"] == 80


def test_an_object_that_stands_twice_in_a_partition_fails_it(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (30, 30))
    table = simulated_table(60, 20)
    write_partition(survey / "twice.parquet", pa.concat_tables([table, table.slice(3, 1)]))
    record, prepared = run(survey, tmp_path / "catalog")
    (failure,) = pq.read_table(f"{prepared.context.run}/failures.parquet").to_pylist()
    assert failure["kind"] == "duplicate_object_id"
    assert str(table["object_id"][3]) in failure["message"]
    assert record["rows"] == 60


def test_an_object_in_two_partitions_is_not_published(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (30, 30))
    write_partition(survey / "again.parquet", simulated_table(7, 1))
    with pytest.raises(VerificationError, match="every object_id once"):
        run(survey, tmp_path / "catalog")
    assert open_catalog_root(tmp_path / "catalog").current().number == 0


def test_nothing_is_published_where_nothing_could_be_classified(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (30,))
    path = survey / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[200:4000] = bytes(3800)
    path.write_bytes(content)
    with pytest.raises(VerificationError, match="nothing was published"):
        run(survey, tmp_path / "catalog")


def test_too_many_failures_abandon_the_run(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (20, 20, 20))
    for name in ("part-00000.parquet", "part-00001.parquet"):
        (survey / name).write_bytes(b"PAR1 not really")
    with pytest.raises(RefusedError, match="max_failed_fraction"):
        run(survey, tmp_path / "catalog", config=RunConfig(max_failed_fraction=0.4))


def test_the_same_again_is_up_to_date_and_fresh_is_a_new_run(survey: Path, tmp_path: Path) -> None:
    _, first = run(survey, tmp_path / "catalog")
    plan, bundle = plan_run(str(survey), None, RunConfig())
    again = prepare(plan, bundle, str(tmp_path / "catalog"))
    assert again.up_to_date
    assert again.published_record()["run_id"] == first.run_id
    _, fresh = run(survey, tmp_path / "catalog", fresh=True)
    assert fresh.run_id != first.run_id
    assert open_catalog_root(tmp_path / "catalog").current().run_id == fresh.run_id


def test_a_run_that_was_cut_off_goes_on_and_does_only_the_rest(survey: Path, tmp_path: Path) -> None:
    run(survey, tmp_path / "whole")
    plan, bundle = plan_run(str(survey), None, RunConfig())
    prepared = prepare(plan, bundle, str(tmp_path / "cut"))
    done: list[int] = []

    def stop_after_two(rows: int) -> None:
        done.append(rows)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute_run(prepared, InProcess(), Hooks(stop_after_two))
    again = prepare(plan, bundle, str(tmp_path / "cut"))
    assert again.run_id == prepared.run_id
    assert len(again.done) == 2
    before = {key: Path(f"{again.context.run}/dataset/{key}").stat().st_mtime_ns for key in again.done}
    executed = execute_run(again, InProcess(), RunObserver())
    assert executed.classified_now == 40
    verify(again, executed)
    record = publish(again, executed)
    assert record["rows"] == 120
    assert before == {key: Path(f"{again.context.run}/dataset/{key}").stat().st_mtime_ns for key in again.done}
    assert without_run(read_rows(tmp_path / "whole")).equals(without_run(read_rows(tmp_path / "cut")))
    partitions = pq.read_table(f"{again.context.run}/partitions.parquet")
    assert pc.min(pc.binary_length(partitions["sha256"])).as_py() == 64


def test_what_is_finished_is_found_whatever_a_hats_survey_calls_its_files(tmp_path: Path) -> None:
    survey = tmp_path / "survey"
    for number in range(2):
        write_partition(survey / f"dataset/Norder=0/Dir=0/Npix={number}.pq", simulated_table(20 * number, 20))
    properties = {"obs_collection": "s", "dataproduct_type": "object", "hats_npix_suffix": ".pq"}
    (survey / "hats.properties").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    plan, bundle = plan_run(str(survey), None, RunConfig())
    prepared = prepare(plan, bundle, str(tmp_path / "catalog"))
    assert prepared.plan.survey.source.layout == "hats"

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute_run(prepared, InProcess(), Hooks(stop))
    assert len(prepare(plan, bundle, str(tmp_path / "catalog")).done) == 1


def test_a_changed_survey_or_configuration_does_not_resume_another_run(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (20, 20))
    plan, bundle = plan_run(str(survey), None, RunConfig())
    prepare(plan, bundle, str(tmp_path / "catalog"))
    other, _ = plan_run(str(survey), None, RunConfig(precision="bfloat16"))
    with pytest.raises(RefusedError, match="precision: 'float32' then, 'bfloat16' now"):
        prepare(other, bundle, str(tmp_path / "catalog"))
    write_partition(survey / "part-00001.parquet", simulated_table(500, 25))
    changed, _ = plan_run(str(survey), None, RunConfig())
    with pytest.raises(RefusedError, match=r"files of the survey changed: part-00001\.parquet"):
        prepare(changed, bundle, str(tmp_path / "catalog"))
    assert not prepare(changed, bundle, str(tmp_path / "catalog"), fresh=True).done


def test_who_comes_second_is_refused_and_can_go_on(survey: Path, tmp_path: Path) -> None:
    plan, bundle = plan_run(str(survey), None, RunConfig())
    mine = prepare(plan, bundle, str(tmp_path / "catalog"))
    executed = execute_run(mine, InProcess(), RunObserver())
    open_catalog_root(tmp_path / "catalog").publish("20200101T000000Z-00000000", based_on=0)
    with pytest.raises(RefusedError, match="published meanwhile"):
        publish(mine, executed)
    again = prepare(plan, bundle, str(tmp_path / "catalog"))
    assert again.run_id == mine.run_id
    publish(again, execute_run(again, InProcess(), RunObserver()))
    assert open_catalog_root(tmp_path / "catalog").current().run_id == mine.run_id


def test_the_output_must_be_a_catalog_or_nothing(survey: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    plan, bundle = plan_run(str(survey), None, RunConfig())
    with pytest.raises(InputError, match=r"something else: thesis\.txt"):
        prepare(plan, bundle, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_survey_of_no_objects_gives_an_empty_run_that_is_held(tmp_path: Path) -> None:
    write_partition(tmp_path / "survey" / "a.parquet", simulated_table(0, 0))
    record, prepared = run(tmp_path / "survey", tmp_path / "catalog")
    assert record["rows"] == 0
    assert record["held"] == ["0 of 0 objects were classified, at least 1"]
    assert open_catalog(str(tmp_path / "catalog"), prepared.run_id).to_arrow().num_rows == 0


def test_verification_misses_nothing_that_is_gone(survey: Path, tmp_path: Path) -> None:
    plan, bundle = plan_run(str(survey), None, RunConfig())
    prepared = prepare(plan, bundle, str(tmp_path / "catalog"))
    executed = execute_run(prepared, InProcess(), RunObserver())
    path = Path(f"{prepared.context.run}/dataset/part-00002.parquet")
    table = pq.read_table(path)
    path.unlink()
    with pytest.raises(VerificationError, match=r"part-00002\.parquet: no file instead of 40"):
        verify(prepared, executed)
    pq.write_table(table.slice(1), path)
    with pytest.raises(VerificationError, match=r"part-00002\.parquet: 39 instead of 40"):
        verify(prepared, executed)
    fewer = Executed(
        tasks=executed.tasks[:-1], failures=executed.failures, seconds=1.0, classified_now=executed.classified_now
    )
    with pytest.raises(VerificationError, match="all 3 partitions"):
        verify(prepared, fewer)


KILLED = """
import os
import signal
import sys
from varstar_batch.runs.records import Ledger
Ledger.add = lambda *_: os.killpg(0, signal.SIGKILL)
from varstar_batch.cli import main
main(sys.argv[1:])
"""
"""The command, killed with its worker when the first partition is told to be done; no more than 8 are begun then."""


@pytest.mark.slow
def test_a_run_whose_process_is_killed_is_resumed_by_the_same_command(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (200,) * 16)
    catalog = tmp_path / "catalog"
    words = ["classify", str(survey), str(catalog), "--workers", "1", "--json"]
    killed = [sys.executable, "-c", KILLED, *words]
    first = subprocess.run(killed, stdout=subprocess.DEVNULL, start_new_session=True, check=False)
    assert first.returncode == -signal.SIGKILL
    done = {path.name: path.stat().st_mtime_ns for path in catalog.glob("runs/*/dataset/part-*.parquet")}
    assert 0 < len(done) < 16
    assert not list(catalog.glob("current/*"))
    again = [sys.executable, "-m", "varstar_batch", *words]
    second = subprocess.run(again, capture_output=True, text=True, check=True)
    record = json.loads(second.stdout)
    assert record["rows"] == 3200
    assert record["resumed_partitions"] == len(done)
    kept = {path.name: path.stat().st_mtime_ns for path in catalog.glob("runs/*/dataset/part-*.parquet")}
    assert done.items() <= kept.items()
    assert len(kept) == 16
