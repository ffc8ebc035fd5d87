"""Flags in the survey's own words: a small language, evaluated exactly, and nothing outside of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tests.makers.survey_files import fault, read_all, write
from varstar_batch.errors import InputError
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.light_curves.status import DropReason, Status
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.decode import fold_batch
from varstar_batch.survey.good import Good, GoodError
from varstar_batch.survey.open import open_survey

COLUMNS = {
    "catflags": pa.array([0, 32768, None, 5], pa.int32()),
    "wide": pa.array([0, 2**63, None, 5], pa.uint64()),
    "quality": pa.array(["G", "B", None, "G"]).dictionary_encode(),
    "bad": pa.array([True, False, None, True]),
    "chi": pa.array([1.0, float("nan"), 2.0, 3.0]),
}


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("catflags == 0", "1000"),
        ("not flag(catflags & 32768)", "1011"),
        ("catflags & 32768 == 0", "1001"),
        ("wide & 4 == 0", "1100"),
        ("not flag(wide & 9223372036854775808)", "1011"),
        ("quality != 'B'", "1001"),
        ("not flag(quality == 'B')", "1011"),
        ("quality in ('G', 'X') and chi < 2.5", "1000"),
        ("catflags not in [5, 32768]", "1010"),
        ("not bad", "0100"),
        ("bad == 0 or chi > 2", "0101"),
        ("0 <= chi < 3", "1010"),
        ("chi * 2 - 1 > 2", "0011"),
        ("not flag(missing)", "1111"),
        ("flag(missing) or bad", "1001"),
        ("True", "1111"),
    ],
)
def test_what_is_good(text: str, good: str) -> None:
    assert Good(text).evaluate(COLUMNS, 4).tolist() == [letter == "1" for letter in good]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "catflags.__class__",
        "(lambda: 1)()",
        "[x for x in y]",
        "catflags = 0",
        "catflags == 0; catflags",
        "open('x')",
        "chi ** 9",
        "chi[0] == 1",
        "f'{chi}' == '1'",
        "chi if bad else bad",
        "(bad := True)",
        "flag(bad, chi)",
        "catflags in chi",
        "(" * 300,
        "1" * 600,
        "not " * 120 + "bad and " * 2,
        "",
    ],
)
def test_what_is_not_of_the_language_is_refused_when_it_is_written(text: str) -> None:
    with pytest.raises(GoodError) as caught:
        Good(text)
    assert "\n" not in str(caught.value)
    if text:
        with pytest.raises(ValidationError):
            SurveyConfig(good=text)


@pytest.mark.parametrize("text", ["catflags", "catflags == 'a'", "quality == 0", "bad + 1 == 2", "-quality == 1"])
def test_what_makes_no_sense_for_the_columns_is_one_line(text: str) -> None:
    with pytest.raises(GoodError) as caught:
        Good(text).evaluate(COLUMNS, 4)
    assert "\n" not in str(caught.value)


def test_bad_observations_are_dropped_and_counted(tmp_path: Path) -> None:
    n = 60
    flags = np.where(np.arange(n) % 4 == 0, 7, 0)
    lists = {
        "time": [np.arange(n) * 0.37, np.arange(5.0)],
        "mag": [np.sin(np.arange(n) * 0.37), np.arange(5.0)],
        "mag_err": [np.full(n, 0.1), np.full(5, 0.1)],
        "catflags": [flags, np.full(5, 1)],
    }
    light_curve = pa.StructArray.from_arrays([pa.array(one) for one in lists.values()], list(lists))
    write(tmp_path / "a.parquet", pa.table({"object_id": [1, 2], "period": [1.0, 1.0], "lightcurve": light_curve}))
    survey = open_survey(tmp_path, SurveyConfig(good="catflags == 0"))
    (batch,) = read_all(survey)
    folded = fold_batch(batch, Preprocessing(min_observations=20, outliers="none"), survey.source.limits)
    assert folded.dropped[:, DropReason.FLAGGED].tolist() == [15, 5]
    assert folded.n_obs.tolist() == [60, 5]
    assert folded.n_used.tolist() == [45, 0]
    assert folded.status.tolist() == [Status.OK, Status.TOO_FEW_OBSERVATIONS]
    with pytest.raises(InputError, match="catflag"):
        open_survey(tmp_path, SurveyConfig(good="catflag == 0"))
    assert fault(open_survey(tmp_path, SurveyConfig(good="catflags == 'x'"))).kind == "schema"
    read_all(open_survey(tmp_path, SurveyConfig(good="not flag(nothing)")))
