"""Why an object has no curve, and why an observation was dropped: enumerated, never silent."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Status(IntEnum):
    """What became of an object, stored as uint8; where several apply, the first of this order after `OK` is given."""

    OK = 0
    """Folded (and, in a catalog, classified)."""
    NO_PERIOD = 1
    """The period is missing: null and NaN both mean that."""
    BAD_PERIOD = 2
    """The period is infinite, zero or negative, or so short that the number of cycles is not a finite float64."""
    NO_OBSERVATIONS = 3
    """The light curve is empty as delivered."""
    TOO_FEW_OBSERVATIONS = 4
    """Fewer than `Preprocessing.min_observations` remain after cleaning (outliers count), or all are outliers."""
    NO_VARIATION = 5
    """All used magnitudes are equal, or (scale ``minmax`` only) the folded curve is."""
    MALFORMED = 6
    """Times, magnitudes and errors have different lengths. This one comes before every other."""
    NOT_CLASSIFIED = 7
    """Folded, but the network's output was not finite."""

    @property
    def label(self) -> str:
        """Name in catalogs: lower case, for example ``"too_few_observations"``."""
        return self.name.lower()


STATUS_LABELS: tuple[str, ...] = tuple(status.label for status in Status)
"""Labels indexed by code."""


class DropReason(IntEnum):
    """Why an observation was dropped: the first that applies, so that counts add up; columns of `Folded.dropped`."""

    TIME_NOT_FINITE = 0
    TIME_IMPOSSIBLE = 1
    """Outside `Limits.time_min` .. `Limits.time_max`."""
    MAG_NOT_FINITE = 2
    MAG_SENTINEL = 3
    """At or beyond `Limits.mag_min` or `Limits.mag_max`."""
    MAG_ERR_INVALID = 4
    """NaN, negative, or at least `Preprocessing.max_mag_err`."""
    OUTLIER = 5
    FLAGGED = 6
    """Not good in the survey's own words (`SurveyConfig.good`); reading leaves these two out before all others."""
    OTHER_BAND = 7
    """Of another band than the one chosen."""

    @property
    def label(self) -> str:
        """Lower-case name, for example ``"mag_sentinel"``."""
        return self.name.lower()


def count_statuses(status: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Return how many objects have each status, those that occur."""
    counts: Iterable[int] = np.bincount(status, minlength=len(STATUS_LABELS)).tolist()
    return {label: count for label, count in zip(STATUS_LABELS, counts, strict=True) if count}
