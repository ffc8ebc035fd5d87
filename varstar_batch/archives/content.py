"""What a file of an archive holds once it is read: observations, and a count of what was left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.light_curves.fluxes import SENTINEL
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.good import Good

OBSERVATIONS = pa.schema(
    {"object_id": pa.large_string(), "time": pa.float64(), "mag": pa.float32(), "mag_err": pa.float32()}
    | {"band": pa.large_string(), "camera": pa.large_string()}
)
"""Of every archive's observations: times in days, magnitudes; band and camera null where the archive has none."""

# Of names of files, as often as they come: star.csv.gz, star.FITS.
_ENDINGS = re.compile(
    r"(\.(gz|bz2|xz|zst|csv|dat2?|data|txt|tsv|tab|tbl|psv|ascii?|fits?|fts|vot|votable|xml|parquet|pq|ecsv|time|mjd|lc))+$",
    re.IGNORECASE,
)

Column: TypeAlias = Any
"""An Arrow or NumPy array, a text that stands for all rows, or None for nothing."""


class UnreadableFileError(Exception):
    """A file that is not what it should be: what was expected, and what it holds."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected, self.got = expected, got


@dataclass(frozen=True)
class FileContent:
    """The observations of one file."""

    observations: pa.Table
    """`OBSERVATIONS`; of upper limits the magnitude is the limit and the error `SENTINEL`."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Observations that the archive itself flags as bad, by the flag."""
    positions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Right ascension and declination [deg] by object_id, where the file has them."""
    of_objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the file says of its objects, such as their `period`, by object_id."""
    empty_objects: tuple[str, ...] = ()
    """Objects whose arrays are null or empty: they have no observation, and are objects all the same."""
    nameless: int = 0
    """Rows whose arrays are null or empty and that have no identifier: there is nothing to keep of them."""
    repeated: tuple[str, ...] = ()
    """Of several files that were read in one go: the objects that more than one of them has."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What was assumed because the file does not say it, with the observations that it concerns."""

    @property
    def rows(self) -> int:
        """Observations, with those left out."""
        return int(self.observations.num_rows) + sum(self.left_out.values())


@dataclass(frozen=True, kw_only=True)
class Format:
    """A form in which an archive hands out light curves."""

    name: str
    """As on the command line."""
    time_system: str
    """Of its times."""
    columns: Mapping[str, pa.DataType]
    """That it must have: by them it is recognised. The first that holds numbers holds the times."""
    build: Callable[[pa.Table, Column], FileContent]
    """Takes the columns and the name of the file without its endings, or one for each row; returns the content."""
    optional: Mapping[str, pa.DataType] = field(default_factory=dict)
    """Columns that it may have."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Column of each role (time, mag, mag_err, ra, dec) whose values may come in any unit."""
    config: SurveyConfig = field(default_factory=SurveyConfig)
    """Says the units where a file does not."""
    is_flux: bool = False
    """Whether the columns of mag and mag_err are fluxes."""
    separator: str | None = None
    """{",", " ", ";"}. Of texts: blanks include tabs; None for any and for binary files."""
    headerless: tuple[str, ...] = ()
    """Names of the columns where the file names none."""
    band_folders: bool = False
    """Whether the names of folders say the band of the files in them, where the files do not."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Columns by another name that some of the archive's files have for them."""
    aperture: int | None = None
    """Of columns with several values for each observation, the value to take, from 0."""
    per_object: Mapping[str, str] = field(default_factory=dict)
    """Columns, of those above, whose values belong to the object, by what they are: `period`, `class`."""
    good: Good | None = None
    """Which observations to use, by the file's own columns; the others are left out."""
    object_id: str | None = None
    """Column that names the object, of those above; where a file lacks it, the file's name does."""
    position: tuple[str, ...] = ()
    """Columns of right ascension and declination [deg], of those above."""


