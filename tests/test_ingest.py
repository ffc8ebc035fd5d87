"""Ingest: nothing is lost, nothing is invented, nothing is left half done."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.survey_files import write
from varstar_batch.errors import InputError
from varstar_batch.storage import ingest_plan, ingest_shuffle, ingest_tables
from varstar_batch.storage.columns import SurveyConfig
from varstar_batch.storage.ingest import REPORT, count_observations, ingest
from varstar_batch.storage.ingest_options import IngestOptions, IngestReport
from varstar_batch.storage.parquet import UNFINISHED
from varstar_batch.storage.reading import read_batches
from varstar_batch.storage.surveys import Survey, open_survey

MJD = IngestOptions(time_system="MJD")


def make_observations(ids: list[Any], seed: int = 0) -> pa.Table:
    """Return one observation for each identifier, at random times."""
    rng = np.random.default_rng(seed)
    n = len(ids)
    return pa.table(
        {
            "object_id": pa.array(ids),
            "time": 55000 + rng.random(n) * 1000,
            "mag": rng.normal(15, 1, n).astype(np.float32),
            "mag_err": np.full(n, 0.25, np.float32),
        }
    )


def make_objects(ids: list[Any], **more: Any) -> pa.Table:
    """Return a table of objects with these identifiers."""
    return pa.table({"object_id": pa.array(ids), "period": np.arange(len(ids)) + 0.5, **more})


def run(
    folder: Path, observations: pa.Table, objects: pa.Table, options: IngestOptions = MJD, row_group: int | None = None
) -> tuple[IngestReport, Survey]:
    """Ingest two tables and open the result."""
    report = ingest(
        write(folder / "observations.parquet", observations, row_group),
        write(folder / "objects.parquet", objects),
        folder / "survey",
        options,
    )
    return report, open_survey(folder / "survey")


def rows_of(survey: Survey) -> dict[Any, list[tuple[float, float, float]]]:
    """Return the observations by object, in the survey's order."""
    found: dict[Any, list[tuple[float, float, float]]] = {}
    for partition in survey.partitions:
        for batch in read_batches(survey.source, partition, None, 10**6):
            curves = batch.light_curves
            assert curves.mag_err is not None
            rows = list(zip(curves.time.tolist(), curves.mag.tolist(), curves.mag_err.tolist(), strict=True))
            for i, name in enumerate(batch.objects["object_id"].to_pylist()):
                assert name not in found
                found[name] = rows[curves.offsets[i] : curves.offsets[i + 1]]
    return found


def expected_rows(observations: pa.Table, objects: pa.Table) -> dict[Any, list[tuple[float, float, float]]]:
    """Return the same by the plainest of means."""
    found: dict[Any, list[tuple[float, float, float]]] = {name: [] for name in objects["object_id"].to_pylist()}
    for row in observations.to_pylist():
        if row["object_id"] in found:
            found[row["object_id"]].append((row["time"], row["mag"], row["mag_err"]))
    return {name: sorted(rows, key=lambda row: row[0]) for name, rows in found.items()}


SURVEYS = {
    "crts-south": (10_668, 2_369_227, "MJD"),
    "crts-north": (3_414, 966_901, "MJD"),
    "ogle-lmc": (2_023, 1_164_154, "HJD-2450000"),
    "eros1": (1_147, 134_869, "days, EROS internal epoch"),
    "hipparcos-ogle": (866, 190_819, "see notes (JD-2440000 Hipparcos; HJD-2450000 or similar OGLE)"),
    "sdss-s82": (315, 19_485, "MJD"),
}


