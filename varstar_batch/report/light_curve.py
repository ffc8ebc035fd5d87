"""A picture of one light curve, raw and folded, for a person to look at."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits, Preprocessing, good_observations
from varstar_batch.survey.decode import SurveyBatch

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_USED, _ERROR, _DROPPED, _CURVE = "#1b5e8c", "#b0b0b0", "#8a6d00", "#d1495b"


def plot_light_curve(
    batch: SurveyBatch, limits: Limits, preprocessing: Preprocessing, time_system: str | None
) -> bytes:
    """Return a PNG of an object's light curve over time and, where it has a period, over two turns of phase.

    Parameters
    ----------
    batch : SurveyBatch
        One object.
    limits : Limits
        Of its survey.
    preprocessing : Preprocessing
        How it is cleaned and folded: what the network sees is drawn, and what it does not see is marked.
    time_system : str or None
        For the axis.
    """
    from matplotlib.figure import Figure

    curves = batch.light_curves
    part = slice(int(curves.offsets[0]), int(curves.offsets[1]))
    time, mag = curves.time[part], curves.mag[part].astype(np.float64)
    error = curves.mag_err[part].astype(np.float64) if curves.mag_err is not None else np.zeros(len(mag))
    folded = fold(curves, batch.period, replace(preprocessing, scale="none"), limits, mark_used=True)
    used = folded.used[part]
    dropped = good_observations(time, mag, None, limits) & ~used
    period = float(batch.period[0])
    has_period = np.isfinite(period) and period > 0 and bool(used.any())
    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=120)
    axes = figure.subplots(1, 2 if has_period else 1, squeeze=False)[0]
    _draw(axes[0], time, mag, error, used, dropped)
    axes[0].set_xlabel(f"time [{time_system or 'days'}]")
    # Whole Julian dates are wide: more of them would run into each other.
    axes[0].locator_params(axis="x", nbins=5)
    axes[0].ticklabel_format(style="plain", useOffset=False)
    if has_period:
        zero = time[used].min()
        if preprocessing.phase_zero == "maximum":
            zero = time[used & (mag == mag[used].min())].min()
        phase = ((time - zero) / period) % 1.0
        for turn in (0, 1):
            _draw(axes[1], phase + turn, mag, error, used, dropped)
        curve = folded.curve[0]
        grid = (np.arange(2 * len(curve))) / len(curve)
        axes[1].plot(grid, np.tile(curve, 2), color=_CURVE, linewidth=0.7, alpha=0.7, zorder=1, label="interpolated")
        axes[1].set_xlabel(f"phase, P = {period:.8g} d")
        axes[1].set_xlim(0, 2)
    for axis in axes:
        axis.set_ylabel("magnitude")
        axis.invert_yaxis()
    if has_period:
        axes[1].legend(fontsize="small", loc="best")
    figure.suptitle(_title(batch, int(folded.n_used[0]), len(time)))
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _draw(axis: Any, x: Array, mag: Array, error: Array, used: Mask, dropped: Mask) -> None:
    axis.errorbar(x[used], mag[used], error[used], fmt=".", color=_USED, ecolor=_ERROR, elinewidth=0.6, markersize=3)
    if dropped.any():
        axis.plot(x[dropped], mag[dropped], "x", color=_DROPPED, markersize=4, label="dropped")


def _title(batch: SurveyBatch, used: int, n: int) -> str:
    row = batch.objects.slice(0, 1).to_pylist()[0]
    words = [str(row["object_id"])]
    if row.get("class"):
        words.append(str(row["class"]))
    words.append(f"{used:,} of {n:,} observations used")
    return " · ".join(words)
