"""Cells of positions: those of another library, to the last bit of order 29."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from astropy.coordinates import Latitude, Longitude
from cdshealpix.nested import lonlat_to_healpix
from hypothesis import given
from hypothesis import strategies as st

from varstar_batch.sky import cells_of, cone_ranges


@pytest.mark.parametrize("order", [0, 5, 12, 29])
def test_cells_are_those_of_cdshealpix(order: int) -> None:
    rng = np.random.default_rng(order)
    ra = np.concatenate([rng.uniform(0.0, 360.0, 100_000), [0.0, 10.0, 360.0, 0.0, 0.0]])
    dec = np.concatenate([np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, 100_000))), [0.0, 0.0, 0.0, 90.0, -90.0]])
    wanted = lonlat_to_healpix(Longitude(ra, "deg"), Latitude(dec, "deg"), order)
    np.testing.assert_array_equal(cells_of(ra, dec, order), wanted.astype(np.int64))


def test_a_position_that_is_none_has_no_cell() -> None:
    ra = [np.nan, 10.0, np.inf, 10.0, 370.0, -350.0]
    dec = [0.0, 90.1, 0.0, np.nan, 0.0, 0.0]
    cells = cells_of(ra, dec, 29)
    assert (cells[:4] == -1).all()
    assert (cells[4:] == cells_of([10.0], [0.0], 29)).all()


@given(
    ra=st.sampled_from([0.0, 45.0, 90.0, 135.0, 180.0, 315.0, 360.0]),
    dec=st.sampled_from([0.0, 41.8103148957786, 90.0]),
)
def test_a_cone_around_a_corner_of_cells_holds_the_cell_of_its_centre(ra: float, dec: float) -> None:
    ranges = cone_ranges(ra, dec, 0.0)
    cell = cells_of([ra], [dec], 29)[0]
    assert ((ranges[:, 0] <= cell) & (cell < ranges[:, 1])).any()


def test_a_run_needs_no_astropy_for_its_cells() -> None:
    code = "import sys, varstar_batch.sky as sky; sky.cells_of([1.0], [2.0], 29); print('astropy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
