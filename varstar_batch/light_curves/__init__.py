"""Light curves as offsets and flat columns: cleaning, folding, interpolation, simulation. No I/O.

Importing this loads NumPy only; pyarrow and Numba are imported when they are first needed.
"""

from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.fold import Folded, fold
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.light_curves.status import STATUS_LABELS, DropReason, Status
from varstar_batch.light_curves.times import TimeSystem, parse_time_system

__all__ = [
    "CLASSES",
    "STATUS_LABELS",
    "DropReason",
    "Folded",
    "LightCurves",
    "Limits",
    "Preprocessing",
    "Status",
    "TimeSystem",
    "fold",
    "parse_time_system",
]
