"""A second table that knows the periods of the objects, matched by identifier or by position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError
from varstar_batch.sky import match_positions
from varstar_batch.storage.ingest_objects import read_objects
from varstar_batch.survey.columns import SurveyConfig


@dataclass(frozen=True, kw_only=True)
class PeriodsMatched:
    """What a table of periods gave.

    Attributes
    ----------
    matched : int
        Objects that have a row in it.
    taken : int
        Of these, those whose period is now the table's; the others have none there.
    ambiguous : int
        Objects with more than one row within the radius; the nearest was taken.
    shared : int
        Rows that belong to more than one object.
    """

    matched: int
    taken: int
    ambiguous: int = 0
    shared: int = 0


def with_periods(
    objects: pa.Table, url: str, config: SurveyConfig, radius: float | None
) -> tuple[pa.Table, PeriodsMatched]:
    """Return objects with the periods of another table; where that has none, their own stay.

    Parameters
    ----------
    objects : pa.Table
        With canonical names.
    url : str
        Parquet, CSV, ECSV, FITS or VOTable.
    config : SurveyConfig
        Names of the columns of the other table.
    radius : float or None
        Arcseconds within which positions belong together; None to match by identifier.

    Raises
    ------
    InputError
        The table cannot be read, has an identifier twice, or positions are missing.
    """
    periods = read_objects(url, config, by_position=radius is not None)
    ambiguous = shared = 0
    if radius is None:
        ids = periods["object_id"].cast(pa.large_string()).combine_chunks()
        row = pc.index_in(objects["object_id"].cast(pa.large_string()), ids).fill_null(-1).to_numpy()
    else:
        for table, where in ((objects, "the table of objects"), (periods, url)):
            if not {"ra", "dec"} <= set(table.column_names):
                raise InputError(
                    expected="columns ra and dec, to match by position",
                    got="none",
                    where=where,
                    fix="leave --periods-radius out, and objects are matched by identifier",
                )
        ra, dec, other_ra, other_dec = (
            table[axis].to_numpy() for table in (objects, periods) for axis in ("ra", "dec")
        )
        match = match_positions(ra, dec, other_ra, other_dec, radius / 3600)
        row, ambiguous, shared = match.row, int(match.ambiguous.sum()), match.shared
    there = np.append(periods["period"].to_numpy().astype(np.float64), np.nan)[row]
    taken = np.isfinite(there)
    own = objects["period"].to_numpy().astype(np.float64)
    merged = pa.array(np.where(taken, there, own), pa.float64(), from_pandas=True)
    counts = PeriodsMatched(matched=int((row >= 0).sum()), taken=int(taken.sum()), ambiguous=ambiguous, shared=shared)
    return objects.set_column(objects.column_names.index("period"), "period", merged), counts
