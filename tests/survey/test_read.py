"""Reading partitions: every form to the same light curves, in bounded batches."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.makers.survey_files import FORMS, assert_equal, make_objects, make_table, read_all, write
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.open import open_survey
from varstar_batch.survey.read import partition_shape, read_batches
from varstar_batch.survey.write import ROW_GROUP_OBSERVATIONS, nested_light_curves, write_survey_file


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=25),
    row_group=st.integers(1, 30),
    max_observations=st.integers(1, 60),
)
def test_cuts_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, form: str, lengths: list[int], row_group: int, max_observations: int
) -> None:
    # The long form has no row for an object without observations.
    lengths = [max(1, n) for n in lengths] if form == "long" else lengths
    objects = make_objects(lengths)
    folder = tmp_path_factory.mktemp("survey")
    write(folder / "a.parquet", make_table(objects, form), row_group)
    batches = read_all(open_survey(folder), max_observations)
    assert_equal(batches, objects)
    for batch in batches:
        assert len(batch.light_curves.time) <= max_observations or len(batch.light_curves) == 1


@pytest.mark.parametrize("form", ["nested", "lists", "structs"])
def test_row_groups_can_be_read_by_themselves(tmp_path: Path, form: str) -> None:
    objects = make_objects([4, 0, 3, 2, 5, 1, 2])
    write(tmp_path / "a.parquet", make_table(objects, form), 3)
    survey = open_survey(tmp_path)
    (partition,) = survey.partitions
    shape = partition_shape(survey.source, partition)
    assert shape.rows == 7
    assert shape.divisible
    assert [group.rows for group in shape.row_groups] == [3, 3, 1]
    # An empty light curve counts as one observation.
    assert [group.observations for group in shape.row_groups] == [8, 8, 2]
    assert all(0 < group.compressed_bytes < partition.size for group in shape.row_groups)
    parts = [list(read_batches(survey.source, partition, [i], 100)) for i in range(3)]
    assert_equal([batch for part in parts for batch in part], objects)
    assert [sum(len(batch.period) for batch in part) for part in parts] == [3, 3, 1]
    assert list(read_batches(survey.source, partition, [], 100)) == []
    for wrong in ([3], [-1]):
        with pytest.raises(ValueError, match="expected 0 to 2"):
            list(read_batches(survey.source, partition, wrong, 100))
    with pytest.raises(ValueError, match="at least 1"):
        list(read_batches(survey.source, partition, None, 0))


def test_the_long_form_is_one_chunk(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", make_table(make_objects([4, 3]), "long"), 2)
    survey = open_survey(tmp_path)
    shape = partition_shape(survey.source, survey.partitions[0])
    assert shape.rows is None
    assert not shape.divisible
    assert [group.rows for group in shape.row_groups] == [2, 2, 2, 1]
    with pytest.raises(ValueError, match="cross row groups"):
        list(read_batches(survey.source, survey.partitions[0], [0], 100))


@pytest.mark.parametrize("form", FORMS)
def test_a_partition_without_rows(tmp_path: Path, form: str) -> None:
    write(tmp_path / "a.parquet", make_table(make_objects([2]), form).slice(0, 0))
    assert read_all(open_survey(tmp_path)) == []


def test_small_row_groups_are_joined_and_large_ones_cut(tmp_path: Path) -> None:
    objects = make_objects([10] * 100)
    write(tmp_path / "small.parquet", make_table(objects, "nested"), 1)
    write(tmp_path / "large.parquet", make_table(objects, "nested"), 100)
    survey = open_survey(tmp_path)
    for number in (0, 1):
        batches = read_all(survey, 250, number)
        assert [len(batch.period) for batch in batches] == [25] * 4
        assert_equal(batches, objects)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float64()), pa.large_list(pa.float64()), pa.list_(pa.float64(), 3)], ids=str
)
def test_every_kind_of_list(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], kind)
    lists = pa.table({"object_id": [1, 2], "period": [1.0, 2.0], "time": values, "mag": values})
    write(tmp_path / "lists.parquet", lists)
    structs = pa.array([[{"time": v, "mag": v} for v in one] for one in values.to_pylist()])
    if pa.types.is_large_list(kind):
        structs = structs.cast(pa.large_list(structs.type.value_type))
    write(tmp_path / "structs.parquet", pa.table({"object_id": [1, 2], "period": [1.0, 2.0], "lightcurve": structs}))
    for file in ("lists.parquet", "structs.parquet"):
        (batch,) = read_all(open_survey(tmp_path / file))
        assert batch.light_curves.offsets.tolist() == [0, 3, 6]
        assert batch.light_curves.time.tolist() == [1, 2, 3, 4, 5, 6]
        assert batch.light_curves.mag_err is None


@pytest.mark.parametrize("form", ["nested", "structs"])
def test_null_light_curves_and_null_values(tmp_path: Path, form: str) -> None:
    if form == "nested":
        curve = pa.array(
            [{"time": [1.0, 2.0], "mag": [3.0, None]}, None, {"time": None, "mag": None}, {"time": [5.0], "mag": [6.0]}]
        )
    else:
        curve = pa.array(
            [[{"time": 1.0, "mag": 3.0}, {"time": 2.0, "mag": None}], None, [], [{"time": 5.0, "mag": 6.0}]]
        )
    write(
        tmp_path / "a.parquet",
        pa.table({"object_id": [1, 2, 3, 4], "period": [1.0, None, 3.0, np.nan], "lightcurve": curve}),
    )
    (batch,) = read_all(open_survey(tmp_path))
    assert batch.light_curves.n_obs.tolist() == [2, 0, 0, 1]
    assert batch.light_curves.time.tolist() == [1, 2, 5]
    np.testing.assert_array_equal(batch.light_curves.mag, [3, np.nan, 6])
    np.testing.assert_array_equal(batch.period, [1, np.nan, 3, np.nan])
    assert batch.objects["period"].to_pylist() == [1.0, None, 3.0, None]


def test_lists_of_different_lengths_are_malformed(tmp_path: Path) -> None:
    curve = pa.array([{"time": [1.0], "mag": [3.0]}, {"time": [1.0, 2.0], "mag": [3.0]}])
    write(tmp_path / "a.parquet", pa.table({"object_id": [1, 2], "period": [1.0, 2.0], "lightcurve": curve}))
    (batch,) = read_all(open_survey(tmp_path))
    assert batch.light_curves.malformed is not None
    assert batch.light_curves.malformed.tolist() == [False, True]


def test_columns_of_the_objects(tmp_path: Path) -> None:
    extra = {
        "ra": pa.array([1.5, None], pa.float32()),
        "class": pa.array(["RR", None]).dictionary_encode(),
        "_healpix_29": pa.array([7, 8], pa.uint64()),
        "band": pa.array(["V", "g"]),
    }
    write(tmp_path / "a.parquet", make_table(make_objects([2, 3]), "nested", **extra))
    (batch,) = read_all(open_survey(tmp_path))
    assert batch.objects.schema.names == [
        *("object_id", "ra", "dec", "period", "period_origin", "class", "_healpix_29"),
    ]
    assert [str(kind) for kind in batch.objects.schema.types] == [
        "large_string", "double", "double", "double", "large_string", "large_string", "int64",
    ]  # fmt: skip
    assert batch.objects["ra"].to_pylist() == [1.5, None]
    assert batch.objects["dec"].to_pylist() == [None, None]
    assert batch.objects["class"].to_pylist() == ["RR", None]
    assert batch.objects["_healpix_29"].to_pylist() == [7, 8]


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (pa.array([1, 2], pa.int32()), "int64"),
        (pa.array([1, 2**63 + 1], pa.uint64()), "uint64"),
        (pa.array(["é", ""]).dictionary_encode(), "large_string"),
        (pa.array(["a", "b"], pa.large_string()), "large_string"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_identifiers(tmp_path: Path, ids: pa.Array, kind: str, form: str) -> None:
    table = make_table(make_objects([1, 1]), form)
    write(tmp_path / "a.parquet", table.set_column(0, "object_id", ids))
    survey = open_survey(tmp_path)
    (batch,) = read_all(survey)
    assert survey.source.object_id_type == kind == str(batch.objects.schema.field("object_id").type)
    assert batch.objects["object_id"].to_pylist() == ids.to_pylist()


def test_only_the_needed_columns_are_read(tmp_path: Path) -> None:
    objects = make_objects([50, 60])
    table = make_table(objects, "nested", notes=pa.array(["x" * 10_000, "y" * 10_000]))
    curve = table["lightcurve"].combine_chunks()
    fields = [*curve.flatten(), curve.field("time"), curve.field("mag")]
    wide = pa.StructArray.from_arrays(fields, ["time", "mag", "mag_err", "time_start", "flux.time"])
    write(tmp_path / "a.parquet", table.set_column(3, "lightcurve", wide))
    write(tmp_path / "b.parquet", table.drop_columns(["notes"]))
    survey = open_survey(tmp_path)
    wide_shape, narrow_shape = (partition_shape(survey.source, partition) for partition in survey.partitions)
    assert wide_shape.rows == narrow_shape.rows
    assert wide_shape.row_groups[0].observations == 110
    assert wide_shape.row_groups[0].compressed_bytes < narrow_shape.row_groups[0].compressed_bytes + 1000
    assert_equal(read_all(survey), objects)


def test_names_of_a_survey(tmp_path: Path) -> None:
    curve = pa.array([{"hmjd": [1.0], "m": [2.0], "magerr": [0.5]}])
    write(tmp_path / "a.parquet", pa.table({"oid": [5], "P": [1.0], "lc": curve, "type": ["RR"]}))
    config = SurveyConfig(
        object_id="oid", period="P", lightcurve="lc", time="hmjd", mag="m", mag_err="magerr", class_="type"
    )
    (batch,) = read_all(open_survey(tmp_path, config))
    assert batch.objects.drop_columns(["period_origin"]).to_pylist() == [
        {"object_id": 5, "ra": None, "dec": None, "period": 1.0, "class": "RR"}
    ]
    assert batch.light_curves.mag_err is not None
    assert batch.light_curves.mag_err.tolist() == [0.5]


def test_any_fsspec_filesystem_will_do() -> None:
    objects = make_objects([3, 4])
    memory = fsspec.filesystem("memory")
    with memory.open("/test-reading/a.parquet", "wb") as file:
        pq.write_table(make_table(objects, "nested"), file)
    assert_equal(read_all(open_survey("memory://test-reading")), objects)
    memory.rm("/test-reading", recursive=True)


# The long form


def test_an_object_longer_than_many_batches(tmp_path: Path) -> None:
    objects = make_objects([3, 500, 2])
    write(tmp_path / "a.parquet", make_table(objects, "long"), 40)
    batches = read_all(open_survey(tmp_path), 20)
    assert_equal(batches, objects)
    assert [len(batch.period) for batch in batches] == [1, 1, 1]


def test_contradicting_periods_make_an_object_malformed(tmp_path: Path) -> None:
    table = make_table(make_objects([2, 2, 2]), "long")
    periods = pa.array([1.0, 1.0, 2.0, 3.0, None, np.nan])
    write(tmp_path / "a.parquet", table.set_column(1, "period", periods))
    (batch,) = read_all(open_survey(tmp_path))
    assert batch.light_curves.malformed is not None
    assert batch.light_curves.malformed.tolist() == [False, True, False]


def test_a_large_row_group_is_never_held_whole(tmp_path: Path) -> None:
    n, each = 20_000, 230
    rng = np.random.default_rng(0)
    columns = {
        "time": rng.random(n * each),
        "mag": rng.random(n * each, dtype=np.float32),
        "mag_err": rng.random(n * each, dtype=np.float32),
    }
    curves = nested_light_curves(np.arange(n + 1) * each, columns)
    table = pa.table({"object_id": np.arange(n), "period": np.ones(n), "lightcurve": curves})
    write(tmp_path / "a.parquet", table, n)
    whole = table.nbytes
    del table, curves, columns
    survey = open_survey(tmp_path)
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        rows = sum(len(batch.period) for batch in read_batches(survey.source, survey.partitions[0], None, 100_000))
    finally:
        pa.set_memory_pool(before)
    assert rows == n
    assert whole > 70e6
    assert 0 < pool.max_memory() < 20e6


def test_row_groups_are_bounded_when_written(tmp_path: Path) -> None:
    from varstar_batch.files.location import locate

    lengths = np.array([ROW_GROUP_OBSERVATIONS // 2] * 3 + [ROW_GROUP_OBSERVATIONS + 5, 1, 0])
    total = int(lengths.sum())
    columns = {"time": np.zeros(total), "mag": np.zeros(total, np.float32)}
    curves = nested_light_curves(np.append(0, np.cumsum(lengths)), columns)
    table = pa.table({"object_id": np.arange(6), "period": np.ones(6), "lightcurve": curves})
    write_survey_file(locate(tmp_path / "a.parquet", what="survey"), table.schema, [table])
    survey = open_survey(tmp_path)
    shape = partition_shape(survey.source, survey.partitions[0])
    assert [group.rows for group in shape.row_groups] == [2, 1, 1, 2]


def test_more_observations_than_offsets_can_count() -> None:
    with pytest.raises(ValueError, match="expected fewer than 2"):
        nested_light_curves(np.array([0, 2**31]), {"time": np.zeros(0)})
