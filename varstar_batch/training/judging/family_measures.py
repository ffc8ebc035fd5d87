"""How good answers about parents and subclasses are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from varstar_batch.model.family import LEVELS, Outputs

Codes = npt.NDArray[np.integer]
Bools = npt.NDArray[np.bool_]


def set_measures(outputs: Outputs, sets: Bools, truth: Codes) -> dict[str, JsonValue]:
    """Return how often sets of parents hold the true one, and how large they are.

    Parameters
    ----------
    outputs : Outputs
        With a family.
    sets : bool (n, levels, n_parents)
    truth : integer (n,)
        Indices of the true classes.

    Returns
    -------
    dict
        By level: ``cover``, the share of the objects whose set holds their parent; ``size``, the mean number of parents
        in a set; ``by_parent``, the cover of each that occurs.
    """
    parent = outputs.parent_of[truth]
    found: dict[str, JsonValue] = {}
    for number, level in enumerate(LEVELS):
        of_level = sets[:, number]
        held = of_level[np.arange(len(parent)), parent]
        found[level] = {
            "cover": _share(held),
            "size": round(float(of_level.sum(axis=1).mean()), 5) if len(parent) else 0.0,
            "by_parent": {
                name: _share(held[parent == code])
                for code, name in enumerate(outputs.parents)
                if (parent == code).any()
            },
        }
    return found


def subclass_measures(outputs: Outputs, found: Codes, allowed: Bools) -> dict[str, JsonValue]:
    """Return the measures of each subclass on the objects whose label says whether they are of it.

    Parameters
    ----------
    outputs : Outputs
    found : integer (n,)
        Most probable leaves.
    allowed : bool (n, n_leaves)
        Leaves that the labels allow.

    Returns
    -------
    dict
        By subclass ``n_objects``, ``precision``, ``recall`` and ``f1`` among all objects; ``f1_of_others``, that of the
        other subclasses of its class taken as one, and their number ``n_others``. Those of another class count as not
        being of it.
    """
    measures: dict[str, JsonValue] = {}
    for leaf, name in enumerate(outputs.leaves):
        code = outputs.class_of[leaf]
        if code not in outputs.divided:
            continue
        siblings = np.flatnonzero((outputs.class_of == code) & (np.arange(len(outputs.leaves)) != leaf))
        is_it = allowed[:, leaf] & (allowed.sum(axis=1) == 1)
        # Not of it: none of the class, or one of its siblings.
        decided = is_it | ~allowed[:, leaf]
        is_sibling = ~allowed[:, leaf] & allowed[:, siblings].any(axis=1)
        mine = _f1(is_it, found == leaf, decided)
        other = _f1(is_sibling, np.isin(found, siblings), decided)
        measures[name] = {**mine, "n_others": other["n_objects"], "f1_of_others": other["f1"]}
    return measures


def _f1(is_it: Bools, called: Bools, decided: Bools) -> dict[str, JsonValue]:
    called = called & decided
    right, n, claimed = (int(mask.sum()) for mask in (is_it & called, is_it, called))
    return {
        "n_objects": n,
        "precision": round(right / max(claimed, 1), 5),
        "recall": round(right / max(n, 1), 5),
        "f1": round(2 * right / max(n + claimed, 1), 5),
    }


def _share(held: Bools) -> float:
    return round(float(held.mean()), 5) if len(held) else 0.0
