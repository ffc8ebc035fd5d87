"""How right a catalog is, by stars that are known: completeness and purity, with the intervals of so few stars."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from varstar_batch.archives.known_stars import KnownStars, read_known_stars
from varstar_batch.catalog.known_stars.match import Matches, Rows, match_known
from varstar_batch.requests import Request
from varstar_batch.survey.labels import LabelReader, parent_of

CONFIDENCE = 0.95
"""Of every interval."""

PERIOD_EDGES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, np.inf)
"""Days."""

MOST_MAG_BINS = 20
"""One magnitude each, or more where the stars span more than so many."""

Codes = npt.NDArray[np.int64]
Share = dict[str, int | float | None]


class Matching(Request):
    """How known stars are found in a catalog and read."""

    radius: float | None = Field(
        None, gt=0, le=3600, description="Arcseconds within which positions match; by default identifiers do"
    )
    columns: tuple[str, ...] = Field(
        (), description="Columns of the table that are called otherwise: class=OGLE_type,ra=RAJ2000,mag=I"
    )
    labels: dict[str, str] = Field(
        default={}, description="Classes that labels mean, before the run's own and those of all known catalogs"
    )


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How right a run is."""

    summary: dict[str, Any]
    """JSON-ready. `right`, and by class and parent, also in bins of magnitude and period, `completeness` and `purity`:
    each a share with its interval, `count` and `of`."""
    stars: pa.Table
    """Each star that reference and catalog both have: its label, what it means, what the catalog says of it."""

    @property
    def lines(self) -> dict[str, str]:
        """What is to be said of labels that count for nothing; see `LabelReader.left_out`."""
        reader = LabelReader(self.summary["classes"], self.summary["labels"])
        return reader.left_out(self.summary["labels_left_out"])


def validate(reader: Rows, reference: str | os.PathLike[str], matching: Matching) -> Validation:
    """Hold a run against a table of known stars: Parquet, CSV, ECSV, FITS or VOTable.

    Raises
    ------
    InputError
        The table cannot be read or matched, or catalog and table have no star in common.
    """
    known = read_known_stars(reference, matching.columns)
    return compare_known(reader, known, radius=matching.radius, labels=matching.labels)


def compare_known(
    reader: Rows,
    known: KnownStars,
    *,
    radius: float | None = None,
    labels: Mapping[str, str] | None = None,
    may_be_empty: bool = False,
) -> Validation:
    """Hold a run against known stars.

    Parameters
    ----------
    reader : Rows
    known : KnownStars
    radius : float, optional
        Arcseconds within which positions match; None to match identifiers.
    labels : mapping, optional
        Meanings of labels, before those of the run's configuration.
    may_be_empty : bool
        Whether catalog and table may have no star in common.

    Notes
    -----
    The completeness of a class is the share of its known stars in the catalog that have it, those that were not
    classified among the others. Its purity is the share of the stars with the class, whose label means one, that are
    right. Stars whose label means another kind are counted beside both (`other_kinds`), and lower the
    `purity_with_other_kinds`.
    """
    classes = reader.classes
    own = {**reader.record["configuration"].get("labels", {}), **(labels or {})}
    label_reader = LabelReader(classes, own)
    truth = label_reader.codes(known.label).astype(np.int64)
    matches = match_known(reader, known, truth, radius, may_be_empty=may_be_empty)
    rows = matches.star
    counts = Counter(known.label.to_pylist())
    views = _views(known.label.take(pa.array(rows)), truth[rows], matches.rows, label_reader, own)
    mag, period = known.mag[rows], _first_known(known.period[rows], matches.rows["period"])
    status = matches.rows.filter(pc.and_(pa.array(truth[rows] >= 0), pc.is_null(matches.rows["class"])))["status"]
    summary: dict[str, Any] = {
        "run_id": reader.run_id,
        "reference": known.where,
        "matched_by": "object_id" if radius is None else f"position within {radius:g} arcsec",
        "confidence": CONFIDENCE,
        "classes": list(classes),
        "labels": own,
        "reference_stars": len(known),
        "contradictory": matches.contradictory,
        "matched": len(rows),
        "with_class": int((truth[rows] >= 0).sum()),
        "not_classified": dict(Counter(status.to_pylist())),
        "labels_left_out": {label: n for label, n in counts.items() if label_reader.read(label).class_ is None},
        "in_reference": {name: int((truth == code).sum()) for code, name in enumerate(classes)},
        **_judge(views, np.ones(len(rows), np.bool_)),
        "by_magnitude": _in_bins(views, mag, _mag_edges(mag)),
        "by_period": _in_bins(views, period, PERIOD_EDGES),
        "confusion": _confusion(views["by_class"]),
    }
    return Validation(summary=summary, stars=_stars(known, label_reader, matches, period))


