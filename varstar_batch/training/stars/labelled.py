"""Labelled light curves of one or more surveys: what training and evaluation are given."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.light_curves import LightCurves

Rows = npt.NDArray[np.intp]
Texts = npt.NDArray[np.object_]

NO_CLASS = -1
"""Code of an object without a class."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledLightCurves:
    """Light curves of `n` objects with what is known of each.

    Every observation is within the limits of its own survey, so that default `Limits` hold for all of them; times are
    in days, each survey's in its own system.

    Raises
    ------
    ValueError
        If a column has another length or a class code is out of range.
    """

    light_curves: LightCurves
    """Where some surveys have magnitude errors and others none, those of the latter are 0."""
    period: npt.NDArray[np.float64]
    """Float64 (n,). Days; NaN where missing."""
    class_code: npt.NDArray[np.int8]
    """Int8 (n,). Indices into `classes`; `NO_CLASS` where the survey gives none."""
    survey: Texts
    """Texts (n,). Name of the survey of each object."""
    object_id: Texts
    """Texts (n,)."""
    ra: npt.NDArray[np.float64]
    dec: npt.NDArray[np.float64]
    """Float64 (n,). Position [deg]; NaN where unknown."""
    class_original: Texts
    band: Texts
    period_source: Texts
    label: Texts
    """Texts (n,), as `band` and `class_original`: "" where the survey does not say. `label` is what it has for a class.
    """
    classes: tuple[str, ...] = CLASSES
    """Their names, in the order of the codes."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Objects of the surveys, also of those that were not taken, by label that means no class."""

    def __post_init__(self) -> None:
        n = len(self.light_curves)
        for name, column in self._columns().items():
            if np.shape(column) != (n,):
                raise ValueError(f"{name}: expected shape ({n},), got {np.shape(column)}")
        if n and not (self.class_code.min() >= NO_CLASS and self.class_code.max() < len(self.classes)):
            raise ValueError(
                f"class_code: expected {NO_CLASS} to {len(self.classes) - 1}, "
                f"got {self.class_code.min()} to {self.class_code.max()}"
            )

    def __len__(self) -> int:
        return len(self.light_curves)

    def _columns(self) -> dict[str, Any]:
        """Return what has a value for each object, besides the light curves."""
        return {each.name: getattr(self, each.name) for each in fields(self)[1:-2]}

    def take(self, rows: Rows) -> LabelledLightCurves:
        """Return the given rows, in that order."""
        columns = {name: column[rows] for name, column in self._columns().items()}
        return replace(self, light_curves=self.light_curves.take(rows), **columns)

    @staticmethod
    def concat(parts: Sequence[LabelledLightCurves]) -> LabelledLightCurves:
        """Join parts of the same classes in order; missing magnitude errors become 0 where another part has some."""
        curves = [part.light_curves for part in parts]
        if any(each.mag_err is not None for each in curves):
            curves = [
                each if each.mag_err is not None else replace(each, mag_err=np.zeros(len(each.mag), each.mag.dtype))
                for each in curves
            ]
        each_has = [part._columns() for part in parts]
        columns: dict[str, Any] = {name: np.concatenate([each[name] for each in each_has]) for name in each_has[0]}
        return replace(parts[0], light_curves=LightCurves.concat(curves), **columns)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over light curves, periods, classes, surveys and identifiers."""
        digest = hashlib.sha256()
        curves = self.light_curves
        arrays: list[npt.NDArray[Any]] = [curves.offsets, curves.time, curves.mag, self.period, self.class_code]
        if curves.mag_err is not None:
            arrays.append(curves.mag_err)
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update("\0".join([*self.survey, *self.object_id]).encode())
        return digest.hexdigest()

    def other_kinds(self) -> npt.NDArray[np.bool_]:
        """Tell which objects are of another kind: without a class, and with a label of their own that no class covers.

        Those are what an out-of-distribution score should find. An object without a class whose original label others
        have with one was left out for another reason, and says nothing.
        """
        known = set(self.class_original[self.class_code != NO_CLASS])
        foreign = np.array([bool(label) and label not in known for label in self.class_original], np.bool_)
        foreign &= self.class_code == NO_CLASS
        return foreign


def count_classes(class_code: npt.NDArray[np.int8], classes: Sequence[str]) -> dict[str, int]:
    """Return the number of objects of each class; all have one."""
    return dict(zip(classes, np.bincount(class_code, minlength=len(classes)).tolist(), strict=True))


def survey_names(urls: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return short, different names of surveys: the last parts of their URLs."""
    names = [os.fspath(url).rstrip("/").rsplit("/", 1)[-1] for url in urls]
    return [name if names.count(name) == 1 else f"{name} ({k + 1})" for k, name in enumerate(names)]
