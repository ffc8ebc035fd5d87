"""Cleaning, folding and interpolation of whole batches of light curves: one function for training and prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from varstar_batch.arithmetic.lightcurves import LightCurves
from varstar_batch.arithmetic.rules import Limits, Preprocessing
from varstar_batch.arithmetic.status import Status


@dataclass(frozen=True, eq=False)
class Folded:
    """What `fold` made of `n` objects, one row for each.

    Parameters
    ----------
    status : uint8, shape (n,)
        Codes of `Status`.
    n_obs, n_used : int32, shape (n,)
        Observations delivered, and left after cleaning and the removal of outliers: ``n_obs - dropped.sum(axis=1)``,
        also for objects that were not folded (no outliers are looked for in those).
    dropped : int32, shape (n, 6)
        Dropped observations by `DropReason`.
    amplitude : float32, shape (n,)
        Largest minus smallest used magnitude [mag], above 0; NaN unless the status is OK.
    curve : float32, shape (n, n_phase)
        Curve at phases k / n_phase [mag, or 0 to 1 with scale ``minmax``]; NaN unless the status is OK.
    """

    status: npt.NDArray[np.uint8]
    n_obs: npt.NDArray[np.int32]
    n_used: npt.NDArray[np.int32]
    dropped: npt.NDArray[np.int32]
    amplitude: npt.NDArray[np.float32]
    curve: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.status)

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Objects that have a curve, bool, shape (n,)."""
        return self.status == Status.OK


def fold(
    light_curves: LightCurves,
    period: npt.NDArray[np.float64],
    preprocessing: Preprocessing,
    limits: Limits,
    *,
    n_threads: int = 1,
) -> Folded:
    """Clean, fold and interpolate light curves (being written: the kernel follows within the hour)."""
    from varstar_batch.arithmetic.kernels import fold_threads

    return Folded(*fold_threads(light_curves, period, preprocessing, limits, n_threads))
