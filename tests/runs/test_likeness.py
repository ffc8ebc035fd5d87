"""What a model cannot know is said before a run: bands, periods, amplitudes, observations outside of its training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.makers.bands import banded_table
from tests.makers.labelled import labelled_sines, write_labelled
from tests.makers.models import make_bundle, paper_model
from tests.makers.surveys import write_partition
from varstar_batch.model.bundle_files import write_bundle
from varstar_batch.runs.likeness import unlike_training
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.open import open_survey

TRAINING = {
    "source": "two surveys",
    "bands": ["one: V_CSS (unfiltered)", "two: OGLE I"],
    "ranges": {"period": [0.1, 400.0], "amplitude": [0.1, 3.0], "observations": [50, 900]},
}


@pytest.fixture(scope="module")
def bundle():
    return make_bundle(paper_model(), training=TRAINING)


def said(folder, objects, bundle, **columns):
    survey = write_labelled(folder, objects, row_group_rows=100, **columns)
    return unlike_training(open_survey(survey, SurveyConfig()), bundle.contract)


def test_a_survey_like_the_training_is_not_warned_of(tmp_path, bundle):
    alike = labelled_sines(60)
    assert said(tmp_path / "a", alike, bundle, band=["I"] * 60) == []
    assert said(tmp_path / "b", alike, bundle, band=["V_CSS (unfiltered)"] * 60) == []
    assert said(tmp_path / "c", alike, bundle, band=None) == []  # nobody knows
    # A few lie outside of the range of the training itself.
    few = replace(alike, period=np.where(np.arange(60) < 3, 0.01, 1.0))
    assert said(tmp_path / "d", few, bundle, band=["I"] * 60) == []


def test_each_thing_outside_of_the_training_is_one_line(tmp_path, bundle):
    objects = labelled_sines(60)
    period = np.where(np.arange(60) < 12, 0.01, 1.0)
    curves = objects.light_curves
    large = replace(curves, mag=((curves.mag - 15) * 6 + 15).astype(np.float32))
    lines = said(tmp_path / "a", replace(objects, period=period, light_curves=large), bundle, band=["W1"] * 59 + ["I"])
    assert len(lines) == 3
    band, periods, amplitudes = lines
    assert "no survey of the training is in the band W1" in band
    assert "V_CSS (unfiltered); OGLE I" in band
    assert "periods lie outside of 0.1 to 400 d" in periods
    assert "20% below" in periods
    assert "of 60 objects" in periods
    assert "amplitudes lie outside of 0.1 to 3 mag" in amplitudes
    assert "100% above" in amplitudes
    assert all("\n" not in line for line in lines)


def test_observations_and_chosen_bands_are_compared(tmp_path, bundle):
    few = make_bundle(paper_model(), training={**TRAINING, "ranges": {"observations": [70, 900]}})
    (line,) = said(tmp_path / "a", labelled_sines(60), few, band=["I"] * 60)
    assert "numbers of observations lie outside of 70 to 900 an object" in line
    # Nothing to compare with, as in bundles of earlier versions.
    assert said(tmp_path / "b", labelled_sines(60), make_bundle(paper_model()), band=["W1"] * 60) == []
    survey = tmp_path / "c"
    write_partition(survey / "part-00000.parquet", banded_table(40))
    for chosen, expected in (("g", ["g"]), ("fuse", ["g or r"]), (None, ["g or r"])):
        lines = unlike_training(open_survey(survey, SurveyConfig(bands=chosen)), bundle.contract)
        assert [line for line in lines if f"in the band {expected[0]}, " in line], (chosen, lines)


def test_inspect_and_plan_warn_and_write_nothing(tmp_path, bundle, varstar):
    write_bundle(bundle, tmp_path / "model")
    survey = write_labelled(tmp_path / "w1", labelled_sines(60), row_group_rows=100, band=["W1"] * 60)
    for words in (("inspect", survey), ("classify", survey, tmp_path / "catalog", "--plan")):
        told = varstar(*words, "--model", tmp_path / "model")
        assert told.code == 0, told
        assert "no survey of the training is in the band W1" in " ".join(told.err.split())
        as_json = varstar(*words, "--model", tmp_path / "model", "--json")
        assert len(json.loads(as_json.out)["unlike_training"]) == 1
    assert not (tmp_path / "catalog").exists()
