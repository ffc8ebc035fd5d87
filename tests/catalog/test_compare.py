"""Two runs side by side: what changed, and the causes told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.makers.catalogs import RunSpec, in_pixels, in_slices, run_name, sky_rows, write_run
from varstar_batch.catalog.compare import Difference, open_comparison, settings_difference
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.errors import InputError
from varstar_batch.light_curves.classes import CLASSES

ROWS = sky_rows(800, seed=9)
OK = ROWS["status"].to_numpy() == "ok"


def compared(root: Path, before: RunSpec, after: RunSpec) -> tuple[Difference, list[dict[str, Any]]]:
    write_run(root, run_name(1), before)
    write_run(root, run_name(2), after)
    b = open_catalog(root)
    with open_comparison(b.at("previous"), b) as comparison:
        rows = [row for batch in comparison.changes() for row in batch.to_pylist()]
        return comparison.summary(), rows


def replaced(rows: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        array = pa.array(values, rows.schema.field(name).type)
        rows = rows.set_column(rows.schema.get_field_index(name), name, array)
    return rows


def next_class(rows: pa.Table, chosen: np.ndarray) -> pa.Table:
    """The same rows in which the chosen objects have the next class."""
    names = rows["class"].to_pylist()
    moved = [
        CLASSES[(CLASSES.index(name) + 1) % len(CLASSES)] if chosen[k] and name else name
        for k, name in enumerate(names)
    ]
    return replaced(rows, **{"class": moved})


def test_nothing_changed(tmp_path: Path) -> None:
    spec = RunSpec(partitions=in_slices(ROWS))
    difference, rows = compared(tmp_path, spec, spec)
    assert rows == []
    assert set(difference.changed.values()) == {0}
    assert difference.causes == {}
    assert difference.settings == []
    assert sum(difference.matrix.values()) == ROWS.num_rows
    assert all(old == new for old, new in difference.matrix)


def test_probabilities_that_moved_without_a_change_of_class(tmp_path: Path) -> None:
    names = [f"prob_{name}" for name in CLASSES]
    before = np.stack([ROWS[name].to_numpy(zero_copy_only=False).astype(float) for name in names])
    softer = before ** (1 / 3)
    softer /= softer.sum(axis=0)
    after = replaced(
        ROWS,
        class_prob=[None if np.isnan(p) else p for p in softer.max(axis=0).astype(np.float32)],
        **{name: [None if np.isnan(p) else p for p in row] for name, row in zip(names, softer, strict=True)},
    )
    difference, rows = compared(
        tmp_path, RunSpec(partitions=in_slices(ROWS)), RunSpec(partitions=in_slices(after), model_version="2")
    )
    moved = int((np.abs(softer - before).max(axis=0) > 0.1).sum())
    assert moved > 100
    assert difference.changed == {"class": 0, "status": 0, "appeared": 0, "vanished": 0, "moved": moved}
    assert difference.causes == {"new_model": moved}
    assert {(row["kind"], row["cause"]) for row in rows} == {("moved", "new_model")}


def test_causes_are_told_apart(tmp_path: Path) -> None:
    """Four files: new observations, a new period, both, and a file that was only written again."""
    slices = list(in_slices(ROWS).items())
    chosen = np.arange(200) % 4 == 0
    after, expected = {}, {}
    for number, (key, rows) in enumerate(slices):
        moved = next_class(rows, chosen)
        if number in (0, 2):
            moved = replaced(moved, n_obs=rows["n_obs"].to_numpy() + 1)
        if number in (1, 2):
            period = rows["period"].to_numpy() * 2
            moved = replaced(moved, period=[None if np.isnan(p) else p for p in period])
        after[key] = moved
        expected[number] = int((chosen & OK[:200]).sum())
    versions = {key: "2" for key, _ in slices}
    difference, rows = compared(
        tmp_path, RunSpec(partitions=dict(slices)), RunSpec(partitions=after, versions=versions)
    )
    assert difference.changed["class"] == sum(expected.values())
    assert difference.causes == {
        "new_observations": expected[0],
        "new_period": expected[1],
        "new_observations+new_period": expected[2],
        "revised_observations": expected[3],
    }
    assert {row["kind"] for row in rows} == {"class"}
    assert len(rows) == sum(expected.values())


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"model_version": "2"}, "new_model"),
        ({"configuration": {"engine": "keras", "precision": "float32"}}, "new_configuration"),
        ({"code_version": "0.2"}, "new_code"),
        ({"code_version": "0.2", "model_version": "2"}, "new_model+new_code"),
        ({}, "unexplained"),
    ],
)
def test_causes_of_a_whole_run(change: dict[str, Any], cause: str, tmp_path: Path) -> None:
    chosen = np.arange(800) % 3 == 0
    after = next_class(ROWS, chosen)
    difference, rows = compared(
        tmp_path, RunSpec(partitions=in_slices(ROWS)), RunSpec(partitions=in_slices(after), **change)
    )
    assert difference.causes == {cause: int((chosen & OK).sum())}
    assert {row["cause"] for row in rows} == {cause}
    assert len(difference.settings) >= len(change)


def test_a_new_model_among_new_observations_is_not_blamed_alone(tmp_path: Path) -> None:
    after = replaced(next_class(ROWS, np.ones(800, bool)), n_obs=ROWS["n_obs"].to_numpy() + (np.arange(800) < 400))
    difference, _ = compared(
        tmp_path, RunSpec(partitions=in_slices(ROWS)), RunSpec(partitions=in_slices(after), model_version="2")
    )
    assert difference.causes == {"new_observations+new_model": int(OK[:400].sum()), "new_model": int(OK[400:].sum())}


def test_objects_that_appear_vanish_and_change_status(tmp_path: Path) -> None:
    lost = {"class": None, "second_class": None, "class_prob": None, "margin": None, "entropy": None, "ood_score": None}
    broken = {name: [None] * 800 for name in (*lost, *(f"prob_{name}" for name in CLASSES))}
    status = np.where(np.arange(800) < 30, "too_few_observations", ROWS["status"].to_numpy())
    after = ROWS
    for name in broken:
        kept = [None if k < 30 else value for k, value in enumerate(ROWS[name].to_pylist())]
        after = replaced(after, **{name: kept})
    after = replaced(after, status=status)
    difference, rows = compared(
        tmp_path,
        RunSpec(partitions=in_slices(ROWS.slice(0, 790))),
        RunSpec(partitions=in_slices(after.slice(20)), model_version="2"),
    )
    assert difference.changed == {"class": 0, "status": 10, "appeared": 10, "vanished": 20, "moved": 0}
    kinds = {row["kind"]: row for row in rows}
    assert kinds["appeared"]["label_a"] is None
    assert kinds["vanished"]["label_b"] is None
    assert kinds["status"]["label_b"] == "too_few_observations"
    assert (difference.rows_a, difference.rows_b) == (790, 780)
    assert sum(difference.matrix.values()) == 770
    assert difference.causes["new_in_survey"] == 10
    assert difference.causes["gone_from_survey"] == 20


def test_a_failed_partition_is_why_its_objects_are_missing(tmp_path: Path) -> None:
    partitions = in_slices(ROWS)
    survived = dict(list(partitions.items())[1:])
    failure = (next(iter(partitions)), "unreadable", "cut short")
    difference, _ = compared(
        tmp_path / "now", RunSpec(partitions=partitions), RunSpec(partitions=survived, failures=(failure,))
    )
    assert difference.causes == {"partition_failed_now": 200}
    difference, _ = compared(
        tmp_path / "then", RunSpec(partitions=survived, failures=(failure,)), RunSpec(partitions=partitions)
    )
    assert difference.causes == {"partition_failed_before": 200}


def test_old_and_new_probabilities_stand_side_by_side(tmp_path: Path) -> None:
    after = replaced(next_class(ROWS, np.ones(800, bool)), prob_RR=ROWS["prob_CEP"].to_pylist())
    _, rows = compared(tmp_path, RunSpec(partitions=in_slices(ROWS)), RunSpec(partitions=in_slices(after)))
    assert len(rows) == OK.sum()
    before = {row["object_id"]: row for row in ROWS.to_pylist()}
    for row in rows:
        assert row["prob_RR_a"] == before[row["object_id"]]["prob_RR"]
        assert row["prob_RR_b"] == before[row["object_id"]]["prob_CEP"]
        assert row["label_a"] == before[row["object_id"]]["class"] != row["label_b"]


def test_the_surest_changes_come_first(tmp_path: Path) -> None:
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(ROWS)))
    write_run(tmp_path, run_name(2), RunSpec(partitions=in_slices(next_class(ROWS, np.ones(800, bool)))))
    b = open_catalog(tmp_path)
    with open_comparison(b.at("previous"), b) as comparison:
        rows = [row for batch in comparison.changes(10) for row in batch.to_pylist()]
        assert comparison.schema.names[:5] == ["object_id", "kind", "label_a", "label_b", "cause"]
    best = sorted((value for value in ROWS["class_prob"].to_pylist() if value is not None), reverse=True)[:10]
    assert [row["class_prob_a"] for row in rows] == best


def test_files_that_both_runs_share_are_counted_without_being_read(tmp_path: Path) -> None:
    """What an incremental run carries over: the same bytes under the same key."""
    partitions = in_pixels(ROWS)
    key = next(iter(partitions))
    changed = {**partitions, key: next_class(partitions[key], np.ones(partitions[key].num_rows, bool))}
    write_run(tmp_path, run_name(1), RunSpec(partitions=partitions, layout="hats"))
    write_run(tmp_path, run_name(2), RunSpec(partitions=changed, layout="hats"))
    carry_over(tmp_path, set(partitions) - {key})
    b = open_catalog(tmp_path)
    with open_comparison(b.at("previous"), b) as comparison:
        difference = comparison.summary()
    assert difference.carried == ROWS.num_rows - partitions[key].num_rows
    assert sum(difference.matrix.values()) == ROWS.num_rows
    ok = sum(status == "ok" for status in partitions[key]["status"].to_pylist())
    assert difference.changed["class"] == ok
    same = sum(count for (old, new), count in difference.matrix.items() if old == new)
    assert same == ROWS.num_rows - ok


def carry_over(root: Path, keys: set[str]) -> None:
    import pyarrow.parquet as pq

    first, second = (root / "runs" / run_name(number) for number in (1, 2))
    entries = {row["partition"]: row for row in pq.read_table(first / "partitions.parquet").to_pylist()}
    table = pq.read_table(second / "partitions.parquet")
    rows = [entries[row["partition"]] if row["partition"] in keys else row for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), second / "partitions.parquet")
    for key in keys:
        (second / key).write_bytes((first / key).read_bytes())


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(ROWS)))
    texts = sky_rows(100, id_type=pa.large_string())
    write_run(tmp_path, run_name(2), RunSpec(partitions=in_slices(texts)))
    reader = open_catalog(tmp_path)
    with pytest.raises(InputError, match="twice"), open_comparison(reader, reader):
        pass
    with pytest.raises(InputError, match="different surveys"), open_comparison(reader.at("previous"), reader):
        pass


def test_settings_are_compared_to_the_depth() -> None:
    a = {"survey": "s", "model": {"hash": "1", "version": "1"}, "configuration": {"x": {"y": 1}}, "code_version": "1"}
    b = {**a, "model": {"hash": "2", "version": "1"}, "configuration": {"x": {"y": 2}}}
    assert settings_difference(a, b) == ["model.hash: 1 -> 2", "configuration.x.y: 1 -> 2"]
    assert settings_difference(a, a) == []
