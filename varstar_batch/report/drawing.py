"""Charts as SVG text, drawn by hand: small, sharp on every screen, legible in the dark, and in need of no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PALETTE = ("#e69f00", "#3f9fd8", "#009e73", "#d55e00", "#6a5acd", "#cc79a7", "#8c8c00", "#888888")
"""Told apart by those who see few colours, too. Source: after Okabe and Ito (2008), blue and yellow made legible."""


def number(value: float) -> str:
    """Return a coordinate, short."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def histogram(counts: Ints, low: float, high: float, colour: str, label: str) -> str:
    """Return a histogram of equal bins from `low` to `high`; `label` names the horizontal axis."""
    width, height, left, bottom, top = 340, 130, 6, 34, 8
    inner, base = width - 2 * left, height - bottom
    peak = max(1, int(counts.max(initial=0)))
    step = inner / len(counts)
    size = (high - low) / len(counts)
    bars = "".join(
        f'<rect x="{number(left + k * step + 0.6)}" y="{number(base - (base - top) * n / peak)}" '
        f'width="{number(step - 1.2)}" height="{number((base - top) * n / peak)}" rx="1">'
        f"<title>{low + k * size:.2f} to {low + (k + 1) * size:.2f}: {n:,}</title></rect>"
        for k, n in enumerate(counts.tolist())
        if n
    )
    ticks = "".join(
        f'<text x="{number(left + inner * f)}" y="{base + 15}" text-anchor="{anchor}">'
        f"{low + (high - low) * f:.2g}</text>"
        for f, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f'<line class="axis" x1="{left}" x2="{width - left}" y1="{base}" y2="{base}"/>'
        f'<g fill="{colour}">{bars}</g>{ticks}'
        f'<text x="{width / 2}" y="{height - 3}" text-anchor="middle" class="axis-name">{escape(label)}</text></svg>'
    )


def scatter(points: dict[str, Floats], colours: dict[str, str]) -> str:
    """Return the period-amplitude diagram: log10 period [d] to the right, amplitude [mag] upwards, both logarithmic."""
    width, height, left, right, bottom, top = 700, 400, 66, 26, 46, 10
    everything = np.concatenate([p for p in points.values() if len(p)] or [np.zeros((0, 2))])
    everything = everything[everything[:, 1] > 0]
    if not len(everything):
        return '<p class="note">No object has both a period and an amplitude.</p>'
    x0, x1 = _widen(everything[:, 0])
    y0, y1 = _widen(np.log10(everything[:, 1]))
    base = height - bottom

    def place(p: Floats) -> tuple[Floats, Floats]:
        x = left + (p[:, 0] - x0) / (x1 - x0) * (width - left - right)
        return x, base - (np.log10(p[:, 1]) - y0) / (y1 - y0) * (base - top)

    groups = []
    for name, p in points.items():
        x, y = place(p[p[:, 1] > 0])
        path = "".join(f"M{number(a)} {number(b)}h0" for a, b in zip(x, y, strict=True))
        groups.append(f'<path class="dots" d="{path}" stroke="{colours[name]}"><title>{escape(name)}</title></path>')
    grid = "".join(
        f'<line class="grid" x1="{number(px)}" x2="{number(px)}" y1="{top}" y2="{base}"/>'
        f'<text x="{number(px)}" y="{base + 18}" text-anchor="middle">{10.0**k:g}</text>'
        for k in range(math.ceil(x0), math.floor(x1) + 1)
        for px in (left + (k - x0) / (x1 - x0) * (width - left - right),)
    )
    grid += "".join(
        f'<line class="grid" x1="{left}" x2="{width - right}" y1="{number(py)}" y2="{number(py)}"/>'
        f'<text x="{left - 7}" y="{number(py + 4)}" text-anchor="end">{value:g}</text>'
        for value in _decades(y0, y1)
        for py in (base - (math.log10(value) - y0) / (y1 - y0) * (base - top),)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Period-amplitude diagram" class="wide">{grid}'
        f'{"".join(groups)}<text x="{(width + left) / 2}" y="{height - 6}" text-anchor="middle" class="axis-name">'
        f'period [d]</text><text transform="translate(16 {base / 2}) rotate(-90)" text-anchor="middle" '
        'class="axis-name">amplitude [mag]</text></svg>'
    )


