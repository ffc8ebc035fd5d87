"""Which observations of a light curve go on: those that are good in the survey's own words, and of the band chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varstar_batch.errors import PartitionError
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.survey.bands import FUSE, BandCounts, Bands, choice_of, shown
from varstar_batch.survey.good import Good, GoodError
from varstar_batch.survey.open import Source

MAX_BANDS = 64
"""More different values are no bands."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """What was chosen of the observations of n objects."""

    light_curves: LightCurves
    """Of the observations that go on."""
    bands: Bands | None
    """Theirs, where bands are to be folded each by itself."""
    left_out: npt.NDArray[np.int32] | None
    """Int32 (n, 2). Observations that are not good, and of those that are good the ones of other bands; None: nothing
    was left out."""
    by_band: BandCounts | None
    """The observations of each object, before anything was left out; None where nothing says a band."""


def choose(source: Source, light_curves: LightCurves, beside: Mapping[str, pa.Array], where: str) -> Chosen:
    """Leave out what is not to be used.

    Parameters
    ----------
    source : Source
        What was chosen.
    light_curves : LightCurves
        Of n objects with m observations.
    beside : mapping of str to Array (m,)
        The columns of bands and flags.
    where : str
        For an error.

    Raises
    ------
    PartitionError
        Kind ``"bands"``: a light curve has several, and none was chosen. Kind ``"schema"``: `good` does not fit.
    """
    columns = source.columns
    kept = np.ones(len(light_curves.time), np.bool_)
    bands, by_band = None, None
    left_out = np.zeros((len(light_curves), 2), np.int32)
    if columns.band is not None:
        bands = Bands.read(beside[columns.band], columns.band)
        _check_number(bands, columns.band, where)
        by_band = bands.by_object(light_curves.offsets)
    if source.good is not None:
        try:
            kept = Good(source.good).evaluate({name: beside[name] for name in columns.flags}, len(kept))
        except GoodError as error:
            raise PartitionError(
                kind="schema",
                expected="observations that good = ... can be asked of",
                got=str(error),
                where=where,
                fix="correct it, or leave it out with --set survey.good=''",
            ) from None
        left_out[:, 0] = _count(~kept, light_curves.offsets)
    if bands is not None and source.bands is None:
        check_one_band(bands.take(kept), _cut(light_curves.offsets, kept), where)
    if bands is not None and source.bands not in (None, FUSE):
        is_other = kept & (bands.codes != _code(bands, source.bands))
        left_out[:, 1] = _count(is_other, light_curves.offsets)
        kept = kept & ~is_other
    if not kept.all():
        bands = bands and bands.take(kept)
        light_curves = replace(
            light_curves,
            offsets=_cut(light_curves.offsets, kept),
            time=light_curves.time[kept],
            mag=light_curves.mag[kept],
            mag_err=None if light_curves.mag_err is None else light_curves.mag_err[kept],
        )
    return Chosen(light_curves, bands if source.bands == FUSE else None, left_out if left_out.any() else None, by_band)


def _code(bands: Bands, name: str | None) -> int:
    return bands.names.index(name) if name in bands.names else -1


def _cut(offsets: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])[offsets]


def _count(which: npt.NDArray[np.bool_], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    return np.diff(_cut(offsets, which)).astype(np.int32)


def _check_number(bands: Bands, column: str, where: str) -> None:
    if len(bands.names) > MAX_BANDS:
        raise PartitionError(
            kind="bands",
            expected=f"at most {MAX_BANDS} bands in column {column!r}",
            got=f"{len(bands.names):,} different values, such as {', '.join(bands.names[:3])}",
            where=where,
            fix="name another column with --set survey.band=NAME, or none with --set survey.band=''",
        )


def check_one_band(bands: Bands, offsets: npt.NDArray[np.int64], where: str) -> None:
    """Refuse light curves of which one has several bands.

    Parameters
    ----------
    bands : Bands
        Of m observations.
    offsets : int64 array (n + 1,)
        Where the observations of n objects begin and end.
    where : str
        For the error.

    Raises
    ------
    PartitionError
        Kind ``"bands"``, with the observations by band.
    """
    several = (bands.by_object(offsets).table > 0).sum(axis=1) > 1
    if several.any():
        counts = bands.counts()
        raise PartitionError(
            kind="bands",
            expected="one band in a light curve, or a choice",
            got=f"{shown(counts)}; {int(several.sum()):,} of {len(several):,} light curves have more than one",
            where=where,
            fix=choice_of(counts),
        )
