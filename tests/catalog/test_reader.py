"""Reading a catalog from Python, and the history of its runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import varstar_batch
from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from varstar_batch.catalog.reader import CatalogReader
from varstar_batch.catalog.run_files.history import list_runs, prunable, prune, published_runs, resolve_run, rollback
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.star_history import star_history
from varstar_batch.errors import InputError, RefusedError

ROWS = sky_rows(1200, seed=4)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> CatalogReader:
    root = tmp_path_factory.mktemp("catalogs") / "catalog"
    write_run(root, run_name(1), RunSpec(partitions=in_slices(ROWS), row_group_rows=100))
    return varstar_batch.open_catalog(root)


def by_id(table: pa.Table) -> pa.Table:
    return table.sort_by("object_id")


def test_arrow_pandas_and_dask_give_the_same_rows(reader: CatalogReader) -> None:
    expected = by_id(ROWS)
    arrow = by_id(reader.to_arrow())
    assert len(reader) == arrow.num_rows == ROWS.num_rows
    for name in ROWS.column_names:
        assert arrow[name].to_pylist() == expected[name].to_pylist(), name
    frame = reader.to_pandas().sort_values("object_id").reset_index(drop=True)
    assert frame["object_id"].tolist() == expected["object_id"].to_pylist()
    dask = reader.to_dask()
    assert dask.npartitions == 4
    computed = dask.compute(scheduler="synchronous").sort_values("object_id").reset_index(drop=True)
    # Dask has texts as Arrow's, whatever the partitions give it.
    pd.testing.assert_frame_equal(computed, frame, check_dtype=False)
    assert list(reader.to_dask(["class", "object_id"]).columns) == ["class", "object_id"]


def test_astropy_gets_units_ucds_and_masks(reader: CatalogReader) -> None:
    table = reader.to_astropy()
    assert str(table["ra"].unit) == "deg"
    assert table["ra"].meta["ucd"] == "pos.eq.ra;meta.main"
    assert table["class"].mask.sum() == ROWS["class"].null_count
    assert table["prob_CEP"].mask.sum() == ROWS["prob_CEP"].null_count
    assert not table["object_id"].mask.any()


def test_columns_and_conditions_are_pushed_down(reader: CatalogReader) -> None:
    some = reader.to_arrow(["object_id", "class"], pc.field("class") == "RR")
    assert some.column_names == ["object_id", "class"]
    assert some.num_rows == pc.sum(pc.equal(ROWS["class"], "RR")).as_py()
    assert sum(batch.num_rows for batch in reader.to_batches(["object_id"])) == len(reader)


def test_one_star_is_found_by_its_identifier(reader: CatalogReader) -> None:
    wanted = ROWS.slice(77, 1).to_pylist()[0]
    found = reader.get(wanted["object_id"])
    assert found is not None
    assert {name: found[name] for name in wanted} == wanted
    assert reader.get(str(wanted["object_id"])) == found
    assert reader.get(-1) is None
    with pytest.raises(InputError, match="whole number"):
        reader.get("M31-V1")
    with pytest.raises(InputError, match="int64"):
        reader.get(2**63)


def test_the_files_of_some_stars(reader: CatalogReader) -> None:
    ids = ROWS["object_id"].to_pylist()
    assert reader.files_of([ids[0], ids[1199], -5]) == {
        ids[0]: "dataset/part-00000.parquet",
        ids[1199]: "dataset/part-00003.parquet",
    }
    assert reader.files_of([]) == {}


@pytest.mark.parametrize("kind", [pa.uint64(), pa.large_string()])
def test_identifiers_of_other_types(kind: pa.DataType, tmp_path: Path) -> None:
    rows = sky_rows(200, id_type=kind, first_id=2**63 if kind == pa.uint64() else 0)
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(rows)))
    reader = varstar_batch.open_catalog(tmp_path)
    wanted = rows["object_id"][5].as_py()
    found = reader.get(wanted)
    assert found is not None
    assert found["object_id"] == wanted
    assert found["ra"] == rows["ra"][5].as_py()


def test_a_catalog_of_no_objects(tmp_path: Path) -> None:
    write_run(tmp_path, run_name(1), RunSpec(partitions={"a.parquet": ROWS.slice(0, 0)}))
    reader = varstar_batch.open_catalog(tmp_path)
    assert len(reader) == reader.to_arrow().num_rows == 0
    assert reader.get(1) is None
    assert reader.cone(0, 0, 180).num_rows == 0
    assert reader.query("SELECT count(*) AS n FROM catalog")["n"].to_pylist() == [0]


def test_only_a_hats_catalog_is_opened_with_lsdb(reader: CatalogReader) -> None:
    with pytest.raises(InputError, match="HATS"):
        reader.to_lsdb()


def test_no_catalog_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing there"):
        varstar_batch.open_catalog(tmp_path / "nothing")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"a\.txt"):
        varstar_batch.open_catalog(tmp_path)
    write_run(tmp_path / "new", run_name(1), RunSpec(partitions=in_slices(ROWS)), publish=False)
    with pytest.raises(InputError, match="none yet"):
        varstar_batch.open_catalog(tmp_path / "new")


def test_a_damaged_run_is_said_to_be(tmp_path: Path) -> None:
    for lost in ("run.json", "partitions.parquet", "row_groups.parquet", "dataset/part-00000.parquet"):
        root = tmp_path / lost.replace("/", "-")
        write_run(root, run_name(1), RunSpec(partitions=in_slices(ROWS)))
        (root / "runs" / run_name(1) / lost).unlink()
        reader = varstar_batch.open_catalog(root)
        with pytest.raises(InputError, match=r"varstar (verify|rollback)"):
            reader.query("SELECT count(*) FROM catalog") if lost != "row_groups.parquet" else reader.cone(0, 0, 1)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        write_run(tmp_path, run_name(number), RunSpec(partitions={"a.parquet": ROWS.slice(0, 200)}))
    write_run(tmp_path, run_name(4), RunSpec(partitions={"a.parquet": ROWS.slice(0, 20)}), publish=False)
    return tmp_path


def test_runs_are_named_by_identifier_beginning_or_place(three: Path) -> None:
    root = open_catalog_root(three)
    assert published_runs(root) == [run_name(1), run_name(2), run_name(3)]
    assert [run.state for run in list_runs(root)] == ["published", "published", "current", "unfinished"]
    assert resolve_run(root, None) == resolve_run(root, "current") == run_name(3)
    assert resolve_run(root, "previous") == run_name(2)
    assert resolve_run(root, run_name(1)) == resolve_run(root, run_name(1)[:16]) == run_name(1)
    for name, said in (("2026", "3 runs begin with"), ("2027", "none of them"), (run_name(4), "none of them")):
        with pytest.raises(InputError, match=said) as caught:
            resolve_run(root, name)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)


def test_rolling_back_moves_the_pointer_and_loses_nothing(three: Path) -> None:
    root = open_catalog_root(three)
    assert rollback(root, "previous").run_id == run_name(2)
    assert varstar_batch.open_catalog(three).run_id == run_name(2)
    assert rollback(root, run_name(3)).number == 5
    assert varstar_batch.open_catalog(three).run_id == run_name(3)
    assert published_runs(root) == [run_name(1), run_name(2), run_name(3)]
    with pytest.raises(RefusedError, match="nothing was changed") as caught:
        rollback(root, "current")
    assert caught.value.exit_code == 3
    with pytest.raises(InputError):
        rollback(root, run_name(4))


def test_pruning_keeps_the_current_run_and_what_may_be_going_on(three: Path) -> None:
    root = open_catalog_root(three)
    rollback(root, run_name(1))
    assert prunable(root, 2) == []
    assert prunable(root, 1) == [run_name(2)]
    prune(root, prunable(root, 1))
    assert root.run_ids() == [run_name(1), run_name(3), run_name(4)]
    assert published_runs(root) == [run_name(1), run_name(3)]
    with pytest.raises(InputError, match="none of them"):
        resolve_run(root, run_name(2))
    with pytest.raises(RefusedError, match=run_name(1)):
        prune(root, [run_name(1)])
    with pytest.raises(InputError, match="--keep"):
        prunable(root, 0)
    write_run(three, run_name(5), RunSpec(partitions={"a.parquet": ROWS.slice(0, 10)}))
    assert prunable(root, 5) == [run_name(4)], "an unfinished run that was overtaken"
    assert varstar_batch.open_catalog(three).to_arrow().num_rows == 10


def test_one_star_through_all_runs(tmp_path: Path) -> None:
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(ROWS.slice(0, 600))))
    write_run(tmp_path, run_name(2), RunSpec(partitions=in_slices(ROWS), model_version="2"))
    root = open_catalog_root(tmp_path)
    early, late = ROWS["object_id"][3].as_py(), ROWS["object_id"][700].as_py()
    assert [row and row["model_version"] for _, row in star_history(root, early)] == ["1", "2"]
    assert [row and row["model_version"] for _, row in star_history(root, late)] == [None, "2"]
    with pytest.raises(InputError, match="none of its 2 runs"):
        star_history(root, -1)


def test_three_small_tables_define_the_run_its_classifier_and_its_classes(reader: CatalogReader) -> None:
    tables = {
        name: pa.table(varstar_batch.files.parquet.read_table(reader.run / f"definitions/{name}.parquet"))  # type: ignore[attr-defined]
        for name in ("run", "classifier", "class")
    }
    assert tables["run"].to_pylist()[0]["n_objects"] == len(reader)
    assert tables["classifier"]["model_hash"].to_pylist() == [reader.record["model"]["hash"]]
    classes = tables["class"]
    assert classes["class_name"].to_pylist() == list(reader.classes)
    assert sum(classes["n_objects"].to_pylist()) == int(np.sum(ROWS["class"].is_valid().to_numpy()))
    assert all(classes["class_description"].to_pylist())
