"""Bands and flags at ingest: several bands of a star are refused, chosen, or kept for fusing; nothing is mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.survey_files import fault, read_all, write
from varstar_batch.errors import InputError
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import ArchiveOptions, IngestOptions
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.open import open_survey

OBJECTS = pa.table({"object_id": ["a", "b"], "period": [0.6, 0.7]})


def long_table(column: str = "band") -> pa.Table:
    """Return 40 observations in c and 20 in o of one star after the other's, with a flag on every fifth."""
    bands = ["c"] * 40 + ["o"] * 20
    n = len(bands)
    one = {"time": np.arange(n) * 0.37, "mag": np.sin(np.arange(n)), "mag_err": np.full(n, 0.1)}
    table = pa.table({**one, column: bands, "chip": (np.arange(n) % 5 == 0).astype(np.int32)})
    parts = [table.append_column("object_id", pa.repeat(name, n)) for name in ("a", "b")]
    return pa.concat_tables(parts)


@pytest.mark.parametrize("column", ["band", "filter", "colour"])
def test_a_long_table_in_two_bands(tmp_path: Path, column: str) -> None:
    observations = write(tmp_path / "observations.parquet", long_table(column))
    # That the objects have such a column, too, takes it from no observation.
    objects = write(tmp_path / "objects.parquet", OBJECTS.append_column("band", pa.array(["c", "c"])))
    names = SurveyConfig(band=column)
    with pytest.raises(InputError, match=r"c \(80\), o \(40\)") as caught:
        ingest(observations, objects, tmp_path / "refused", IngestOptions(time_system="MJD", columns=names))
    assert "--bands fuse" in str(caught.value)
    assert not (tmp_path / "refused").exists()
    with pytest.raises(InputError, match=r"expected observations of band z, got c \(80\), o \(40\)"):
        ingest(observations, objects, tmp_path / "z", IngestOptions(time_system="MJD", columns=names, band="z"))
    one = IngestOptions(time_system="MJD", columns=names, band="o")
    report = ingest(observations, objects, tmp_path / "one", one)
    assert (report.observations, report.observations_written, report.left_out) == (120, 40, 80)
    both = IngestOptions(time_system="MJD", columns=names, band="fuse")
    assert ingest(observations, objects, tmp_path / "both", both).observations_written == 120
    assert fault(open_survey(tmp_path / "both", names)).kind == "bands"
    (batch,) = read_all(open_survey(tmp_path / "both", names.model_copy(update={"bands": "fuse"})))
    assert batch.by_band is not None
    assert batch.by_band.table.tolist() == [[40, 20], [40, 20]]


def test_bands_that_come_late_are_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("varstar_batch.ingest.observations.BATCH_ROWS", 30)
    observations = write(tmp_path / "observations.parquet", long_table())
    objects = write(tmp_path / "objects.parquet", OBJECTS)
    with pytest.raises(InputError, match=r"c \(80\), o \(40\)"):
        ingest(observations, objects, tmp_path / "out", IngestOptions(time_system="MJD"))
    assert not (tmp_path / "out").exists()


def test_observations_that_are_not_good_stay_out_and_are_counted(tmp_path: Path) -> None:
    observations = write(tmp_path / "observations.parquet", long_table())
    objects = write(tmp_path / "objects.parquet", OBJECTS)
    names = SurveyConfig(good="chip == 0 and band == 'c'")
    report = ingest(observations, objects, tmp_path / "out", IngestOptions(time_system="MJD", columns=names))
    assert (report.observations, report.observations_written, report.left_out) == (120, 64, 56)
    wrong = IngestOptions(time_system="MJD", columns=SurveyConfig(good="ship == 0"))
    with pytest.raises(InputError, match="ship"):
        ingest(observations, objects, tmp_path / "wrong", wrong)


@pytest.mark.parametrize("separator", [",", " "])
def test_a_table_in_text_with_bands_and_flags_by_name(tmp_path: Path, separator: str) -> None:
    table = long_table("colour")
    lines = [separator.join(table.column_names)]
    lines += [separator.join(str(value) for value in row.values()) for row in table.to_pylist()]
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "all.txt").write_text("\n".join(lines) + "\n")
    names = SurveyConfig(band="colour", good="not flag(chip)")
    options = ArchiveOptions(format="table", time_system="MJD", columns=names)
    with pytest.raises(InputError, match=r"c \(64\), o \(32\)"):
        ingest_archive(tmp_path / "files", None, tmp_path / "refused", options)
    report = ingest_archive(tmp_path / "files", None, tmp_path / "one", options.model_copy(update={"band": "o"}))
    assert report.tally.left_out == {"not good: not flag(chip)": 24, "band c": 64}
    assert report.ingest.observations_written == 32
    ingest_archive(tmp_path / "files", None, tmp_path / "both", options.model_copy(update={"band": "fuse"}))
    assert fault(open_survey(tmp_path / "both")).kind == "bands"


@pytest.mark.parametrize("folders", [("I", "V"), ("phot/I", "phot/V"), ("V/cep", "I/cep")])
def test_folders_of_ogle_say_the_band(tmp_path: Path, folders: tuple[str, str]) -> None:
    for number, folder in enumerate(folders):
        file = tmp_path / "ogle" / folder / "OGLE-LMC-RRLYR-00001.dat"
        file.parent.mkdir(parents=True)
        file.write_text("".join(f"{5000 + k * 0.37:.5f} {16 + number + 0.01 * k:.3f} 0.010\n" for k in range(60)))
    with pytest.raises(InputError, match=r"I \(60\), V \(60\)"):
        ingest_archive(tmp_path / "ogle", None, tmp_path / "refused", ArchiveOptions(format="ogle"))
    ingest_archive(tmp_path / "ogle", None, tmp_path / "one", ArchiveOptions(format="ogle", band="V"))
    rows = pq.read_table(tmp_path / "one")
    assert [len(one["time"]) for one in rows["lightcurve"].to_pylist()] == [60]
    assert rows["band"].to_pylist() == ["V"]
    ingest_archive(tmp_path / "ogle", None, tmp_path / "both", ArchiveOptions(format="ogle", band="fuse"))
    assert fault(open_survey(tmp_path / "both")).kind == "bands"
