"""Splits of objects for cross-validation that never have one star on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from varstar_batch.sky import unit_vectors
from varstar_batch.training.stars.labelled import LabelledLightCurves, Rows

SAME_STAR_ARCSEC = 2.0
"""Two positions nearer than this are one star."""

SAME_NAME_ARCSEC = 60.0
"""Two objects of one name are one star unless their positions are farther apart than this."""

SINGLE_SPLIT_FOLDS = 5
"""A single split holds out one part of so many: the paper's 80 and 20 percent."""

_RADIANS_PER_ARCSEC = np.pi / 180 / 3600

Groups = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """One division of rows."""

    name: str
    """For example ``"fold 1"`` or the name of the survey that is held out."""
    train: Rows
    held: Rows
    """Intp (k,). Rows, ascending; disjoint, and no star in both."""


def star_groups(objects: LabelledLightCurves) -> Groups:
    """Number the stars: rows of one star, in whatever band or survey, get the same number.

    Rows are of one star if their positions are within `SAME_STAR_ARCSEC`, or their object_id is the same and no
    positions contradict it; and so on from row to row.

    Returns
    -------
    int64 (n,)
        From 0, without gaps.
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    n = len(objects)
    first, second = np.concatenate([_same_name(objects), _same_place(objects)], axis=1)
    links = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    groups: Groups = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def fold_splits(objects: LabelledLightCurves, folds: int, seed: int) -> tuple[Split, ...]:
    """Divide rows into folds, each held out once; with fewer than two folds, one split of 80 and 20 percent.

    Stars are dealt to the folds class by class, within a class survey by survey, in random order: every fold has its
    share of each, to within one star.

    Parameters
    ----------
    objects : LabelledLightCurves
        All with a class.
    folds : int
        At least 0.
    seed : int
        The same seed gives the same folds.
    """
    parts = folds if folds > 1 else SINGLE_SPLIT_FOLDS
    groups = star_groups(objects)
    fold = deal_stars(groups, objects.class_code, objects.survey, parts, seed)[groups]
    splits = [
        Split(f"fold {number + 1}", np.flatnonzero(fold != number), np.flatnonzero(fold == number))
        for number in range(parts)
    ]
    return tuple(splits if folds > 1 else splits[:1])


def survey_splits(objects: LabelledLightCurves, together: Sequence[Sequence[str]] = ()) -> tuple[Split, ...]:
    """Hold out one survey after another; stars that it shares with others are left out of the training.

    Parameters
    ----------
    objects : LabelledLightCurves
        All with a class.
    together : sequence of sequences of str
        Names of surveys that are held out at once, since they are of one telescope or of the same stars.
    """
    groups = star_groups(objects)
    first = {name: names[0] for names in together for name in names}
    title = {names[0]: "+".join(names) for names in together}
    party = np.array([first.get(name, name) for name in objects.survey], np.object_)
    splits = []
    for name in sorted(set(party)):
        mine = party == name
        shared = np.isin(groups, groups[mine])
        splits.append(Split(title.get(name, name), np.flatnonzero(~shared), np.flatnonzero(mine)))
    return tuple(splits)


def deal_stars(
    groups: Groups, class_code: npt.NDArray[np.integer], survey: npt.NDArray[np.object_], parts: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return the fold of each group, int64 (number of groups,), in [0, parts)."""
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    # A star with two labels is dealt by that of its first row.
    _, first = np.unique(groups, return_index=True)
    size = np.bincount(groups, minlength=n_groups)
    shuffled = np.random.default_rng(seed).permutation(n_groups)
    survey_code = np.unique(survey.astype(str), return_inverse=True)[1]
    order = np.lexsort((shuffled, survey_code[first], -size, class_code[first]))
    fold = np.empty(n_groups, np.int64)
    # One deal goes on where the last stopped, or the first folds would get the odd star of every class.
    fold[order] = np.arange(n_groups) % parts
    return fold


def _same_name(objects: LabelledLightCurves) -> npt.NDArray[np.int64]:
    """Return pairs of rows with the same object_id, int64 (2, k): neighbours in the order of the names."""
    code = np.unique(objects.object_id.astype(str), return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    left, right = order[:-1], order[1:]
    xyz = unit_vectors(objects.ra, objects.dec)
    apart = np.linalg.norm(xyz[left] - xyz[right], axis=1)
    # NaN, an unknown position, contradicts nothing.
    same = (code[left] == code[right]) & ~(apart > SAME_NAME_ARCSEC * _RADIANS_PER_ARCSEC)
    return np.stack([left[same], right[same]]).astype(np.int64)


def _same_place(objects: LabelledLightCurves) -> npt.NDArray[np.int64]:
    """Return pairs of rows at the same position, int64 (2, k)."""
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    xyz = unit_vectors(objects.ra, objects.dec)
    known = np.flatnonzero(np.isfinite(xyz).all(axis=1))
    if not len(known):
        return np.zeros((2, 0), np.int64)
    pairs = cKDTree(xyz[known]).query_pairs(SAME_STAR_ARCSEC * _RADIANS_PER_ARCSEC, output_type="ndarray")
    rows: npt.NDArray[np.int64] = known[pairs].T.astype(np.int64).reshape(2, -1)
    return rows