def parents_of(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the parent of each class."""
    return tuple(parent_of(name) for name in classes)


def interval(count: int, total: int) -> Share:
    """Return a share and its interval of `CONFIDENCE`; null of nothing.

    Notes
    -----
    Source: Wilson 1927, JASA 22, 209, as in astropy.stats.
    """
    if not total:
        return {"count": 0, "of": 0, "share": None, "low": None, "high": None}
    from astropy.stats import binom_conf_interval

    low, high = binom_conf_interval(count, total, confidence_level=CONFIDENCE, interval="wilson")
    return {
        "count": int(count),
        "of": int(total),
        **{name: round(float(value), 5) for name, value in (("share", count / total), ("low", low), ("high", high))},
    }


@dataclass(frozen=True, eq=False)
class _View:
    """The n matched stars by class, or by parent."""

    names: tuple[str, ...]
    truth: Codes
    """-1 where the label means none of them."""
    found: Codes
    """-1 where the star was not classified."""
    is_other: npt.NDArray[np.bool_]
    """The label means a star of another kind."""

    def rates(self, of: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Return completeness and purity of each class that some of the stars `of` have or are said to have."""
        size, truth, found = len(self.names), self.truth[of], self.found[of]
        has_class = truth >= 0
        known = np.bincount(truth[has_class], minlength=size)
        called = np.bincount(found[has_class & (found >= 0)], minlength=size)
        right = np.bincount(truth[has_class & (truth == found)], minlength=size)
        others = np.bincount(found[self.is_other[of] & (found >= 0)], minlength=size)
        return {
            name: {
                "completeness": interval(right[k], known[k]),
                "purity": interval(right[k], called[k]),
                "other_kinds": int(others[k]),
                "purity_with_other_kinds": interval(right[k], called[k] + others[k]),
            }
            for k, name in enumerate(self.names)
            if known[k] or called[k] or others[k]
        }


def _views(
    label: pa.Array, truth: Codes, rows: pa.Table, reader: LabelReader, own: Mapping[str, str]
) -> dict[str, _View]:
    """Return n known stars by their classes and by the parents of these: what they are, and what the run says.

    Parameters
    ----------
    label : Array (n,)
        Of the stars, as the table of known stars has them.
    truth : int64 array (n,)
        Codes of the classes that the labels mean.
    rows : Table
        Of the run, one for each star.
    reader : LabelReader
        Of the run's classes.
    own : mapping
        Meanings of labels.
    """
    classes = reader.classes
    parents = parents_of(classes)
    names = tuple(dict.fromkeys(parents))
    is_other = _is_other(label, reader)
    found = _codes(rows["class"], classes)
    of_class = np.append([names.index(name) for name in parents], -1)[found]
    true_parents = _parent_reader(names, classes, own).codes(label).astype(np.int64)
    return {
        "by_class": _View(classes, truth, found, is_other),
        "by_parent": _View(names, true_parents, _found_parents(rows, of_class, names), is_other),
    }


def _judge(views: Mapping[str, _View], of: npt.NDArray[np.bool_]) -> dict[str, Any]:
    by_class = views["by_class"]
    labelled = of & (by_class.truth >= 0)
    right = int((by_class.truth == by_class.found)[labelled].sum())
    return {"right": interval(right, int(labelled.sum())), **{name: view.rates(of) for name, view in views.items()}}


def _in_bins(
    views: Mapping[str, _View], values: npt.NDArray[np.float64], edges: Sequence[float]
) -> list[dict[str, Any]]:
    """Return what `_judge` says of the stars in each bin, half-open, that has some with a label that counts."""
    bins = []
    for low, high in pairwise(edges):
        inside = (values >= low) & (values < high)
        if (inside & ((views["by_class"].truth >= 0) | (views["by_parent"].truth >= 0))).any():
            top = None if np.isinf(high) else float(high)
            bins.append({"from": float(low), "to": top, **_judge(views, inside)})
    return bins


def _mag_edges(mag: npt.NDArray[np.float64]) -> tuple[float, ...]:
    known = mag[np.isfinite(mag)]
    if not len(known):
        return ()
    low, high = np.floor(known.min()), np.floor(known.max()) + 1
    step = max(1.0, np.ceil((high - low) / MOST_MAG_BINS))
    return tuple(np.arange(low, high + step, step).tolist())


def _confusion(view: _View) -> dict[str, int]:
    """Return stars by ``label_class>class``, as in a run's record; of those that were not classified it is empty."""
    names = [*view.names, ""]
    pairs = Counter(zip(view.truth.tolist(), view.found.tolist(), strict=True))
    return {f"{names[t]}>{names[f]}": n for (t, f), n in sorted(pairs.items()) if t >= 0}


def _is_other(labels: pa.Array, reader: LabelReader) -> npt.NDArray[np.bool_]:
    encoded = labels.dictionary_encode()
    is_other = np.array([reader.read(label).why == "other" for label in encoded.dictionary.to_pylist()], np.bool_)
    other: npt.NDArray[np.bool_] = is_other[np.asarray(encoded.indices)]
    return other


def _parent_reader(names: tuple[str, ...], classes: Sequence[str], own: Mapping[str, str]) -> LabelReader:
    """Return what reads labels as parents: a label may say LPV and leave open which."""
    parents = dict(zip(classes, parents_of(classes), strict=True))
    return LabelReader(names, {**parents, **{label: parents.get(name, name) for label, name in own.items()}})


def _codes(column: pa.ChunkedArray, names: Sequence[str]) -> Codes:
    return np.asarray(pc.index_in(column, pa.array(names, pa.string())).fill_null(-1), np.int64)


def _found_parents(rows: pa.Table, of_class: Codes, names: Sequence[str]) -> Codes:
    """Return the parents that the catalog gives, and those of the classes where its model knew of none."""
    if "parent" not in rows.column_names:
        return of_class
    given = _codes(rows["parent"], names)
    return np.where(given < 0, of_class, given)


def _first_known(one: npt.NDArray[np.float64], other: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.where(np.isfinite(one), one, other.to_numpy().astype(np.float64))


def _stars(known: KnownStars, reader: LabelReader, matches: Matches, period: npt.NDArray[np.float64]) -> pa.Table:
    """Return what is known of each matched star beside what the catalog says."""
    label = known.label.take(pa.array(matches.star))
    means = pa.array([reader.read(text).class_ for text in label.to_pylist()], pa.string())
    found = matches.rows
    return pa.table(
        {
            "object_id": found["object_id"],
            "ra": found["ra"],
            "dec": found["dec"],
            "known_label": label,
            "known_class": means,
            **{name: found[name] for name in ("status", "class", "class_prob", "second_class", "ood_score")},
            "right": pc.equal(means, found["class"]),
            "known_mag": pa.array(known.mag[matches.star], from_pandas=True),
            "period": pa.array(period, from_pandas=True),
            "catalog_period": found["period"],
            "separation": pa.array(matches.separation, from_pandas=True),
        }
    )
