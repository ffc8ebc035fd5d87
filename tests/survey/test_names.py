"""Names of columns: capitals, all that are missing at once, those an ingest used; and the command that works."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.archive_files import ERRORS, HJD, MAGS
from varstar_batch.cli.app import main
from varstar_batch.errors import InputError
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.objects import read_objects
from varstar_batch.ingest.options import IngestOptions
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.open import open_survey

OWN = SurveyConfig(
    object_id="star", period="P", ra="alpha", dec="delta", time="t", mag="V", mag_err="dV", class_="kind"
)


def own_tables(folder: Path) -> tuple[Path, Path]:
    observations = {"star": ["a"] * 3, "t": HJD, "V": MAGS, "dV": ERRORS}
    objects = {"star": ["a", "b"], "P": [0.5, 1.5], "alpha": [1.0, 2.0], "delta": [3.0, 4.0], "kind": ["RR", None]}
    for name, table in (("observations", observations), ("objects", objects)):
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return folder / "observations.parquet", folder / "objects.parquet"


def test_what_an_ingest_used_opens_what_it_made(tmp_path: Path) -> None:
    ingest(*own_tables(tmp_path), tmp_path / "out", IngestOptions(columns=OWN, time_system="HJD"))
    for config in (OWN, SurveyConfig()):
        columns = open_survey(tmp_path / "out", config).source.columns
        assert (columns.object_id, columns.period, columns.ra, columns.class_) == ("object_id", "period", "ra", "class")
        assert (columns.time, columns.mag, columns.mag_err) == ("time", "mag", "mag_err")
    config = tmp_path / "own.toml"
    config.write_text('[survey]\nobject_id = "star"\nperiod = "P"\ntime = "t"\nmag = "V"\nmag_err = "dV"\n')
    with pytest.raises(SystemExit) as done:
        main(["inspect", str(tmp_path / "out"), "--config", str(config)])
    assert done.value.code == 0


def test_a_survey_that_no_ingest_made_has_the_names_it_has(tmp_path: Path) -> None:
    lists = {"time": [HJD], "mag": [MAGS], "mag_err": [ERRORS]}
    pq.write_table(pa.table({"object_id": ["a"], "period": [0.5]} | lists), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="expected a column 'P'"):
        open_survey(tmp_path, SurveyConfig(period="P"))


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    observations, objects = own_tables(tmp_path)
    with pytest.raises(InputError, match="expected columns 'object_id', 'time', 'mag', got columns star, t, V, dV"):
        ingest(observations, objects, tmp_path / "out", IngestOptions(time_system="HJD"))
    with pytest.raises(InputError, match="expected columns 'object_id', 'period', got columns star, P"):
        read_objects(objects, SurveyConfig())
    pq.write_table(
        pa.table({"Id": ["a"], "Periods": [1.0], "lightcurve": [{"t": [1.0], "mags": [1.0]}]}), tmp_path / "n"
    )
    with pytest.raises(InputError, match=r"expected columns 'object_id', 'period'.*period = 'Periods'"):
        open_survey(tmp_path / "n", SurveyConfig())


@pytest.mark.parametrize("upper", [True, False])
def test_capitals_do_not_matter(tmp_path: Path, upper: bool) -> None:
    columns = {"object_id": ["a"], "period": [0.5], "ra": [1.0], "class": ["RR"]}
    columns |= {"time": [HJD], "mag": [MAGS], "mag_err": [ERRORS]}
    named = {name.upper() if upper else name.capitalize(): values for name, values in columns.items()}
    pq.write_table(pa.table(named), tmp_path / "x.parquet")
    found = open_survey(tmp_path).source.columns
    assert {found.object_id, found.period, found.ra, found.class_, *found.observed} == set(named)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "expected" in line]
    return line


def test_other_files_are_answered_with_the_command_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    csv = tmp_path / "in" / "a.csv"
    csv.write_text("time,mag,mag_err\n" + "".join(f"{t},{m},0.1\n" for t, m in zip(HJD, MAGS, strict=True)))
    observations, objects = own_tables(tmp_path)
    for place in (csv, csv.parent):
        for command in (["inspect", str(place)], ["classify", str(place), str(tmp_path / "catalog")]):
            line = refused(command, capsys)
            assert f"varstar ingest {place} SURVEY --format auto" in line
            assert f"varstar ingest {place} SURVEY --format table --time-system MJD" in line
        plain = ["ingest", str(place), str(tmp_path / "out")]
        assert "--format table --time-system MJD" in refused([*plain, "--objects", str(objects)], capsys)
        assert "--format table --time-system MJD" in refused(plain, capsys)
    words = ["inspect", str(observations), "--set", "survey.object_id=star", "--set", "survey.time=t"]
    line = refused([*words, "--set", "survey.mag=V", "--set", "survey.mag_err=dV"], capsys)
    assert "varstar ingest OBSERVATIONS SURVEY --objects TABLE" in line
