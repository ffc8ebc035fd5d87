"""Surveys as HATS catalogs: which object goes into which pixel, and what makes the folder a catalog."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from varstar_batch.errors import InputError
from varstar_batch.sky import HEALPIX_COLUMN, cells_of
from varstar_batch.storage.ingest_plan import PARTITION_BYTES, PARTITION_OBJECTS, IngestPlan, IntArray, Widths

_HIGHEST_ORDER = 11
# Pixels of 1.7 arcmin: stars that are crowded even more stay together.


def with_cells(objects: pa.Table, where: str) -> pa.Table:
    """Return the objects with the column of their HEALPix cells of order 29 in front.

    Raises
    ------
    InputError
        An object has no position.
    """
    ra, dec = (
        objects[axis].to_numpy() if axis in objects.column_names else np.full(len(objects), np.nan)
        for axis in ("ra", "dec")
    )
    cells = cells_of(ra, dec, 29)
    lost = np.flatnonzero(cells < 0)
    if len(lost):
        raise InputError(
            expected="the position of every object, which HATS needs",
            got=f"{len(lost)} of {len(objects)} without, the first {objects['object_id'][int(lost[0])].as_py()!r}",
            where=where,
            fix="complete ra and dec in the table of objects, or leave --hats out",
        )
    if HEALPIX_COLUMN in objects.column_names:
        objects = objects.drop_columns([HEALPIX_COLUMN])
    return objects.add_column(0, pa.field(HEALPIX_COLUMN, pa.int64(), nullable=False), pa.array(cells))


def plan_pixels(
    plan: IngestPlan, cells: IntArray, partitions: int | None, widths: Widths
) -> tuple[IngestPlan, list[str]]:
    """Place n objects by HEALPix pixels, balanced by bytes, and never with too many objects.

    Parameters
    ----------
    plan : IngestPlan
        With the counts of observations.
    cells : int64 array (n,)
        Of order 29.
    partitions : int or None
        Aimed at; pixels are divided by four, so that there may be several times as many. None for a number that suits
        the observations.
    widths : Widths
        Bytes of rows.

    Returns
    -------
    IngestPlan, list of str
        The plan in the order of the cells, and the key of each partition.
    """
    order = np.argsort(cells, kind="stable")
    ascending = cells[order]
    ends = np.append(0, np.cumsum(widths.of(plan.counts[order])))
    most = PARTITION_BYTES if partitions is None else -(-int(ends[-1]) // partitions)
    bounds, keys = [0], []
    waiting = [(0, pixel) for pixel in range(11, -1, -1)]
    while waiting:
        level, pixel = waiting.pop()
        shift = 2 * (29 - level)
        edges = np.array([pixel, pixel + 1], np.int64) << np.int64(shift)
        start, stop = np.searchsorted(ascending, edges)
        if start == stop:
            continue
        is_large = ends[stop] - ends[start] > most or stop - start > PARTITION_OBJECTS
        if is_large and level < _HIGHEST_ORDER and stop - start > 1:
            waiting += [(level + 1, 4 * pixel + part) for part in range(3, -1, -1)]
            continue
        bounds.append(int(stop))
        keys.append(f"dataset/Norder={level}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet")
    return replace(plan, order=order, bounds=np.array(bounds, np.int64)), keys
