"""Which rows of a catalog are known stars: by identifier, or by position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.known_stars import KnownStars
from varstar_batch.errors import InputError
from varstar_batch.sky import Places

if TYPE_CHECKING:
    import pyarrow.dataset as ds

COLUMNS = ("object_id", "ra", "dec", "period", "status", "class", "class_prob", "second_class", "ood_score", "parent")
"""What is taken of a catalog, where it has them."""

Codes = npt.NDArray[np.int64]


class Rows(Protocol):
    """What is asked of a run: `varstar_batch.catalog.reader.CatalogReader`."""

    @property
    def run_id(self) -> str:
        """Its identifier."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its classes."""

    @property
    def record(self) -> Mapping[str, Any]:
        """What is known of it as a whole."""

    @property
    def schema(self) -> pa.Schema:
        """Of its rows."""

    def to_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream its rows."""

    def to_arrow(self, columns: Sequence[str] | None = None, where: ds.Expression | None = None) -> pa.Table:
        """Read rows."""


@dataclass(frozen=True, eq=False)
class Matches:
    """n rows of a catalog that are known stars, each star once."""

    star: Codes
    """Int64 (n,). Which star, ascending."""
    rows: pa.Table
    """Of the catalog (n)."""
    separation: npt.NDArray[np.float64]
    """Float64 (n,). Arcseconds; NaN where identifiers were matched."""
    contradictory: int
    """Identifiers that the table has with labels of several classes; they count for nothing."""


def match_known(
    reader: Rows, known: KnownStars, truth: Codes, radius: float | None, *, may_be_empty: bool = False
) -> Matches:
    """Find known stars in a run, which is read in batches.

    Parameters
    ----------
    reader : Rows
    known : KnownStars
    truth : int64 (n,)
        Classes of the stars, -1 for none; a star that is there twice, by its identifier, counts once.
    radius : float or None
        Arcseconds. An object is of the star nearest to it within so many; of several objects the nearest counts.
        None to match identifiers.
    may_be_empty : bool
        Whether there may be none.

    Raises
    ------
    InputError
        The table has not what is matched by, or there is none.
    """
    columns = [name for name in COLUMNS if name in reader.schema.names]
    if radius is None:
        stars, contradictory = _one_each(known, truth)
        found = _by_identifier(reader, known, stars, columns)
    else:
        contradictory = 0
        found = _by_position(reader, known, radius, columns)
    if not len(found.star) and not may_be_empty:
        how = "identifiers" if radius is None else f"positions within {radius:g} arcsec"
        fix = "give --radius ARCSEC to match positions" if radius is None else "give a wider --radius"
        raise InputError(
            expected=f"stars that {known.where} and the catalog both have",
            got=f"none of {len(known):,} by their {how}",
            where=str(reader),
            fix=fix + ", or another table",
        )
    return Matches(found.star, found.rows, found.separation, contradictory)


def _one_each(known: KnownStars, truth: Codes) -> tuple[Codes, int]:
    """Return a star of each identifier, one with a class if any has, and how many identifiers have several classes."""
    if known.object_id is None:
        raise InputError(
            expected="identifiers of the stars",
            got="positions only",
            where=known.where,
            fix="give --radius ARCSEC to match positions, or name their column: --columns object_id=COLUMN",
        )
    number = np.asarray(known.object_id.dictionary_encode().indices)
    low, high = (np.full(len(number), start, np.int64) for start in (np.iinfo(np.int64).max, -1))
    has_class = truth >= 0
    np.minimum.at(low, number[has_class], truth[has_class])
    np.maximum.at(high, number[has_class], truth[has_class])
    order = np.argsort(~has_class, kind="stable")
    _, first = np.unique(number[order], return_index=True)
    stars = order[first]
    disagree = low[number[stars]] < high[number[stars]]
    return np.sort(stars[~disagree]), int(disagree.sum())


def _by_identifier(reader: Rows, known: KnownStars, stars: Codes, columns: list[str]) -> Matches:
    kind = reader.schema.field("object_id").type
    given = known.object_id.take(pa.array(stars)) if known.object_id is not None else pa.array([], kind)
    try:
        ids = given.cast(kind)
    except pa.ArrowException as error:
        raise InputError(
            expected=f"stars whose object_id is {kind}, as in the catalog",
            got=str(error),
            where=known.where,
            fix="give identifiers of this survey, or --radius ARCSEC to match positions",
        ) from None
    rows = reader.to_arrow(columns, pc.field("object_id").isin(ids))
    star = stars[np.asarray(pc.index_in(rows["object_id"], ids), np.int64)]
    order = np.argsort(star, kind="stable")
    return Matches(star[order], rows.take(pa.array(order)), np.full(len(star), np.nan), 0)


def _by_position(reader: Rows, known: KnownStars, radius: float, columns: list[str]) -> Matches:
    if not known.has_positions:
        raise InputError(
            expected="positions of the stars",
            got="none",
            where=known.where,
            fix="leave --radius out to match identifiers, or name the columns: --columns ra=COLUMN,dec=COLUMN",
        )
    places = Places(known.ra, known.dec)
    stars, separations, parts = [np.zeros(0, np.int64)], [np.zeros(0)], []
    for batch in reader.to_batches(columns):
        ra, dec = (batch.column(name).to_numpy(zero_copy_only=False) for name in ("ra", "dec"))
        row, separation = places.nearest(ra, dec, radius / 3600)
        near = np.flatnonzero(row >= 0)
        stars.append(row[near])
        separations.append(separation[near])
        parts.append(batch.take(pa.array(near)))
    star, separation = np.concatenate(stars), np.concatenate(separations)
    order = np.lexsort((separation, star))
    # The first of each star is the nearest.
    first = order[np.append(True, np.diff(star[order]) > 0)[: len(order)]]
    schema = pa.schema([reader.schema.field(name) for name in columns])
    rows = pa.Table.from_batches(parts, schema).take(pa.array(first))
    return Matches(star[first], rows, separation[first] * 3600, 0)
