"""Runs question periods: what they write, what an option makes of it, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.runs import read_rows, run
from tests.makers.surveys import simulated_table
from varstar_batch.catalog.run_files.tables import periods_line
from varstar_batch.runs.config import RunConfig

ASKED = ("period_flag", "best_period", "best_class")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Every third star has twice its period."""
    folder = tmp_path_factory.mktemp("survey")
    table = simulated_table(0, 150, seed=5)
    period = table["period"].to_numpy().copy()
    period[::3] *= 2
    table = table.set_column(table.schema.get_field_index("period"), "period", pa.array(period))
    pq.write_table(table, folder / "part-00000.parquet")
    return folder


@pytest.fixture(scope="module")
def runs(survey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogs")
    plain, _ = run(survey, folder / "plain")
    best, _ = run(survey, folder / "best", config=RunConfig(use_best_period=True))
    by_id = [("object_id", "ascending")]
    return plain, read_rows(folder / "plain").sort_by(by_id), best, read_rows(folder / "best").sort_by(by_id)


def test_flags_come_with_the_period_and_the_class_of_it(runs):
    record, rows, _, _ = runs
    classified = rows.filter(pa.compute.is_valid(rows["class"])).to_pylist()
    assert len(classified) > 100
    for row in classified:
        assert row["period_flag"] is not None
        if row["period_flag"] == "ok":
            assert (row["best_period"], row["best_class"]) == (row["period"], row["class"])
        elif row["period_flag"] == "doubtful":
            assert (row["best_period"], row["best_class"]) == (None, None)
        else:
            assert row["best_class"] is not None
            assert row["best_period"] != row["period"]
    flags = [row["period_flag"] for row in rows.to_pylist() if row["period_flag"]]
    assert record["periods"] == {name: flags.count(name) for name in record["periods"]}
    assert sum(record["periods"].values()) == len(flags)
    assert flags.count("P/2") > 20
    nothing = rows.filter(pa.compute.is_null(rows["class"]))
    assert all(nothing[name].null_count == len(nothing) for name in ASKED)


def test_the_option_classifies_by_the_best_period_and_says_so(runs):
    _, plain, record, best = runs
    better = 0
    for before, after in zip(plain.to_pylist(), best.to_pylist(), strict=True):
        assert [before[name] for name in ASKED] == [after[name] for name in ASKED]
        if before["period_flag"] in (None, "ok", "doubtful"):
            assert {**before, "run_id": ""} == {**after, "run_id": ""}
            continue
        better += 1
        assert after["period_origin"] == "better"
        assert (after["period"], after["class"]) == (before["best_period"], before["best_class"])
        assert after["class_prob"] == max(value for name, value in after.items() if name.startswith("prob_"))
    assert better > 20
    assert record["configuration"]["use_best_period"] is True
    assert "classified by those" in periods_line(record)


def test_the_line_says_what_was_found():
    record = {"periods": {"ok": 90, "2P": 6, "1 d alias": 3, "doubtful": 1}, "configuration": {}}
    assert periods_line(record) == (
        "Periods of 100 objects questioned: others fit 9 (2P 6, 1 d alias 3) better, 1 are doubtful"
    )
    assert periods_line({"periods": {"ok": 5}, "configuration": {}}) == ""


def test_a_star_in_several_bands_has_one_answer(tmp_path):
    rng = np.random.default_rng(1)
    time = np.sort(rng.uniform(0, 1500, 160)) + 2456000
    phase = time / 0.6 % 1
    mag = 15 + np.where(phase < 0.15, 0.8 - phase / 0.15 * 0.8, (phase - 0.15) / 0.85 * 0.8) + rng.normal(0, 0.02, 160)
    table = pa.table(
        {
            "object_id": ["a"],
            "period": [1.2],
            "time": [time],
            "mag": [mag],
            "mag_err": [np.full(160, 0.02)],
            "band": [["g", "r"] * 80],
        }
    )
    folder = tmp_path / "survey"
    folder.mkdir()
    pq.write_table(table, folder / "part-00000.parquet")
    config = RunConfig.model_validate({"survey": {"bands": "fuse", "time_system": "JD"}, "use_best_period": True})
    run(folder, tmp_path / "catalog", config=config)
    (row,) = read_rows(tmp_path / "catalog").to_pylist()
    assert (row["period_flag"], row["best_period"], row["period"], row["period_origin"]) == ("P/2", 0.6, 0.6, "better")
    assert row["class"] == row["best_class"] == "RR"
