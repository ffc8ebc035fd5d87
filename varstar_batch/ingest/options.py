"""What can be chosen for an ingest, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from varstar_batch.archives.tally import Tally
from varstar_batch.errors import InputError
from varstar_batch.files.location import locate
from varstar_batch.parallel import Crew, Threads
from varstar_batch.survey.columns import SurveyConfig


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """How to ingest."""

    config: SurveyConfig = field(default_factory=SurveyConfig)
    """Column names of the two tables; the survey has the canonical ones."""
    time_system: str | None = None
    """Declared system of the times; None takes it from the objects' column `time_system`."""
    partitions: int | None = None
    """Files to write, at least 1 (fewer where there are fewer objects); None for about 4 million observations in each.
    """
    memory: int = 512 * 2**20
    """Bytes that the partitions which are sorted at the same time may take, at least 1 MiB; a single one may take more.
    Units that are read take about 100 MiB for each worker on top of it."""
    workers: int = 2
    """Threads, at least 1."""
    crew: Crew | None = None
    """Others who do the work instead of these threads; they see the inputs, the survey's place and the scratch folder.
    """
    scratch: str | None = None
    """Local folder for observations that wait for their partition, as large as they are uncompressed; None: beside a
    local survey, else the system's."""
    correct_to: str | None = None
    """Time system to bring the times to, for example ``"BJD"`` from ``"JD"``; None leaves them as they are."""
    periods: str | None = None
    """Another table of objects, whose periods are taken."""
    periods_radius: float | None = None
    """Arcseconds: its rows are matched by position; None to match them by identifier."""
    hats: bool = False
    """Write a HATS catalog: partitions are HEALPix pixels. Every object needs a position."""
    find_periods: bool = False
    """Search periods for the objects that have none. With a search the survey has the columns of
    `varstar_batch.ingest.period_search`, which tell found periods from those of the catalog."""

    def hands(self) -> Crew:
        """Return who does the work."""
        return self.crew or Threads(self.workers)

    def lasting(self) -> IngestOptions:
        """Return these options with those that a survey does not show as they are by default."""
        return replace(self, memory=2**20, workers=1, crew=None, scratch=None)


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
    orphans: int
    """Observations left out, since no object has their object_id: observations - observations_written."""
    orphan_ids: tuple[str, ...]
    """A few of their identifiers."""
    partitions: int
    """Files written."""
    time_system: str
    """As stored."""
    has_mag_err: bool
    """Whether the observations have magnitude errors."""
    periods: dict[str, int] | None = None
    """What another table of periods gave, as `with_periods` counts it."""


def check_options(options: IngestOptions) -> None:
    """Refuse options that make no sense.

    Raises
    ------
    InputError
        A number that is too small, a scratch folder that is not there.
    """
    for name, least in (("partitions", 1), ("memory", 2**20), ("workers", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(
                expected=f"{name} of at least {least}", got=str(value), where="ingest", fix=f"give a larger {name}"
            )
    if options.scratch is not None and not locate(options.scratch, what="scratch folder").exists():
        raise InputError(
            expected="a local folder for scratch",
            got="nothing there",
            where=options.scratch,
            fix="make it, or leave it out",
        )


AUTO = "auto"
"""Instead of a format: each file's is found out."""


@dataclass(frozen=True, kw_only=True)
class ArchiveOptions:
    """How to ingest the files of an archive."""

    format: str = AUTO
    """One of `FORMATS`, `TABLE` or `AUTO`."""
    band: str | None = None
    """Only this band's observations; `ALL_BANDS` for all in one light curve. None where there is only one."""
    radius: float | None = None
    """Objects are matched by position within this many arcseconds, instead of by identifier."""
    flux_unit: str | None = None
    """Of the format `TABLE`: its magnitudes are fluxes, in this unit."""
    ingest: IngestOptions = field(default_factory=IngestOptions)
    """Names of the columns of the table of objects (and of the observations in the format `TABLE`), time system,
    partitions, memory."""


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

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        tally = self.tally
        counted = {name: dict(getattr(tally, name)) for name in ("left_out", "bands", "unknown_cameras", "formats")}
        return {
            "files": tally.files,
            "files_read": tally.files - len(tally.rejected),
            "files_set_aside": len(tally.rejected),
            "observations": tally.observations,
            "kept": tally.kept,
            **counted,
            "unmatched": self.unmatched,
            "ambiguous": self.ambiguous,
            "shared": self.shared,
        }
