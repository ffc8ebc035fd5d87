"""Names: which column of a survey is what, and the presets of known surveys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from varstar_batch.light_curves.rules import Limits
from varstar_batch.light_curves.times import parse_time_system

TIME_SYSTEM_KEY = "varstar.time_system"
"""Key of the Parquet schema metadata that declares a survey's time system."""


class SurveyConfig(BaseModel):
    """Column names and conventions of a survey; every default is the canonical name.

    `ra`, `dec` and `class_` may be missing: the values are null then. So may `mag_err` under its canonical name, but
    not under one that somebody chose, since without errors no sentinel in them is cut.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    object_id: str = Field("object_id", min_length=1, description="Column of the identifier")
    period: str = Field("period", min_length=1, description="Column of the period [d]")
    ra: str | None = Field("ra", description="Column of the right ascension [deg]; need not be there")
    dec: str | None = Field("dec", description="Column of the declination [deg]; need not be there")
    class_: str | None = Field("class", alias="class", description="Column of known labels; need not be there")
    lightcurve: str = Field(
        "lightcurve",
        min_length=1,
        description="Column of the nested light curves; where there is none, the next three are columns",
    )
    time: str = Field("time", min_length=1, description="Its field (or column) of times [d]")
    mag: str = Field("mag", min_length=1, description="Its field (or column) of magnitudes")
    mag_err: str | None = Field(
        "mag_err", description="Its field (or column) of the magnitudes' errors; none: the survey has no errors"
    )
    time_system: str | None = Field(
        None,
        description="System of the times, for example HJD-2450000; free text is carried as it is. None leaves it to "
        "the survey's own metadata",
    )
    mag_min: float = Field(-29.0, description="Magnitudes from here downwards are sentinels")
    mag_max: float = Field(29.0, description="Magnitudes from here upwards are sentinels")

    @field_validator("ra", "dec", "class_", "mag_err", "time_system", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        # TOML and the command line cannot say null.
        return None if value == "" else value

    @model_validator(mode="after")
    def _check(self) -> SurveyConfig:
        if not (math.isfinite(self.mag_min) and math.isfinite(self.mag_max) and self.mag_min < self.mag_max):
            raise ValueError(f"expected finite mag_min < mag_max, got {self.mag_min} and {self.mag_max}")
        if len({self.time, self.mag, self.mag_err}) < 3:
            raise ValueError(
                f"expected different columns, got time={self.time}, mag={self.mag}, mag_err={self.mag_err}"
            )
        return self

    def limits(self, time_system: str | None) -> Limits:
        """Return the limits of times [d, in `time_system`] and magnitudes beyond which a value is no measurement."""
        time_min, time_max = (-math.inf, math.inf) if time_system is None else parse_time_system(time_system).limits
        return Limits(time_min=time_min, time_max=time_max, mag_min=self.mag_min, mag_max=self.mag_max)


PRESETS: Mapping[str, SurveyConfig] = MappingProxyType(
    {
        "canonical": SurveyConfig(),
        # Sky Patrol v2 as pyasassn gives it.
        "asas-sn": SurveyConfig(
            object_id="asas_sn_id", ra="ra_deg", dec="dec_deg", class_=None, time="jd", time_system="JD"
        ),
        # The data releases as HATS.
        "ztf": SurveyConfig(
            object_id="objectid",
            ra="objra",
            dec="objdec",
            class_=None,
            time="hmjd",
            mag_err="magerr",
            time_system="HMJD",
        ),
        # Collection of Variable Stars: table of objects and, per object, HJD-2450000, I, error.
        "ogle": SurveyConfig(
            object_id="ID", period="P_1", ra="RA", dec="Decl", class_=None, time="HJD", time_system="HJD-2450000"
        ),
        # DR3 epoch photometry, G band, of DataLink's RAW structure, which has no magnitude errors.
        "gaia": SurveyConfig(
            object_id="source_id",
            period="pf",
            class_=None,
            time="g_transit_time",
            mag="g_transit_mag",
            mag_err=None,
            time_system="BJD-2455197.5 (TCB)",
        ),
    }
)
"""Known surveys by name."""
