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

    seen = _see(batch, preprocessing, limits)
    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=120)
    axes = figure.subplots(1, 2 if seen.has_period else 1, squeeze=False)[0]
    _draw_bands(axes[0], axes[1] if seen.has_period else None, seen)
    axes[0].set_xlabel(f"time [{time_system or 'days'}]")
    # Whole Julian dates are wide: more of them would run into each other.
    axes[0].locator_params(axis="x", nbins=5)
    axes[0].ticklabel_format(style="plain", useOffset=False)
    if seen.has_period:
        axes[1].set_xlabel(f"phase, P = {seen.period:.8g} d")
        axes[1].set_xlim(0, 2)
    for axis in axes:
        axis.set_ylabel("magnitude")
        axis.invert_yaxis()
    if seen.has_period:
        axes[1].legend(fontsize="small", loc="best")
    left_out = 0 if batch.left_out is None else int(batch.left_out.sum())
    figure.suptitle(_title(batch, int(seen.folded.n_used.sum()), len(seen.curves.time) + left_out))
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def draw_light_curve(axis: Any, batch: SurveyBatch, limits: Limits, preprocessing: Preprocessing) -> None:
    """Draw an object's light curve into one of matplotlib's axes: over two turns of phase, or over time.

    Over time where it has no period. The other arguments are as for `plot_light_curve`.
    """
    seen = _see(batch, preprocessing, limits)
    _draw_bands(None if seen.has_period else axis, axis if seen.has_period else None, seen)
    axis.set_xlabel(f"phase, P = {seen.period:.8g} d" if seen.has_period else "time [d]")
    axis.set_ylabel("magnitude")
    if not axis.yaxis_inverted():
        axis.invert_yaxis()


class _Seen(NamedTuple):
    """An object as the network sees it, band by band."""

    curves: LightCurves
    bands: list[str]
    """Names; one that is empty where there is no other."""
    folded: Folded
    period: float
    preprocessing: Preprocessing
    limits: Limits

    @property
    def has_period(self) -> bool:
        """Whether there is anything folded to draw."""
        return bool(np.isfinite(self.period) and self.period > 0 and self.folded.used.any())


def _see(batch: SurveyBatch, preprocessing: Preprocessing, limits: Limits) -> _Seen:
    curves, bands = batch.light_curves, [""]
    if batch.bands is not None:
        there = batch.bands.by_object(curves.offsets).total()
        curves, bands = split(curves, batch.bands)[0], list(there) or [""]
    period = float(batch.period[0])
    periods = np.full(len(curves), period)
    folded = fold(curves, periods, replace(preprocessing, scale="none"), limits, mark_used=True)
    return _Seen(curves, bands, folded, period, preprocessing, limits)


def _draw_bands(over_time: Any, over_phase: Any, seen: _Seen) -> None:
    """Draw every band into one axis or both."""
    for number, band in enumerate(seen.bands):
        color = _COLORS[number % len(_COLORS)]
        part = slice(int(seen.curves.offsets[number]), int(seen.curves.offsets[number + 1]))
        time, mag = seen.curves.time[part], seen.curves.mag[part].astype(np.float64)
        errors = seen.curves.mag_err
        error = errors[part].astype(np.float64) if errors is not None else np.zeros(len(mag))
        good = good_observations(time, mag, None, seen.limits)
        # Without a period nothing is used, and all of it is worth seeing.
        used = seen.folded.used[part] if seen.has_period else good
        dropped = good & ~used
        if over_time is not None:
            _draw(over_time, time, mag, error, used, dropped, color)
        if over_phase is None or not used.any():
            continue
        zero = time[used].min()
        if seen.preprocessing.phase_zero == "maximum":
            zero = time[used & (mag == mag[used].min())].min()
        phase = ((time - zero) / seen.period) % 1.0
        for turn in (0, 1):
            _draw(over_phase, phase + turn, mag, error, used, dropped, color)
        curve = seen.folded.curve[number]
        grid = (np.arange(2 * len(curve))) / len(curve)
        line = {"color": color if band else _CURVE, "linewidth": 0.7, "alpha": 0.7, "zorder": 1}
        over_phase.plot(grid, np.tile(curve, 2), label=f"{band} interpolated".strip(), **line)


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
