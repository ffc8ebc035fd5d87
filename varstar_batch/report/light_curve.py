"""A picture of one light curve, raw and folded, for a person to look at."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.fold import Folded, fold
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.light_curves.rules import Limits, Preprocessing, good_observations
from varstar_batch.survey.bands import split
from varstar_batch.survey.decode import SurveyBatch

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_ERROR, _DROPPED, _CURVE = "#b0b0b0", "#8a6d00", "#d1495b"
_COLORS = ("#1b5e8c", "#d1495b", "#2e8b57", "#8e44ad", "#e08e0b", "#333333")
"""Of one band after the other; the first where there is one."""


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

    curves, bands = batch.light_curves, [""]
    if batch.bands is not None:
        there = batch.bands.by_object(curves.offsets).total()
        curves, bands = split(curves, batch.bands)[0], list(there) or [""]
    period = float(batch.period[0])
    periods = np.full(len(curves), period)
    folded = fold(curves, periods, replace(preprocessing, scale="none"), limits, mark_used=True)
    has_period = np.isfinite(period) and period > 0 and bool(folded.used.any())
    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=120)
    axes = figure.subplots(1, 2 if has_period else 1, squeeze=False)[0]
    for number, band in enumerate(bands):
        look = _Look(period, preprocessing, limits, band, _COLORS[number % len(_COLORS)])
        _draw_band(axes, curves, folded, number, look)
    axes[0].set_xlabel(f"time [{time_system or 'days'}]")
    # Whole Julian dates are wide: more of them would run into each other.
    axes[0].locator_params(axis="x", nbins=5)
    axes[0].ticklabel_format(style="plain", useOffset=False)
    if has_period:
        axes[1].set_xlabel(f"phase, P = {period:.8g} d")
        axes[1].set_xlim(0, 2)
    for axis in axes:
        axis.set_ylabel("magnitude")
        axis.invert_yaxis()
    if has_period:
        axes[1].legend(fontsize="small", loc="best")
    left_out = 0 if batch.left_out is None else int(batch.left_out.sum())
    figure.suptitle(_title(batch, int(folded.n_used.sum()), len(curves.time) + left_out))
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


class _Look(NamedTuple):
    """How a band is drawn."""

    period: float
    preprocessing: Preprocessing
    limits: Limits
    band: str
    """Its name; empty where there is no other."""
    color: str


def _draw_band(axes: Any, curves: LightCurves, folded: Folded, number: int, look: _Look) -> None:
    """Draw one of some light curves, raw and, where there is a second axis, folded."""
    part = slice(int(curves.offsets[number]), int(curves.offsets[number + 1]))
    time, mag = curves.time[part], curves.mag[part].astype(np.float64)
    error = curves.mag_err[part].astype(np.float64) if curves.mag_err is not None else np.zeros(len(mag))
    used = folded.used[part]
    dropped = good_observations(time, mag, None, look.limits) & ~used
    _draw(axes[0], time, mag, error, used, dropped, look.color)
    if len(axes) == 1 or not used.any():
        return
    zero = time[used].min()
    if look.preprocessing.phase_zero == "maximum":
        zero = time[used & (mag == mag[used].min())].min()
    phase = ((time - zero) / look.period) % 1.0
    for turn in (0, 1):
        _draw(axes[1], phase + turn, mag, error, used, dropped, look.color)
    curve = folded.curve[number]
    grid = (np.arange(2 * len(curve))) / len(curve)
    line = {"color": look.color if look.band else _CURVE, "linewidth": 0.7, "alpha": 0.7, "zorder": 1}
    axes[1].plot(grid, np.tile(curve, 2), label=f"{look.band} interpolated".strip(), **line)


def _draw(axis: Any, x: Array, mag: Array, error: Array, used: Mask, dropped: Mask, color: str) -> None:
    axis.errorbar(x[used], mag[used], error[used], fmt=".", color=color, ecolor=_ERROR, elinewidth=0.6, markersize=3)
    if dropped.any():
        axis.plot(x[dropped], mag[dropped], "x", color=_DROPPED, markersize=4, label="dropped")


def _title(batch: SurveyBatch, used: int, n: int) -> str:
    row = batch.objects.slice(0, 1).to_pylist()[0]
    words = [str(row["object_id"])]
    if row.get("class"):
        words.append(str(row["class"]))
    words.append(f"{used:,} of {n:,} observations used")
    return " · ".join(words)
