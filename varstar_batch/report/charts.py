"""Charts as SVG text, drawn by hand: small, sharp on every screen, legible in the dark, and in need of no script."""

from __future__ import annotations

import base64
import math
import struct
import zlib
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


FEWEST = 5
"""Objects in a cell: with fewer a map shows the noise of counting rather than the survey."""


WHOLE_SKY = 41252.96
"""Square degrees."""


# Lightness rises evenly along it. Source: matplotlib's viridis at nine points.
_RAMP = np.array(
    [
        [68, 1, 84],
        [71, 44, 122],
        [59, 81, 139],
        [44, 113, 142],
        [33, 144, 141],
        [39, 173, 129],
        [92, 200, 99],
        [170, 220, 50],
        [253, 231, 37],
    ],
    float,
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
        Of the picture, pixels; it is half as high.
    """
    counts, area = _pooled(counts)
    peak = int(counts.max(initial=0))
    picture = base64.b64encode(_png(_shaded(counts, width))).decode()
    lines = "".join(f'<path d="{_meridian(ra)}"/>' for ra in range(-180, 181, 60))
    lines += "".join(f'<path d="{_parallel(dec)}"/>' for dec in (-60, -30, 0, 30, 60))
    names = "".join(
        f'<text x="{_x(ra, 0):.1f}" y="{_y(0) - 3:.1f}" text-anchor="middle">{(ra % 360) // 15:d}h</text>'
        for ra in (-120, -60, 0, 60, 120)
    )
    return (
        f'<svg viewBox="-2 -2 724 364" role="img" aria-label="{escape(label)}" class="sky wide">'
        f'<image href="data:image/png;base64,{picture}" x="0" y="0" width="720" height="360"/>'
        f'<g class="graticule">{lines}</g><g class="hours">{names}</g></svg>'
        f'<p class="key"><span>1</span><span class="ramp"></span><span>{peak:,} per {area:.0f} deg²</span></p>'
    )


def _pooled(counts: Ints) -> tuple[Ints, float]:
    """Return the counts in cells so large that those in use hold `FEWEST` objects on average, and their area [deg2]."""
    for size in (1, 2, 3, 4, 6):
        rows, columns = counts.shape[0] // size, counts.shape[1] // size
        pooled: Ints = counts.reshape(rows, size, columns, size).sum(axis=(1, 3))
        if pooled.sum() >= FEWEST * np.count_nonzero(pooled):
            break
    return pooled, WHOLE_SKY / pooled.size


def _shaded(counts: Ints, width: int) -> npt.NDArray[np.uint8]:
    """Return an image, uint8 (width / 2, width, 4): colour for the logarithm of the counts, nothing for none."""
    height = width // 2
    x = (np.arange(width) + 0.5) / width * 4 - 2
    y = 1 - (np.arange(height) + 0.5) / height * 2
    theta = np.arcsin(y)
    sin_dec = (2 * theta + np.sin(2 * theta)) / np.pi
    with np.errstate(invalid="ignore", divide="ignore"):
        longitude = -np.pi * x[None, :] / (2 * np.cos(theta)[:, None])
    inside = np.abs(longitude) <= np.pi
    rows, columns = counts.shape
    row = np.clip(((sin_dec + 1) / 2 * rows).astype(int), 0, rows - 1)
    turn = np.where(inside, longitude, 0.0) / (2 * np.pi) % 1.0
    column = np.minimum((turn * columns).astype(int), columns - 1)
    seen = counts[row[:, None], column]
    level = np.log1p(seen) / max(np.log1p(counts.max(initial=0)), 1e-9) * (len(_RAMP) - 1)
    image = np.zeros((height, width, 4), np.uint8)
    for channel in range(3):
        image[..., channel] = np.interp(level, np.arange(len(_RAMP)), _RAMP[:, channel]).astype(np.uint8)
    image[..., 3] = np.where(inside & (seen > 0), 255, 0)
    return image


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    height, width, _ = image.shape
    # A zero before each line: no prediction; the deflate does well on flat cells as it is.
    lines = np.zeros((height, 1 + width * 4), np.uint8)
    lines[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    pieces = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in pieces
    )


def _theta(dec: float) -> float:
    """Return Mollweide's auxiliary angle of a declination [deg], by Newton's method."""
    target = np.pi * np.sin(np.radians(dec))
    theta = np.radians(dec)
    for _ in range(20):
        slope = 2 + 2 * np.cos(2 * theta)
        if slope < 1e-9:
            break
        theta -= (2 * theta + np.sin(2 * theta) - target) / slope
    return float(theta)


def _x(ra: float, dec: float) -> float:
    return float(360 - 2 * ra * np.cos(_theta(dec)))


def _y(dec: float) -> float:
    return float(180 - 180 * np.sin(_theta(dec)))


def _meridian(ra: float) -> str:
    return "M" + "L".join(f"{_x(ra, dec):.1f} {_y(dec):.1f}" for dec in range(-90, 91, 5))


def _parallel(dec: float) -> str:
    return f"M{_x(-180, dec):.1f} {_y(dec):.1f}H{_x(180, dec):.1f}"
