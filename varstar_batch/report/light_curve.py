"""A picture of one light curve, raw and folded, for a person to look at."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits, Preprocessing, good_observations
from varstar_batch.survey.decode import SurveyBatch

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_USED, _LEFT_OUT, _CURVE = "#1b5e8c", "#b0b0b0", "#d1495b"


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
        How it is cleaned; outliers are shown, and phase 0 is at the first observation used.
    time_system : str or None
        For the axis.
    """
    from matplotlib.figure import Figure

    curves = batch.light_curves
    part = slice(int(curves.offsets[0]), int(curves.offsets[1]))
    time, mag = curves.time[part], curves.mag[part].astype(np.float64)
    error = curves.mag_err[part].astype(np.float64) if curves.mag_err is not None else np.zeros(len(mag))
    shown = good_observations(time, mag, None, limits)
    used = good_observations(time, mag, error, limits, preprocessing.max_mag_err)
    period = float(batch.period[0])
    has_period = np.isfinite(period) and period > 0 and bool(used.any())
    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=120)
    axes = figure.subplots(1, 2 if has_period else 1, squeeze=False)[0]
    _draw(axes[0], time, mag, error, used, shown & ~used)
    axes[0].set_xlabel(f"time [{time_system or 'days'}]")
    # Whole Julian dates are wide: more of them would run into each other.
    axes[0].locator_params(axis="x", nbins=5)
    axes[0].ticklabel_format(style="plain", useOffset=False)
    if has_period:
        phase = ((time - time[used].min()) / period) % 1.0
        for turn in (0, 1):
            _draw(axes[1], phase + turn, mag, error, used, shown & ~used)
        rules = Preprocessing(min_observations=2, outliers="none", scale="none", max_mag_err=preprocessing.max_mag_err)
        curve = fold(curves, batch.period, rules, limits).curve[0]
        grid = (np.arange(2 * len(curve))) / len(curve)
        axes[1].plot(grid, np.tile(curve, 2), color=_CURVE, linewidth=0.7, alpha=0.7, zorder=1, label="interpolated")
        axes[1].set_xlabel(f"phase, P = {period:.8g} d")
        axes[1].set_xlim(0, 2)
    for axis in axes:
        axis.set_ylabel("magnitude")
        axis.invert_yaxis()
    if has_period:
        axes[1].legend(fontsize="small", loc="best")
    figure.suptitle(_title(batch, int(used.sum()), len(time)))
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _draw(axis: Any, x: Array, mag: Array, error: Array, used: Mask, left_out: Mask) -> None:
    axis.errorbar(x[used], mag[used], error[used], fmt=".", color=_USED, ecolor=_LEFT_OUT, elinewidth=0.6, markersize=3)
    if left_out.any():
        axis.plot(x[left_out], mag[left_out], "v", color=_LEFT_OUT, markersize=4)


def _title(batch: SurveyBatch, used: int, n: int) -> str:
    row = batch.objects.slice(0, 1).to_pylist()[0]
    words = [str(row["object_id"])]
    if row.get("class"):
        words.append(str(row["class"]))
    words.append(f"{used:,} of {n:,} observations used")
    return " · ".join(words)
