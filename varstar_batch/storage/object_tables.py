"""Tables of objects in any form (Parquet, CSV, ECSV, FITS, VOTable), and matching them by position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pv

from varstar_batch.errors import InputError
from varstar_batch.storage.archives.astropy_tables import kind_of, read_with_astropy
from varstar_batch.storage.archives.content import UnreadableFileError
from varstar_batch.storage.columns import SurveyConfig
from varstar_batch.storage.files import Location

_FIX = "give Parquet, CSV with names in the first line, ECSV, FITS or VOTable"


@dataclass(frozen=True)
class Match:
    """Which row of a second table belongs to each of n objects.

    Attributes
    ----------
    row : int64 array (n,)
        -1 where there is none.
    ambiguous : bool array (n,)
        More than one row was near enough; the nearest is taken.
    shared : int
        Rows that belong to more than one object.
    """

    row: npt.NDArray[np.int64]
    ambiguous: npt.NDArray[np.bool_]
    shared: int


def read_small_table(file: Location, config: SurveyConfig) -> pa.Table | None:
    """Read a table of objects that is no Parquet; None where it is Parquet.

    Identifiers in CSV are read as texts, so that leading zeros stay.

    Raises
    ------
    InputError
        It is of no known form, damaged, or has no column.
    """
    content = file.read_bytes()
    if content.startswith(b"PAR1"):
        return None
    kind = kind_of(content, file.name)
    try:
        if kind is not None:
            return read_with_astropy(content, kind).replace_schema_metadata(None)
        if b"\0" in content[:65536] or b"," not in content[:65536]:
            raise UnreadableFileError("a table of objects", "something else")
        return _read_csv(content, config)
    except (UnreadableFileError, pa.ArrowException) as error:
        expected, got = (
            (error.expected, error.got) if isinstance(error, UnreadableFileError) else ("a CSV table", str(error))
        )
        raise InputError(expected=expected, got=got, where=str(file), fix=_FIX) from error


def _read_csv(content: bytes, config: SurveyConfig) -> pa.Table:
    texts = {config.object_id: pa.large_string()} | ({config.class_: pa.large_string()} if config.class_ else {})
    return pv.read_csv(
        pa.BufferReader(content),
        pv.ReadOptions(use_threads=False, block_size=min(len(content) + 1, 2**30)),
        convert_options=pv.ConvertOptions(column_types=texts, strings_can_be_null=True),
    )


def match_positions(
    ra: npt.ArrayLike, dec: npt.ArrayLike, other_ra: npt.ArrayLike, other_dec: npt.ArrayLike, radius: float
) -> Match:
    """Find the nearest row of another table for each of n objects, within a radius.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
        Degrees; NaN where unknown.
    other_ra, other_dec : array_like of float, shape (m,)
        Degrees; NaN where unknown.
    radius : float
        Degrees, 0 < radius <= 1.
    """
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    if not 0 < radius <= 1:
        raise ValueError(f"radius: expected more than 0 and at most 1 degree, got {radius}")
    first, second = _unit_vectors(ra, dec), _unit_vectors(other_ra, other_dec)
    known, others = np.isfinite(first).all(axis=1), np.flatnonzero(np.isfinite(second).all(axis=1))
    row = np.full(len(first), -1, np.int64)
    ambiguous = np.zeros(len(first), np.bool_)
    if known.any() and len(others):
        chord = 2 * np.sin(np.radians(radius) / 2)
        # A neighbour at exactly the radius counts.
        bound = np.nextafter(chord, 1)
        distance, nearest = cKDTree(second[others]).query(first[known], k=2, distance_upper_bound=bound)
        found = np.isfinite(distance[:, 0])
        row[known] = np.where(found, others[np.where(found, nearest[:, 0], 0)], -1)
        ambiguous[known] = np.isfinite(distance[:, 1])
    taken = row[row >= 0]
    return Match(row, ambiguous, int((np.bincount(taken) > 1).sum()) if len(taken) else 0)


def _unit_vectors(ra: npt.ArrayLike, dec: npt.ArrayLike) -> npt.NDArray[np.float64]:
    right, up = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    return np.stack([np.cos(up) * np.cos(right), np.cos(up) * np.sin(right), np.sin(up)], axis=-1)
