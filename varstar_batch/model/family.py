"""Which classes belong together, into what some of them are divided, and the numbers that calibrate each of the three.

A network has an output for each *leaf*: a subclass where it knows those of a class, else the class itself. The
probability of a class is the sum of those of its leaves, that of a parent the sum of those of its classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

ClassName = Annotated[str, Field(pattern=r"^[\w+:. -]+$")]
"""Part of a column's name in catalogs, and of questions in SQL."""

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

LEVELS = ("95", "99")
"""Percent of the stars whose parent is to be in its set."""

Rows = npt.NDArray[np.intp]


class Frozen(BaseModel):
    """Part of a contract."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Family(Frozen):
    """Parents and subclasses of the classes of a bundle."""

    parents: dict[ClassName, ClassName]
    """By class; a class that shares its parent with no other may be its own."""
    subclasses: dict[ClassName, Annotated[tuple[ClassName, ...], Field(min_length=2)]] = {}
    """By class that the network divides, in the order of the outputs."""


Numbers = tuple[float, ...]


class SubclassHead(Frozen):
    """A linear map to the logits of the k subclasses of a class: from the network's own, and f features.

    Its inputs are the k logits and, of the features standardised by `mean` and `scale` and bounded, values and squares.
    """

    mean: Numbers
    scale: tuple[Positive, ...]
    weights: tuple[Numbers, ...]
    """One row of k + 2 f numbers for each subclass."""
    bias: Numbers


class Calibration(Frozen):
    """Temperature scaling (Guo et al. 2017, arXiv:1706.04599), on each level of the family.

    A star's parent, its class given the parent and its subclass given the class each have a softmax, whose logits are
    divided by a temperature of its own: where a definition divides a parent, doubt about it is none about the parent.
    """

    temperature: Positive
    """Of the parents; of the classes in a bundle without a family."""
    classes: dict[ClassName, Positive] = {}
    """By parent of several classes."""
    subclasses: dict[ClassName, Positive | SubclassHead] = {}
    """By class that has some; a temperature where there were few labels or no features to fit more."""


class ParentSets(Frozen):
    """How probable a parent must be to belong to the set that holds the true one at least so often.

    Source: conformal prediction by class (Vovk 2012, arXiv:1209.2673).
    """

    least: dict[str, dict[ClassName, Share]]
    """By level in percent, then by parent."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network with some classes and a family, or none."""

    classes: tuple[str, ...]
    family: Family | None = None

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Their names, in their order."""
        divided = self.family.subclasses if self.family else {}
        return tuple(leaf for name in self.classes for leaf in divided.get(name, (name,)))

    @cached_property
    def bounds(self) -> Rows:
        """Intp (n_classes + 1,). Leaves of class i are those from bounds[i] to bounds[i + 1]."""
        divided = self.family.subclasses if self.family else {}
        return np.cumsum([0, *(len(divided.get(name, (name,))) for name in self.classes)]).astype(np.intp)

    @cached_property
    def parents(self) -> tuple[str, ...]:
        """Names of the parents, in the order of their first classes; none without a family."""
        return tuple(dict.fromkeys(self.family.parents[name] for name in self.classes)) if self.family else ()

    @cached_property
    def parent_of(self) -> Rows:
        """Intp (n_classes,). The parent of each class; each its own without a family."""
        if self.family is None:
            return np.arange(len(self.classes))
        return np.array([self.parents.index(self.family.parents[name]) for name in self.classes], np.intp)

    def members(self, parent: str) -> Rows:
        """Return the classes of a parent."""
        return np.flatnonzero(self.parent_of == self.parents.index(parent))

    @cached_property
    def several(self) -> tuple[str, ...]:
        """Parents of several classes."""
        return tuple(parent for parent in self.parents if len(self.members(parent)) > 1)

    @cached_property
    def divided(self) -> tuple[int, ...]:
        """Classes that have subclasses."""
        return tuple(np.flatnonzero(np.diff(self.bounds) > 1).tolist())

    @cached_property
    def subclasses(self) -> tuple[str, ...]:
        """Leaves that are subclasses."""
        return tuple(leaf for leaf, of in zip(self.leaves, self.class_of, strict=True) if of in self.divided)

    @cached_property
    def class_of(self) -> Rows:
        """Intp (n_leaves,). The class of each leaf."""
        return np.repeat(np.arange(len(self.classes)), np.diff(self.bounds))


def check_family(
    classes: tuple[str, ...], family: Family | None, calibration: Calibration, sets: ParentSets | None
) -> None:
    """Raise ValueError unless a family and what calibrates it are of these classes."""
    if family is None:
        if calibration.classes or calibration.subclasses or sets is not None:
            raise ValueError("expected no calibration of parents and subclasses without a family")
        return
    outputs = Outputs(classes, family if set(family.parents) == set(classes) else None)
    if not outputs.parents or not set(family.subclasses) <= set(classes):
        raise ValueError(f"family: expected a parent of each of {', '.join(classes)}, and subclasses of no others")
    if len(set(outputs.leaves)) < len(outputs.leaves):
        raise ValueError(f"family: expected different subclasses, got {', '.join(outputs.leaves)}")
    for name, head in calibration.subclasses.items():
        k = len(family.subclasses.get(name, ()))
        if isinstance(head, SubclassHead):
            lengths = {len(row) for row in head.weights}
            if (len(head.weights), len(head.bias), lengths) != (k, k, {k + 2 * len(head.mean)}) or len(
                head.scale
            ) != len(head.mean):
                raise ValueError(f"calibration: expected {k} rows of weights of {name}, for logits and features twice")
    if set(calibration.classes) != set(outputs.several) or set(calibration.subclasses) != set(family.subclasses):
        raise ValueError(
            f"calibration: expected temperatures of the parents {list(outputs.several)} and the classes "
            f"{list(family.subclasses)}"
        )
    if sets is not None and (
        set(sets.least) != set(LEVELS) or any(set(least) != set(outputs.parents) for least in sets.least.values())
    ):
        raise ValueError(f"parent_sets: expected levels {', '.join(LEVELS)} with the parents {list(outputs.parents)}")
