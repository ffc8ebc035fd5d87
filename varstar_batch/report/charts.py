"""Charts of a page: SVG by matplotlib in the page's own colours, bars and tables in HTML; none needs a script."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PALETTE = ("#e69f00", "#3f9fd8", "#009e73", "#d55e00", "#6a5acd", "#cc79a7", "#8c8c00", "#888888")
"""Told apart by those who see few colours, too. Source: after Okabe and Ito (2008), blue and yellow made legible."""

SOFT, LINE = "#5b6577", "#e1e5ec"
"""Colours of meridians and of frames; in the page they are its variables, which differ in the dark."""

FEWEST = 5
"""Objects in a cell: with fewer a map shows the noise of counting rather than the survey."""

WHOLE_SKY = 41252.96
"""Square degrees."""


def histogram(counts: Ints, low: float, high: float, colour: str, label: str) -> str:
    """Return a histogram of equal bins from `low` to `high`; `label` names the horizontal axis."""
    peak = max(1, int(counts.max(initial=0)))
    edges = np.linspace(low, high, len(counts) + 1)
    columns = "".join(
        f'<i title="{a:.2f} to {b:.2f}: {n:,}" style="height:{100 * n / peak:.1f}%"></i>'
        for a, b, n in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    )
    ticks = "".join(f"<span>{value:.2g}</span>" for value in (low, (low + high) / 2, high))
    return (
        f'<figure class="histogram"><div class="columns" style="color:{colour}">{columns}</div>'
        f'<div class="ticks">{ticks}</div><figcaption>{escape(label)}</figcaption></figure>'
    )


def scatter(points: dict[str, Floats], colours: dict[str, str]) -> str:
    """Return the period-amplitude diagram: log10 period [d] to the right, amplitude [mag] upwards, both logarithmic."""
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
    from matplotlib.ticker import LogLocator, NullLocator

    points = {name: p[p[:, 1] > 0] for name, p in points.items()}
    if not sum(map(len, points.values())):
        return '<p class="note">No object has both a period and an amplitude.</p>'
    figure = Figure(figsize=(700 / 72, 400 / 72))
    axes = figure.add_axes((0.095, 0.115, 0.87, 0.86), frameon=False)
    axes.set(xscale="log", yscale="log")
    axes.margins(0.04)
    axes.set_xlabel("period [d]", size=12)
    axes.set_ylabel("amplitude [mag]", size=12)
    for name, p in points.items():
        # Lines of no length, which the page gives round ends: by far the shortest text of dots in SVG.
        ends = np.repeat(np.stack([10 ** p[:, 0], p[:, 1]], axis=1), 2, axis=0)
        lines = Path(ends, np.tile([Path.MOVETO, Path.LINETO], len(p)))
        lines.should_simplify = False
        axes.add_patch(PathPatch(lines, fill=False, edgecolor=colours[name], gid="dots")).set_clip_on(False)
    for axis, steps in ((axes.xaxis, (1.0,)), (axes.yaxis, (1.0, 2.0, 5.0))):
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
    axes.autoscale_view()
    axes.grid(color=LINE, clip_on=False)
    axes.tick_params(bottom=False, left=False, labelsize=12)
    return _svg(figure, "Period-amplitude diagram", "wide")


def folded_light_curve(phase: Floats, mag: Floats, colour: str, dropped: tuple[Floats, Floats]) -> str:
    """Return a folded light curve over two periods, bright above; phases in [0, 1), also of what cleaning dropped."""
    # Not by matplotlib: a page has three dozen of them, and nothing but dots is to be drawn.
    low, high = np.quantile(mag, [0.01, 0.99])
    margin = max(0.12 * (high - low), 0.005)
    paths = []
    for (phases, mags), mark in (((phase, mag), "h0"), (dropped, "m-2-2l4 4m0-4l-4 4")):
        x = np.concatenate([phases, phases + 1]) * 145
        y = np.clip((np.tile(mags, 2) - low + margin) / (high - low + 2 * margin) * 114, 0, 114)
        paths.append("".join(f"M{a:.1f} {b:.1f}{mark}" for a, b in zip(x, y, strict=True)))
    scale = "".join(f"<span>{value:.2f}</span>" for value in np.linspace(low, high, 3))
    ticks = "".join(f"<span>{value:g}</span>" for value in (0, 0.5, 1, 1.5, 2))
    return (
        f'<figure class="folded" role="img" aria-label="Folded light curve"><div class="scale">{scale}</div>'
        f'<svg viewBox="0 0 290 114"><path class="dots" stroke="{colour}" d="{paths[0]}"/>'
        f'<path class="dropped" d="{paths[1]}"/></svg>'
        f'<div class="ticks">{ticks}</div><figcaption>phase</figcaption></figure>'
    )


def sky_map(counts: Ints, label: str, *, width: int = 720) -> str:
    """Return a figure of the whole sky: right ascension grows to the left from 0 h in the middle, north is up.

    Parameters
    ----------
    counts : int64 array (rows, columns)
        Cells of equal area: rows of equal steps of sin(declination) from -1, columns of right ascension from 0.
    label : str
        What is counted.
    width : int
        Of the picture of the cells, pixels; it is half as high.
    """
    from matplotlib.figure import Figure

    counts, area = _pooled(counts)
    rows, columns = counts.shape
    figure = Figure(figsize=(724 / 72, 364 / 72))
    axes = figure.add_axes((2 / 724, 2 / 364, 720 / 724, 360 / 364), projection="mollweide", frameon=False)
    # From 180 degrees on the left over 0 to -180 on the right, in pieces whose straight edges nobody sees.
    cells = np.roll(counts, columns // 2, axis=1)[:, ::-1].repeat(240 // columns, axis=1).repeat(120 // rows, axis=0)
    longitude, latitude = np.linspace(-np.pi, np.pi, 241), np.arcsin(np.linspace(-1, 1, 121))
    # Cells without objects show the page.
    axes.pcolormesh(longitude, latitude, np.ma.masked_less_equal(np.log1p(cells), 0), vmin=0, rasterized=True)
    line: dict[str, Any] = {"color": SOFT, "alpha": 0.35, "linewidth": 1, "clip_on": False}
    for meridian in np.radians(range(-180, 181, 60)):
        axes.plot([meridian, meridian], [-np.pi / 2, np.pi / 2], **line)
    for parallel in np.radians(range(-60, 61, 30)):
        axes.plot([-np.pi, np.pi], [parallel, parallel], **line)
    for ra in (-120, -60, 0, 60, 120):
        axes.text(np.radians(-ra), 0.02, f"{ra % 360 // 15}h", fontsize=13, ha="center")
    axes.axis("off")
    return (
        f"{_svg(figure, label, 'sky wide', dpi=72 * width / 720)}"
        f'<p class="key"><span>1</span><span class="ramp"></span><span>{counts.max(initial=0):,} per {area:.0f} deg²'
        "</span></p>"
    )


def _pooled(counts: Ints) -> tuple[Ints, float]:
    """Return the counts in cells so large that those in use hold `FEWEST` objects on average, and their area [deg2]."""
    for size in (1, 2, 3, 4, 6):
        rows, columns = counts.shape[0] // size, counts.shape[1] // size
        pooled: Ints = counts.reshape(rows, size, columns, size).sum(axis=(1, 3))
        if pooled.sum() >= FEWEST * np.count_nonzero(pooled):
            break
    return pooled, WHOLE_SKY / pooled.size


def _svg(figure: Figure, label: str, kind: str = "", dpi: float = 72) -> str:
    """Return a figure as the text of an SVG element that grows with its place; fonts and colours are the page's."""
    from matplotlib import rc_context

    sink = io.StringIO()
    figure.patch.set_visible(False)
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(sink, format="svg", metadata=nothing, dpi=dpi)
    text = " ".join(sink.getvalue().partition("<svg")[2].split())
    # Coordinates to a tenth; what is between elements is text.
    text = re.sub(r'"[^"]*"', lambda quoted: re.sub(r"(\.\d)\d+", r"\1", quoted[0]), text)
    for pattern, replacement in (
        (r"^.*?viewBox", f'<svg role="img" aria-label="{escape(label)}" class="{kind}" viewBox'),
        (r"<metadata>.*?</metadata>|<defs> <style.*?</defs>|<!--.*?-->", ""),
        (r' id="dots"', ' class="dots"'),
        # Identifiers would be there again in every chart of the page.
        (r' (id|version)="[^"]*"| transform="rotate\(-0 [^"]*"| font-family: [^;"]*;', ""),
        (r"M (\S+) (\S+) L \1 \2 ", r"M\1 \2h0"),
        (f": {SOFT}", ": var(--soft)"),
        (f": {LINE}", ": var(--line)"),
    ):
        text = re.sub(pattern, replacement, text)
    return text


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
