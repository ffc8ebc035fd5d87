"""An object that stands in two partitions of a survey."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.makers.runbook import check_said
from tests.makers.runs import run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.run_files.checks import VerificationError


def test_an_object_in_two_partitions_names_both(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (12, 10))
    first = survey / "part-00000.parquet"
    (survey / "part-00009.parquet").write_bytes(first.read_bytes())
    with pytest.raises(VerificationError) as refused:
        run(survey, tmp_path / "catalog")
    check_said("object in two partitions", str(refused.value))
    assert "dataset/part-00000.parquet: object_id" in str(refused.value)
    assert "also in dataset/part-00009.parquet" in str(refused.value)
    assert not list((tmp_path / "catalog").glob("current/*"))
    (survey / "part-00009.parquet").unlink()
    record, _ = run(survey, tmp_path / "catalog", fresh=True)
    assert record["rows"] == 22
