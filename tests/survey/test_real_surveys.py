"""Real light curves go from the tables of their archives to a catalog, and every object of them comes out."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from varstar_batch.cli import main

EXPECTED = {
    # Counted in the tables themselves: copies of observations, objects without a period, times of -2409998.5,
    # magnitudes of +-99.99.
    "crts-south": (10_668, 2_915, {"ok": 10_663, "too_few_observations": 5}, {"time_impossible": 1, "mag_sentinel": 0}),
    "crts-north": (3_414, 195, {"ok": 2_914, "no_period": 500}, {"time_impossible": 0, "mag_sentinel": 0}),
    "ogle-lmc": (2_023, 0, {"ok": 2_023}, {"time_impossible": 0, "mag_sentinel": 0}),
    "sdss-s82": (315, 0, {"ok": 315}, {"time_impossible": 0, "mag_sentinel": 803}),
}


def varstar(*words: object) -> None:
    with pytest.raises(SystemExit) as exited:
        main([str(word) for word in words])
    assert exited.value.code == 0


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_survey_from_tables_to_catalog(
    name: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects, copies, status, dropped = EXPECTED[name]
    tables = shared_data / name
    survey, catalog = tmp_path / "survey", tmp_path / "catalog"
    varstar("ingest", tables / "observations.parquet", survey, "--objects", tables / "objects.parquet", "--json")
    report = json.loads(capsys.readouterr().out)
    assert (report["duplicates"], report["orphans"], report["left_out"]) == (copies, 0, 0)
    assert report["observations_written"] == report["observations"] - copies
    assert report["observations"] == pq.read_metadata(tables / "observations.parquet").num_rows
    varstar("classify", survey, catalog, "--workers", 0, "--json")
    record = json.loads(capsys.readouterr().out)
    assert record["observations"] == report["observations_written"]
    assert record["status"] == status
    assert {reason: record["dropped"][reason] for reason in dropped} == dropped
    rows = ds.dataset(catalog / "runs" / record["run_id"] / "dataset").to_table(["object_id"])
    ids = pq.read_table(tables / "objects.parquet", columns=["object_id"])
    assert rows.num_rows == record["rows"] == objects
    assert sorted(rows["object_id"].to_pylist()) == sorted(ids["object_id"].to_pylist())
