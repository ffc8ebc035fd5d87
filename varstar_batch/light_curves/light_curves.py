"""Light curves of many objects as offsets and flat columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Magnitudes = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LightCurves:
    """The observations of `n` objects: those of object i are ``offsets[i]:offsets[i + 1]`` of every column.

    Raises
    ------
    TypeError
        If a dtype differs from the above.
    ValueError
        If a shape or the offsets do.
    """

    offsets: npt.NDArray[np.int64]
    """Int64 (n + 1,). Never decreasing, from 0 to m."""
    time: npt.NDArray[np.float64]
    """Float64 (m,). Days; float64, since float32 is spaced 0.25 d at JD 2458515."""
    mag: Magnitudes
    """Float32 or float64 (m,). Magnitudes."""
    mag_err: Magnitudes | None = None
    """Float32 or float64 (m,), of magnitudes. None if the survey has no errors."""
    malformed: npt.NDArray[np.bool_] | None = None
    """Bool (n,) or None. Objects whose lists had different lengths, of which no observations were taken; None if there
    are none."""

    def __post_init__(self) -> None:
        _check_dtype("offsets", self.offsets, (np.int64,))
        _check_dtype("time", self.time, (np.float64,))
        _check_dtype("mag", self.mag, (np.float32, np.float64))
        # The kernel trusts the offsets, so nothing that reads outside the columns may get past here.
        n_observations = len(self.time)
        _check_offsets(self.offsets, n_observations)
        _check_length("time", self.time, n_observations)
        _check_length("mag", self.mag, n_observations)
        if self.mag_err is not None:
            _check_dtype("mag_err", self.mag_err, (np.float32, np.float64))
            _check_length("mag_err", self.mag_err, n_observations)
        if self.malformed is not None:
            _check_dtype("malformed", self.malformed, (np.bool_,))
            _check_length("malformed", self.malformed, len(self))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_obs(self) -> npt.NDArray[np.int64]:
        """Observations of each object, int64, shape (n,)."""
        return np.diff(self.offsets)

    @classmethod
    def from_arrow(
        cls,
        time: pa.Array | pa.ChunkedArray,
        mag: pa.Array | pa.ChunkedArray,
        mag_err: pa.Array | pa.ChunkedArray | None = None,
    ) -> LightCurves:
        """Build light curves from Arrow list columns with one list per object.

        Parameters
        ----------
        time, mag, mag_err : Array or ChunkedArray of list, large_list or fixed_size_list, n lists
            Times [d], magnitudes and magnitude errors [mag]. A null list is an empty one, a null element is NaN. Sliced
            arrays are taken as sliced.

        Returns
        -------
        LightCurves
            Columns share the Arrow memory where each comes in one chunk without null elements. An object whose lists
            have different lengths is `malformed`.

        Raises
        ------
        TypeError
            If a column is not a list of numbers, or times are float32 or float16.
        ValueError
            If the columns have different numbers of lists.
        """
        from varstar_batch.light_curves.arrow_lists import flatten_lists

        names = ("time", "mag", "mag_err")
        columns = [
            (name, column) for name, column in zip(names, (time, mag, mag_err), strict=True) if column is not None
        ]
        offsets, values, malformed = flatten_lists(columns)
        return cls(offsets, values[0], values[1], values[2] if mag_err is not None else None, malformed)

    def slice(self, start: int, stop: int) -> LightCurves:
        """Return the objects start <= i < stop, sharing memory; out-of-range bounds are cut as Python's slices do."""
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        first, last = self.offsets[start], self.offsets[stop]
        return LightCurves(
            self.offsets[start : stop + 1] - first,
            self.time[first:last],
            self.mag[first:last],
            None if self.mag_err is None else self.mag_err[first:last],
            None if self.malformed is None else self.malformed[start:stop],
        )

    def take(self, rows: npt.NDArray[np.intp]) -> LightCurves:
        """Return the light curves of the given rows, in that order, copied."""
        place, ends = self.places(rows), np.cumsum(self.n_obs[rows], dtype=np.int64)
        return LightCurves(
            np.concatenate([np.zeros(1, np.int64), ends]),
            self.time[place],
            self.mag[place],
            None if self.mag_err is None else self.mag_err[place],
            None if self.malformed is None else self.malformed[rows],
        )

    def places(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        """Return where the observations of the given rows stand in the columns, in the order of the rows."""
        counts = self.n_obs[rows]
        ends = np.cumsum(counts, dtype=np.int64)
        # The place of every observation: that of its object's first, and one more for each that follows.
        return np.repeat(self.offsets[rows] - (ends - counts), counts) + np.arange(counts.sum())

    @classmethod
    def concat(cls, parts: Sequence[LightCurves]) -> LightCurves:
        """Join light curves in order; one part is returned as it is.

        Raises
        ------
        ValueError
            If there is no part, or some parts have magnitude errors and others have none.
        """
        if not parts:
            raise ValueError("light curves to join: expected at least one part, got none")
        if len(parts) == 1:
            return parts[0]
        with_errors: list[npt.NDArray[Any]] = [part.mag_err for part in parts if part.mag_err is not None]
        if len(with_errors) not in (0, len(parts)):
            raise ValueError(f"mag_err: expected in all {len(parts)} parts or in none, got in {len(with_errors)}")
        ends = np.cumsum([0, *(len(part.time) for part in parts)], dtype=np.int64)
        offsets = [part.offsets[1:] + end for part, end in zip(parts, ends, strict=False)]
        malformed = [np.zeros(len(part), np.bool_) if part.malformed is None else part.malformed for part in parts]
        return cls(
            np.concatenate([np.zeros(1, np.int64), *offsets]),
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.mag for part in parts]),
            np.concatenate(with_errors) if with_errors else None,
            None if all(part.malformed is None for part in parts) else np.concatenate(malformed),
        )


def _check_dtype(name: str, array: npt.NDArray[np.generic], dtypes: tuple[type[np.generic], ...]) -> None:
    # Comparing dtypes, not kinds: this also refuses the other byte order (FITS), which the kernel cannot read.
    if not isinstance(array, np.ndarray) or array.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        expected = " or ".join(dtype.__name__ for dtype in dtypes)
        raise TypeError(f"{name}: expected a NumPy array of {expected}, got {getattr(array, 'dtype', type(array))}")


def _check_length(name: str, array: npt.NDArray[np.generic], length: int) -> None:
    if array.shape != (length,):
        raise ValueError(f"{name}: expected shape ({length},), got {array.shape}")


def _check_offsets(offsets: npt.NDArray[np.int64], n_observations: int) -> None:
    if offsets.ndim != 1 or len(offsets) == 0:
        raise ValueError(f"offsets: expected shape (n + 1,), got {offsets.shape}")
    falling = bool(np.any(offsets[1:] < offsets[:-1]))
    if offsets[0] != 0 or offsets[-1] != n_observations or falling:
        raise ValueError(
            f"offsets: expected to rise from 0 to the number of observations, {n_observations}, "
            f"got {offsets[0]} to {offsets[-1]}" + (", not rising" if falling else "")
        )
