"""What the fold kernel is given, works in and fills, as plain arrays and numbers."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.features import FEATURES
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rivals import BINS
from varstar_batch.light_curves.rules import Limits, Outliers, Preprocessing, Scale

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
_T = TypeVar("_T", bound=np.generic)

# Codes of the options in the kernel: their places in the literal types.
OUTLIERS_ISOLATED, OUTLIERS_GROUPED, OUTLIERS_GLOBAL, OUTLIERS_NONE = map(
    get_args(Outliers).index, ("isolated", "grouped", "global", "none")
)
SCALE_NONE, SCALE_CENTER, SCALE_MINMAX = map(get_args(Scale).index, ("none", "center", "minmax"))

MAX_BINS = 1 << 16
"""Of the sort: never more than fit into the second-level cache."""

_LEAST_COARSE = 64
"""The curve is averaged down for its harmonics only if it keeps so many points."""


class Rules(NamedTuple):
    """`Preprocessing` and `Limits` as numbers; both time limits are finite here."""

    min_observations: int
    sigma: float
    outliers: int
    from_maximum: bool
    scale: int
    n_phase: int
    time_min: float
    time_max: float
    mag_min: float
    mag_max: float
    has_errors: bool
    max_mag_err: float
    features: bool
    rivals: bool


class Columns(NamedTuple):
    """`LightCurves` and periods as read-only arrays; `mag_err` is empty if there is none."""

    offsets: npt.NDArray[np.int64]
    time: Floats
    mag: npt.NDArray[Any]
    mag_err: npt.NDArray[Any]
    malformed: npt.NDArray[np.bool_]
    period: Floats


class Results(NamedTuple):
    """The fields of `Folded`, in order."""

    status: npt.NDArray[np.uint8]
    n_obs: Ints
    n_used: Ints
    dropped: Ints
    amplitude: npt.NDArray[np.float32]
    curve: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    dispersion: npt.NDArray[np.float32]
    used: npt.NDArray[np.bool_]


class Scratch(NamedTuple):
    """Working memory of one thread."""

    time: Floats
    mag: Floats
    phase: Floats
    bins: Ints
    keep: npt.NDArray[np.bool_]
    # Index into `time` and `mag` of each place in order of phase; before that, the bad observations.
    order: Ints
    # In order of phase from index 1 on; the ends are for the neighbours across phase 0.
    sorted_phase: Floats
    sorted_mag: Floats
    slope: Floats
    counts: Ints
    grid: Floats
    curve: Floats
    # For the features: a histogram, percentiles, the coarse curve, its harmonics (cosine and sine in turn).
    histogram: Ints
    levels: Floats
    coarse: Floats
    waves: Floats
    weights: Floats
    described: Floats
    # For the dispersion: observations and magnitudes of each bin of phase.
    sums: Floats


def make_rules(
    preprocessing: Preprocessing, limits: Limits, *, has_errors: bool, features: bool, rivals: bool
) -> Rules:
    """Return the rules with exactly the types the kernel is compiled for."""
    largest = np.finfo(np.float64).max
    return Rules(
        min_observations=int(preprocessing.min_observations),
        sigma=float(preprocessing.sigma),
        outliers=get_args(Outliers).index(preprocessing.outliers),
        from_maximum=preprocessing.phase_zero == "maximum",
        scale=get_args(Scale).index(preprocessing.scale),
        n_phase=int(preprocessing.n_phase),
        # Finite limits refuse infinite times by the same comparison that refuses impossible ones.
        time_min=float(max(limits.time_min, -largest)),
        time_max=float(min(limits.time_max, largest)),
        mag_min=float(limits.mag_min),
        mag_max=float(limits.mag_max),
        has_errors=bool(has_errors),
        max_mag_err=float(preprocessing.max_mag_err),
        features=bool(features),
        rivals=bool(rivals),
    )


def make_columns(light_curves: LightCurves, period: Floats) -> Columns:
    """Return the columns, as a rule without copies, with exactly the types the kernel is compiled for."""
    mag, mag_err, malformed = light_curves.mag, light_curves.mag_err, light_curves.malformed
    if mag_err is None:
        mag_err = mag[:0]
    if mag_err.dtype != mag.dtype:
        # One dtype for both, or the kernel would be compiled for four pairs instead of two: rare enough for a copy.
        mag, mag_err = mag.astype(np.float64), mag_err.astype(np.float64)
    return Columns(
        offsets=_as_input(light_curves.offsets),
        time=_as_input(light_curves.time),
        mag=_as_input(mag),
        mag_err=_as_input(mag_err),
        malformed=_as_input(np.zeros(len(light_curves), np.bool_) if malformed is None else malformed),
        period=_as_input(period),
    )


def _as_input(array: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """Return a contiguous, aligned, read-only view (a copy only if it is neither of the first two).

    Arrow's memory is read-only and NumPy's is not: as two types they would be compiled for twice.
    """
    view = np.require(array, requirements=["C", "A"]).view()
    view.flags.writeable = False
    return view


def new_scratch(longest: int, n_phase: int) -> Scratch:
    """Return working memory for light curves of up to `longest` observations."""
    n = longest + 2
    n_coarse = n_phase // 4 if n_phase % 4 == 0 and n_phase >= 4 * _LEAST_COARSE else n_phase
    angle = 2.0 * np.pi * np.arange(n_coarse) / n_coarse
    # What the average over each run of points leaves of a harmonic.
    run, half = n_phase // n_coarse, np.pi * np.arange(1, 5) / n_phase
    loss = np.sin(run * half) / (run * np.sin(half)) if run > 1 else np.ones(4)
    return Scratch(
        time=np.empty(n),
        mag=np.empty(n),
        phase=np.empty(n),
        bins=np.empty(n, np.int32),
        keep=np.empty(n, np.bool_),
        order=np.empty(n, np.int32),
        sorted_phase=np.empty(n),
        sorted_mag=np.empty(n),
        slope=np.empty(n),
        counts=np.empty(max(64, min(4 * longest, MAX_BINS), n_phase), np.int32),
        grid=np.arange(n_phase) / n_phase,
        curve=np.empty(n_phase),
        histogram=np.empty(256, np.int32),
        levels=np.empty(8),
        coarse=np.empty(n_coarse),
        waves=np.stack([wave(k * angle) / loss[k - 1] for k in range(1, 5) for wave in (np.cos, np.sin)]),
        weights=np.empty(8),
        described=np.empty(len(FEATURES)),
        sums=np.empty((2, BINS[0])),
    )
