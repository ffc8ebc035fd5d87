"""Bands: which observation of a light curve is of which, and what is done where there is more than one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError
from varstar_batch.light_curves.light_curves import LightCurves

FUSE = "fuse"
"""Instead of a band: all of them, each folded by itself, and their answers combined."""

BAND_COLUMNS = (
    "band",
    "filter",
    "Filter",
    "filtercode",
    "filterid",
    "fid",
    "phot_filter",
    "F",
    "filterName",
    "passband",
    *("filt", "flt", "filter_name", "band_name", "bandpass", "pass_band", "photometric_band", "photband"),
)
"""Names of a column of bands, in any case: Rubin, ASAS-SN, ZTF (IRSA, HATS, alerts), pyasassn, ATLAS, LSST, others."""

UNKNOWN = "unknown"
"""Band of an observation that does not say one."""

_ZTF = MappingProxyType({"1": "g", "2": "r", "3": "i", "zg": "g", "zr": "r", "zi": "i"})
_SPELLINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(dict.fromkeys(("filterid", "fid", "filtercode"), _ZTF))
"""By the column, bands that are commonly called otherwise."""

Codes = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class BandCounts:
    """Observations of n objects by band."""

    names: tuple[str, ...]
    table: npt.NDArray[np.int32]
    """Int32 (n, len(names))."""

    def total(self) -> dict[str, int]:
        """Return the observations of all objects, of each band that has any."""
        sums = self.table.sum(axis=0, dtype=np.int64).tolist()
        return {name: count for name, count in zip(self.names, sums, strict=True) if count}

    def texts(self) -> pa.Array:
        """Return a text for each object, such as ``g:120, r:96``, null where it has no observation."""
        columns = [
            pc.if_else(
                pa.array(self.table[:, code] > 0),
                pc.binary_join_element_wise(f"{name}:", pa.array(self.table[:, code]).cast(pa.string()), ""),
                pa.scalar(None, pa.string()),
            )
            for code, name in enumerate(self.names)
        ]
        if not columns:
            return pa.nulls(len(self.table), pa.string())
        joined = pc.binary_join_element_wise(*columns, ", ", null_handling="skip")
        return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), joined)

    def slice(self, start: int, stop: int) -> BandCounts:
        """Return those of the objects start <= i < stop."""
        return replace(self, table=self.table[start:stop])


@dataclass(frozen=True, eq=False)
class Bands:
    """The bands of m observations."""

    names: tuple[str, ...]
    codes: Codes
    """Int16 (m,). Index of each observation's band."""

    @classmethod
    def read(cls, column: pa.Array, name: str) -> Bands:
        """Return the bands in a column `name` of texts or integers; a null or an empty text is `UNKNOWN`."""
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        spellings = _SPELLINGS.get(name, {})
        said = [UNKNOWN if one is None else str(one).strip() or UNKNOWN for one in encoded.dictionary.to_pylist()]
        said = [spellings.get(one, one) for one in said] + [UNKNOWN] * (encoded.indices.null_count > 0)
        names, of_said = np.unique(np.array(said, np.object_), return_inverse=True)
        places = encoded.indices.fill_null(len(said) - 1).to_numpy(zero_copy_only=False)
        return cls(tuple(names.tolist()), of_said[places].astype(np.int16))

    def texts(self) -> pa.Array:
        """Return the band of each observation as text, null where it is unknown."""
        names = [None if name == UNKNOWN else name for name in self.names]
        return pa.array(names, pa.large_string()).take(pa.array(self.codes))

    def counts(self) -> dict[str, int]:
        """Return the observations of each band that has any."""
        found = np.bincount(self.codes, minlength=len(self.names)).tolist()
        return {name: count for name, count in zip(self.names, found, strict=True) if count}

    def by_object(self, offsets: npt.NDArray[np.int64]) -> BandCounts:
        """Return the observations of each object by band."""
        table = np.empty((len(offsets) - 1, len(self.names)), np.int32)
        for code in range(len(self.names)):
            seen = np.concatenate([[0], np.cumsum(self.codes == code)])
            table[:, code] = np.diff(seen[offsets])
        return BandCounts(self.names, table)

    def take(self, kept: npt.NDArray[np.bool_ | np.intp] | slice) -> Bands:
        """Return the bands of some of the observations."""
        return replace(self, codes=self.codes[kept])


def shown(counts: Mapping[str, int]) -> str:
    """Return observations by band for a message, such as ``g (120), r (96)``."""
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items()))


def choice_of(counts: Mapping[str, int]) -> str:
    """Return what to do about several bands, for a message."""
    known = {name: count for name, count in counts.items() if name != UNKNOWN} or counts
    most = max(known, key=lambda name: known[name])
    one = f"say --band {shlex.quote(most)} for one of them"
    return f"{one}, or --bands {FUSE} to fold each by itself and combine the answers"


def band_not_there(band: str, counts: Mapping[str, int], where: str) -> InputError:
    """Return the error of a choice of which there is no observation, with the bands that there are."""
    return InputError(
        expected=f"observations of band {band}",
        got=shown(counts) or "none",
        where=where,
        fix=f"choose one of these bands with --band, or --bands {FUSE}",
    )


def split(light_curves: LightCurves, bands: Bands) -> tuple[LightCurves, npt.NDArray[np.int64]]:
    """Return a light curve for each band of each object, and where those of each object begin and end.

    Returns
    -------
    light_curves : LightCurves
        In the order of the objects, then of the bands' names; an object without observations has an empty one.
    objects : int64 array (n + 1,)
        Of object i they are ``objects[i]:objects[i + 1]``.
    """
    counts = bands.by_object(light_curves.offsets).table
    there = counts > 0
    # What has no observation has its one, empty, light curve of the first band.
    there[~there.any(axis=1), 0] = True
    objects = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int64)
    owner = np.repeat(np.arange(len(light_curves)), light_curves.n_obs)
    order = np.argsort(owner * len(bands.names) + bands.codes, kind="stable")
    malformed = light_curves.malformed
    apart = LightCurves(
        np.concatenate([[0], np.cumsum(counts[there])]).astype(np.int64),
        light_curves.time[order],
        light_curves.mag[order],
        None if light_curves.mag_err is None else light_curves.mag_err[order],
        None if malformed is None else np.repeat(malformed, np.diff(objects)),
    )
    return apart, objects
