"""The rules of cleaning and folding: what a model was trained with, and what a survey's numbers may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Outliers = Literal["isolated", "grouped", "global", "none"]
PhaseZero = Literal["first", "maximum"]
Scale = Literal["none", "center", "minmax"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a light curve becomes the network's input: part of a model's contract.

    Raises
    ------
    ValueError
        If a value is outside its range.

    Notes
    -----
    Source: the paper's section 2 (arXiv:2508.11964): errors above 99, fewer than 50 observations, single-point
    outliers beyond 3 sigma, 512 points.
    """

    min_observations: int = 50
    """Fewest observations that are folded, at least 1; counted after cleaning and, as in the paper ("fewer than 50
    total data points"), before the removal of outliers."""
    max_mag_err: float = 99.0
    """An observation whose magnitude error [mag] is NaN, negative, or at least this is dropped; above 0, may be inf."""
    sigma: float = 3.0
    """Outlier threshold in population standard deviations about the mean; finite, above 0."""
    outliers: Outliers = "isolated"
    """Drop observations beyond the threshold only where both cyclic neighbours in phase are within it, everywhere, or
    never. ``"grouped"`` also drops, whatever their neighbours, those that are brighter than the 5th percentile of the
    magnitudes by more than lies between that and the 95th: an eclipse may be deep and short, a maximum may not. One
    pass: mean and standard deviation are not computed again."""
    phase_zero: PhaseZero = "first"
    """Time of phase 0: of the earliest used observation, or of the brightest (of several, the earliest)."""
    scale: Scale = "minmax"
    """Curve in magnitudes; minus the median of the used magnitudes (observations, not curve points, so that it does
    not depend on `n_phase`); or the curve's own minimum and maximum mapped to 0 and 1."""
    n_phase: int = 512
    """Points of the curve, at phases k / n_phase; 2 to 65536."""

    def __post_init__(self) -> None:
        _require_int("min_observations", self.min_observations, 1, 2**31 - 1)
        _require_int("n_phase", self.n_phase, 2, 65536)
        _require("max_mag_err", self.max_mag_err > 0, "a number above 0", self.max_mag_err)
        _require("sigma", 0 < self.sigma < math.inf, "a finite number above 0", self.sigma)
        _require("outliers", self.outliers in get_args(Outliers), f"one of {get_args(Outliers)}", self.outliers)
        _require("phase_zero", self.phase_zero in get_args(PhaseZero), f"one of {get_args(PhaseZero)}", self.phase_zero)
        _require("scale", self.scale in get_args(Scale), f"one of {get_args(Scale)}", self.scale)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a survey's times and magnitudes can be; everything else is a sentinel or an error.

    Raises
    ------
    ValueError
        If a pair is not in order, or a magnitude is not finite.
    """

    time_min: float = -math.inf
    time_max: float = math.inf
    """First and last possible time [d, in the survey's time system], both inclusive; see `TimeSystem.limits`."""
    mag_min: float = -29.0
    mag_max: float = 29.0
    """Magnitudes at or beyond these [mag] are sentinels; finite."""

    def __post_init__(self) -> None:
        times, mags = (self.time_min, self.time_max), (self.mag_min, self.mag_max)
        _require("time_min, time_max", self.time_min < self.time_max, "time_min < time_max", times)
        _require("mag_min, mag_max", self.mag_min < self.mag_max, "mag_min < mag_max", mags)
        _require("mag_min, mag_max", all(map(math.isfinite, mags)), "finite numbers", mags)


def good_observations(
    time: npt.NDArray[np.float64],
    mag: npt.NDArray[Any],
    mag_err: npt.NDArray[Any] | None,
    limits: Limits,
    max_mag_err: float = Preprocessing.max_mag_err,
) -> npt.NDArray[np.bool_]:
    """Return which observations the first rule of cleaning keeps, as the fold kernel does it: for all but the kernel.

    Parameters
    ----------
    time : float64 array (m,)
        [d].
    mag, mag_err : float array (m,)
        [mag]; no errors for a survey that has none, or to keep what only its error excludes.
    limits : Limits
        Of the survey.
    max_mag_err : float
        As `Preprocessing` has it.

    Returns
    -------
    bool array (m,)
    """
    # NaN fails every comparison. The limits are float64: compared with float32, they would be rounded first.
    good = np.isfinite(time) & (time >= limits.time_min) & (time <= limits.time_max)
    good &= (mag > np.float64(limits.mag_min)) & (mag < np.float64(limits.mag_max))
    if mag_err is not None:
        good &= (mag_err >= 0) & (mag_err < np.float64(max_mag_err))
    return good


def _require(name: str, holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name}: expected {expected}, got {got!r}")


def _require_int(name: str, value: int, low: int, high: int) -> None:
    # bool is an int, and True observations are nobody's intention.
    is_int = isinstance(value, int) and not isinstance(value, bool)
    _require(name, is_int and low <= value <= high, f"an integer from {low} to {high}", value)
