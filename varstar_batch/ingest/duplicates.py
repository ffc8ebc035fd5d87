"""Observations that are there twice: the same object, time, magnitude and error, such as a file beside its copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.files.location import Location
from varstar_batch.files.parquet import opened_parquet

_COMPARED = ("mag", "mag_err")
"""With the time, the object and the band; of those that there are."""


def find_repeated(rows: pa.Table, offsets: npt.NDArray[np.int64], band: str | None = None) -> npt.NDArray[np.bool_]:
    """Return which of n observations say what an earlier one of their object has said.

    Parameters
    ----------
    rows : pa.Table
        n observations by object and time, with the columns `time` and `mag`, perhaps `mag_err`.
    offsets : int64 array (m + 1,)
        Where the observations of each of m objects begin.
    band : str, optional
        Column of bands: the same in another band is another observation.

    Returns
    -------
    bool array (n,)
    """
    repeated = np.zeros(rows.num_rows, np.bool_)
    time = rows["time"].to_numpy()
    same_time = time[1:] == time[:-1]
    begins = offsets[1:-1]
    same_time[begins[(begins > 0) & (begins < len(time))] - 1] = False
    if not same_time.any():
        return repeated
    # Of the runs of observations at one time those that are alike come one after the other, in the order they came.
    where = np.flatnonzero(np.append(same_time, False) | np.insert(same_time, 0, False))
    run = np.insert(np.cumsum(~same_time), 0, 0)[where]
    compared = [name for name in (*_COMPARED, band) if name in rows.column_names]
    values = [_comparable(rows[name].take(pa.array(where))) for name in compared]
    order = np.lexsort((*values, run))
    alike = np.all([one[order[1:]] == one[order[:-1]] for one in (*values, run)], axis=0)
    repeated[where[order[1:][alike]]] = True
    return repeated


def _comparable(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return numbers that are equal where the values are, or where both are missing."""
    if pa.types.is_floating(column.type):
        values: npt.NDArray[Any] = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
        return np.where(np.isnan(values), np.inf, values)
    codes: npt.NDArray[Any] = column.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(False)
    return codes


def count_written(file: Location, empty: int) -> int:
    """Return the observations in a file of a survey by its footer, where so many light curves have none."""
    with opened_parquet(file) as parquet:
        footer = parquet.metadata
        leaves = [footer.schema.column(i).path for i in range(footer.num_columns)]
        place = next(i for i, path in enumerate(leaves) if path.startswith("lightcurve.time"))
        # A light curve without observations counts as one value there.
        counts = [footer.row_group(i).column(place).num_values for i in range(footer.num_row_groups)]
        return int(sum(counts)) - empty
