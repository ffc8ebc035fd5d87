"""How unlike the training an object is: a network is as sure of what it has never seen as of what it knows.

Two things tell: the entropy of the probabilities, and how far the features lie from those of every class. Ranked among
held-out light curves and added they tell more than either. On objects of kinds that no training had, among light curves
of Catalina South: area under the ROC curve 0.66 for the energy of the logits (Liu et al. 2020, arXiv:2010.03759), 0.85
for the entropy, 0.82 for the distance, 0.88 for both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.model.bundle import ClassDensity, OutOfDistribution

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


def fit_novelty(entropy: Float64, density: ClassDensity | None, distances: Float64 | None) -> OutOfDistribution:
    """Rank held-out light curves, so that others can be ranked among them.

    Parameters
    ----------
    entropy : float64 (n,)
        Of the calibrated probabilities of held-out objects, n >= 1.
    density : ClassDensity or None
        None for a network without features.
    distances : float64 (n,) or None
        Of the held-out objects, from densities that were fitted without them.
    """
    levels = np.linspace(0.0, 1.0, N_QUANTILES)
    by_entropy = np.quantile(entropy, levels)
    if density is None or distances is None:
        return OutOfDistribution(entropy=_stored(by_entropy))
    by_distance = np.quantile(distances, levels)
    both = np.quantile(_rank(entropy, by_entropy) + _rank(distances, by_distance), levels)
    return OutOfDistribution(
        entropy=_stored(by_entropy), density=density, distance=_stored(by_distance), both=_stored(both)
    )


def novelty(ood: OutOfDistribution, probabilities: Float64, features: npt.NDArray[np.floating] | None) -> Float64:
    """Return the share of held-out light curves that are more familiar, float64 (n,) in [0, 1].

    Parameters
    ----------
    ood : OutOfDistribution
    probabilities : float64 (n, n_classes)
        Calibrated.
    features : float (n, k) or None
        The contract's; not looked at where `ood` has no density.
    """
    score = _rank(entropy_of(probabilities), np.array(ood.entropy))
    if ood.density is None or features is None:
        return score
    return _rank(score + _rank(distance(ood.density, features), np.array(ood.distance)), np.array(ood.both))


def _rank(values: Float64, quantiles: Float64) -> Float64:
    """Return the share of a sample, of which these are evenly spaced quantiles, that is below each value."""
    return np.interp(values, quantiles, np.linspace(0.0, 1.0, len(quantiles)))


def _stored(values: Float64) -> tuple[float, ...]:
    return tuple(float(f"{value:.10g}") for value in values)
