"""What repeated measurements say: medians with their spread, ratios pair by pair, slopes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Spread:
    """A median with the lowest and the highest of the values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table of results.

    Attributes
    ----------
    name : str
        What was measured.
    value : Spread
        Of the repeats.
    unit : str
        Of the value, for example "light curves/s".
    rounds : int
        Number of repeats.
    ratio : Spread or None
        To the row that `against` names, pair by pair.
    against : str
        That row's name.
    memory : int or None
        Highest memory of all processes together, bytes.
    floor : float or None
        What the hardware allows, in the same unit.
    note : str
        Anything else.
    """

    name: str
    value: Spread
    unit: str = "light curves/s"
    rounds: int = 1
    ratio: Spread | None = None
    against: str = ""
    memory: int | None = None
    floor: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON-ready data, four digits of every number, nothing that is empty."""
        return {key: _short(value) for key, value in asdict(self).items() if value not in (None, "")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Row:
        """Return the row that `to_json` made this of."""
        spreads = {key: Spread(**data[key]) for key in ("value", "ratio") if key in data}
        return cls(**(data | spreads))


def spread(values: Sequence[float]) -> Spread:
    """Return median, lowest and highest. Raises ValueError for no values."""
    if not values:
        raise ValueError("values: expected at least one, got none")
    return Spread(float(statistics.median(values)), float(min(values)), float(max(values)))


def paired_ratio(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Return the spread of the ratios of values that were measured in turns: the first by the first, and so on.

    What slows the machine slows both of a pair, so the ratio is steadier than either. Where one of them was repeated
    less often, the pairs that are complete count.
    """
    return spread([value / other for value, other in zip(values, base, strict=False)])


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the exponent b of the power law y = a x^b that fits best (least squares of the logarithms)."""
    if len(x) != len(y) or len(set(x)) < 2:
        raise ValueError(f"x, y: expected equally many and two different x, got {list(x)}, {list(y)}")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(entry) for key, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
