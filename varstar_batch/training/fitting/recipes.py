"""Recipes: what belongs to an architecture, from the preprocessing of its input to the way it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from varstar_batch.errors import InputError
from varstar_batch.light_curves.features import FEATURES
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.model.networks import build_paper_network, build_survey_network, set_standard
from varstar_batch.training.stars.augment import observe_elsewhere
from varstar_batch.training.stars.labelled import LabelledLightCurves

Augment = Callable[[LabelledLightCurves, np.random.Generator], LabelledLightCurves]
"""Gives other raw light curves, periods and classes; what then cannot be folded is taken unchanged."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How networks of one architecture are fed, built and trained."""

    architecture: str
    """Its name on the command line and in bundles."""
    build: Callable[[int, int, float], Any]
    """Takes n_phase, the number of outputs and the dropout; returns a Keras model whose layer ``logits`` comes before
    its softmax. Its inputs are ``curve`` (n, n_phase, 1) and, with features, ``features`` (n, len(features))."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """Of its curves, for training and for inference."""
    features: tuple[str, ...] = ()
    """Of `varstar_batch.light_curves.features.FEATURES`, in the order of the network's input."""
    subclasses: bool = False
    """Whether the network divides classes into the subclasses that enough labels name."""
    prepare: Callable[[Any, npt.NDArray[np.float32]], None] | None = None
    """Takes the new model and the features float32 (n, k) of its training set, before the first pass."""
    augment: Augment | None = None
    """See `Augment`."""
    n_copies: int = 16
    """Augmented copies of every light curve, at most one a pass, of which each pass draws one; not looked at without
    `augment`."""
    phase_shift: bool = False
    """Turn every curve by a random phase in each pass: phase zero means little."""
    class_weights: float = 0.0
    """Weight of an object by the number n of its class in its survey, n ** -class_weights: 0 all alike, 1 balanced.
    The mean over objects is 1."""
    epochs: int = 100
    """Passes over the training set where nobody says otherwise, at least 1."""
    batch_size: int = 16
    """Light curves of a step; likewise."""
    learning_rate: float = 1e-4
    """Of Adam, > 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate: as it is, or down to zero along half a cosine."""
    dropout: float = 0.5
    """Rate of the network's dropouts, in [0, 1)."""


PAPER = Recipe(architecture="paper", build=build_paper_network)
"""The paper's protocol, to the letter (arXiv:2508.11964, section 3); its text states no rate of dropout."""


def survey_network(n_phase: int, n_classes: int, dropout: float) -> Any:
    """Build the network that ships, on all features."""
    return build_survey_network(n_phase, len(FEATURES), n_classes, dropout)


SURVEY = Recipe(
    architecture="survey",
    build=survey_network,
    preprocessing=Preprocessing(outliers="grouped"),
    features=FEATURES,
    subclasses=True,
    prepare=set_standard,
    augment=observe_elsewhere,
    phase_shift=True,
    epochs=60,
    batch_size=256,
    learning_rate=3e-3,
    schedule="cosine",
    dropout=0.3,
)
"""The network that ships: shape and features, on stars seen as well and worse than they were."""

RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.architecture: recipe for recipe in (PAPER, SURVEY)})
"""By architecture."""


def find_recipe(architecture: str) -> Recipe:
    """Return the recipe of an architecture.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if architecture not in RECIPES:
        raise InputError(
            expected=f"one of {', '.join(RECIPES)}",
            got=repr(architecture),
            where="--architecture",
            fix="choose a known architecture",
        )
    return RECIPES[architecture]
