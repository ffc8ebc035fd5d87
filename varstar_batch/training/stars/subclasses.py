"""What labels say of subclasses: RRAB or RRC, EA or one of EB and EW, or nothing; and the loss that learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.model.family import Family, Outputs
from varstar_batch.model.keras_runtime import load_keras
from varstar_batch.survey.labels import kinds_of, kinds_within, parent_of
from varstar_batch.training.stars.labelled import LabelledLightCurves

FEWEST_OF_SUBCLASS = 100
"""Light curves whose label names one subclass alone, below which the network does not learn that."""

Allowed = npt.NDArray[np.bool_]


def find_family(objects: LabelledLightCurves, *, subclasses: bool) -> Family:
    """Return the parents of the classes, and the subclasses that enough labels name.

    Parameters
    ----------
    objects : LabelledLightCurves
        All with a class.
    subclasses : bool
        Whether the network is to learn any.
    """
    parents = {name: parent_of(name) for name in objects.classes}
    named = _kinds(objects) if subclasses else []
    divided = {}
    for code, name in enumerate(objects.classes):
        of_class = [kinds for kinds, own in zip(named, objects.class_code, strict=False) if own == code]
        known = [
            kind
            for kind in kinds_within(name)
            if kind not in objects.classes and sum(kinds == {kind} for kinds in of_class) >= FEWEST_OF_SUBCLASS
        ]
        if len(known) > 1:
            divided[name] = tuple(known)
    return Family(parents=parents, subclasses=divided)


def allowed_leaves(objects: LabelledLightCurves, outputs: Outputs) -> Allowed:
    """Return which leaves each object may be of, bool (n, n_leaves): those of its class that no label excludes.

    A label that names a kind that the network does not know, or none, excludes no leaf of the class.
    """
    allowed: Allowed = outputs.class_of == objects.class_code[:, None]
    if not outputs.divided:
        return allowed
    kinds = _kinds(objects)
    for said in set(kinds):
        named = np.isin(outputs.leaves, list(said))
        rows = np.array([each == said for each in kinds], np.bool_)
        for code in outputs.divided:
            mine = rows & (objects.class_code == code)
            of_class = outputs.class_of == code
            if said and said <= {leaf for leaf, own in zip(outputs.leaves, of_class, strict=True) if own}:
                allowed[mine] &= named
    return allowed


def set_loss(targets: Any, probabilities: Any) -> Any:
    """Return minus the logarithm of the probability of the leaves that a label allows.

    Cross-entropy of the class, and, where a label tells it, of the subclass given the class.

    Parameters
    ----------
    targets : float (n, n_leaves)
        1 for the leaves allowed, 0 for the others.
    probabilities : float (n, n_leaves)
        Of the network's softmax.
    """
    ops, epsilon = load_keras().ops, load_keras().config.epsilon()
    return -ops.log(ops.clip(ops.sum(targets * probabilities, axis=-1), epsilon, 1.0))


def accuracy(targets: Any, probabilities: Any) -> Any:
    """Return 1 where the most probable leaf is allowed, else 0; arguments as of `set_loss`."""
    ops = load_keras().ops
    best = ops.one_hot(ops.argmax(probabilities, axis=-1), probabilities.shape[-1])
    return ops.sum(targets * best, axis=-1)


def _kinds(objects: LabelledLightCurves) -> Sequence[frozenset[str]]:
    """Return what each object's label names: the source's own, where there is one."""
    texts = np.where(objects.class_original == "", objects.label, objects.class_original)
    read = {text: kinds_of(text) for text in set(texts)}
    return [read[text] for text in texts]
