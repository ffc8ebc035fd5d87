"""Cones on the sky: complete, exact, and read from few row groups; at the poles and across right ascension 0, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.makers.catalogs import RunSpec, in_pixels, in_slices, run_name, sky_rows, write_run
from varstar_batch.catalog import cone as cone_module
from varstar_batch.catalog.cone import Cone
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.catalog.run_files.index import RowGroupIndex
from varstar_batch.errors import InputError
from varstar_batch.sky import LARGEST_CONE, cells_of, cone_ranges

EVERYWHERE = sky_rows(4000, seed=3)
POSITIONS = SkyCoord(EVERYWHERE["ra"].to_numpy(), EVERYWHERE["dec"].to_numpy(), unit="deg")
AWKWARD = [
    (0.0, 90.0, 5.0),
    (123.0, 90.0, 5.0),
    (0.0, -90.0, 12.0),
    (200.0, 88.0, 4.0),
    (0.0, 0.0, 10.0),
    (359.9, 20.0, 8.0),
    (0.1, -45.0, 8.0),
    (-10.0, 10.0, 15.0),
    (180.0, -89.5, 1.0),
    (77.0, 3.0, 100.0),
    (77.0, 3.0, 180.0),
]


@pytest.fixture(scope="module", params=["directory", "hats"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CatalogReader:
    root = tmp_path_factory.mktemp("cone") / "catalog"
    cut = in_pixels if request.param == "hats" else in_slices
    write_run(root, run_name(1), RunSpec(partitions=cut(EVERYWHERE), layout=request.param, row_group_rows=64))
    return open_catalog(root)


def oracle(ra: float, dec: float, radius: float) -> set[int]:
    near = POSITIONS.separation(SkyCoord(ra, dec, unit="deg")).deg <= radius
    return set(np.asarray(EVERYWHERE["object_id"])[near].tolist())


@pytest.mark.parametrize(("ra", "dec", "radius"), AWKWARD)
def test_a_cone_holds_what_astropy_says(reader: CatalogReader, ra: float, dec: float, radius: float) -> None:
    found = reader.cone(ra, dec, radius)
    assert set(found["object_id"].to_pylist()) == oracle(ra, dec, radius)
    assert found.num_rows == len(set(found["object_id"].to_pylist()))
    separation = found["separation"].to_numpy()
    assert (np.diff(separation) >= 0).all()
    assert separation.max(initial=0) <= radius * 3600 * (1 + 1e-12)


def one_object_each(*, boxes: bool, cells: bool) -> RowGroupIndex:
    """An index in which every object is a row group of its own: the sharpest test of what is left out."""
    count = EVERYWHERE.num_rows
    position = {name: EVERYWHERE[name] for name in ("ra", "dec")}
    cell = pa.array(cells_of(position["ra"].to_numpy(), position["dec"].to_numpy(), 29))
    low = {"ra": position["ra"] if boxes else pa.array(np.zeros(count)), "dec": position["dec"], "_healpix_29": cell}
    high = {
        "ra": position["ra"] if boxes else pa.array(np.full(count, 360.0)),
        "dec": position["dec"],
        "_healpix_29": cell,
    }
    if not boxes:
        low["dec"], high["dec"] = pa.array(np.full(count, -90.0)), pa.array(np.full(count, 90.0))
    if not cells:
        low["_healpix_29"], high["_healpix_29"] = (
            pa.array(np.zeros(count, int)),
            pa.array(np.full(count, 12 * 4**29 - 1)),
        )
    columns = {f"{name}_min": values for name, values in low.items()}
    columns |= {f"{name}_max": values for name, values in high.items()}
    names = {"file": [str(k) for k in range(count)], "row_group": [0] * count, "rows": [1] * count}
    return RowGroupIndex(pa.table(names | columns))


INDEXES = {
    "boxes": one_object_each(boxes=True, cells=False),
    "cells": one_object_each(boxes=False, cells=True),
}


@settings(max_examples=80, deadline=None)
@given(
    ra=st.floats(0, 360),
    sine=st.floats(-1, 1),
    radius=st.one_of(st.floats(0.01, 31), st.floats(0.01, 179)),
    kind=st.sampled_from(sorted(INDEXES)),
)
def test_no_row_group_that_holds_an_object_of_the_cone_is_left_out(
    ra: float, sine: float, radius: float, kind: str
) -> None:
    dec = float(np.degrees(np.arcsin(sine)))
    kept = {group.file for group in INDEXES[kind].within(ra, dec, radius)}
    distance = POSITIONS.separation(SkyCoord(ra, dec, unit="deg")).deg
    assert {str(row) for row in np.flatnonzero(distance <= radius)} <= kept
    # And most of what is farther away is left out.
    far = {str(row) for row in np.flatnonzero(distance > 1.5 * radius + 1)}
    if kind == "cells" and radius < 10:
        assert not far & kept


def test_few_row_groups_are_read(reader: CatalogReader, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = cone_module.pq.ParquetFile.read_row_group

    def counted(self: object, number: int, **options: object) -> pa.Table:
        opened.append(f"{id(self)}:{number}")
        return original(self, number, **options)

    monkeypatch.setattr(cone_module.pq.ParquetFile, "read_row_group", counted)
    reader.cone(200.0, 10.0, 2.0)
    touched, groups = len(set(opened)), reader.index.table.num_rows
    assert 0 < touched <= groups / 4, f"{touched} of {groups}"


def test_ranges_of_a_cone_are_disjoint_ascending_and_not_much_larger_than_it() -> None:
    for ra, dec, radius in [*AWKWARD, (5.0, 5.0, 1e-9), (5.0, 5.0, 0.001)]:
        ranges = cone_ranges(ra, dec, radius)
        assert (ranges[:, 0] < ranges[:, 1]).all()
        assert (ranges[1:, 0] > ranges[:-1, 1]).all()
        covered = float((ranges[:, 1] - ranges[:, 0]).sum()) / (12 * 4**29)
        cone = (1 - np.cos(np.radians(max(radius, 1e-6)))) / 2
        assert cone <= covered * (1 + 1e-9)
        # Of a tiny cone the covering cells are of a fixed least size; to a huge one they do not matter.
        assert covered <= 2.5 * cone + 1e-12 or radius > LARGEST_CONE


def test_objects_without_a_position_are_in_no_cone(tmp_path: Path) -> None:
    rows = sky_rows(300)
    half = pa.array(np.where(np.arange(300) < 150, rows["ra"].to_numpy(), np.nan), from_pandas=True)
    none = pa.nulls(300, pa.float64())
    for name, ra in (("half", half), ("none", none)):
        moved = rows.set_column(rows.schema.get_field_index("ra"), "ra", ra)
        write_run(tmp_path / name, run_name(1), RunSpec(partitions=in_slices(moved), row_group_rows=32))
        found = open_catalog(tmp_path / name).cone(0, 0, 180)
        assert found.num_rows == len(ra) - ra.null_count
        assert "separation" in found.column_names


def test_some_columns_can_be_asked_for(reader: CatalogReader) -> None:
    found = reader.cone(10, 10, 20, columns=["object_id", "class"])
    assert found.column_names == ["object_id", "class", "separation"]
    assert reader.cone(10, 10, 1e-7, columns=["class"]).column_names == ["class", "separation"]


@pytest.mark.parametrize(
    ("ra", "dec", "radius", "named"),
    [
        (0, 91, 1, "--dec"),
        (0, -90.01, 1, "--dec"),
        (361, 0, 1, "--ra"),
        (float("nan"), 0, 1, "--ra"),
        (0, float("inf"), 1, "--dec"),
        (0, 0, 0, "--radius"),
        (0, 0, -1, "--radius"),
        (0, 0, 181, "--radius"),
        (0, 0, float("nan"), "--radius"),
    ],
)
def test_bad_coordinates_get_one_line(ra: float, dec: float, radius: float, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        Cone(ra, dec, radius)
    assert caught.value.exit_code == 2


def test_separation_is_exact_for_tiny_and_opposite_distances() -> None:
    assert Cone(10, 20, 1).separation([10.0], [20 + 1e-9])[0] == pytest.approx(1e-9, rel=1e-4)
    assert Cone(10, 20, 1).separation([190.0], [-20.0])[0] == pytest.approx(180.0, abs=1e-5)
    assert np.isnan(Cone(10, 20, 1).separation([np.nan], [0.0])[0])
