"""No star on both sides of a split, whatever its names, bands and surveys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.makers.labelled import labelled_sines, texts
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.training.stars.folds import fold_splits, star_groups
from varstar_batch.training.stars.labelled import LabelledLightCurves

ARCSEC = 1 / 3600


def stars(ra, dec, names=None, code=None, survey=None):
    n = len(ra)
    empty = LightCurves(np.zeros(n + 1, np.int64), np.zeros(0), np.zeros(0, np.float32))
    return LabelledLightCurves(
        light_curves=empty,
        period=np.ones(n),
        class_code=np.zeros(n, np.int8) if code is None else np.asarray(code, np.int8),
        survey=texts(["s"] * n if survey is None else survey),
        object_id=texts(range(n) if names is None else names),
        ra=np.asarray(ra, np.float64),
        dec=np.asarray(dec, np.float64),
        class_original=texts([""] * n),
        label=texts([""] * n),
        band=texts([""] * n),
        period_source=texts([""] * n),
    )


def test_positions_make_one_star_also_across_the_meridian_and_at_the_pole():
    ra = [359.99995, 0.00005, 10.0, 190.0, 50.0, 50.0 + 3 * ARCSEC]
    dec = [0.0, 0.0, 90 - 0.4 * ARCSEC, 90 - 0.4 * ARCSEC, 0.0, 0.0]
    assert star_groups(stars(ra, dec)).tolist() == [0, 0, 1, 1, 2, 3]


def test_chains_are_one_star():
    ra = [10.0, 10.0 + 1.5 * ARCSEC, 10.0 + 3.0 * ARCSEC, 10.0 + 6.0 * ARCSEC]
    assert star_groups(stars(ra, [0.0] * 4)).tolist() == [0, 0, 0, 1]


def test_names_make_one_star_unless_positions_contradict():
    nan = np.nan
    names = ["a", "a", "b", "b", "c", "c", "d"]
    ra, dec = [nan, 5.0, 10.0, 20.0, nan, nan, nan], [nan, 5.0, 0.0, 0.0, nan, nan, nan]
    groups = star_groups(stars(ra, dec, names))
    assert groups[0] == groups[1]
    assert groups[2] != groups[3]
    assert groups[4] == groups[5]
    assert len(set(groups)) == 5


def test_no_objects():
    assert star_groups(stars([], [])).tolist() == []


@st.composite
def surveys_of_stars(draw):
    """Stars seen up to four times, in surveys that share some of their names and measure positions to an arcsecond."""
    seed = draw(st.integers(0, 2**31))
    n = draw(st.integers(12, 80))
    random = np.random.default_rng(seed)
    star = random.integers(0, n, 3 * n)
    centre = random.uniform(0, 360, n), np.degrees(np.arcsin(random.uniform(-1, 1, n)))
    jitter = random.uniform(-0.4, 0.4, (2, 3 * n)) * ARCSEC
    dec = np.clip(centre[1][star] + jitter[0], -90, 90)
    ra = (centre[0][star] + jitter[1]) % 360
    named = random.random(3 * n) < 0.3
    ra[named], dec[named] = np.nan, np.nan
    survey = random.integers(0, 3, 3 * n)
    # Rows without a position can be recognised by their name only, in whatever survey.
    names = [
        f"star {s}" if known or random.random() < 0.5 else f"row {k}"
        for k, (s, known) in enumerate(zip(star, named, strict=True))
    ]
    for k in np.flatnonzero(named):
        names[k] = f"star {star[k]}"
    code = random.integers(0, 3, n)[star]
    return stars(ra, dec, names, code, survey), star, seed


@settings(max_examples=40, deadline=None)
@given(surveys_of_stars(), st.integers(0, 7))
def test_no_star_is_ever_on_both_sides(drawn, folds):
    objects, _, seed = drawn
    groups = star_groups(objects)
    # The groups themselves are right: one for each position, one for each name.
    for column in (objects.object_id.astype(str),):
        for name in np.unique(column):
            assert len(np.unique(groups[column == name])) == 1
    held = np.zeros(len(objects), int)
    for split in fold_splits(objects, folds, seed):
        assert not set(groups[split.train]) & set(groups[split.held])
        assert len(split.train) + len(split.held) == len(objects)
        held[split.held] += 1
    assert held.max() == 1
    assert (held == 1).all() == (folds > 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(0, 2**31 - 1), st.permutations(list(range(60))))
def test_folds_are_even_in_class_and_survey(folds, seed, order):
    objects = labelled_sines(60)
    objects.survey[::2] = "other"
    objects = replace(objects.take(np.array(order)))
    splits = fold_splits(objects, folds, seed)
    sizes = [len(split.held) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    for column in (
        objects.class_code,
        np.array([f"{a}{b}" for a, b in zip(objects.class_code, objects.survey, strict=True)]),
    ):
        for value in np.unique(column):
            counts = [np.sum(column[split.held] == value) for split in splits]
            assert max(counts) - min(counts) <= 1, (value, counts)


def test_the_same_seed_gives_the_same_folds_and_another_does_not():
    objects = labelled_sines(120)
    first, again, other = (fold_splits(objects, 5, seed) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.held, b.held)
    assert any(not np.array_equal(a.held, b.held) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("folds", [0, 1])
def test_a_single_split_holds_out_a_fifth(folds):
    (split,) = fold_splits(labelled_sines(120), folds, 1)
    assert (len(split.train), len(split.held)) == (96, 24)
