"""Names: which column of a survey is what, and the presets of known surveys."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from varstar_batch.light_curves.rules import Limits
from varstar_batch.light_curves.times import parse_time_system
from varstar_batch.survey.bands import BAND_COLUMNS
from varstar_batch.survey.good import Good

TIME_SYSTEM_KEY = "varstar.time_system"
"""Key of the Parquet schema metadata that declares a survey's time system."""

TIME_SYSTEM_GIVEN_KEY = "varstar.time_system_given"
"""Key of the one that the times came in, where an ingest has turned them into another."""

GOOD_KEY = "varstar.good"
"""Key of the expression whose observations alone an ingest has kept."""

PERIOD_ORIGIN = "period_origin"
"""Column of a survey and of a catalog: where the period is from, one of the next four; null without a period."""

SURVEY, SECOND_TABLE, FOUND = "survey", "second table", "found"
"""The table of objects itself; another one, of `--periods`; the search of `--find-periods`."""

BETTER = "better"
"""In a catalog only: the period that fits better than the survey's, of `--use-best-period`."""


class SurveyConfig(BaseModel):
    """Column names and conventions of a survey; every default is the canonical name.

    `ra`, `dec` and `class_` may be missing: the values are null then. So may `mag_err` under its canonical name, but
    not under one that somebody chose, since without errors no sentinel in them is cut. A name may be a choice, such as
    ``psfMag|mag``: the first that the survey has is taken, and where the last one is empty, none need be there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    object_id: str = Field("object_id", min_length=1, description="Column of the identifier")
    period: str | None = Field("period", description="Column of the period [d]; an empty name: it has none")
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
    band: str | None = Field(
        "|".join((*BAND_COLUMNS, "")),
        description="Its field (or column) of bands; need not be there, and an empty name says that there is none",
    )
    bands: str | None = Field(
        None,
        description="Of light curves in several bands the one to take, such as r; or fuse: each band is folded by "
        "itself, and the answers are combined",
    )
    good: str | None = Field(
        None,
        description="Which observations to use, by their own fields: catflags == 0, not flag(psfFlux_flag)",
    )
    flux: str | None = Field(
        None, description="Its field (or column) of fluxes, from which magnitudes are made where it has none"
    )
    flux_err: str | None = Field(None, description="Its field (or column) of the fluxes' errors")
    flux_unit: str | None = Field(
        None, description="Unit of these fluxes where the files say none: nJy, electron/s, ..."
    )
    time_system: str | None = Field(
        None,
        description="System of the times, for example HJD-2450000; free text is carried as it is. None leaves it to "
        "the survey's own metadata",
    )
    period_unit: str | None = Field(
        None, description="Unit of the periods where the files say none: d, h, min, s, 1/d, ..."
    )
    position_unit: str | None = Field(
        None, description="Unit of right ascension and declination where the files say none: deg, rad, hourangle"
    )
    time_unit: str | None = Field(None, description="Unit of the times where the files say none: d, s, ...")
    mag_unit: str | None = Field(
        None, description="Unit of magnitudes and errors where the files say none: mag, mmag, or one of fluxes"
    )
    mag_min: float = Field(-29.0, description="Magnitudes from here downwards are sentinels")
    mag_max: float = Field(29.0, description="Magnitudes from here upwards are sentinels")

    @field_validator(
        *("period", "ra", "dec", "class_", "mag_err", "band", "bands", "good", "flux", "flux_err", "time_system"),
        *("period_unit", "position_unit", "time_unit", "mag_unit", "flux_unit"),
        mode="before",
    )
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
        if self.good is not None:
            Good(self.good)
        return self

    def limits(self, time_system: str | None) -> Limits:
        """Return the limits of times [d, in `time_system`] and magnitudes beyond which a value is no measurement."""
        time_min, time_max = (-math.inf, math.inf) if time_system is None else parse_time_system(time_system).limits
        return Limits(time_min=time_min, time_max=time_max, mag_min=self.mag_min, mag_max=self.mag_max)


def first_of(names: Sequence[str], there: Collection[str]) -> str | None:
    """Return the first of some names that is there, None where an empty one comes first, the first of all else."""
    return next((name for name in names if name in there or not name), names[0]) or None


_RUBIN = SurveyConfig(
    object_id="diaObjectId|objectId",
    period="period|",
    ra="ra|coord_ra",
    dec="dec|coord_dec",
    class_="class",
    lightcurve="diaObjectForcedSource|objectForcedSource",
    time="midpointMjdTai",
    mag="psfMag",
    mag_err="psfMagErr",
    band="band",
    flux="psfFlux",
    flux_err="psfFluxErr",
    flux_unit="nJy",
    good="not flag(psfFlux_flag) and not flag(invalidPsfFlag) and not flag(pixelFlags_bad)",
    time_system="MJD (TAI)",
)
"""Forced photometry of the Rubin Observatory's data previews as HATS, from sdm_schemas (ForcedSource and
ForcedSourceOnDiaObject): fluxes in nJy, or magnitudes where they were added."""

PRESETS: Mapping[str, SurveyConfig] = MappingProxyType(
    {
        "canonical": SurveyConfig(),
        # Sky Patrol v2 as pyasassn gives it.
        "asas-sn": SurveyConfig(
            object_id="asas_sn_id",
            ra="ra_deg",
            dec="dec_deg",
            class_=None,
            time="jd",
            good="not flag(quality == 'B')",
            time_system="JD",
        ),
        # The data releases as HATS.
        "ztf": SurveyConfig(
            object_id="objectid",
            ra="objra",
            dec="objdec",
            class_=None,
            time="hmjd",
            mag_err="magerr",
            # Bit 15: the Explanatory Supplement says not to use these.
            good="not flag(catflags & 32768)",
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
            good="not flag(rejected_by_photometry) and not flag(variability_flag_g_reject)",
            time_system="BJD-2455197.5 (TCB)",
        ),
        "rubin-dp1": _RUBIN,
        "rubin-dp2": _RUBIN,
    }
)
"""Known surveys by name."""