@pytest.mark.parametrize("name", SURVEYS)
def test_real_surveys_need_no_option(shared_data: Path, tmp_path: Path, name: str) -> None:
    objects, observations, time_system = SURVEYS[name]
    source = shared_data / name
    seen: list[int] = []
    report = ingest(source / "observations.parquet", source / "objects.parquet", tmp_path / name, progress=seen.append)
    assert asdict(report) == {
        "objects": objects,
        "objects_written": objects,
        "objects_without_observations": 0,
        "observations": observations,
        "observations_written": observations,
        "orphans": 0,
        "orphan_ids": (),
        "partitions": 1,
        "time_system": time_system,
        "has_mag_err": True,
        "periods": None,
    }
    assert sum(seen) == observations == count_observations(source / "observations.parquet")
    survey = open_survey(tmp_path / name)
    assert survey.source.time_system == time_system
    written = pq.read_table(tmp_path / name)
    catalog = pq.read_table(source / "objects.parquet")
    assert written.drop_columns(["lightcurve"]).cast(catalog.schema).equals(catalog)
    # Every observation, untouched: the tables are sorted by object and time already.
    table = pq.read_table(source / "observations.parquet")
    curves = written["lightcurve"].combine_chunks()
    for field in ("time", "mag", "mag_err"):
        values = curves.field(field).flatten().to_numpy()
        np.testing.assert_array_equal(values, table[field].to_numpy())
    counts = pc.list_value_length(curves.field("time")).to_numpy()
    ids = np.repeat(written["object_id"].to_numpy(), counts)
    assert pa.array(ids, pa.large_string()).equals(table["object_id"].combine_chunks())
    assert curves.type.field("time").type.value_type == pa.float64()
    assert curves.type.field("mag").type.value_type == pa.float32()


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(0, 12), max_size=120),
    order=st.permutations(range(10)),
    partitions=st.one_of(st.none(), st.integers(1, 12)),
    row_group=st.integers(1, 40),
    is_sorted=st.booleans(),
)
def test_any_order_any_cut(
    tmp_path_factory: pytest.TempPathFactory,
    ids: list[int],
    order: list[int],
    partitions: int | None,
    row_group: int,
    is_sorted: bool,
) -> None:
    observations = make_observations([f"s{i}" for i in (sorted(ids) if is_sorted else ids)])
    observations = observations.set_column(0, "object_id", observations["object_id"].cast(pa.string()))
    objects = make_objects([f"s{i}" for i in order])
    options = IngestOptions(time_system="MJD", partitions=partitions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_tables, "BATCH_ROWS", 17)
        report, survey = run(tmp_path_factory.mktemp("ingest"), observations, objects, options, row_group)
    assert rows_of(survey) == expected_rows(observations, objects)
    counts = {f"s{i}": ids.count(i) for i in range(13)}
    assert report.objects == report.objects_written == 10
    assert report.objects_without_observations == sum(counts[f"s{i}"] == 0 for i in order)
    assert report.observations == len(ids)
    assert report.orphans == sum(counts[f"s{i}"] for i in (10, 11, 12))
    assert report.observations_written == report.observations - report.orphans
    assert set(report.orphan_ids) == {f"s{i}" for i in (10, 11, 12) if counts[f"s{i}"]}
    assert report.partitions == len(survey.partitions) <= (partitions or 1)
    assert json.loads((survey.source.location / REPORT).read_bytes())["orphans"] == report.orphans


