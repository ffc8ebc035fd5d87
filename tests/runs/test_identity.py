"""What is the same survey, and the same code: bytes decide, not the time of a file nor the number of a version."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.makers.runs import Hooks, at_the_first, read_rows, run, start, without_run
from tests.makers.surveys import write_partition, write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.errors import RefusedError
from varstar_batch.runs import plan as runs_plan
from varstar_batch.runs.execute import InProcess
from varstar_batch.runs.stages import execute_run
from varstar_batch.survey.open import open_survey


def touched(survey: Path) -> None:
    for path in survey.iterdir():
        os.utime(path, ns=(10**18, 10**18))


def copied(survey: Path) -> None:
    other = survey.with_name("copy")
    shutil.copytree(survey, other, copy_function=shutil.copyfile)
    shutil.rmtree(survey)
    other.rename(survey)


def linked(survey: Path) -> None:
    other = survey.with_name("moved")
    copied(survey)
    survey.rename(other)
    survey.symlink_to(other)


def altered(path: Path) -> None:
    """Change bytes of a column and keep the size."""
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)


class Cut(BaseException):
    """The process is gone."""


def cut_off(survey: Path, catalog: Path) -> str:
    prepared = start(survey, catalog)

    def cut() -> None:
        raise Cut

    with pytest.raises(Cut):
        execute_run(prepared, InProcess(), Hooks(on_partition=at_the_first(cut)))
    return prepared.run_id


@pytest.mark.parametrize("how", [touched, copied, linked])
def test_the_same_bytes_are_the_same_survey(tmp_path: Path, how: Callable[[Path], None]) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (8, 8)), tmp_path / "catalog"
    _, first = run(survey, catalog)
    how(survey)
    _, again = run(survey, catalog)
    assert again.up_to_date
    assert again.run_id == first.run_id
    assert open_catalog_root(catalog).run_ids() == [first.run_id]
    assert verify_catalog(open_catalog(catalog), open_survey(survey)) == []


def renamed(survey: Path) -> Path:
    return survey.rename(survey.with_name("elsewhere"))


def link_to(survey: Path) -> Path:
    other = survey.with_name("DR2")
    other.symlink_to(survey)
    return other


def copy_of(survey: Path) -> Path:
    return Path(shutil.copytree(survey, survey.with_name("backup"), copy_function=shutil.copyfile))


@pytest.mark.parametrize("other", [renamed, link_to, copy_of])
@pytest.mark.parametrize("incremental", [False, True])
def test_the_same_bytes_elsewhere_are_the_same_survey(
    tmp_path: Path, other: Callable[[Path], Path], incremental: bool
) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (8, 8)), tmp_path / "catalog"
    _, first = run(survey, catalog)
    place = other(survey)
    _, again = run(place, catalog, incremental=incremental)
    assert again.up_to_date
    assert open_catalog_root(catalog).run_ids() == [first.run_id]
    # A file that changed there is seen, and only it is classified again.
    first_file = sorted(place.iterdir())[0]
    write_partition(first_file, pq.read_table(first_file).slice(1))
    record, _ = run(place, catalog, incremental=True)
    assert (record["classified_partitions"], record["carried_partitions"]) == (1, 1)


def test_another_survey_with_files_of_the_same_names_sizes_and_times_is_another(tmp_path: Path) -> None:
    survey, other = (write_survey(tmp_path / name, (8, 8)) for name in ("survey", "other"))
    altered(sorted(other.iterdir())[0])
    touched(survey)
    touched(other)
    catalog = tmp_path / "catalog"
    _, first = run(survey, catalog)
    prepared = start(other, catalog, incremental=True)
    assert not prepared.up_to_date
    assert prepared.plan.fingerprint != first.plan.fingerprint
    assert set(prepared.carried) == {"part-00001.parquet"}


def test_a_byte_that_changed_is_another_survey(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (8, 8)), tmp_path / "catalog"
    run(survey, catalog)
    touched(survey)
    altered(survey / "part-00001.parquet")
    prepared = start(survey, catalog, incremental=True)
    assert not prepared.up_to_date
    assert set(prepared.carried) == {"part-00000.parquet"}
    findings = verify_catalog(open_catalog(catalog), open_survey(survey))
    assert ("survey", "part-00001.parquet") in {(finding.kind, finding.file) for finding in findings}


def test_a_run_that_was_cut_off_goes_on_where_what_it_has_read_was_touched(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (8, 8, 8)), tmp_path / "catalog"
    run_id = cut_off(survey, catalog)
    os.utime(survey / "part-00000.parquet", ns=(10**18, 10**18))
    record, again = run(survey, catalog)
    assert again.run_id == run_id
    assert record["resumed_partitions"] == 1


def test_a_refusal_names_the_files(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (8, 8, 8)), tmp_path / "catalog"
    cut_off(survey, catalog)
    altered(survey / "part-00000.parquet")
    os.utime(survey / "part-00000.parquet", ns=(10**18, 10**18))
    (survey / "part-00001.parquet").rename(survey / "part-00009.parquet")
    with pytest.raises(RefusedError) as refused:
        run(survey, catalog)
    for words in (
        "1 files of the survey changed: part-00000.parquet",
        "1 files of the survey new: part-00009.parquet",
        "1 files of the survey gone: part-00001.parquet",
    ):
        assert words in str(refused.value)


def test_other_source_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (8, 8)), tmp_path / "catalog"
    cut_off(survey, catalog)
    digests = runs_plan.code_digests()
    monkeypatch.setattr(runs_plan, "code_digests", lambda: {**digests, "light_curves": "0" * 12})
    with pytest.raises(RefusedError, match=f"code.light_curves: '{digests['light_curves']}' then, '0000"):
        run(survey, catalog)
    monkeypatch.undo()
    run(survey, catalog)
    monkeypatch.setattr(runs_plan, "code_digests", lambda: {**digests, "runs/chunks": "0" * 12})
    _, again = run(survey, catalog)
    assert not again.up_to_date


def test_the_digest_is_of_what_stands_in_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "varstar_batch"
    shutil.copytree(Path(runs_plan.__file__).parents[1], package, ignore=shutil.ignore_patterns("bundles", "*.pyc"))
    monkeypatch.setattr(runs_plan, "__file__", str(package / "runs" / "plan.py"))
    fresh = runs_plan.code_digests.__wrapped__
    before = fresh()
    assert before == runs_plan.code_digests()
    for victim, part in (("light_curves/kernel/clean.py", "light_curves"), ("runs/tasks.py", "runs/tasks")):
        path = package / victim
        path.write_text(path.read_text() + "\nX = 1\n")
        after = fresh()
        assert {name for name in before if before[name] != after[name]} == {part}
        before = after


def test_catalog_files_follow_from_their_input_alone(tmp_path: Path) -> None:
    """Two runs of the same name, at another time and pace, write the same bytes."""
    survey = write_survey(tmp_path / "survey", (8, 8))
    files = []
    for number in range(2):
        prepared = start(survey, tmp_path / f"catalog-{number}")
        context = prepared.context
        same = type(context)(**{**vars(context), "run_id": "20260101T000000Z-00000000"})
        execute_run(type(prepared)(**{**vars(prepared), "context": same}), InProcess(), Hooks())
        dataset = Path(f"{context.run}/dataset")
        files.append({path.name: path.read_bytes() for path in dataset.iterdir()})
    assert files[0] == files[1]
    assert len(files[0]) == 2
    assert without_run(read_rows_of(tmp_path, survey)).num_rows == 16


def read_rows_of(tmp_path: Path, survey: Path):
    run(survey, tmp_path / "whole")
    return read_rows(tmp_path / "whole")