def folded_light_curve(phase: Floats, mag: Floats, colour: str) -> str:
    """Return a folded light curve over two periods, bright above; phases in [0, 1)."""
    width, height, left, bottom, top = 340, 150, 44, 30, 6
    base = height - bottom
    low, high = np.quantile(mag, [0.01, 0.99])
    margin = max(0.12 * (high - low), 0.005)
    low, high = low - margin, high + margin
    half = (width - left - 6) / 2
    x = left + phase * half
    y = np.clip(top + (mag - low) / (high - low) * (base - top), top, base)
    path = "".join(f"M{number(a)} {number(b)}h0" for a, b in zip(x, y, strict=True))
    ticks = "".join(
        f'<text x="{number(left + half * f)}" y="{base + 14}" text-anchor="middle">{f:g}</text>'
        for f in (0, 0.5, 1, 1.5, 2)
    )
    ticks += "".join(
        f'<text x="{left - 5}" y="{number(top + (m - low) / (high - low) * (base - top) + 4)}" text-anchor="end">'
        f"{m:.2f}</text>"
        for m in np.linspace(low + margin, high - margin, 3)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Folded light curve">'
        f'<rect class="frame" x="{left}" y="{top}" width="{width - left - 6}" height="{base - top}"/>'
        f'<path class="dots" stroke="{colour}" d="{path}"/>'
        f'<path class="dots" stroke="{colour}" transform="translate({number(half)} 0)" d="{path}"/>{ticks}'
        f'<text x="{(width + left) / 2}" y="{height - 3}" text-anchor="middle" class="axis-name">phase</text></svg>'
    )


def matrix_table(matrix: dict[tuple[str, str], int], labels: Sequence[str], corner: str) -> str:
    """Return a table of counts, shaded by their share of the row: the diagonal in one hue, the rest in another."""
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in labels)
    body = []
    for row in labels:
        total = max(1, sum(matrix.get((row, column), 0) for column in labels))
        cells = []
        for column in labels:
            count = matrix.get((row, column), 0)
            share = count / total
            hue = "good" if row == column else "bad"
            text = f"{count:,}" if count else '<span class="zero">·</span>'
            shade = f' style="--s:{share:.3f}"' if count else ""
            cells.append(f'<td class="{hue}"{shade} title="{share:.1%}">{text}</td>')
        body.append(f"<tr><th>{escape(row.replace('_', ' '))}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table class="matrix"><thead><tr><th class="corner">{escape(corner)}</th>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def bars(rows: Sequence[tuple[str, float, str]], colours: str | Sequence[str], *, total: float | None = None) -> str:
    """Return horizontal bars.

    Parameters
    ----------
    rows : sequence of (label, length, text)
        The longest bar goes across the whole width.
    colours : str or sequence of str
        One for all, or one for each.
    total : float, optional
        Of what each length is a share; no shares are given without it.
    """
    longest = max((length for _, length, _ in rows), default=0) or 1
    each = [colours] * len(rows) if isinstance(colours, str) else colours
    lines = []
    for (label, length, text), colour in zip(rows, each, strict=True):
        bar = (
            f'<span class="bar" style="width:{100 * length / longest:.2f}%;background:{colour}"></span>'
            if length
            else ""
        )
        share = "" if total is None else _percent(length, total)
        lines.append(
            f'<span class="label">{escape(label.replace("_", " "))}</span><span class="track">{bar}</span>'
            f'<span class="value">{escape(text)}</span><span class="value">{share}</span>'
        )
    return f'<div class="bars">{"".join(lines)}</div>'


def _percent(part: float, total: float) -> str:
    share = part / total if total else 0.0
    return f"{share:.1%}" if share >= 0.001 or not share else f"{share:.2%}"


def _widen(values: Floats) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = max(0.04 * (high - low), 0.05)
    return low - margin, high + margin


def _decades(low: float, high: float) -> list[float]:
    """Return round numbers (1, 2, 5 times powers of ten) whose logarithms lie from `low` to `high`."""
    values = [factor * 10.0**k for k in range(math.floor(low) - 1, math.ceil(high) + 1) for factor in (1, 2, 5)]
    return [value for value in values if low <= math.log10(value) <= high]
