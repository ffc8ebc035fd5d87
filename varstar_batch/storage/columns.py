"""Names: which column of a survey is what, and the presets of known surveys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, model_validator

from varstar_batch.arithmetic.rules import Limits
from varstar_batch.arithmetic.times import parse_time_system

HEALPIX_COLUMN = "_healpix_29"
"""Name that HATS gives to the HEALPix index of order 29."""

TIME_SYSTEM_KEY = "varstar.time_system"
"""Key of the Parquet schema metadata that declares a survey's time system."""


class SurveyConfig(BaseModel):
    """Column names and conventions of a survey; every default is the canonical name.

    Attributes
    ----------
    object_id, period, ra, dec, class_, lightcurve, time, mag, mag_err : str
        Column names. `time`, `mag` and `mag_err` are fields of `lightcurve`, or columns where there is no `lightcurve`.
        None (ra, dec, class, mag_err) says that the survey has none.
    time_system : str or None
        Declared system of its times, for example ``"HJD-2450000"``; free text is carried as it is.
    mag_min, mag_max : float
        Magnitudes outside (mag_min, mag_max) are sentinels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    object_id: str = Field("object_id", min_length=1)
    period: str = Field("period", min_length=1)
    ra: str | None = "ra"
    dec: str | None = "dec"
    class_: str | None = Field("class", alias="class")
    lightcurve: str = Field("lightcurve", min_length=1)
    time: str = Field("time", min_length=1)
    mag: str = Field("mag", min_length=1)
    mag_err: str | None = "mag_err"
    time_system: str | None = None
    mag_min: float = -29.0
    mag_max: float = 29.0

    @model_validator(mode="after")
    def _check(self) -> SurveyConfig:
        if not (math.isfinite(self.mag_min) and math.isfinite(self.mag_max) and self.mag_min < self.mag_max):
            raise ValueError(f"expected finite mag_min < mag_max, got {self.mag_min} and {self.mag_max}")
        return self

    def limits(self, time_system: str | None) -> Limits:
        """Limits of times [d, in `time_system`] and magnitudes beyond which a value is no measurement."""
        time_min, time_max = (-math.inf, math.inf) if time_system is None else parse_time_system(time_system).limits
        return Limits(time_min=time_min, time_max=time_max, mag_min=self.mag_min, mag_max=self.mag_max)


PRESETS: Mapping[str, SurveyConfig] = MappingProxyType({"canonical": SurveyConfig()})
"""Known surveys by name."""
