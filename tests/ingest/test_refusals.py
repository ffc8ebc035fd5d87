"""What an ingest refuses, in one line, leaving nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from tests.makers.ingest_tables import MJD, make_objects, make_observations, run
from tests.makers.survey_files import write
from varstar_batch.errors import InputError
from varstar_batch.ingest import plan as ingest_plan
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import IngestOptions
from varstar_batch.survey.columns import SurveyConfig


def refusal(folder: Path, observations: Any, objects: Any, options: IngestOptions = MJD) -> InputError:
    """Return the error of an ingest: one line, and not a trace on the disk."""
    for name, table in (("observations", observations), ("objects", objects)):
        if isinstance(table, pa.Table):
            write(folder / f"{name}.parquet", table)
    before = sorted(str(path) for path in folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        ingest(folder / "observations.parquet", folder / "objects.parquet", folder / "survey", options)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.fix
    assert sorted(str(path) for path in folder.rglob("*")) == before
    return caught.value


def test_no_time_system(tmp_path: Path) -> None:
    error = refusal(tmp_path, make_observations([1]), make_objects([1]), IngestOptions())
    assert error.where == str(tmp_path / "objects.parquet")
    assert "one time system, got none" in str(error)
    assert "--time-system HJD-2450000" in error.fix


def test_several_time_systems(tmp_path: Path) -> None:
    objects = make_objects([1, 2], time_system=["HJD", "MJD"])
    error = refusal(tmp_path, make_observations([1]), objects, IngestOptions())
    assert "'HJD', 'MJD'" in error.got
    assert "ingest the objects of each system by themselves" in error.fix


def test_objects_that_are_there_twice(tmp_path: Path) -> None:
    error = refusal(tmp_path, make_observations([1]), make_objects([1, 2, 1, 3, 3, 3]))
    assert error.where == str(tmp_path / "objects.parquet")
    assert "2 of them more than once: 1, 3" in error.got
    assert "leave out the repetitions" in error.fix


def test_an_object_without_identifier(tmp_path: Path) -> None:
    error = refusal(tmp_path, make_observations([1]), make_objects([1, None]))
    assert error.where == str(tmp_path / "objects.parquet")
    assert error.got == "1 nulls"


def test_no_objects(tmp_path: Path) -> None:
    error = refusal(tmp_path, make_observations([1]), make_objects([1]).slice(0, 0))
    assert "at least one object, got none" in str(error)


def test_identifiers_of_different_types(tmp_path: Path) -> None:
    error = refusal(tmp_path, make_observations(["1"]), make_objects([1]))
    assert error.where == str(tmp_path / "observations.parquet")
    assert error.expected.startswith("int64 in 'object_id'")
    assert error.got == "large_string"


@pytest.mark.parametrize(
    ("table", "change", "expected"),
    [
        ("observations", lambda t: t.drop_columns(["object_id"]), "a column 'object_id'"),
        ("observations", lambda t: t.rename_columns(["object_id", "hjd", "mag", "mag_err"]), "a column 'time'"),
        ("observations", lambda t: t.set_column(1, "time", t["time"].cast(pa.float32())), "float64 in 'time'"),
        ("observations", lambda t: t.set_column(2, "mag", pa.array(["x"])), "float or double in 'mag'"),
        ("observations", lambda t: t.rename_columns(["object_id", "time", "mag", "magerr"]), "a column 'mag_err'"),
        ("objects", lambda t: t.drop_columns(["period"]), "a column 'period'"),
        ("objects", lambda t: t.set_column(1, "period", pa.array(["x"])), "numbers in column 'period'"),
        ("objects", lambda t: t.append_column("lightcurve", pa.array([1])), "none of them 'lightcurve'"),
        ("objects", lambda t: t.append_column("period", pa.array([1.0])), "one column 'period'"),
    ],
)
def test_columns_that_are_missing_or_mistyped(tmp_path: Path, table: str, change: Any, expected: str) -> None:
    tables = {"observations": make_observations([1]), "objects": make_objects([1])}
    tables[table] = change(tables[table])
    error = refusal(tmp_path, tables["observations"], tables["objects"])
    assert error.where == str(tmp_path / f"{table}.parquet")
    assert expected in error.expected


def test_columns_that_would_get_the_same_name(tmp_path: Path) -> None:
    config = SurveyConfig(period="P", time="hjd")
    options = IngestOptions(columns=config, time_system="HJD")
    objects = make_objects([1]).append_column("P", pa.array([1.0]))
    observations = make_observations([1])
    error = refusal(tmp_path, observations.append_column("hjd", observations["time"]), objects, options)
    assert "no column 'time' beside 'hjd'" in error.expected
    observations = observations.rename_columns(["object_id", "hjd", "mag", "mag_err"])
    error = refusal(tmp_path, observations, objects, options)
    assert "'period' twice" in error.got


def test_files_that_are_not_alike(tmp_path: Path) -> None:
    table = make_observations([1, 2])
    write(tmp_path / "in" / "a.parquet", table)
    write(tmp_path / "in" / "b.parquet", table.append_column("flag", pa.array([0, 1])))
    objects = write(tmp_path / "objects.parquet", make_objects([1, 2]))
    with pytest.raises(InputError, match=r"b\.parquet: expected the columns and types of a\.parquet"):
        ingest(tmp_path / "in", objects, tmp_path / "survey", MJD)
    write(tmp_path / "stars" / "a.parquet", make_objects([1], note=[1]))
    write(tmp_path / "stars" / "b.parquet", make_objects([2], note=["x"]))
    (tmp_path / "in" / "b.parquet").unlink()
    with pytest.raises(InputError, match="files of objects with the same columns"):
        ingest(tmp_path / "in", tmp_path / "stars", tmp_path / "survey", MJD)
    assert not (tmp_path / "survey").exists()


def test_inputs_that_are_not_there_or_not_parquet(tmp_path: Path) -> None:
    error = refusal(tmp_path, None, make_objects([1]))
    assert str(error).startswith(f"{tmp_path / 'observations.parquet'}: expected the table of observations")
    assert error.got == "nothing there"
    (tmp_path / "observations.parquet").write_text("object_id,time,mag")
    error = refusal(tmp_path, None, None)
    assert error.where == str(tmp_path / "observations.parquet")
    assert error.expected == "a whole Parquet file"
    (tmp_path / "observations.parquet").unlink()
    (tmp_path / "observations.parquet").mkdir()
    assert "no Parquet file" in refusal(tmp_path, None, None).got


def test_a_file_cut_short_leaves_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "observations.parquet", make_observations(list(range(5000))), 500)
    content = bytearray(file.read_bytes())
    content[4:2000] = b"\xff" * 1996
    file.write_bytes(content)
    error = refusal(tmp_path, None, make_objects(list(range(5000))))
    assert error.where == str(file)
    assert "write the file again" in error.fix


def test_an_output_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "survey").mkdir()
    report, _ = run(tmp_path, make_observations([1]), make_objects([1]))
    assert report.partitions == 1
    error = refusal(tmp_path, None, None)
    assert error.where == str(tmp_path / "survey")
    assert "one with _ingest.json, part-00000.parquet" in error.got
    assert "choose another one" in error.fix


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "survey").write_text("precious")
    error = refusal(tmp_path, make_observations([1]), make_objects([1]))
    assert error.where == str(tmp_path / "survey")
    assert (tmp_path / "survey").read_text() == "precious"


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    observations = write(tmp_path / "observations.parquet", make_observations([1]))
    objects = write(tmp_path / "objects.parquet", make_objects([1]))
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="a place where the survey can be written"):
        ingest(observations, objects, tmp_path / "file" / "survey", MJD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "objects.parquet", "observations.parquet"]


def test_an_output_that_somebody_fills_meanwhile(tmp_path: Path) -> None:
    observations = write(tmp_path / "observations.parquet", make_observations([1]))
    objects = write(tmp_path / "objects.parquet", make_objects([1]))

    def interfere(_: int) -> None:
        write(tmp_path / "survey" / "mine.parquet", make_objects([1]))

    with pytest.raises(InputError, match="one that was filled meanwhile"):
        ingest(observations, objects, tmp_path / "survey", MJD, interfere)
    assert [path.name for path in (tmp_path / "survey").iterdir()] == ["mine.parquet"]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]


@pytest.mark.parametrize(("option", "value"), [("partitions", 0), ("memory", 5)])
def test_options_are_checked(option: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=option):
        IngestOptions(**{option: value})


def test_a_scratch_folder_that_is_not_there(tmp_path: Path) -> None:
    options = IngestOptions(scratch="/no/such/folder")
    assert "scratch" in refusal(tmp_path, make_observations([1]), make_objects([1]), options).expected


@pytest.mark.parametrize("change", ["more", "fewer", "others"])
def test_observations_that_change_meanwhile(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    after = {"more": [1, 2, 2, 2, 3], "fewer": [1, 2, 3], "others": [1, 1, 2, 3]}[change]
    make_plan = ingest_plan.make_plan

    def late(*arguments: Any) -> Any:
        plan = make_plan(*arguments)
        write(tmp_path / "observations.parquet", make_observations(after))
        return plan

    monkeypatch.setattr("varstar_batch.ingest.from_tables.make_plan", late)
    error = refusal(tmp_path, make_observations([1, 2, 2, 3]), make_objects([1, 2, 3]))
    assert "the same observations in both passes" in error.expected
