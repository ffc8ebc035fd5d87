"""Cleaning, folding and interpolation of whole batches of light curves: one function for training and prediction."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.features import FEATURES
from varstar_batch.light_curves.kernel.data import Results, Rules, make_columns, make_rules, new_scratch
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rivals import BINS, RIVALS
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.light_curves.status import DropReason, Status

# What an object costs besides its observations (its curve, mostly), in observations: measured.
_OBJECT_COST = 150
# The kernel counts places from 0 to n + 1 in int32.
MAX_OBSERVATIONS = 2**31 - 3


@dataclass(frozen=True, eq=False)
class Folded:
    """What `fold` made of `n` objects, one row for each."""

    status: npt.NDArray[np.uint8]
    """Uint8 (n,). Codes of `Status`."""
    n_obs: npt.NDArray[np.int32]
    n_used: npt.NDArray[np.int32]
    """Int32 (n,). Observations delivered, and left after cleaning and the removal of outliers; always ``n_used ==
    n_obs - dropped.sum(axis=1)``. An object that fails before the removal of outliers keeps them."""
    dropped: npt.NDArray[np.int32]
    """Int32 (n, len(DropReason)). Dropped observations by `DropReason`."""
    amplitude: npt.NDArray[np.float32]
    """Float32 (n,). Largest minus smallest used magnitude [mag]; NaN unless the status is OK."""
    curve: npt.NDArray[np.float32]
    """Float32 (n, n_phase). Curve at phases k / n_phase [mag; 0 to 1 with scale ``minmax``]; NaN unless the status is
    OK."""
    features: npt.NDArray[np.float32]
    """Float32 (n, len(FEATURES)), or (n, 0) where none were asked for. See
    `varstar_batch.light_curves.features.FEATURES`; NaN unless the status is OK."""
    dispersion: npt.NDArray[np.float32]
    """Float32 (n, len(RIVALS) * len(BINS)), or (n, 0) where it was not asked for. How well each light curve repeats
    with each of `varstar_batch.light_curves.rivals.RIVALS`, in 64, 32, 16 and 8 bins of phase: from 0 for a function of
    the phase to about 1 for what knows nothing of it; NaN unless the status is OK."""
    used: npt.NDArray[np.bool_]
    """Bool (m,), of the m values of `LightCurves.time`, or (0,) where it was not asked for. Observations that are left,
    `n_used` of each object."""

    objects: npt.NDArray[np.int64] | None = None
    """Int64 (objects + 1,): the light curves of object i, one for each band, are ``objects[i]:objects[i + 1]``, one at
    least. None where each light curve is an object's."""

    def __len__(self) -> int:
        return len(self.status)

    def of_objects(self) -> Folded:
        """Return one row for each object: sums over its bands; status, amplitude and curve of its best one.

        That is, of those that have a curve, the one with the most observations used.
        """
        if self.objects is None:
            return self
        starts, n = self.objects[:-1], len(self.objects) - 1
        owner = np.repeat(np.arange(n), np.diff(self.objects))
        best = np.lexsort((-self.n_used, ~self.ok, owner))[starts]

        def summed(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
            return np.add.reduceat(values, starts, axis=0, dtype=np.int32) if n else values

        return Folded(
            status=self.status[best],
            n_obs=summed(self.n_obs),
            n_used=summed(self.n_used),
            dropped=summed(self.dropped),
            amplitude=self.amplitude[best],
            curve=self.curve[best],
            features=self.features[best],
            dispersion=self.dispersion[best],
            used=self.used,
        )

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Objects that have a curve, bool, shape (n,)."""
        return np.equal(self.status, Status.OK)


def fold(
    light_curves: LightCurves,
    period: npt.ArrayLike,
    preprocessing: Preprocessing,
    limits: Limits,
    *,
    features: bool | Literal["rivals"] = False,
    mark_used: bool = False,
    n_threads: int = 1,
) -> Folded:
    """Clean light curves, fold them with their periods, and interpolate them onto a grid of phases.

    An observation is dropped for the first `DropReason` that applies. Then, once, an outlier is an observation more
    than ``sigma`` population standard deviations from the mean; with ``outliers="isolated"`` it is dropped only if
    neither of its cyclic neighbours in phase (observations of equal phase in order of magnitude) is beyond that too,
    and with ``"grouped"`` also if it is brighter than a star gets (see `Preprocessing`).
    Phase is ``((t - t_ref) / period) mod 1`` in [0, 1) and float64. Observations of equal phase are averaged. The curve
    is linear between neighbours, and periodic.

    Parameters
    ----------
    light_curves : LightCurves
        n objects; the order of an object's observations does not matter.
    period : array_like of float64, shape (n,)
        [d]; NaN where it is missing.
    preprocessing : Preprocessing
        How to fold.
    limits : Limits
        Times and magnitudes outside are dropped.
    features : bool or {"rivals"}
        Describe each light curve too: half as much time again; with ``"rivals"`` also say how well it repeats with
        other periods.
    mark_used : bool
        Tell of each observation whether it was used, for pictures.
    n_threads : int
        Threads to use, at least 1; the result does not depend on it. Numba's own thread pool is not involved, and any
        number of threads may call this at once.

    Returns
    -------
    Folded
        One row for each object, also where the `Status` is not OK.

    Raises
    ------
    ValueError
        If `period` has another shape, `n_threads` is below 1, or an object has 2^31 - 2 or more observations.

    Notes
    -----
    With ``phase_zero="first"`` and ``scale="none"`` a curve equals ``numpy.interp(grid, phase, mag, period=1)`` on the
    used observations, averaged where a phase repeats, to the precision of float32.
    The first call with float32, and with float64, magnitudes after an installation compiles the kernel, for some ten
    seconds; later processes load it in half a second.
    Source: the paper's section 2 (arXiv:2508.11964).
    """
    period = np.ascontiguousarray(period, dtype=np.float64)
    n = len(light_curves)
    if period.shape != (n,):
        raise ValueError(f"period: expected shape ({n},), one for each light curve, got {period.shape}")
    if n_threads < 1:
        raise ValueError(f"n_threads: expected at least 1, got {n_threads}")
    folded = Folded(
        status=np.empty(n, np.uint8),
        n_obs=np.empty(n, np.int32),
        n_used=np.empty(n, np.int32),
        dropped=np.empty((n, len(DropReason)), np.int32),
        amplitude=np.empty(n, np.float32),
        curve=np.empty((n, preprocessing.n_phase), np.float32),
        features=np.empty((n, len(FEATURES) if features else 0), np.float32),
        dispersion=np.empty((n, len(RIVALS) * len(BINS) if features == "rivals" else 0), np.float32),
        used=np.zeros(len(light_curves.time) if mark_used else 0, np.bool_),
    )
    if n:
        has_errors, rivals = light_curves.mag_err is not None, features == "rivals"
        rules = make_rules(preprocessing, limits, has_errors=has_errors, features=bool(features), rivals=rivals)
        _fill(folded, light_curves, period, rules, n_threads)
    return folded


def compile_kernels() -> None:
    """Have the kernel for float32 magnitudes compiled and on disk: some 20 seconds, half a one where it is already."""
    time = np.arange(2.0)
    curve = LightCurves(np.array([0, 2]), time, time.astype(np.float32), time.astype(np.float32))
    fold(curve, [1.0], Preprocessing(), Limits())


def _fill(
    folded: Folded,
    light_curves: LightCurves,
    period: npt.NDArray[np.float64],
    rules: Rules,
    n_threads: int,
) -> None:
    # Numba takes a second to import, which nobody should pay who only imports the package.
    from varstar_batch.light_curves.kernel.fold_range import fold_range

    longest = int(light_curves.n_obs.max())
    if longest > MAX_OBSERVATIONS:
        raise ValueError(f"light curves: expected at most {MAX_OBSERVATIONS} observations of an object, got {longest}")
    columns = make_columns(light_curves, period)
    results = Results(*(getattr(folded, name) for name in Results._fields))
    if n_threads == 1:
        fold_range(0, len(folded), columns, rules, new_scratch(longest, rules.n_phase), results)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        calls = [
            pool.submit(fold_range, start, stop, columns, rules, new_scratch(longest, rules.n_phase), results)
            for start, stop in pairwise(_split(light_curves.offsets, n_threads))
        ]
        for call in calls:
            call.result()


def _split(offsets: npt.NDArray[np.int64], n_parts: int) -> list[int]:
    """Return n_parts + 1 bounds that cut the objects into runs of about equal cost."""
    cost = offsets + _OBJECT_COST * np.arange(len(offsets))
    inner = np.searchsorted(cost, cost[-1] * np.arange(1, n_parts) / n_parts)
    return [0, *inner.tolist(), len(offsets) - 1]
