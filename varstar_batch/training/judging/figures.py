"""Figures of how good a network is, as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits, Preprocessing, good_observations
from varstar_batch.training.judging.measures import Evidence, confusion_matrix, reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, POINT, LINE, USED = "#1b2733", "#8fa3b5", "#c2410c", "#1b5e8c"

DPI = 110

Codes = npt.NDArray[np.integer]


def draw_figures(evidence: Evidence, classes: Sequence[str], preprocessing: Preprocessing) -> dict[str, bytes]:
    """Return every figure that the evidence has something to show in, PNG by file name."""
    figures = {
        "confusion.png": confusion_figure(evidence.truth, evidence.predicted, classes),
        "reliability.png": reliability_figure(evidence),
        "light-curves.png": light_curve_figure(evidence, classes, preprocessing),
    }
    if evidence.histories:
        figures["learning.png"] = learning_figure(evidence.histories)
    return {name: _png(figure) for name, figure in figures.items()}


def confusion_figure(truth: Codes, predicted: Codes, classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix: numbers, and shares of the true class as colour."""
    figure = _new_figure(6.2, 5.6)
    axes = figure.subplots()
    counts = confusion_matrix(truth, predicted, len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if counts[row, column]:
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}\n{share:.1%}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if share > 0.55 else INK,
            )
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(f"{counts.sum():,} light curves, {np.trace(counts) / max(counts.sum(), 1):.2%} right", loc="left")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def reliability_figure(evidence: Evidence) -> Figure:
    """Draw how often answers are right by how sure they are, above how many there are."""
    table = reliability(evidence.probabilities, evidence.truth)
    edges = np.linspace(0, 1, len(table) + 1)
    count, confidence, right = table.T
    figure = _new_figure(5.6, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=POINT, linewidth=1, linestyle="--", label="calibrated")
    there = count > 0
    # Two standard deviations of a share of so few answers.
    spread = 2 * np.sqrt(np.maximum(right * (1 - right), 0)[there] / count[there])
    upper.errorbar(confidence[there], right[there], spread, fmt="o-", color=LINE, linewidth=1.2, markersize=4)
    upper.set_ylabel("share that is right")
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1.02)
    upper.legend(frameon=False, loc="upper left")
    error = np.nansum(count * np.abs(confidence - right)) / max(count.sum(), 1)
    upper.set_title(f"Expected calibration error {error:.4f}", loc="left")
    lower.bar(edges[:-1], count, width=np.diff(edges), align="edge", color=POINT, edgecolor="white")
    lower.set_yscale("symlog", linthresh=1)
    lower.set_ylim(bottom=0)
    lower.set_ylabel("light curves")
    lower.set_xlabel("largest probability")
    return figure


def learning_figure(histories: Mapping[str, Mapping[str, list[float]]]) -> Figure:
    """Draw loss and accuracy of each fit by pass: of the training (with dropout) and of the held-out objects."""
    figure = _new_figure(9.5, 3.8)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, colour, label in ((name, POINT, "training"), (f"held_{name}", LINE, "held out")):
            shown = [history[key] for history in histories.values() if key in history]
            for number, values in enumerate(shown):
                passes = np.arange(1, len(values) + 1)
                marker = "o" if len(values) == 1 else None
                axes.plot(
                    passes, values, color=colour, linewidth=1, marker=marker, label=label if number == 0 else None
                )
        axes.set_xlabel("pass over the training set")
        axes.set_ylabel(name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    figure.suptitle(f"{len(histories)} fits", x=0.01, ha="left", fontsize=11)
    return figure


def light_curve_figure(evidence: Evidence, classes: Sequence[str], preprocessing: Preprocessing) -> Figure:
    """Draw a light curve of each class over time and, beside it, over two turns of phase with the folded curve.

    Crosses are what cleaning drops: the network does not see it.
    """
    rows = _examples(evidence, len(classes))
    figure = _new_figure(11, 2.1 * max(len(rows), 1))
    axes = figure.subplots(max(len(rows), 1), 2, squeeze=False)
    shown = evidence.objects.take(rows)
    in_magnitudes = replace(preprocessing, scale="none")
    grid = np.arange(2 * preprocessing.n_phase) / preprocessing.n_phase
    for k, (raw, folded) in enumerate(axes[: len(rows)]):
        one = shown.light_curves.slice(k, k + 1)
        period = float(shown.period[k])
        seen = fold(one, shown.period[k : k + 1], in_magnitudes, Limits(), mark_used=True)
        dropped = good_observations(one.time, one.mag, None, Limits()) & ~seen.used
        first = one.time[seen.used].min(initial=np.inf)
        for part, kind, colour in ((seen.used, ".", USED), (dropped, "x", LINE)):
            time, mag = one.time[part] - first, one.mag[part]
            raw.plot(time, mag, kind, markersize=3, color=colour)
            phase = time / period % 1
            folded.plot(np.r_[phase, phase + 1], np.r_[mag, mag], kind, markersize=3, color=colour, alpha=0.5)
        folded.plot(grid, np.tile(seen.curve[0], 2), color=LINE, linewidth=0.9)
        folded.set_xlim(0, 2)
        code, probability = int(shown.class_code[k]), evidence.probabilities[rows[k]]
        raw.set_title(f"{classes[code]}  {shown.survey[k]} {shown.object_id[k]}", loc="left", fontsize=9)
        folded.set_title(f"P = {period:.5g} d, probability {probability[code]:.2f}", loc="left", fontsize=9)
        for each in (raw, folded):
            each.invert_yaxis()
            each.set_ylabel("mag")
    axes[-1][0].set_xlabel("time since the first used observation [d]")
    axes[-1][1].set_xlabel("phase")
    return figure


def _examples(evidence: Evidence, n_classes: int) -> npt.NDArray[np.intp]:
    """Return for each class that occurs the object of the middle probability among the right ones, or among all."""
    rows = []
    for code in range(n_classes):
        mine = np.flatnonzero(evidence.truth == code)
        right = mine[evidence.predicted[mine] == code]
        among = right if len(right) else mine
        if len(among):
            order = np.argsort(evidence.probabilities[among, code], kind="stable")
            rows.append(among[order[len(among) // 2]])
    return np.array(rows, np.intp)


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    # A figure by itself, without pyplot: no window system, no state that a long process would gather.
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def _png(figure: Figure) -> bytes:
    for axes in figure.axes:
        axes.tick_params(colors=INK, labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()
