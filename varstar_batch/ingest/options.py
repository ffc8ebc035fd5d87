"""What can be chosen for an ingest, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from varstar_batch.archives.tally import COUNTED, Tally
from varstar_batch.errors import InputError
from varstar_batch.files.location import locate
from varstar_batch.requests import Bytes, ClusterOptions, Request
from varstar_batch.survey.columns import SurveyConfig

AUTO = "auto"
"""Instead of a format: each file's is found out."""

LONG = "long"
"""Instead of an archive's format: Parquet with one row for each observation."""


class IngestOptions(Request):
    """How to ingest."""

    columns: SurveyConfig = Field(default_factory=SurveyConfig, description="Column names of the two tables")
    periods: str | None = Field(None, description="Another table of objects, whose periods are taken")
    periods_radius: float | None = Field(
        None, ge=0.001, le=3600, description="Arcseconds: its rows are matched by position; by default by object_id"
    )
    periods_unit: str | None = Field(
        None, description="Unit of its periods, where it says none and it is not the one of survey.period_unit"
    )
    time_system: str | None = Field(
        None, description="JD, HJD, BJD, MJD, HJD-2450000, ...; by default the objects' column time_system"
    )
    correct_to: str | None = Field(
        None, description="Turn the times into this system: HJD, BJD, BJD_TDB, ...; needs positions"
    )
    hats: bool = Field(False, description="Write a HATS catalog; every object needs a position")
    find_periods: bool = Field(False, description="Search periods for objects without one; marked as found")
    duplicates: Literal["drop", "keep", "refuse"] = Field(
        "drop", description="What becomes of observations with the object, time, magnitude and error of another one"
    )
    partitions: int | None = Field(None, ge=1, description="Files; by default one for 4 million observations")
    memory: Bytes = Field(512 * 2**20, ge=2**20, description="Bytes of partitions that are sorted at the same time")
    band: str | None = Field(
        None,
        description="Of several bands the one to take, such as r; fuse keeps each observation with its band, for "
        "`classify --bands fuse`",
    )
    scratch: str | None = Field(
        None, description="Folder for unfinished work, which workers see too; by default beside the survey"
    )

    @property
    def columns_of_periods(self) -> SurveyConfig:
        """Names and units of the other table's columns."""
        update = {} if self.periods_unit is None else {"period_unit": self.periods_unit}
        return self.columns.model_copy(update=update)

    def lasting(self) -> Self:
        """Return these options with those that a survey does not show as they are by default."""
        return self.model_copy(update={"memory": IngestOptions.model_fields["memory"].default, "scratch": None})

    def check_scratch(self) -> None:
        """Refuse a scratch folder that is not there.

        Raises
        ------
        InputError
            It is not.
        """
        if self.scratch is not None and not locate(self.scratch, what="scratch folder").exists():
            raise InputError(
                expected="a local folder for scratch",
                got="nothing there",
                where=self.scratch,
                fix="make it, or leave it out",
            )


class ArchiveOptions(IngestOptions):
    """How to ingest the files of an archive; `columns` are those of the table of objects and of the format `TABLE`."""

    format: str = Field(AUTO, description="auto, table, or an archive's: asassn-skypatrol-v1, ztf, ...")
    radius: float | None = Field(
        None, ge=0.001, le=3600, description="Arcseconds: an archive's objects are matched by position"
    )
    column_names: tuple[str, ...] = Field(
        (), description="Of the format table: what the columns of texts without names hold, as time,mag,err"
    )
    aperture: int | None = Field(
        None, ge=0, description="Which of several values for each observation, such as apertures, is taken, from 0"
    )


class _Places(Request):
    observations: str = Field(
        min_length=1,
        description="Parquet with one row for each observation, or a folder of an archive's files",
    )
    out: str = Field(min_length=1, description="Folder or URL of the survey; must not hold anything yet")
    objects: str | None = Field(
        None,
        description="Table with one row for each object, with its period: Parquet, CSV, ECSV, FITS, VOTable; the files "
        "of an archive can do without",
    )


