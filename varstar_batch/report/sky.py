"""The sky in Mollweide's equal-area projection: counts as a small PNG, its graticule as SVG on top."""

from __future__ import annotations

import base64
import struct
import zlib
from html import escape

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

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
