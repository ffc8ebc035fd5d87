"""What the fold kernel is given and what it fills, as plain arrays and numbers."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Limits, Outliers, Preprocessing, Scale

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
_T = TypeVar("_T", bound=np.generic)

# Codes of the options in the kernel: their places in the literal types.
OUTLIERS_ISOLATED, OUTLIERS_GROUPED, OUTLIERS_GLOBAL, OUTLIERS_NONE = map(
    get_args(Outliers).index, ("isolated", "grouped", "global", "none")
)
SCALE_NONE, SCALE_CENTER, SCALE_MINMAX = map(get_args(Scale).index, ("none", "center", "minmax"))


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
