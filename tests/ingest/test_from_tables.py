"""Ingest: nothing is lost, nothing is invented."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.makers.ingest_tables import MJD, expected_rows, make_objects, make_observations, rows_of, run
from tests.makers.survey_files import write
from varstar_batch.errors import InputError, NothingMatchedError
from varstar_batch.ingest import observations as ingest_observations
from varstar_batch.ingest import plan as ingest_plan
from varstar_batch.ingest import shuffle as ingest_shuffle
from varstar_batch.ingest.from_tables import REPORT, count_observations, ingest
from varstar_batch.ingest.options import IngestOptions
from varstar_batch.survey.columns import TIME_SYSTEM_KEY, SurveyConfig
from varstar_batch.survey.open import Survey, open_survey

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
    tables = source / "observations.parquet", source / "objects.parquet"
    report = ingest(*tables, tmp_path / name, IngestOptions(duplicates="keep"), seen.append)
    told = asdict(report)
    assert sum(told.pop("period_origins").values()) == objects
    first, last = told.pop("times")
    table = pq.read_table(source / "observations.parquet")
    assert (first, last) == (pc.min(table["time"]).as_py(), pc.max(table["time"]).as_py())
    assert told == {
        "objects": objects,
        "objects_written": objects,
        "objects_without_observations": 0,
        "observations": observations,
        "observations_written": observations,
        "duplicates": 0,
        "orphans": 0,
        "orphan_ids": (),
        "left_out": 0,
        "partitions": 1,
        "time_system": time_system,
        "has_mag_err": True,
        "periods": None,
        "converted": {},
    }
    assert sum(seen) == observations == count_observations(source / "observations.parquet")
    survey = open_survey(tmp_path / name)
    assert survey.source.time_system == time_system
    written = pq.read_table(tmp_path / name)
    catalog = pq.read_table(source / "objects.parquet")
    assert written.drop_columns(["lightcurve", "period_origin"]).cast(catalog.schema).equals(catalog)
    # Every observation, untouched: the tables are sorted by object and time already.
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
        patch.setattr(ingest_observations, "BATCH_ROWS", 17)
        if ids and min(ids) >= 10:
            with pytest.raises(NothingMatchedError):
                run(tmp_path_factory.mktemp("ingest"), observations, objects, options, row_group)
            return
        report, survey = run(tmp_path_factory.mktemp("ingest"), observations, objects, options, row_group)
    assert rows_of(survey) == expected_rows(observations, objects)
    counts = {f"s{i}": ids.count(i) for i in range(13)}
    assert report.objects == report.objects_written == 10
    assert report.objects_without_observations == sum(counts[f"s{i}"] == 0 for i in order)
    assert report.observations == len(ids)
    assert report.orphans == sum(counts[f"s{i}"] for i in (10, 11, 12))
    assert report.observations_written == report.observations - report.orphans - report.duplicates
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
    scatter, new_file, opened = ingest_shuffle.Shuffle.scatter, pa.ipc.new_file, []

    def counted(sink: Any, schema: pa.Schema) -> Any:
        opened.append(1)
        return new_file(sink, schema)

    def watched(self: ingest_shuffle.Shuffle, number: int) -> int:
        rows = scatter(self, number)
        (waiting,) = tmp_path.rglob(f"{number}.arrow")
        assert waiting.is_relative_to(scratch)
        with pa.OSFile(str(waiting)) as file:
            assert pa.ipc.open_file(file).read_all().num_rows == rows == 10_000
        spilled.append(number)
        return rows

    monkeypatch.setattr(pa.ipc, "new_file", counted)
    monkeypatch.setattr(ingest_shuffle.Shuffle, "scatter", watched)
    monkeypatch.setattr(ingest_observations, "UNIT_ROWS", 10_000)
    options = IngestOptions(time_system="MJD", partitions=7, memory=2**20, scratch=str(scratch))
    report, survey = run(tmp_path, observations, objects, options, row_group=5_000)
    assert sorted(spilled) == list(range(15))
    assert len(opened) == 15
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
            "tile": [7, 8],
            "P": pa.array([1, 2], pa.int32()),
            "ra": pa.array([10.5, None], pa.float32()),
            "kind": pa.array(["RR", None]).dictionary_encode(),
            "mag": [14.0, 15.0],
        }
    )
    observations = make_observations(["a", "b", "b"]).rename_columns(["name", "t", "mag", "mag_err"])
    # What the objects have once for all is not repeated in every observation; of which band each is stays with it.
    observations = observations.append_column("tile", pa.array([7, 8, 8]))
    observations = observations.append_column("band", pa.array(["V", "V", "V"]))
    config = SurveyConfig(object_id="name", period="P", class_="kind", time="t")
    run(tmp_path, observations, objects, IngestOptions(columns=config, time_system="MJD"))
    written = pq.read_table(tmp_path / "survey")
    names = ["object_id", "band", "tile", "period", "ra", "class", "mag", "period_origin", "lightcurve"]
    assert written.schema.names == names
    assert written["period"].to_pylist() == [1.0, 2.0]
    assert written["class"].to_pylist() == ["RR", None]
    assert written["band"].to_pylist() == ["V", None]
    assert written["ra"].to_pylist() == [10.5, None]
    assert written["tile"].to_pylist() == [7, 8]
    assert written.schema.field("lightcurve").type.names == ["time", "mag", "mag_err", "band"]
    assert [curve["band"] for curve in written["lightcurve"].to_pylist()] == [["V"], ["V", "V"]]


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
    # 16 bytes of an observation, 30 of an object: with the text of its period_origin.
    monkeypatch.setattr(ingest_plan, "PARTITION_BYTES", 220)
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
    dates = make_observations([1])
    dates = dates.set_column(1, "time", pc.add(dates["time"], 2400000.5))
    report, survey = run(tmp_path / "a", dates, objects, IngestOptions())
    assert report.time_system == survey.source.time_system == "BJD_TDB"
    with pytest.raises(InputError, match="one time system; the configuration says MJD, got BJD_TDB in the table of"):
        run(tmp_path / "b", make_observations([1]), objects, MJD)


def test_what_the_observations_declare_of_their_times(tmp_path: Path) -> None:
    observations = make_observations([1]).replace_schema_metadata({TIME_SYSTEM_KEY: "BJD-2400000"})
    report, _ = run(tmp_path / "a", observations, make_objects([1]), IngestOptions())
    assert report.time_system == "BJD-2400000"
    with pytest.raises(InputError, match="the configuration says MJD, got BJD-2400000 in the observations"):
        run(tmp_path / "b", observations, make_objects([1]))
    objects = make_objects([1], time_system=pa.array(["BJD_TDB-2400000"]))
    assert run(tmp_path / "c", observations, objects, IngestOptions())[0].time_system == "BJD-2400000"


# Refusals: each one line, and nothing is left behind
