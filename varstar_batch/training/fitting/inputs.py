"""What a network is fed: folded curves and, for some architectures, features of the light curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.errors import InputError
from varstar_batch.light_curves.features import choose_features
from varstar_batch.light_curves.fold import Folded, fold
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Limits
from varstar_batch.training.fitting.recipes import Recipe
from varstar_batch.training.stars.labelled import Rows

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs of a network for n objects."""

    curves: Float32
    """Float32 (n, n_phase)."""
    features: Float32 | None = None
    """Float32 (n, k) or None. None for a network without features."""

    def __len__(self) -> int:
        return len(self.curves)

    def take(self, rows: Rows) -> Inputs:
        """Return the given rows, in that order."""
        return Inputs(self.curves[rows], None if self.features is None else self.features[rows])

    def for_keras(self) -> Any:
        """Return the array, or the list of arrays in the order of the model's inputs, in their shapes."""
        curves = self.curves[:, :, None]
        return curves if self.features is None else [curves, self.features]


def fold_inputs(
    light_curves: LightCurves, period: npt.NDArray[np.float64], recipe: Recipe, *, n_threads: int
) -> tuple[npt.NDArray[np.uint8], Inputs]:
    """Fold light curves that are within their limits as a recipe says.

    Returns
    -------
    status : uint8 (n,)
        Codes of `Status`.
    inputs : Inputs
        Of all n, NaN where the status is not OK.
    """
    folded = fold_light_curves(light_curves, period, recipe, n_threads=n_threads)
    return folded.status, inputs_of(folded, recipe.features)


def fold_light_curves(
    light_curves: LightCurves, period: npt.NDArray[np.float64], recipe: Recipe, *, n_threads: int
) -> Folded:
    """Fold light curves that are within their limits as a recipe says."""
    features = bool(recipe.features)
    return fold(light_curves, period, recipe.preprocessing, Limits(), features=features, n_threads=n_threads)


def inputs_of(folded: Folded, names: tuple[str, ...]) -> Inputs:
    """Return the inputs with the features of these names, in this order."""
    return Inputs(folded.curve, choose_features(folded.features, names) if names else None)


def check_finite(inputs: Inputs, recipe: Recipe, where: str) -> None:
    """Refuse inputs that no network can learn from.

    Raises
    ------
    InputError
        A curve or a feature is NaN or infinite.
    """
    named = [("curve", inputs.curves)]
    if inputs.features is not None:
        named += [(f"feature {name}", inputs.features[:, k]) for k, name in enumerate(recipe.features)]
    for name, values in named:
        bad = int((~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))).sum())
        if bad:
            raise InputError(
                expected=f"a finite {name} of each light curve",
                got=f"NaN or infinity in {bad} of {len(inputs)}",
                where=where,
                fix="leave these objects out",
            )