def make_content(
    object_id: Column,
    columns: Mapping[str, Column],
    flagged: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    positions: Mapping[str, tuple[float, float]] | None = None,
    notes: Mapping[str, int] | None = None,
) -> FileContent:
    """Return the content of a file from its columns.

    Parameters
    ----------
    object_id : array (m,) or str
        One for all where it is a text.
    columns : mapping of str to array (m,) or str
        `time`, `mag`, and, where there are any, `mag_err`, `band`, `camera`.
    flagged : mapping of str to bool array (m,), optional
        Observations to leave out, by reason; the first reason counts.
    positions : mapping, optional
        Of the objects, where no columns have them.
    notes : mapping, optional
        As `FileContent` has them.
    """
    n = len(columns["time"])
    values = {**columns, "object_id": object_id}
    arrays = [as_column(values.get(one.name), one.type, n) for one in OBSERVATIONS]
    table = pa.Table.from_arrays(arrays, schema=OBSERVATIONS)
    left_out = {}
    kept = np.ones(n, np.bool_)
    for reason, bad in (flagged or {}).items():
        count = int((bad & kept).sum())
        if count:
            left_out[reason] = count
            kept &= ~bad
    observations = table.filter(pa.array(kept)) if left_out else table
    lost = names_lost(table["object_id"], observations["object_id"]) if left_out else ()
    return FileContent(observations, left_out, positions or {}, empty_objects=lost, notes=notes or {})


def names_lost(before: pa.ChunkedArray, after: pa.ChunkedArray) -> tuple[str, ...]:
    """Return the objects of some observations of which none is left: they are objects all the same."""
    met = before.unique().drop_null()
    return tuple(met.filter(pc.invert(pc.is_in(met, after.unique()))).to_pylist())


def limits_and_magnitudes(mags: pa.ChunkedArray, errors: pa.ChunkedArray) -> tuple[Any, Any]:
    """Return magnitudes and errors of numbers, or of texts such as ``14.839``, or ``>14.814`` for an upper limit.

    Raises
    ------
    pa.ArrowInvalid
        A text that is no number.
    """
    if pa.types.is_floating(mags.type):
        return mags, errors
    is_limit = pc.starts_with(mags, ">")
    if not pc.any(is_limit).as_py():
        return mags.cast(pa.float64()), errors
    return pc.utf8_ltrim(mags, "> ").cast(pa.float64()), pc.if_else(is_limit.fill_null(False), SENTINEL, errors)


def numbers(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return a column as an array; nulls of floats become NaN, of integers 0."""
    filled = column.fill_null(float("nan") if pa.types.is_floating(column.type) else 0)
    values: npt.NDArray[Any] = filled.to_numpy() if isinstance(column, pa.ChunkedArray) else filled.to_numpy(False)
    return values


def is_true(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Return where a column of texts says true (``true``, ``T``, ``1``)."""
    return np.asarray(pc.is_in(pc.utf8_lower(column), pa.array(["true", "t", "1"], column.type)), np.bool_)


def first_values(ids: Column, values: pa.ChunkedArray) -> dict[str, Any]:
    """Return the value of each object: the one of its first observation that has one."""
    if pa.types.is_string(values.type):
        values = pc.if_else(pc.equal(values, ""), None, values)
    table = pa.table({"id": as_column(ids, pa.large_string(), len(values)), "value": values}).drop_null()
    first = table.group_by("id", use_threads=False).aggregate([("value", "first")])
    return dict(zip(first["id"].to_pylist(), first["value_first"].to_pylist(), strict=True))


def first_positions(ids: Column, ra: pa.ChunkedArray, dec: pa.ChunkedArray) -> dict[str, tuple[float, float]]:
    """Return the position [deg] of each object: the one of its first observation that has one."""
    table = pa.table({"id": as_column(ids, pa.large_string(), len(ra)), "ra": ra, "dec": dec}).drop_null()
    first = table.group_by("id", use_threads=False).aggregate([("ra", "first"), ("dec", "first")])
    spots = zip(first["ra_first"].to_pylist(), first["dec_first"].to_pylist(), strict=True)
    return dict(zip(first["id"].to_pylist(), spots, strict=True))


def as_column(column: Column, kind: pa.DataType, n: int) -> pa.Array | pa.ChunkedArray:
    """Return a column of n values in this type; NaN for nulls of floats."""
    if column is None or isinstance(column, str):
        return pa.repeat(pa.scalar(column, kind), n)
    array = pa.array(column) if isinstance(column, np.ndarray) else column
    if array.type != kind:
        array = array.cast(kind, safe=not pa.types.is_float32(kind))
    if pa.types.is_floating(kind) and array.null_count:
        array = array.fill_null(float("nan"))
    return array


def stem_of(key: str) -> str:
    """Return the name of a file without folder and endings, which is the object's where nothing else names it."""
    return _ENDINGS.sub("", PurePosixPath(key).name).removesuffix("-light-curves")
