"""Features of a folded light curve: what its scaled curve no longer tells, in numbers that hold from survey to survey.

The fold kernel computes them in the same pass (`light_curves.kernel.describe`), from the observations that are left
after cleaning and the removal of outliers, and from the interpolated curve. All are finite where the status is OK, and
none depends on phase zero, on the zero point of the magnitudes or on the order of the observations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FEATURES = (
    "log_period",
    "log_amplitude",
    "log_range",
    "skewness",
    "log_kurtosis",
    "bright_quarter",
    "median_place",
    "faint_quarter",
    "phase_smoothness",
    "time_smoothness",
    "ratio_21",
    "ratio_31",
    "ratio_41",
    "cos_phi_21",
    "sin_phi_21",
    "cos_phi_31",
    "sin_phi_31",
    "cos_phi_41",
    "sin_phi_41",
    "odd_power",
    "scatter",
    "faint_share",
    "faint_width",
    "rise",
)
"""Names of the features, in the order of the columns of `Folded.features`.

log_period
    log10 of the period [d].
log_amplitude, log_range
    log10 of the magnitudes' 5th to 95th and 2nd to 98th percentile [mag], at least -4.
skewness, log_kurtosis
    Third standardised moment of the magnitudes, and log10 of the fourth.
bright_quarter, median_place, faint_quarter
    Of the 5th to 95th percentile the share from the 5th to the 25th, from the 5th to the median, and from the 75th to
    the 95th; in [0, 1].
phase_smoothness, time_smoothness
    Mean squared difference of neighbours in phase, or in time, over twice the variance: 0 on a smooth curve, 1 for
    noise (von Neumann 1941, doi:10.1214/aoms/1177731677).
ratio_21, ratio_31, ratio_41
    A_k / (A_1 + A_k) of the Fourier amplitudes of the curve; in [0, 1].
cos_phi_k1, sin_phi_k1
    Of the phase differences phi_k - k phi_1 (Simon and Lee 1981, doi:10.1086/159153).
odd_power
    Share of the odd harmonics in the power of the first four; in [0, 1]: near 0 for two equal minima a cycle.
scatter
    Square root of the share of the magnitudes' variance that the first four harmonics leave; in [0, 1].
faint_share
    Share of the observations that are fainter than the mean.
faint_width, rise
    Of the curve of the first four harmonics: the share that is fainter than half its range, and its steepest rise in
    brightness over the sum of steepest rise and fall; in [0, 1].
"""


def choose_features(features: npt.NDArray[np.float32], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the columns of these names, in this order, of features float32 (n, len(FEATURES)).

    Raises
    ------
    ValueError
        A name is unknown, or the light curves were folded without features.
    """
    if features.shape[1] != len(FEATURES):
        raise ValueError(
            f"features: expected {len(FEATURES)} columns, got {features.shape[1]}; fold with features=True"
        )
    return np.ascontiguousarray(features[:, [FEATURES.index(name) for name in names]])
