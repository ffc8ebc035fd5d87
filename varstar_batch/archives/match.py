"""The objects of an archive's files, and which rows of a table of objects are theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.folder import ALL_BANDS
from varstar_batch.archives.tally import Tally
from varstar_batch.errors import InputError
from varstar_batch.sky import match_positions


@dataclass(frozen=True)
class Matched:
    """How the objects of the files and those of a table belong together."""

    unmatched: int = 0
    """Objects of the files without a row in the table."""
    ambiguous: int = 0
    """Objects with more than one row within the radius; the nearest was taken."""
    shared: int = 0
    """Rows to which several objects of the files belong."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the table calls the objects of the files; those that it calls the same may be missing."""


def objects_met(tally: Tally, where: str) -> pa.Table:
    """Return a table of the objects that were met, with what their files say of them; periods are null elsewhere.

    Raises
    ------
    InputError
        There was none.
    """
    names = sorted(tally.object_ids)
    if not names:
        raise InputError(expected="at least one object", got="none", where=where, fix="check the folder")
    kinds = {"period": pa.float64(), "class": pa.large_string()}
    columns = {"object_id": pa.array(names, pa.large_string())}
    for role in dict.fromkeys(("period", *tally.of_objects)):
        said = tally.of_objects.get(role, {})
        columns[role] = pa.array([said.get(name) for name in names], kinds[role])
    ra, dec = (pa.array(values, from_pandas=True) for values in _positions(tally, names))
    return pa.table(columns | {"ra": ra, "dec": dec})


def _positions(tally: Tally, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return right ascensions and declinations [deg] of objects, (2, n); NaN where there are none."""
    return np.array([tally.positions.get(name, (np.nan, np.nan)) for name in names]).T


def match_objects(objects: pa.Table, tally: Tally, radius: float | None, where: str) -> tuple[pa.Table, Matched]:
    """Return the objects of a table with identifiers as texts, and how those of the files are called there.

    Parameters
    ----------
    objects : pa.Table
        With canonical names.
    tally : Tally
        Of the files.
    radius : float or None
        Objects are matched by position within this many arcseconds; None to match by identifier.
    where : str
        The table, for an error.

    Raises
    ------
    InputError
        Positions are missing.
    """
    ids = objects["object_id"].cast(pa.large_string())
    objects = objects.set_column(objects.column_names.index("object_id"), "object_id", ids)
    met = list(tally.object_ids)
    if radius is None:
        unmatched = int(pc.sum(pc.invert(pc.is_in(pa.array(met, pa.large_string()), ids))).as_py() or 0)
        return objects, Matched(unmatched)
    if not tally.positions or not {"ra", "dec"} <= set(objects.column_names):
        lacking = where if tally.positions else "the files"
        raise InputError(
            expected="positions in the files and in the table of objects",
            got=f"none in {lacking}",
            where="--radius",
            fix="leave --radius out, and objects are matched by identifier",
        )
    ra, dec = _positions(tally, met)
    match = match_positions(ra, dec, objects["ra"].to_numpy(), objects["dec"].to_numpy(), radius / 3600)
    names = ids.to_pylist()
    called = {name: names[row] for name, row in zip(met, match.row.tolist(), strict=True) if row >= 0}
    unmatched = int((match.row < 0).sum())
    # One that is not matched must not fall on an object that happens to have its identifier.
    called |= {name: f"{name} (not matched)" for name in met if name not in called}
    return objects, Matched(unmatched, int(match.ambiguous.sum()), match.shared, called)


def with_band(objects: pa.Table, tally: Tally, band: str | None) -> pa.Table:
    """Say of every object which band its light curve is of, where there is just one."""
    bands = [band] if band not in (None, *ALL_BANDS) else [name for name, count in tally.bands.items() if count]
    if len(bands) > 1 or "band" in objects.column_names:
        return objects
    known = None if not bands or bands[0] == "unknown" else bands[0]
    return objects.append_column("band", pa.repeat(pa.scalar(known, pa.large_string()), objects.num_rows))