@pytest.mark.parametrize("seed", range(2))
def test_what_does_not_fit_into_memory_waits_on_disk(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 300, 150_000).tolist()
    observations, objects = make_observations(ids, seed), make_objects(list(range(300)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    spilled: list[int] = []
    new_file = pa.ipc.new_file

    def counted(path: str, schema: pa.Schema) -> Any:
        assert Path(path).is_relative_to(scratch)
        spilled.append(1)
        return new_file(path, schema)

    monkeypatch.setattr(pa.ipc, "new_file", counted)
    monkeypatch.setattr(ingest_tables, "UNIT_ROWS", 10_000)
    options = IngestOptions(time_system="MJD", partitions=7, memory=2**20, scratch=str(scratch))
    report, survey = run(tmp_path, observations, objects, options, row_group=5_000)
    assert len(spilled) == 15
    assert list(scratch.iterdir()) == []
    assert report.observations_written == 150_000
    assert rows_of(survey) == expected_rows(observations, objects)
    sizes = [pq.read_metadata(tmp_path / "survey" / p.key).num_rows for p in survey.partitions]
    assert len(sizes) == 7
    assert max(sizes) - min(sizes) < 10


def test_several_files_and_objects_across_them(tmp_path: Path) -> None:
    observations = make_observations([1, 1, 2, 3, 2, 1, 3, 3])
    write(tmp_path / "in" / "2020" / "a.parquet", observations.slice(0, 5))
    write(tmp_path / "in" / "2021.parquet", observations.slice(5))
    write(tmp_path / "in" / "_metadata.parquet", pa.table({"x": [1]}))
    objects = make_objects([3, 1, 2])
    write(tmp_path / "objects" / "1.parquet", objects.slice(0, 1))
    write(tmp_path / "objects" / "2.parquet", objects.slice(1))
    report = ingest(tmp_path / "in", tmp_path / "objects", tmp_path / "survey", MJD)
    assert report.observations_written == 8
    assert rows_of(open_survey(tmp_path / "survey")) == expected_rows(observations, objects)


def test_the_order_of_the_survey(tmp_path: Path) -> None:
    objects = make_objects([4, 3, 2, 1, 0])
    # Grouped by object: in the order they come, and 2 and 0, without observations, behind those before them.
    _, grouped = run(tmp_path / "a", make_observations([1, 1, 3, 4]), objects)
    assert list(rows_of(grouped)) == [1, 0, 3, 2, 4]
    # Not grouped: in the order of the table of objects.
    _, mixed = run(tmp_path / "b", make_observations([1, 3, 1, 4]), objects)
    assert list(rows_of(mixed)) == [4, 3, 2, 1, 0]


def test_observations_are_sorted_by_time_and_else_untouched(tmp_path: Path) -> None:
    times = [3.0, np.nan, 1.0, -2409998.5, 1.0, None]
    observations = pa.table(
        {
            "object_id": ["a"] * 6,
            "time": pa.array(times, pa.float64()),
            "mag": pa.array([1, 99.99, 3, 4, -99.99, 6], pa.float64()),
            "mag_err": pa.array([0.1, None, 99.99, -1, 0.1, np.nan], pa.float32()),
            "camera": ["p", "q", "r", None, "t", "u"],
        }
    )
    report, survey = run(tmp_path, observations, make_objects(["a"]))
    table = pq.read_table(tmp_path / "survey")
    (curve,) = table["lightcurve"].to_pylist()
    np.testing.assert_array_equal(curve["time"], [-2409998.5, 1, 1, 3, np.nan, np.nan])
    np.testing.assert_array_equal(curve["mag"], [4, 3, -99.99, 1, 99.99, 6])
    np.testing.assert_array_equal(curve["mag_err"], np.array([-1, 99.99, 0.1, 0.1, np.nan, np.nan], np.float32))
    assert curve["camera"] == [None, "r", "t", "p", "q", "u"]
    assert report.observations_written == 6
    assert survey.source.form == "nested"


def test_columns_of_the_objects_come_along(tmp_path: Path) -> None:
    objects = pa.table(
        {
            "name": ["a", "b"],
            "band": ["V", None],
            "P": pa.array([1, 2], pa.int32()),
            "ra": pa.array([10.5, None], pa.float32()),
            "kind": pa.array(["RR", None]).dictionary_encode(),
            "mag": [14.0, 15.0],
        }
    )
    observations = make_observations(["a", "b", "b"]).rename_columns(["name", "t", "mag", "mag_err"])
    # What the objects have once for all is not repeated in every observation.
    observations = observations.append_column("band", pa.array(["V", "V", "V"]))
    config = SurveyConfig(object_id="name", period="P", class_="kind", time="t")
    run(tmp_path, observations, objects, IngestOptions(config=config, time_system="MJD"))
    written = pq.read_table(tmp_path / "survey")
    assert written.schema.names == ["object_id", "band", "period", "ra", "class", "mag", "lightcurve"]
    assert written["period"].to_pylist() == [1.0, 2.0]
    assert written["class"].to_pylist() == ["RR", None]
    assert written["band"].to_pylist() == ["V", None]
    assert written["ra"].to_pylist() == [10.5, None]
    assert written.schema.field("lightcurve").type.names == ["time", "mag", "mag_err"]


def test_without_errors(tmp_path: Path) -> None:
    report, survey = run(tmp_path, make_observations([1, 2]).drop_columns(["mag_err"]), make_objects([1, 2]))
    assert not report.has_mag_err
    assert survey.source.columns.mag_err is None


def test_without_any_observation(tmp_path: Path) -> None:
    ids = pa.array([], pa.int64())
    empty = make_observations([]).set_column(0, "object_id", ids)
    report, survey = run(tmp_path, empty, make_objects([1, 2]))
    assert (report.objects_written, report.objects_without_observations, report.observations) == (2, 2, 0)
    assert rows_of(survey) == {1: [], 2: []}


def test_a_row_without_object_id_is_an_orphan(tmp_path: Path) -> None:
    report, survey = run(tmp_path, make_observations(["a", None, "b", None, "z"]), make_objects(["a", "b"]))
    assert (report.observations, report.observations_written, report.orphans) == (5, 2, 3)
    assert set(report.orphan_ids) == {"null", "z"}
    assert {name: len(rows) for name, rows in rows_of(survey).items()} == {"a": 1, "b": 1}


@pytest.mark.parametrize("ids", [["é", "日本", ""], ["a", "a\0", "ab"], [2**63 + 5, 7, 2**64 - 1], [-5, 0, 2**62]])
def test_identifiers_of_any_kind(tmp_path: Path, ids: list[Any]) -> None:
    kind = pa.uint64() if isinstance(ids[0], int) and max(ids) > 2**63 else None
    orphan = "a longer one than any object has" if isinstance(ids[0], str) else 12345
    observations = make_observations([0] * 4).set_column(
        0, "object_id", pa.array([ids[2], ids[0], orphan, ids[0]], kind)
    )
    objects = make_objects([1, 2, 3]).set_column(0, "object_id", pa.array(ids, kind))
    report, survey = run(tmp_path, observations, objects)
    assert {name: len(rows) for name, rows in rows_of(survey).items()} == {ids[0]: 2, ids[1]: 0, ids[2]: 1}
    assert report.orphan_ids == (str(orphan),)


def test_partitions_are_balanced_by_observations(tmp_path: Path) -> None:
    ids = np.repeat(np.arange(100), np.where(np.arange(100) < 10, 1000, 10)).tolist()
    _, survey = run(
        tmp_path, make_observations(ids), make_objects(list(range(100))), IngestOptions(time_system="MJD", partitions=5)
    )
    rows = [sum(len(rows) for rows in rows_of(one).values()) for one in each_partition(survey)]
    assert sum(rows) == len(ids)
    assert max(rows) < 3100
    assert [partition.key for partition in survey.partitions] == [f"part-{i:05d}.parquet" for i in range(5)]


def test_the_default_number_of_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 16 bytes of an observation, and of an object.
    monkeypatch.setattr(ingest_plan, "PARTITION_BYTES", 192)
    monkeypatch.setattr(ingest_plan, "PARTITION_OBJECTS", 30)
    report, _ = run(tmp_path / "a", make_observations(sorted(list(range(20)) * 5)), make_objects(list(range(20))))
    assert report.partitions == 10
    monkeypatch.setattr(ingest_plan, "PARTITION_BYTES", 2**20)
    report, _ = run(tmp_path / "b", make_observations([5]), make_objects(list(range(100))))
    assert report.partitions == 4


def each_partition(survey: Survey) -> list[Survey]:
    return [Survey(source=survey.source, partitions=(partition,)) for partition in survey.partitions]


# The time system


def test_the_time_system_of_the_objects(tmp_path: Path) -> None:
    objects = make_objects([1, 2], time_system=pa.array(["BJD_TDB", None]))
    report, survey = run(tmp_path / "a", make_observations([1]), objects, IngestOptions())
    assert report.time_system == survey.source.time_system == "BJD_TDB"
    report, survey = run(tmp_path / "b", make_observations([1]), objects, MJD)
    assert report.time_system == survey.source.time_system == "MJD"


# Refusals: each one line, and nothing is left behind


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
    options = IngestOptions(config=config, time_system="HJD")
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


@pytest.mark.parametrize(("option", "value"), [("partitions", 0), ("memory", 5), ("scratch", "/no/such/folder")])
def test_options_are_checked(tmp_path: Path, option: str, value: Any) -> None:
    error = refusal(tmp_path, make_observations([1]), make_objects([1]), IngestOptions(**{option: value}))
    assert option in error.expected


@pytest.mark.parametrize("change", ["more", "fewer", "others"])
def test_observations_that_change_meanwhile(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    after = {"more": [1, 2, 2, 2, 3], "fewer": [1, 2, 3], "others": [1, 1, 2, 3]}[change]
    make_plan = ingest_plan.make_plan

    def late(*arguments: Any) -> Any:
        plan = make_plan(*arguments)
        write(tmp_path / "observations.parquet", make_observations(after))
        return plan

    monkeypatch.setattr("varstar_batch.storage.ingest.make_plan", late)
    error = refusal(tmp_path, make_observations([1, 2, 2, 3]), make_objects([1, 2, 3]))
    assert "the same observations in both passes" in error.expected


class Killed(BaseException):
    """Stands for a process that is killed."""


def test_an_interrupted_ingest_is_no_survey_and_goes_on(tmp_path: Path) -> None:
    observations = write(tmp_path / "observations.parquet", make_observations([1, 2]))
    objects = write(tmp_path / "objects.parquet", make_objects([1, 2]))

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(observations, objects, tmp_path / "survey", MJD, interrupt)
    left = [path.name for path in tmp_path.iterdir() if not path.name.endswith(".parquet")]
    assert len(left) == 3
    assert all(name.startswith(".tmp-") for name in left)
    # Something else into the same place: what is left there is of no use.
    ingest(observations, objects, tmp_path / "survey", IngestOptions(time_system="HJD"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["objects.parquet", "observations.parquet", "survey"]


INGEST = """
import sys
from varstar_batch.storage.ingest import ingest
from varstar_batch.storage import ingest_tables
from varstar_batch.storage.ingest_options import IngestOptions
ingest_tables.UNIT_ROWS = 1000
done = 0
def progress(rows):
    global done
    done += rows
    if done >= int(sys.argv[4]):
        print("now", flush=True)
        sys.stdin.read()
ingest(*sys.argv[1:4], IngestOptions(time_system="MJD", partitions=9, workers=1), progress)
"""


@pytest.mark.parametrize("progress", [3000, 9000])
def test_an_ingest_that_was_killed_does_only_what_is_missing(
    tmp_path: Path, progress: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.random.default_rng(5).integers(0, 50, 10_000).tolist()
    observations = write(tmp_path / "observations.parquet", make_observations(ids), 1000)
    objects = write(tmp_path / "objects.parquet", make_objects(list(range(50))))
    monkeypatch.setattr(ingest_tables, "UNIT_ROWS", 1000)
    options = IngestOptions(time_system="MJD", partitions=9, workers=1)
    expected = ingest(observations, objects, tmp_path / "whole", options)
    words = [str(word) for word in (observations, objects, tmp_path / "survey", progress)]
    killed = subprocess.Popen(
        [sys.executable, "-c", INGEST, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "now\n"
        with pytest.raises(InputError, match="one ingest into a place at a time"):
            ingest(observations, objects, tmp_path / "survey", options)
        killed.kill()
    assert not (tmp_path / "survey").exists()
    read: list[ingest_tables.Unit] = []
    rows = ingest_tables.Observations.rows

    def watched(self: ingest_tables.Observations, positions: Any, unit: ingest_tables.Unit) -> Any:
        read.append(unit)
        return rows(self, positions, unit)

    def not_again(*_: Any) -> Any:
        raise AssertionError("counted twice")

    monkeypatch.setattr(ingest_tables.Observations, "rows", watched)
    monkeypatch.setattr(ingest_tables.Observations, "positions", not_again)
    assert ingest(observations, objects, tmp_path / "survey", options) == expected
    assert 0 <= len(read) <= 10 - progress // 1000
    same_files(tmp_path / "whole", tmp_path / "survey")
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]) == 0


def test_partitions_that_are_written_are_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(6).integers(0, 50, 2000).tolist()
    observations = write(tmp_path / "observations.parquet", make_observations(ids))
    objects = write(tmp_path / "objects.parquet", make_objects(list(range(50))))
    options = IngestOptions(time_system="MJD", partitions=6, workers=1)
    ingest(observations, objects, tmp_path / "whole", options)
    gather, gathered = ingest_shuffle.Shuffle.gather, []

    def watched(self: Any, pieces: Any, number: int) -> Any:
        if len(gathered) == 4:
            gathered.append(-1)
            raise Killed
        gathered.append(number)
        return gather(self, pieces, number)

    monkeypatch.setattr(ingest_shuffle.Shuffle, "gather", watched)
    with pytest.raises(Killed):
        ingest(observations, objects, tmp_path / "survey", options)
    ingest(observations, objects, tmp_path / "survey", options)
    assert sorted(gathered) == [-1, 0, 1, 2, 3, 4, 5]
    same_files(tmp_path / "whole", tmp_path / "survey")


def same_files(one: Path, other: Path) -> None:
    """Check that two folders hold the same files, byte for byte."""
    files = [
        {path.relative_to(top): path.read_bytes() for path in top.rglob("*") if path.is_file()} for top in (one, other)
    ]
    assert files[0] == files[1]


def test_on_an_object_store(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    observations = write(tmp_path / "observations.parquet", make_observations([1, 1, 2]))
    objects = write(tmp_path / "objects.parquet", make_objects([1, 2, 3]))
    try:
        report = ingest(observations, objects, "memory://test-ingest/good", MJD)
        survey = open_survey("memory://test-ingest/good")
        assert report.objects_written == len(rows_of(survey)) == 3
        assert not memory.exists(f"/test-ingest/good/{UNFINISHED}")

        def interrupt(_: int) -> None:
            raise Killed

        with pytest.raises(Killed):
            ingest(observations, objects, "memory://test-ingest/killed", MJD, interrupt)
        with pytest.raises(InputError, match="a finished survey, got one whose writing was interrupted") as caught:
            open_survey("memory://test-ingest/killed")
        assert "remove the folder" in caught.value.fix
        with pytest.raises(InputError, match=UNFINISHED):
            ingest(observations, objects, "memory://test-ingest/killed", IngestOptions(time_system="HJD"))
        # The same again goes on.
        assert ingest(observations, objects, "memory://test-ingest/killed", MJD) == report
        assert not memory.exists(f"/test-ingest/killed/{UNFINISHED}")
    finally:
        memory.rm("/test-ingest", recursive=True)
