"""Light curves that a bundle was trained on are known again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.makers.labelled import labelled_sines
from varstar_batch.training.stars.seen import count_seen, marks_of, write_marks


def test_a_light_curve_is_known_by_its_magnitudes_alone():
    objects = labelled_sines(60)
    marks = marks_of(objects.light_curves)
    assert len(set(marks)) == 60
    training = {"marks": write_marks(marks[:40])}
    assert count_seen(training, objects) == 40
    assert count_seen(training, replace(objects, period=objects.period * 2).take(np.arange(59, -1, -1))) == 40
    assert count_seen(training, labelled_sines(60, seed=4)) == 0
    assert count_seen({}, objects) == 0


def test_marks_depend_neither_on_the_order_of_observations_nor_on_what_else_there_is():
    curves = labelled_sines(12).light_curves
    order = np.concatenate([np.random.default_rng(k).permutation(60) + 60 * k for k in range(12)])
    shuffled = replace(curves, time=curves.time[order], mag=curves.mag[order])
    np.testing.assert_array_equal(marks_of(shuffled), marks_of(curves))
    np.testing.assert_array_equal(marks_of(curves.take(np.array([5]))), marks_of(curves)[[5]])
    np.testing.assert_array_equal(marks_of(curves.slice(4, 7)), marks_of(curves)[4:7])
    moved = replace(curves, mag=np.nextafter(curves.mag, np.float32(99)))
    assert not set(marks_of(moved)) & set(marks_of(curves))