class IngestRequest(ArchiveOptions, _Places):
    """What to make a survey of, how, and who does it."""

    format: str = Field(LONG, description="long (Parquet), auto, table, or an archive's: asassn-skypatrol-v1, ztf, ...")
    workers: int | None = Field(
        None, ge=0, description="Processes of a local Dask cluster; by default none: threads of this one"
    )
    scheduler: str | None = Field(None, description="Address of a Dask scheduler whose workers see the same folders")
    cluster: ClusterOptions = Field(
        default_factory=ClusterOptions, description="TLS of a scheduler elsewhere (files on the worker), memory"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.format != LONG:
            return self
        options = {"radius": "radius", "column_names": "columns"}
        for name, option in (options | {"aperture": "aperture"}).items():
            if getattr(self, name) not in (None, ()):
                raise InputError(
                    expected="an archive's files",
                    got="--format long",
                    where=f"--{option}",
                    fix="say --format auto, or --format table, or leave it out",
                )
        if self.objects is None:
            raise InputError(
                expected="a table of objects",
                got="none",
                where="--objects",
                fix="give it, or say --format auto, or, with columns of your own, --format table --time-system MJD, "
                "which do without",
            )
        return self

    def options(self) -> ArchiveOptions:
        """Return how to ingest, without what and where."""
        return ArchiveOptions(**{name: getattr(self, name) for name in ArchiveOptions.model_fields})


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What went in and what came out; every object and every observation is in one of the counts."""

    objects: int
    objects_written: int
    objects_without_observations: int
    """Of the objects written."""
    observations: int
    """Read."""
    observations_written: int
    """Written; all objects, with or without observations."""
    duplicates: int
    """Observations left out, since another one says the same."""
    orphans: int
    """Observations left out, since no object has their object_id. observations = observations_written + duplicates +
    orphans + left_out."""
    orphan_ids: tuple[str, ...]
    """A few of their identifiers."""
    partitions: int
    """Files written."""
    time_system: str
    """As stored."""
    left_out: int
    """Observations left out, since they are not good (`SurveyConfig.good`) or of another band than the one chosen."""
    has_mag_err: bool
    """Whether the observations have magnitude errors."""
    periods: dict[str, int] | None = None
    """What another table of periods gave, as `with_periods` counts it."""
    period_origins: dict[str, int]
    """Objects by where their period is from: survey, second table, found, none."""
    converted: dict[str, int]
    """Values that came in another unit, by column and units."""
    times: tuple[float, float] | None
    """First and last time written [d, in the time system]; None without any."""


@dataclass(frozen=True, kw_only=True)
class ArchiveReport:
    """What was met, and what became of it."""

    tally: Tally
    """Files and observations; ``tally.observations = tally.kept + sum(tally.left_out)``."""
    ingest: IngestReport
    """Of the observations that were kept."""
    unmatched: int = 0
    """Objects of the files that have no row in the table of objects; their observations are the report's orphans."""
    ambiguous: int = 0
    """Objects with more than one row within the radius; the nearest was taken."""
    shared: int = 0
    """Rows of the table of objects to which several objects of the files belong; their light curves are joined."""

    @property
    def joined(self) -> int:
        """Objects that several files have, whose observations are now one light curve."""
        return len(self.tally.repeated)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        tally = self.tally
        return {
            "files": tally.files,
            "files_read": tally.files - len(tally.rejected),
            "files_set_aside": len(tally.rejected),
            "observations": tally.observations,
            "kept": tally.kept,
            **{name: dict(getattr(tally, name)) for name in COUNTED},
            "unmatched": self.unmatched,
            "ambiguous": self.ambiguous,
            "shared": self.shared,
            "joined": self.joined,
            "nameless": tally.nameless,
        }
