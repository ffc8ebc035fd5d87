"""A damaged partition: each fault is told apart, in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.failures import fail_calls
from tests.makers.survey_files import assert_equal, fault, make_objects, make_table, read_all, write
from varstar_batch.errors import PartitionError
from varstar_batch.survey import decode
from varstar_batch.survey.open import Survey, open_survey
from varstar_batch.survey.read import partition_shape, read_batches
from varstar_batch.survey.write import write_survey_file


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    """A survey of two partitions, of which tests damage the second."""
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", make_table(make_objects([400] * 50), "nested"), 10)
    return open_survey(tmp_path)


def second(survey: Survey) -> Path:
    return Path(survey.source.url) / "b.parquet"


@pytest.mark.parametrize("keep", [0, 3, 1000, -1])
def test_a_file_cut_short(survey: Survey, keep: int) -> None:
    content = second(survey).read_bytes()
    second(survey).write_bytes(content[:keep])
    error = fault(survey, 1)
    assert error.kind == "unreadable"
    assert "a whole Parquet file" in error.expected
    assert "write the file again" in error.fix
    with pytest.raises(PartitionError, match="a whole Parquet file"):
        partition_shape(survey.source, survey.partitions[1])
    assert len(read_all(survey, number=0)) > 0


def test_a_file_that_is_not_parquet(survey: Survey) -> None:
    second(survey).write_text("object_id,period\n" * 100)
    assert fault(survey, 1).kind == "unreadable"


def test_a_file_that_is_gone(survey: Survey) -> None:
    second(survey).unlink()
    error = fault(survey, 1)
    assert error.kind == "missing"
    assert "put it back" in error.fix


def test_a_damaged_page(survey: Survey) -> None:
    content = bytearray(second(survey).read_bytes())
    content[4:600] = b"\xff" * 596
    second(survey).write_bytes(content)
    assert fault(survey, 1).kind == "unreadable"


def test_one_flipped_bit_in_what_the_project_wrote(tmp_path: Path) -> None:
    from varstar_batch.files.location import locate

    objects = make_objects([400] * 50)
    table = make_table(objects, "nested")
    write_survey_file(locate(tmp_path / "a.parquet", what="survey"), table.schema, [table])
    survey = open_survey(tmp_path)
    assert_equal(read_all(survey), objects)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[len(content) // 3] ^= 4
    (tmp_path / "a.parquet").write_bytes(content)
    assert fault(survey).kind == "unreadable"


@pytest.mark.parametrize(
    ("change", "expected", "got"),
    [
        (lambda t: t.drop_columns(["period"]), "a column 'period'", "columns object_id, lightcurve"),
        (lambda t: t.set_column(1, "period", pa.array(["x"] * len(t))), "numbers in column 'period'", "string"),
        (lambda t: t.set_column(0, "object_id", pa.array(range(len(t)))), "large_string in 'object_id'", "int64"),
        (lambda t: t.drop_columns(["lightcurve"]), "a column 'lightcurve'", "columns object_id, period"),
        (
            lambda t: t.set_column(2, "lightcurve", pa.array([{"time": [1.0], "mag": [1.0]}] * len(t))),
            "a column 'mag_err'",
            "columns time, mag",
        ),
        (
            lambda t: t.set_column(2, "lightcurve", pa.array([[{"time": 1.0, "mag": 1.0, "mag_err": 1.0}]] * len(t))),
            "a column 'time'",
            "no columns",
        ),
    ],
)
def test_a_schema_that_drifts(survey: Survey, change: Any, expected: str, got: str) -> None:
    write(second(survey), change(pq.read_table(second(survey))))
    error = fault(survey, 1)
    assert error.kind == "schema"
    assert error.expected == f"{expected}, as in the survey's first partition, a.parquet"
    assert error.got == got
    with pytest.raises(PartitionError, match="as in the survey's first partition"):
        partition_shape(survey.source, survey.partitions[1])


def test_a_damaged_footer(tmp_path: Path) -> None:
    # All through the footer: no damage may end the process, or lose a row without a word.
    objects = make_objects([2, 0, 3, 1])
    content = write(tmp_path / "a.parquet", make_table(objects, "nested"), 2).read_bytes()
    survey = open_survey(tmp_path)
    length = int.from_bytes(content[-8:-4], "little")
    errors = []
    for i in range(len(content) - 8 - length, len(content) - 8, 5):
        damaged = bytearray(content)
        damaged[i] ^= 1 << (i % 8)
        (tmp_path / "a.parquet").write_bytes(damaged)
        try:
            partition_shape(survey.source, survey.partitions[0])
            batches = read_all(survey)
        except PartitionError as error:
            errors.append(error)
            continue
        assert sum(len(batch.period) for batch in batches) == 4
    assert {error.kind for error in errors} <= {"unreadable", "schema"}
    assert len(errors) > length / 20
    assert not any("\n" in str(error) for error in errors)


def test_what_may_not_be_read_and_what_the_storage_does(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = {1: PermissionError(13, "Permission denied"), 2: OSError(5, "Input/output error")}
    fail_calls(monkeypatch, "open_input", failures)
    error = fault(survey)
    assert error.kind == "forbidden"
    assert "renew the credentials" in error.fix
    # Not the partition's fault: whoever asked may try again.
    with pytest.raises(OSError, match="Input/output error"):
        read_all(survey)


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_is_never_anything_but_an_error_or_data(survey: Survey, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = second(survey).read_bytes()
    errors = []
    for _ in range(40):
        damaged = bytearray(content)
        start = int(rng.integers(len(content)))
        damaged[start : start + int(rng.integers(1, 40))] = rng.bytes(int(rng.integers(0, 40)))
        second(survey).write_bytes(damaged)
        try:
            read_all(survey, number=1)
        except PartitionError as error:
            errors.append(error)
    assert len(errors) > 10
    assert {error.kind for error in errors} <= {"unreadable", "schema"}
    assert not any("\n" in str(error) for error in errors)


# Rows that do not belong together


@pytest.mark.parametrize("max_observations", [2, 6, 1000])
def test_an_object_that_comes_back_is_told(tmp_path: Path, max_observations: int) -> None:
    table = make_table(make_objects([4, 3, 5]), "long")
    write(tmp_path / "a.parquet", pa.concat_tables([table, table.slice(0, 2)]))
    error = fault(open_survey(tmp_path), max_observations=max_observations)
    assert error.kind == "unsorted"
    assert "1 objects that come back, the first 'star-0000'" in str(error)
    assert "varstar ingest" in error.fix


@pytest.mark.parametrize("form", ["long", "nested", "lists", "structs"])
def test_a_row_without_object_is_told(tmp_path: Path, form: str) -> None:
    table = make_table(make_objects([4, 3]), form)
    ids = pa.array([*table["object_id"].to_pylist()[:-1], None])
    write(tmp_path / "a.parquet", table.set_column(0, "object_id", ids))
    error = fault(open_survey(tmp_path))
    assert error.kind == "null_object_id"
    assert "got 1 nulls" in str(error)


@pytest.mark.parametrize("form", ["nested", "long"])
@pytest.mark.parametrize("lengths", [[500], [20, 500, 20]])
def test_an_object_that_takes_more_memory_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, lengths: list[int]
) -> None:
    monkeypatch.setattr(decode, "LONGEST", 100)
    write(tmp_path / "a.parquet", make_table(make_objects(lengths), form), 1000)
    survey = open_survey(tmp_path)
    with pytest.raises(PartitionError, match=r"at most 100 observations of an object.*--chunk-memory 1GiB") as caught:
        list(read_batches(survey.source, survey.partitions[0], None, 25))
    assert caught.value.kind == "too_long"
    assert sum(len(batch.period) for batch in read_all(survey, 125)) == len(lengths)


def test_an_object_of_the_long_form_is_refused_before_it_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "LONGEST", 100)
    write(tmp_path / "a.parquet", make_table(make_objects([3, 5000]), "long"), 1000)
    survey = open_survey(tmp_path)
    with pytest.raises(PartitionError, match=r"got at least 1[01][0-9];"):
        list(read_batches(survey.source, survey.partitions[0], None, 25))
