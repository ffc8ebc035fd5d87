"""Which light curves a bundle was trained on: a mark of each, by which `evaluate` knows them under any name."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.training.stars.labelled import LabelledLightCurves

Marks = npt.NDArray[np.uint32]

_STEPS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def marks_of(light_curves: LightCurves) -> Marks:
    """Return a mark of each light curve's magnitudes in float32, in whatever order, uint32 (n,).

    Two of 20,000 light curves have the same by chance in one of 20 such sets; a new one has one of theirs in one case
    of 200,000.

    Notes
    -----
    Source of the mixing: Steele, Lea and Flood 2014 (SplitMix64, doi:10.1145/2660193.2660195).
    """
    used = slice(light_curves.offsets[0], light_curves.offsets[-1])
    bits = np.ascontiguousarray(light_curves.mag[used], np.float32).view(np.uint32).astype(np.uint64)
    for step, shift in zip(_STEPS, (np.uint64(30), np.uint64(27)), strict=True):
        bits = (bits ^ (bits >> shift)) * step + step
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(bits ^ (bits >> np.uint64(31)))])
    # Sums modulo 2 ** 64: differences of the running one are those of each light curve.
    marks: Marks = (np.diff(total[light_curves.offsets - light_curves.offsets[0]]) >> np.uint64(32)).astype(np.uint32)
    return marks


def write_marks(marks: Marks) -> str:
    """Return marks as a text for ``bundle.json``."""
    return base64.b64encode(np.sort(marks).astype("<u4").tobytes()).decode()


def read_marks(training: Mapping[str, Any]) -> Marks:
    """Return the marks in a bundle's record of its training; none if it has none."""
    return np.frombuffer(base64.b64decode(training.get("marks", "")), "<u4")


def count_seen(training: Mapping[str, Any], objects: LabelledLightCurves) -> int:
    """Return how many of these objects' light curves a bundle's record of its training has; 0 if it has no marks."""
    return int(np.isin(marks_of(objects.light_curves), read_marks(training)).sum())
