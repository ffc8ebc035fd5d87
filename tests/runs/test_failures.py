"""Every kind of failure that tasks of a run tell of themselves: provoked, and told with partition and cause."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.makers.failures import fail_calls
from tests.makers.runs import run, start
from tests.makers.surveys import simulated_table, write_partition, write_survey
from varstar_batch.catalog.run_files.finish import fingerprint_file
from varstar_batch.catalog.run_files.tables import ACCOUNT
from varstar_batch.cluster.dask_runner import DaskRunner
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import TRIES, Task, attempt
from varstar_batch.runs.keep import Published, keep_published
from varstar_batch.runs.plan import Chunk
from varstar_batch.runs.prepare import Prepared
from varstar_batch.runs.records import ChunkRecord
from varstar_batch.runs.tasks import assemble, carry_over, classify_chunk, start_partition
from varstar_batch.survey.open import Failure


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """A run of one partition of 20 objects that nothing was done of."""
    return start(write_survey(tmp_path / "survey", (20,)), tmp_path / "catalog")


def failure(function: Any, *arguments: Any) -> Failure:
    """The failure of a task."""
    outcome = attempt(function, "part-00000.parquet", *arguments, first_pause=0.0)
    assert isinstance(outcome, Failure)
    assert outcome.partition == "part-00000.parquet"
    assert "\n" not in outcome.message
    return outcome


def test_a_chunk_that_gives_fewer_rows_than_its_footer_says(prepared: Prepared) -> None:
    (partition,) = prepared.plan.survey.partitions
    told = failure(classify_chunk, prepared.context, Chunk(partition, expected_rows=21))
    assert told.kind == "rows_lost"
    assert "expected 21 rows" in told.message
    assert "got 20" in told.message
    assert not prepared.context.output(partition.key).exists()


def test_parts_that_have_fewer_rows_than_their_records(tmp_path: Path) -> None:
    write_partition(tmp_path / "survey/part-00000.parquet", simulated_table(0, 160), row_group_rows=40)
    prepared = start(tmp_path / "survey", tmp_path / "catalog", RunConfig(chunk_memory=2**20))
    (partition,) = prepared.plan.survey.partitions
    chunks = start_partition(prepared.context, partition)
    assert isinstance(chunks, tuple)
    records = [classify_chunk(prepared.context, chunk) for chunk in chunks]
    records[1] = replace(records[1], rows=records[1].rows + 1)
    told = failure(assemble, prepared.context, chunks, records)
    assert told.kind == "rows_lost"
    assert "161 rows from its chunks" in told.message
    assert not prepared.context.output(partition.key).exists()


def test_another_model_than_the_run_was_planned_with(prepared: Prepared) -> None:
    (partition,) = prepared.plan.survey.partitions
    told = failure(start_partition, replace(prepared.context, bundle_hash="0" * 64), partition)
    assert told.kind == "model"


@pytest.mark.parametrize(("is_there", "words"), [(False, "is missing"), (True, "not what was published")])
def test_a_file_that_cannot_be_carried_over(tmp_path: Path, is_there: bool, words: str) -> None:
    survey = write_survey(tmp_path / "survey", (20,))
    _, first = run(survey, tmp_path / "catalog")
    prepared = start(survey, tmp_path / "catalog", fresh=True)
    (partition,) = prepared.plan.survey.partitions
    context = replace(prepared.context, carried_from=first.context.run)
    if not is_there:
        first.context.output(partition.key).remove()
    told = failure(carry_over, context, partition, "0" * 64)
    assert told.kind == "not_carried"
    assert words in told.message
    assert not context.output(partition.key).exists()


@pytest.mark.parametrize(("is_there", "words"), [(False, "part-00000"), (True, "not what was published")])
def test_published_rows_that_cannot_be_kept(tmp_path: Path, is_there: bool, words: str) -> None:
    survey = write_survey(tmp_path / "survey", (20,))
    _, first = run(survey, tmp_path / "catalog")
    prepared = start(survey, tmp_path / "catalog", fresh=True)
    (partition,) = prepared.plan.survey.partitions
    file = first.context.output(partition.key)
    sha256 = fingerprint_file(file)["sha256"]
    if is_there:
        sha256 = "0" * 64
    else:
        file.remove()
    cause = Failure(partition.key, "unreadable", "it is damaged")
    told = failure(keep_published, prepared.context, partition, Published(file, sha256), cause)
    assert told.kind == "not_kept"
    assert words in told.message
    assert not prepared.context.output(partition.key).exists()


def test_a_run_that_another_process_has_closed_takes_no_file(prepared: Prepared) -> None:
    (partition,) = prepared.plan.survey.partitions
    (prepared.context.run / ACCOUNT).write_bytes(b"what became of each partition")
    told = failure(start_partition, prepared.context, partition)
    assert told.kind == "closed"
    assert not prepared.context.output(partition.key).exists()


@pytest.mark.parametrize(
    ("code", "kind", "tries"),
    [(errno.EIO, "storage", TRIES), (errno.ENOSPC, "disk_full", 1), (errno.EACCES, "forbidden", 1)],
)
def test_storage_that_refuses(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, code: int, kind: str, tries: int
) -> None:
    (partition,) = prepared.plan.survey.partitions
    refused = {call: OSError(code, os.strerror(code)) for call in range(1, 9)}
    calls = fail_calls(monkeypatch, "atomic_output", refused, of="dataset/")
    assert failure(start_partition, prepared.context, partition).kind == kind
    assert len(calls) == tries


def test_storage_that_answers_again_is_counted(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    (partition,) = prepared.plan.survey.partitions
    fail_calls(monkeypatch, "atomic_output", {1: OSError(errno.EIO, os.strerror(errno.EIO))}, of="dataset/")
    record = attempt(start_partition, partition.key, prepared.context, partition, first_pause=0.0)
    assert isinstance(record, ChunkRecord)
    assert record.retries == 1


@pytest.mark.parametrize(("error", "kind"), [(MemoryError("full"), "memory"), (ZeroDivisionError("half"), "error")])
def test_what_a_worker_raises_is_its_partitions_failure(error: Exception, kind: str) -> None:
    runner = DaskRunner(None, RunConfig())  # type: ignore[arg-type]
    told = runner.failed(Task("part#1of2", "part", classify_chunk, ()), error)
    assert (told.partition, told.kind) == ("part", kind)
    assert str(error) in told.message
