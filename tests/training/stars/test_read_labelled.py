"""Reading labelled light curves: all labels, then only the light curves that were chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.labelled import labelled_sines, write_labelled
from tests.makers.surveys import write_partition
from varstar_batch.errors import InputError
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.read import read_batches
from varstar_batch.training.stars.labelled import LabelledLightCurves
from varstar_batch.training.stars.read_labelled import Selection, read_labelled, within_limits


@pytest.fixture(scope="module")
def made():
    return labelled_sines(120, others=30, survey="one")


@pytest.fixture(scope="module")
def survey(made, tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("labelled") / "one", made, row_group_rows=17)


def assert_same(got: LabelledLightCurves, expected: LabelledLightCurves) -> None:
    for name in ("period", "ra", "dec"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name))
    for name in ("class_code", "survey", "object_id", "class_original", "band", "period_source"):
        assert getattr(got, name).tolist() == getattr(expected, name).tolist()
    for name in ("offsets", "time", "mag", "mag_err"):
        np.testing.assert_array_equal(getattr(got.light_curves, name), getattr(expected.light_curves, name))


def test_what_was_written_is_read(made, survey):
    counted = []
    got = read_labelled([survey], None, Selection(others=True), counted.append)
    assert_same(got, made)
    assert sum(counted) == 150
    assert_same(read_labelled([survey]), made.take(np.arange(120)))


def test_batches_and_row_groups_change_nothing(made, survey, tmp_path, monkeypatch):
    monkeypatch.setattr("varstar_batch.training.stars.read_labelled.BATCH_OBSERVATIONS", 400)
    assert_same(read_labelled([survey], None, Selection(others=True)), made)
    other = write_labelled(tmp_path / "one", made, row_group_rows=1000)
    assert_same(read_labelled([other], None, Selection(others=True)), made)


def test_only_row_groups_with_chosen_objects_are_read(made, survey, monkeypatch):
    read = []
    original = read_batches

    def spy(source, partition, row_groups, most):
        read.append(list(row_groups))
        return original(source, partition, row_groups, most)

    monkeypatch.setattr("varstar_batch.training.stars.read_labelled.read_batches", spy)
    got = read_labelled([survey], None, Selection(max_per_class=1, seed=3))
    assert len(got) == 6
    rows = [made.object_id.tolist().index(name) for name in got.object_id]
    assert read == [sorted({row // 17 for row in rows})]
    assert len(read[0]) < 8
    assert_same(got, made.take(np.array(rows)))


def test_the_choice_is_seeded_and_every_survey_gives_its_share(survey, tmp_path):
    small = write_labelled(tmp_path / "two", labelled_sines(60, survey="two"))
    chosen = [read_labelled([survey, small], None, Selection(max_per_class=9, seed=seed)) for seed in (1, 1, 2)]
    assert chosen[0].object_id.tolist() == chosen[1].object_id.tolist() != chosen[2].object_id.tolist()
    for got in chosen:
        for code in range(6):
            names = got.survey[got.class_code == code].tolist()
            assert (names.count("one"), names.count("two")) == (6, 3)


def test_surveys_of_one_name_are_told_apart(survey, made, tmp_path):
    other = write_labelled(tmp_path / "elsewhere" / "one", made)
    assert set(read_labelled([survey, other]).survey) == {"one (1)", "one (2)"}


def test_objects_without_a_period_are_left_out(made, tmp_path):
    period = made.period.copy()
    period[[0, 7]] = np.nan
    period[8] = -1.0
    got = read_labelled([write_labelled(tmp_path / "one", replace(made, period=period))])
    assert len(got) == 117
    assert not {"one-0", "one-7", "one-8"} & set(got.object_id)


def test_long_form_is_read_too(made, tmp_path):
    curves = made.light_curves
    names = [f"one-{k:04d}" for k in range(150)]
    row = np.repeat(np.arange(150), curves.n_obs)
    table = pa.table(
        {
            "object_id": pa.array(names).take(pa.array(row)),
            "period": pa.array(made.period[row]),
            "class": pa.array([None if code < 0 else CLASSES[code] for code in made.class_code]).take(pa.array(row)),
            "time": curves.time,
            "mag": curves.mag,
            "mag_err": curves.mag_err,
        }
    )
    (tmp_path / "long").mkdir()
    pq.write_table(table, tmp_path / "long" / "part.parquet")
    got = read_labelled([tmp_path / "long"], None, Selection(max_per_class=4))
    assert len(got) == 24
    rows = np.array([names.index(name) for name in got.object_id])
    assert got.class_code.tolist() == made.class_code[rows].tolist()
    expected = curves.take(rows)
    np.testing.assert_array_equal(got.light_curves.mag, expected.mag)
    assert set(got.class_original) == {""}


def test_limits_of_each_survey_hold_before_they_are_joined(made, tmp_path):
    """An impossible time of one survey is a possible one of another: the fold of all must be that of each."""
    curves = made.light_curves
    time, mag = curves.time.copy(), curves.mag.copy()
    time[5], mag[70], mag[71] = -2409998.5, 99.99, 25.0
    spoilt = replace(made, light_curves=replace(curves, time=time + 50000, mag=mag))
    path = write_labelled(tmp_path / "one", spoilt)
    table = pq.read_table(path / "part-00000.parquet").replace_schema_metadata({"varstar.time_system": "MJD"})
    write_partition(path / "part-00000.parquet", table)
    got = read_labelled([path], [SurveyConfig(mag_max=25.0)], Selection(others=True))
    assert got.light_curves.n_obs[:3].tolist() == [59, 58, 60]
    limits = SurveyConfig(mag_max=25.0).limits("MJD")
    own = fold(spoilt.light_curves, made.period, Preprocessing(n_phase=32), limits)
    joined = fold(got.light_curves, got.period, Preprocessing(n_phase=32), Limits())
    np.testing.assert_array_equal(own.status, joined.status)
    np.testing.assert_array_equal(own.curve, joined.curve)


def test_nothing_is_cut_that_may_be(made):
    curves = made.light_curves
    same = within_limits(curves, Limits())
    np.testing.assert_array_equal(same.offsets, curves.offsets)
    empty = within_limits(LightCurves(np.zeros(1, np.int64), np.zeros(0), np.zeros(0)), Limits())
    assert len(empty) == 0


def test_taking_light_curves_equals_taking_one_at_a_time():
    random = np.random.default_rng(5)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, 5, 20))])
    m = int(offsets[-1])
    curves = LightCurves(offsets, random.random(m), random.random(m), random.random(m), random.random(20) < 0.5)
    for rows in (np.array([3, 3, 0, 19]), np.arange(20)[::-1], np.zeros(0, np.intp)):
        taken = curves.take(rows)
        assert len(taken) == len(rows)
        for k, row in enumerate(rows):
            one, expected = taken.slice(k, k + 1), curves.slice(row, row + 1)
            for name in ("time", "mag", "mag_err", "malformed"):
                np.testing.assert_array_equal(getattr(one, name), getattr(expected, name))


def test_surveys_without_errors_join_those_with(made):
    bare = replace(made, light_curves=replace(made.light_curves, mag_err=None))
    both = LabelledLightCurves.concat([made, bare])
    m = len(made.light_curves.mag)
    assert (both.light_curves.mag_err[m:] == 0).all()
    assert (both.light_curves.mag_err[:m] > 0).all()
    assert LabelledLightCurves.concat([bare]).light_curves.mag_err is None


def test_objects_of_other_kinds(made):
    others = made.other_kinds()
    assert others.tolist() == [False] * 120 + [True] * 30
    # Left out though their kind has a class: not of another kind.
    made.class_original[120:125] = "known"
    assert made.other_kinds().sum() == 25
    made.class_original[120:125] = "spotted"


def test_labels_of_catalogs_are_read_as_the_classes_that_they_mean(made, tmp_path):
    labels = ["DCEP", "RRab:", "mira", "EW|RRC", "odd", "ROT"] * 25
    path = write_labelled(tmp_path / "vsx", made, **{"class": labels, "class_original": None})
    got = read_labelled([path], None, Selection(others=True))
    assert dict(zip(labels, got.class_code.tolist(), strict=True)) == {
        **{"DCEP": 0, "RRab:": 4, "mira": 3},
        **dict.fromkeys(("EW|RRC", "odd", "ROT"), -1),
    }
    assert got.label.tolist() == labels
    assert got.left_out == {"EW|RRC": 25, "odd": 25, "ROT": 25}
    # What an out-of-distribution score should find is what is known to be of another kind.
    assert {got.label[k] for k in np.flatnonzero(got.other_kinds())} == {"ROT"}
    own = read_labelled([path], None, Selection(labels={"odd": "ECL", "DCEP": ""}))
    assert dict(zip(own.label.tolist(), own.class_code.tolist(), strict=True)) == {"RRab:": 4, "mira": 3, "odd": 2}


def test_labels_that_are_numbers_mean_what_the_configuration_says(made, tmp_path):
    path = write_labelled(tmp_path / "codes", made, **{"class": pa.array(["1", "2.0", None] * 50)})
    with pytest.raises(InputError, match=r"nobody knows what their labels mean: 100 objects \('1' 50, '2' 50\)"):
        read_labelled([path])
    got = read_labelled([path], None, Selection(labels={"1": "ECL", "2": "RR"}))
    assert got.class_code.tolist() == [2, 4] * 50
    assert got.left_out == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"class": ["odd", "ROT", "RRABB"] * 50}, r"none among 150 objects; .*'ROT' 50.*'RRABB' \(like RRAB\?\) 50"),
        ({"class": pa.nulls(150, pa.string())}, "expected objects with a class, got none among 150 objects"),
        ({"class": None}, "expected objects with a class, got none among 150 objects"),
        ({"period": pa.nulls(150, pa.float64())}, "expected periods of the labelled objects, got none"),
    ],
)
def test_labels_that_cannot_be_used(made, tmp_path, columns, message):
    path = write_labelled(tmp_path / "bad", made, **columns)
    with pytest.raises(InputError, match=message) as caught:
        read_labelled([path])
    assert "\n" not in str(caught.value)


def test_a_damaged_partition_ends_it(made, tmp_path):
    path = write_labelled(tmp_path / "bad", made)
    file = path / "part-00001.parquet"
    file.write_bytes((path / "part-00000.parquet").read_bytes()[:-100])
    with pytest.raises(InputError, match="part-00001"):
        read_labelled([path])


def test_ingest_carries_what_training_needs(shared_data, tmp_path):
    folder = shared_data / "sdss-s82"
    ingest(folder / "observations.parquet", folder / "objects.parquet", tmp_path / "sdss")
    got = read_labelled([tmp_path / "sdss"])
    assert len(got) == 315
    assert set(got.class_original) == {"RRab", "RRc"}
    assert set(got.band) == {"g"}
    assert set(got.period_source) == {"Sesar+2010"}
    assert np.isfinite(got.ra).all()
    assert np.abs(got.light_curves.mag).max() < 29
