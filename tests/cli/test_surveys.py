"""Looking at a survey: what is counted is what is there, and any object can be drawn."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.archive_files import SKYPATROL_V1, ZTF, write_archive
from tests.makers.survey_files import FORMS, make_objects, make_table, write
from varstar_batch.cli.app import main
from varstar_batch.errors import InputError
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.options import ArchiveOptions
from varstar_batch.light_curves import LightCurves, Limits, fold
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.report.light_curve import plot_light_curve
from varstar_batch.survey.decode import SurveyBatch
from varstar_batch.survey.objects import find_object
from varstar_batch.survey.open import Survey, open_survey
from varstar_batch.survey.summary import summarise

OBJECTS = make_objects([60, 0, 3, 80], seed=3)


def survey_of(folder: Path, form: str) -> Survey:
    table = make_table(OBJECTS, form)
    write(folder / "a.parquet", table.slice(0, 60 if form == "long" else 2))
    write(folder / "b.parquet", table.slice(60 if form == "long" else 2))
    return open_survey(folder)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_counted_is_what_is_there(tmp_path: Path, form: str) -> None:
    survey = survey_of(tmp_path, form)
    summary = summarise(survey, Preprocessing())
    lengths = [60, 3, 80] if form == "long" else [60, 0, 3, 80]
    assert summary.objects == len(lengths)
    assert summary.observations == 143
    assert summary.observations_of_objects == (min(lengths), np.median(lengths), 80)
    assert summary.with_period == len(lengths)
    assert summary.with_position == 0
    times = [observation[0] for one in OBJECTS.observations for observation in one]
    assert summary.time == (min(times), max(times))
    expected = {"ok": 2, "too_few_observations": 1} | ({} if form == "long" else {"no_observations": 1})
    assert summary.statuses == expected
    assert summary.failures == []
    assert summary.bands == {}


def test_a_partition_that_cannot_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    survey_of(tmp_path, "nested")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(SystemExit) as done:
        main(["inspect", str(tmp_path), "--json"])
    assert done.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["objects"], told["partitions"], len(told["failures"])) == (4, 3, 1)


def test_bands_of_objects_and_of_observations(tmp_path: Path) -> None:
    ingest_archive(write_archive(tmp_path / "ztf", x=ZTF), None, tmp_path / "one")
    assert summarise(open_survey(tmp_path / "one"), Preprocessing()).bands == {"g": 1}
    folder = write_archive(tmp_path / "asassn", x=SKYPATROL_V1)
    ingest_archive(folder, None, tmp_path / "all", ArchiveOptions(band="all"))
    summary = summarise(open_survey(tmp_path / "all"), Preprocessing())
    assert summary.bands == {"V": 4, "g": 1}
    assert summary.statuses == {"no_period": 1}
    assert summary.with_position == 0


@pytest.mark.parametrize("form", FORMS)
def test_an_object_is_found(tmp_path: Path, form: str) -> None:
    survey = survey_of(tmp_path, form)
    found = find_object(survey, "star-0003")
    assert found.partition == "b.parquet"
    np.testing.assert_array_equal(found.batch.light_curves.time, [one[0] for one in OBJECTS.observations[3]])
    assert found.batch.period.tolist() == [OBJECTS.period[3]]
    with pytest.raises(InputError, match="star-9999"):
        find_object(survey, "star-9999")


def test_identifiers_that_are_numbers(tmp_path: Path) -> None:
    table = make_table(OBJECTS, "nested").set_column(0, "object_id", pa.array([5, 6, 7, 8]))
    write(tmp_path / "a.parquet", table)
    survey = open_survey(tmp_path)
    assert find_object(survey, "8").batch.light_curves.n_obs.tolist() == [80]
    with pytest.raises(InputError, match="int64 identifiers"):
        find_object(survey, "eight")


@pytest.mark.parametrize("number", range(4))
def test_any_object_can_be_drawn(tmp_path: Path, number: int) -> None:
    from matplotlib.image import imread

    survey = survey_of(tmp_path, "nested")
    found = find_object(survey, OBJECTS.object_id[number])
    picture = plot_light_curve(found.batch, survey.source.limits, Preprocessing(), "HJD")
    pixels = imread(io.BytesIO(picture))
    assert pixels.shape[0] > 400
    # Points are drawn where there are observations to show.
    blue = (pixels[..., 2] > pixels[..., 0] + 0.2).sum()
    assert (blue > 50) == (len(OBJECTS.observations[number]) > 0)


def test_the_picture_says_the_catalogs_number_of_used_observations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    rng = np.random.default_rng(5)
    time = np.sort(rng.uniform(0, 300, 358))
    mag = 14 + 0.3 * np.sin(2 * np.pi * time / 0.7) + rng.normal(0, 0.02, 358)
    mag[[50, 200]] = 18.0
    curves = LightCurves(np.array([0, 358]), time, mag, np.full(358, 0.02))
    batch = SurveyBatch(pa.table({"object_id": ["x"]}), curves, np.array([0.7]))
    titles: list[str] = []
    monkeypatch.setattr(Figure, "suptitle", lambda _, text: titles.append(text))
    plot_light_curve(batch, Limits(), Preprocessing(), "HJD")
    folded = fold(curves, batch.period, Preprocessing(), Limits())
    assert folded.n_used[0] == 356
    assert titles == ["x · 356 of 358 observations used"]


def test_the_command_draws_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    survey_of(tmp_path / "survey", "nested")
    out = tmp_path / "star.png"
    with pytest.raises(SystemExit) as done:
        main(["plot", str(tmp_path / "survey"), "star-0000", "--out", str(out)])
    assert done.value.code == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit) as done:
        main(["inspect", str(tmp_path / "survey")])
    assert done.value.code == 0
    assert "4 in 2 partitions" in capsys.readouterr().out
    assert pq.read_metadata(tmp_path / "survey" / "a.parquet").num_rows == 2
