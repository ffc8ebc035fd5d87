"""How unlike the training an object is: a network is as sure of what it has never seen as of what it knows.

Three things tell: the entropy of the probabilities of the parents (what divides Miras from semi-regulars is a
definition, and doubt about it no sign of another kind), how small the largest logit of a class is, and how far the
features lie from those of every class. Ranked among held-out light curves and added they tell more than each. On 2,000
objects of kinds that no training had, with surveys left out, mean area under the ROC curve: 0.80 for the entropy of the
classes, 0.83 for that of the parents, 0.88 for the logit, 0.84 for the distance; 0.88 for the first and the last, 0.90
for the second and the last, 0.91 for all but the first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.model.answers import class_logits, parent_probabilities
from varstar_batch.model.bundle import ClassDensity, OutOfDistribution
from varstar_batch.model.family import Outputs

Float64 = npt.NDArray[np.float64]

N_QUANTILES = 201
"""Stored quantiles: steps of half a percent."""

BOUND = 3.0
"""Standard deviations beyond which a feature counts no further: one wild number is no other kind of star."""

SHRINKAGE = 1.0
"""Added to each variance: a class of one survey may hardly vary where that of another does. With surveys held out the
AUROC is 0.847 with a twentieth and 0.859 with this."""


def entropy_of(probabilities: Float64) -> Float64:
    """Return the Shannon entropy of each row [nat], float64 (n,)."""
    entropy: Float64 = -(probabilities * np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))).sum(axis=1)
    return entropy


def fit_density(features: npt.NDArray[np.floating], class_code: npt.NDArray[np.integer]) -> ClassDensity:
    """Describe each class by a Gaussian in its standardised features.

    Parameters
    ----------
    features : float (n, k)
        Of the training set, finite.
    class_code : integer (n,)
        Classes without an object have no Gaussian.

    Notes
    -----
    Source: class-conditional Gaussians after Lee et al. 2018 (arXiv:1807.03888), each class with its own covariance.
    """
    features = features.astype(np.float64)
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    z = np.clip((features - mean) / scale, -BOUND, BOUND)
    centers, whitenings = [], []
    for code in np.unique(class_code):
        of_class = z[class_code == code]
        center = of_class.mean(axis=0)
        covariance = (of_class - center).T @ (of_class - center) / len(of_class) + SHRINKAGE * np.eye(z.shape[1])
        centers.append(center)
        whitenings.append(np.linalg.inv(np.linalg.cholesky(covariance)))
    return ClassDensity(
        mean=_stored(mean),
        scale=_stored(scale),
        centers=tuple(map(_stored, centers)),
        whitenings=tuple(tuple(map(_stored, matrix)) for matrix in whitenings),
    )


def distance(density: ClassDensity, features: npt.NDArray[np.floating]) -> Float64:
    """Return minus the log density of the class in which an object is least unlikely, less a constant; float64 (n,).

    Parameters
    ----------
    density : ClassDensity
    features : float (n, k)
    """
    z = np.clip((features - np.array(density.mean)) / np.array(density.scale), -BOUND, BOUND)
    nearest = np.full(len(z), np.inf)
    for center, whitening in zip(density.centers, density.whitenings, strict=True):
        matrix = np.array(whitening)
        white = (z - np.array(center)) @ matrix.T
        nearest = np.minimum(nearest, 0.5 * (white**2).sum(axis=1) - np.log(np.diag(matrix)).sum())
    return nearest


def doubt_of(outputs: Outputs, classes: Float64) -> Float64:
    """Return the entropy of the parents' probabilities [nat], float64 (n,), given the classes' (n, n_classes)."""
    return entropy_of(parent_probabilities(outputs, classes) if outputs.parents else classes)


def faintness_of(outputs: Outputs, logits: Float64) -> Float64:
    """Return minus the largest logit of a class, float64 (n,), given logits (n, n_leaves)."""
    faintness: Float64 = -class_logits(outputs, logits).max(axis=1, initial=-np.inf)
    return faintness


def fit_novelty(
    doubt: Float64, faintness: Float64, density: ClassDensity | None, distances: Float64 | None
) -> OutOfDistribution:
    """Rank held-out light curves, so that others can be ranked among them.

    Parameters
    ----------
    doubt, faintness : float64 (n,)
        Of held-out objects, n >= 1; see `doubt_of` and `faintness_of`.
    density : ClassDensity or None
        None for a network without features.
    distances : float64 (n,) or None
        Of the held-out objects, from densities that were fitted without them.
    """
    levels = np.linspace(0.0, 1.0, N_QUANTILES)
    signs = [doubt, faintness] if density is None or distances is None else [doubt, faintness, distances]
    quantiles = [np.quantile(sign, levels) for sign in signs]
    both = np.quantile(sum(_rank(*pair) for pair in zip(signs, quantiles, strict=True)), levels)
    return OutOfDistribution(
        entropy=_stored(quantiles[0]),
        faintness=_stored(quantiles[1]),
        density=density if len(signs) > 2 else None,
        distance=_stored(quantiles[2]) if len(signs) > 2 else (),
        both=_stored(both),
    )


def novelty(
    ood: OutOfDistribution,
    outputs: Outputs,
    classes: Float64,
    logits: Float64,
    features: npt.NDArray[np.floating] | None,
) -> Float64:
    """Return the share of held-out light curves that are more familiar, float64 (n,) in [0, 1].

    Parameters
    ----------
    ood : OutOfDistribution
    outputs : Outputs
    classes : float64 (n, n_classes)
        Calibrated probabilities.
    logits : float64 (n, n_leaves)
    features : float (n, k) or None
        The contract's; not looked at where `ood` has no density.
    """
    if ood.faintness:
        score = _rank(doubt_of(outputs, classes), np.array(ood.entropy))
        score = score + _rank(faintness_of(outputs, logits), np.array(ood.faintness))
    else:
        score = _rank(entropy_of(classes), np.array(ood.entropy))
    if ood.density is not None and features is not None:
        score = score + _rank(distance(ood.density, features), np.array(ood.distance))
    return _rank(score, np.array(ood.both)) if ood.both else score


def _rank(values: Float64, quantiles: Float64) -> Float64:
    """Return the share of a sample, of which these are evenly spaced quantiles, that is below each value."""
    return np.interp(values, quantiles, np.linspace(0.0, 1.0, len(quantiles)))


def _stored(values: Float64) -> tuple[float, ...]:
    return tuple(float(f"{value:.10g}") for value in values)
