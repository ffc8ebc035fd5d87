"""Light curves as offsets and columns: from Arrow lists of every kind, sliced, joined, refused if they do not fit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varstar_batch.light_curves import LightCurves
from varstar_batch.light_curves.arrow_lists import make_offsets

NAN = float("nan")
DOUBLES, FLOATS = pa.list_(pa.float64()), pa.list_(pa.float32())


def lists_of(curves: LightCurves, column: str) -> list[list[float]]:
    values = getattr(curves, column)
    return [values[a:b].tolist() for a, b in zip(curves.offsets[:-1], curves.offsets[1:], strict=True)]


def shares_memory(values: np.ndarray, array: pa.Array) -> bool:
    return np.shares_memory(values, array.values.to_numpy())


def test_a_single_chunk_is_not_copied():
    time = pa.array([[1.0, 2.0, 3.0], [], [4.0]], DOUBLES)
    mag = pa.array([[10, 11, 12], [], [13]], pa.large_list(pa.float32()))
    curves = LightCurves.from_arrow(pa.chunked_array([time]), mag, mag)
    assert len(curves) == 3
    assert curves.offsets.dtype == np.int64
    assert curves.offsets.tolist() == [0, 3, 3, 4]
    assert curves.n_obs.tolist() == [3, 0, 1]
    assert curves.mag.dtype == np.float32
    assert curves.malformed is None
    assert shares_memory(curves.time, time)
    assert shares_memory(curves.mag, mag)


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
@pytest.mark.parametrize(("start", "length"), [(0, 2), (1, 3), (2, 0), (4, 1), (5, 0)])
def test_slices_are_taken_as_sliced(kind, start, length):
    rows = [[1.0, 2.0], [3.0], None, [4.0, 5.0, 6.0], [7.0]]
    time, mag = pa.array(rows, kind(pa.float64())), pa.array(rows, kind(pa.float32()))
    curves = LightCurves.from_arrow(time.slice(start, length), mag.slice(start, length))
    expected = [row or [] for row in rows[start : start + length]]
    assert lists_of(curves, "time") == expected
    assert lists_of(curves, "mag") == expected
    assert curves.offsets[0] == 0
    if len(curves.time):
        assert shares_memory(curves.time, time)


def test_fixed_size_lists_with_offset_and_nulls():
    rows = [[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]]
    time, mag = pa.array(rows, pa.list_(pa.float64(), 2)), pa.array(rows, pa.list_(pa.float32(), 2))
    curves = LightCurves.from_arrow(time, mag)
    assert lists_of(curves, "time") == [[1, 2], [], [3, 4], [5, 6]]
    sliced = LightCurves.from_arrow(time[1:3], mag[1:3])
    assert lists_of(sliced, "mag") == [[], [3, 4]]
    tail = LightCurves.from_arrow(time[2:], mag[2:])
    assert np.shares_memory(tail.time, time.values[4:].to_numpy())


def test_null_lists_are_empty_even_where_values_lie_under_them():
    offsets, values = pa.array([0, 2, 4, 5], pa.int32()), pa.array([1.0, 2.0, 3.0, 4.0, 5.0])
    time = pa.ListArray.from_arrays(offsets, values, mask=pa.array([False, True, False]))
    assert lists_of(LightCurves.from_arrow(time, time), "time") == [[1, 2], [], [5]]
    # The same lists, stored otherwise in the other column.
    mag = pa.array([[10.0, 20.0], [], [50.0]])
    curves = LightCurves.from_arrow(time, mag)
    assert curves.malformed is None
    assert lists_of(curves, "mag") == [[10, 20], [], [50]]


def test_null_elements_are_nan():
    time, mag = pa.array([[1.0, None], [2.0]], DOUBLES), pa.array([[None, 11.0], [12.0]], FLOATS)
    curves = LightCurves.from_arrow(time, mag)
    np.testing.assert_array_equal(curves.time, [1, NAN, 2])
    np.testing.assert_array_equal(curves.mag, np.float32([NAN, 11, 12]))


def test_chunks_may_lie_differently_in_each_column():
    rows = [[1.0], [2.0, 3.0], None, [], [4.0]]
    time = pa.chunked_array([pa.array(rows[:1], DOUBLES), pa.array(rows[1:], DOUBLES)])
    whole = pa.array(rows, FLOATS)
    mag = pa.chunked_array([whole[:3], whole[3:3], whole[3:]])
    curves = LightCurves.from_arrow(time, mag, whole)
    for column in ("time", "mag", "mag_err"):
        assert lists_of(curves, column) == [[1], [2, 3], [], [], [4]]
    assert len(LightCurves.from_arrow(pa.chunked_array([], DOUBLES), pa.chunked_array([], FLOATS))) == 0


def test_lists_of_different_lengths_are_malformed_and_give_no_observations():
    time = pa.array([[1.0, 2.0], [3.0], [4.0, 5.0], [6.0]], DOUBLES)
    mag = pa.array([[1, 2], [3, 3], [4, 5], [6]], FLOATS)
    mag_err = pa.array([[0.1, 0.2], [0.3], None, [0.6]], FLOATS)
    curves = LightCurves.from_arrow(time, mag, mag_err)
    assert curves.malformed is not None
    assert curves.malformed.tolist() == [False, True, True, False]
    assert lists_of(curves, "time") == lists_of(curves, "mag") == [[1, 2], [], [], [6]]
    np.testing.assert_allclose(curves.mag_err, [0.1, 0.2, 0.6], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(pa.float16(), np.float32), (pa.float32(), np.float32), (pa.float64(), np.float64), (pa.int16(), np.float64)],
)
def test_types_of_magnitudes(kind, dtype):
    curves = LightCurves.from_arrow(pa.array([[1]], pa.list_(pa.int64())), pa.array([[12]], pa.list_(kind)))
    assert curves.mag.dtype == dtype
    assert (curves.time[0], curves.mag[0]) == (1.0, 12.0)


def test_lists_without_any_value_have_no_type():
    nothing = pa.array([[], None, []])
    curves = LightCurves.from_arrow(nothing, nothing, nothing)
    assert (curves.time.dtype, curves.mag.dtype, curves.n_obs.tolist()) == (np.float64, np.float32, [0, 0, 0])
    np.testing.assert_array_equal(LightCurves.from_arrow(pa.array([[1.0]]), pa.array([[None]])).mag, np.float32([NAN]))


@pytest.mark.parametrize(
    ("time", "mag", "message"),
    [
        (pa.array([[1.0]], FLOATS), pa.array([[1.0]], FLOATS), "time: expected lists of float64, got float.*0.25 d"),
        (pa.array([1.0]), pa.array([[1.0]]), "time: expected a list, large_list or fixed_size_list of numbers, got d"),
        (pa.array([[1.0]]), pa.array([["x"]]), "mag: expected lists of float64 or float32, got string"),
        (pa.array([[1.0]]), pa.array([[True]]), "mag: expected lists of float64 or float32, got bool"),
    ],
)
def test_other_columns_are_refused(time, mag, message):
    with pytest.raises(TypeError, match=message):
        LightCurves.from_arrow(time, mag)


def test_columns_of_different_numbers_of_objects_are_refused():
    with pytest.raises(ValueError, match="expected equal numbers of lists, got time 2, mag 1"):
        LightCurves.from_arrow(pa.array([[1.0], [2.0]]), pa.array([[1.0]]))


ROWS = st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.floats(width=32)), max_size=4)), max_size=8)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(rows=ROWS, other=ROWS, kind=st.sampled_from([pa.list_, pa.large_list]), data=st.data())
def test_any_lists_sliced_and_chunked_anyhow(rows, other, kind, data):
    others = (other + rows)[: len(rows)]
    mags = [data.draw(st.sampled_from(pair)) for pair in zip(rows, others, strict=True)]

    def column(values, dtype):
        array = pa.array([[1.5], *values, [2.5]], kind(dtype))[1:-1]
        cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=3)))
        edges = [0, *cuts, len(values)]
        return pa.chunked_array([array[a:b] for a, b in pairwise(edges)])

    curves = LightCurves.from_arrow(column(rows, pa.float64()), column(mags, pa.float32()))
    fits = [len(row or []) == len(mag or []) for row, mag in zip(rows, mags, strict=True)]
    assert (curves.malformed is None) == all(fits)
    if curves.malformed is not None:
        assert curves.malformed.tolist() == [not fit for fit in fits]
    for name, expected in (("time", rows), ("mag", mags)):
        flat = [NAN if v is None else v for row, fit in zip(expected, fits, strict=True) if fit for v in row or []]
        np.testing.assert_array_equal(getattr(curves, name), np.array(flat, float))
    assert curves.n_obs.tolist() == [len(row or []) * fit for row, fit in zip(rows, fits, strict=True)]


def test_offsets_do_not_overflow_int32():
    lengths = np.full(3, 2**31 - 1, np.int32)
    assert make_offsets(lengths).tolist() == [0, 2**31 - 1, 2**32 - 2, 3 * (2**31 - 1)]


def example(with_errors: bool = True) -> LightCurves:
    values = np.arange(6.0)
    malformed = np.array([False, False, True, False])
    return LightCurves(
        np.array([0, 2, 5, 5, 6]), values, values.astype(np.float32), values / 10 if with_errors else None, malformed
    )


@pytest.mark.parametrize("with_errors", [True, False])
def test_slice_and_concat_are_inverse(with_errors):
    curves = example(with_errors)
    for cut in range(5):
        parts = [curves.slice(0, cut), curves.slice(cut, 4)]
        assert [len(part) for part in parts] == [cut, 4 - cut]
        joined = LightCurves.concat(parts)
        for name in ("offsets", "time", "mag", "mag_err", "malformed"):
            np.testing.assert_array_equal(getattr(joined, name), getattr(curves, name))
    assert np.shares_memory(curves.slice(1, 3).time, curves.time)
    assert LightCurves.concat([curves]) is curves


def test_slices_are_cut_as_in_python():
    curves = example()
    assert [len(curves.slice(*bounds)) for bounds in ((-1, 9), (2, 1), (9, 10), (0, 4))] == [1, 0, 0, 4]


def test_parts_that_do_not_fit_are_not_joined():
    with pytest.raises(ValueError, match="expected at least one part"):
        LightCurves.concat([])
    with pytest.raises(ValueError, match="mag_err: expected in all 2 parts or in none, got in 1"):
        LightCurves.concat([example(True), example(False)])


GOOD = {"offsets": np.array([0, 1]), "time": np.zeros(1), "mag": np.zeros(1, np.float32)}


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("offsets", np.array([0, 1], np.int32), TypeError),
        ("offsets", np.array([], np.int64), ValueError),
        ("offsets", np.array([0, 2]), ValueError),
        ("offsets", np.array([1, 1]), ValueError),
        ("offsets", np.array([0, 2, 1]), ValueError),
        ("offsets", np.array([[0, 1]]), ValueError),
        ("time", np.zeros(1, np.float32), TypeError),
        ("time", np.zeros(1, ">f8"), TypeError),
        ("time", [0.0], TypeError),
        ("time", np.zeros((1, 1)), ValueError),
        ("mag", np.zeros(1, np.int64), TypeError),
        ("mag", np.zeros(2), ValueError),
        ("mag_err", np.zeros(2), ValueError),
        ("mag_err", np.zeros(1, np.float16), TypeError),
        ("malformed", np.zeros(1, np.uint8), TypeError),
        ("malformed", np.zeros(2, np.bool_), ValueError),
    ],
)
def test_what_the_kernel_could_not_trust_is_refused(field, value, error):
    assert len(LightCurves(**GOOD)) == 1
    with pytest.raises(error, match=f"{field}: expected .*got"):
        LightCurves(**(GOOD | {field: value}))
