"""Augmentation: stars as other surveys would have seen them, at periods and amplitudes that no training has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.training.stars.labelled import LabelledLightCurves

THINNED = 0.7
"""Share of the light curves that lose observations."""

LEAST_KEPT = 60
"""Observations that thinning aims to keep at least: a little above the paper's least number."""

NOISY = 0.5
"""Share of the light curves that get noise on top."""

MOST_NOISE = 0.6
"""Largest standard deviation of the noise, in standard deviations of the light curve: drawn evenly from 0 to it."""

STRETCHED = 0.3
"""Share of the eclipsing binaries whose times are stretched."""

MOST_STRETCHED = 100.0
"""Largest factor of the stretching."""

ECLIPSING, MIRA, SEMIREGULAR = "ECL", "M", "SR"
"""Labels of the eclipsing binaries and of the two kinds of long-period variables, where a training has them."""

RESCALED = 0.5
"""Share of the long-period variables for which another amplitude is drawn."""

AMPLITUDES = (0.2, 6.0)
"""Between which it is drawn, evenly in its logarithm [mag]."""

SURELY_SEMIREGULAR, SURELY_MIRA = 1.3, 3.0
"""Amplitudes [mag] below and above which surveys of all bands agree which of the two it is."""

MOST_ADDED_NOISE = 0.02
"""Largest standard deviation of the noise on what was made smaller [mag]."""


def observe_elsewhere(objects: LabelledLightCurves, random: np.random.Generator) -> LabelledLightCurves:
    """Do what `rescale_long_periods`, `observe_worse` and `stretch_eclipses` do.

    Parameters
    ----------
    objects : LabelledLightCurves
        n objects, all with a class.
    random : numpy.random.Generator
    """
    rescaled = rescale_long_periods(objects, random)
    worse = replace(rescaled, light_curves=observe_worse(rescaled.light_curves, random))
    return stretch_eclipses(worse, random)


def stretch_eclipses(objects: LabelledLightCurves, random: np.random.Generator) -> LabelledLightCurves:
    """Multiply times and periods of a share `STRETCHED` of the eclipsing binaries: an eclipse knows no period.

    Labelled surveys hold few eclipsing binaries of long periods, and networks learn that there are none. The factor is
    drawn evenly in its logarithm from 1 to `MOST_STRETCHED`.
    """
    n, light_curves = len(objects), objects.light_curves
    stretched = (random.random(n) < STRETCHED) & _are(objects, ECLIPSING)
    factor = np.where(stretched, np.exp(random.uniform(0.0, np.log(MOST_STRETCHED), n)), 1.0)
    slower = replace(light_curves, time=light_curves.time * np.repeat(factor, light_curves.n_obs))
    return replace(objects, light_curves=slower, period=objects.period * factor)


def rescale_long_periods(objects: LabelledLightCurves, random: np.random.Generator) -> LabelledLightCurves:
    """Give long-period variables other amplitudes, and the class that goes with them: it is what tells Miras apart.

    Surveys hold few semi-regular variables, each of its own amplitudes, and networks learn those instead of the
    definition. For a share `RESCALED` an amplitude (5th to 95th percentile) is drawn from `AMPLITUDES`. Where it is
    below `SURELY_SEMIREGULAR` or above `SURELY_MIRA` the magnitudes are scaled to it; else nothing changes.
    """
    n, light_curves = len(objects), objects.light_curves
    low, high = AMPLITUDES
    wanted = np.exp(random.uniform(np.log(low), np.log(high), n))
    miras = wanted > SURELY_MIRA
    changed = (random.random(n) < RESCALED) & (miras | (wanted < SURELY_SEMIREGULAR))
    changed &= _are(objects, MIRA) | _are(objects, SEMIREGULAR)
    if not ({MIRA, SEMIREGULAR} <= set(objects.classes) and changed.any()):
        return objects
    rows = np.flatnonzero(changed)
    few = light_curves.take(rows)
    bright, middle, faint = _percentiles(few, (0.05, 0.5, 0.95))
    varies = faint > bright
    factor = np.where(varies, wanted[rows] / np.where(varies, faint - bright, 1.0), 1.0)
    noise = np.where(factor < 1, MOST_ADDED_NOISE * random.random(len(rows)), 0.0)
    owner = np.repeat(np.arange(len(rows)), few.n_obs)
    scaled = middle[owner] + factor[owner] * (few.mag.astype(np.float64) - middle[owner])
    mag = light_curves.mag.copy()
    mag[light_curves.places(rows)] = scaled + noise[owner] * random.standard_normal(len(owner))
    class_code = objects.class_code.copy()
    codes = np.where(miras, objects.classes.index(MIRA), objects.classes.index(SEMIREGULAR))
    class_code[rows[varies]] = codes[rows[varies]]
    return replace(objects, light_curves=replace(light_curves, mag=mag), class_code=class_code)


def observe_worse(light_curves: LightCurves, random: np.random.Generator) -> LightCurves:
    """Thin out light curves and add noise.

    Networks learn how a survey samples and how noisy it is, and take that for the class. Measured by leaving one survey
    out at a time: macro F1 0.75 without and 0.80 with this on the stars of Hipparcos, 0.83 and 0.85 on those of
    Catalina North.

    Parameters
    ----------
    light_curves : LightCurves
        n objects.
    random : numpy.random.Generator

    Returns
    -------
    light_curves : LightCurves
        Of those thinned, a share of the observations drawn evenly in its logarithm between what leaves `LEAST_KEPT`
        and all.
    """
    n, counts = len(light_curves), light_curves.n_obs
    share = np.exp(random.uniform(0.0, 1.0, n) * np.log(np.clip(LEAST_KEPT / np.maximum(counts, 1), None, 1.0)))
    share[random.random(n) >= THINNED] = 1.0
    owner = np.repeat(np.arange(n), counts)
    keep = random.random(len(owner), np.float32) < share.astype(np.float32)[owner]
    noise = np.where(random.random(n) < NOISY, MOST_NOISE * random.random(n), 0.0) * _spread(light_curves, owner)
    used = slice(light_curves.offsets[0], light_curves.offsets[-1])
    owner = owner[keep]
    mag = light_curves.mag[used][keep] + noise[owner] * random.standard_normal(len(owner), np.float32)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n))]).astype(np.int64)
    errors = light_curves.mag_err
    return LightCurves(
        offsets,
        light_curves.time[used][keep],
        mag.astype(np.float32) if light_curves.mag.dtype == np.float32 else mag,
        None if errors is None else errors[used][keep],
        light_curves.malformed,
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


def _percentiles(light_curves: LightCurves, shares: tuple[float, ...]) -> list[npt.NDArray[np.float64]]:
    """Return the magnitudes below which these shares of each object's finite ones are, float64 (n,); 0 for none."""
    owner = np.repeat(np.arange(len(light_curves)), light_curves.n_obs)
    mag = light_curves.mag.astype(np.float64)
    good = np.isfinite(mag)
    mag, owner = mag[good], owner[good]
    mag = np.append(mag[np.lexsort((mag, owner))], 0.0)
    count = np.bincount(owner, minlength=len(light_curves))
    first = np.cumsum(count) - count
    return [
        np.where(count > 0, mag[first + (share * np.maximum(count - 1, 0)).astype(np.int64)], 0.0) for share in shares
    ]


def _are(objects: LabelledLightCurves, label: str) -> npt.NDArray[np.bool_]:
    """Return which objects are of a class, bool (n,); none where the training has no such class."""
    return np.array([each == label for each in objects.classes], np.bool_)[objects.class_code]
