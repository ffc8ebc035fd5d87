"""Ingest tables of observations and objects into a survey, and say that its release has landed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger, task
from pydantic import Field, model_validator

from varstar_batch.cluster.client import default_workers
from varstar_batch.cluster.dask_crew import open_crew
from varstar_batch.flows.artifacts import key_of, progress_artifact
from varstar_batch.flows.common import (
    FLOW,
    STAGE,
    FlowParameters,
    Place,
    parameters_of_run,
    short_name,
    tell_errors_in_one_line,
)
from varstar_batch.flows.events import emit_release
from varstar_batch.ingest.from_archive import count_files, ingest_archive
from varstar_batch.ingest.from_tables import count_observations
from varstar_batch.ingest.from_tables import ingest as ingest_tables
from varstar_batch.ingest.options import ArchiveOptions, IngestOptions, IngestReport
from varstar_batch.parallel import Crew
from varstar_batch.progress import progress
from varstar_batch.requests import ClusterOptions
from varstar_batch.survey.columns import SurveyConfig

TIMEOUT_SECONDS = 20 * 3600
"""Ten thousand million observations, read twice at the speed of one disk, are done in less."""


LONG = "long"
"""Instead of an archive's format: Parquet with one row for each observation."""

SHOWN = 10
"""Files that were set aside, in the log; the survey lists all."""


class IngestParameters(FlowParameters):
    """What to make a survey of, and where it goes."""

    observations: Place = Field(
        description="Parquet file or folder with one row for each observation, or a folder of an archive's files",
        min_length=1,
    )
    objects: Place | None = Field(
        default=None, description="Table with one row for each object; the files of an archive can do without"
    )
    out: Place = Field(description="Folder or URL of the survey; nothing may be there yet", min_length=1)
    release: str = Field(
        default="", description="Name of the release; where there is one, survey.release.published is emitted"
    )
    format: str = Field(
        default=LONG, description="long (Parquet), auto, table, or an archive's, as varstar ingest says"
    )
    band: str | None = Field(default=None, description="Of an archive's several bands the one to take; all joins them")
    radius: float | None = Field(
        default=None, ge=0.001, le=3600, description="Arcseconds: an archive's objects are matched by position"
    )
    flux_unit: str | None = Field(
        default=None, description="Of the format table: its magnitudes are fluxes, in mJy, ..."
    )
    periods: Place | None = Field(default=None, description="Another table of objects, whose periods are taken")
    periods_radius: float | None = Field(
        default=None, ge=0.001, le=3600, description="Arcseconds: that table is matched by position"
    )
    time_system: str | None = Field(default=None, description="JD, HJD, BJD, ...; by default the objects' own column")
    correct_to: str | None = Field(
        default=None, description="Times are turned into this system: HJD, BJD, BJD_TDB, ..."
    )
    hats: bool = Field(default=False, description="Write a HATS catalog; every object needs a position")
    find_periods: bool = Field(default=False, description="Search periods for objects without one, marked as found")
    partitions: int | None = Field(default=None, ge=1, description="Files; by the observations by default")
    memory: int = Field(default=512 * 2**20, ge=2**20, description="Bytes of partitions that are sorted at once")
    workers: int | None = Field(
        default=None, ge=0, description="Processes of a local Dask cluster; by default none: threads"
    )
    scheduler: str | None = Field(
        default=None, description="Address of a Dask scheduler whose workers see the same folders"
    )
    cluster: ClusterOptions = Field(
        default_factory=ClusterOptions, description="TLS of a scheduler elsewhere (files on the worker), memory"
    )
    scratch: str | None = Field(
        default=None, description="Folder for unfinished work, which workers see too; beside the survey by default"
    )
    columns: SurveyConfig = Field(default_factory=SurveyConfig, description="Column names of the two tables")

    @model_validator(mode="after")
    def _fits(self) -> IngestParameters:
        if self.format == LONG and self.objects is None:
            raise ValueError("objects: expected a table of objects beside observations in the long form, got none")
        if self.format == LONG and (self.band, self.radius, self.flux_unit) != (None, None, None):
            raise ValueError("band, radius and flux_unit: expected an archive's format, got long")
        return self

    def options(self, crew: Crew | None = None) -> IngestOptions:
        """Return the options of the ingest, which `crew` does instead of threads."""
        return IngestOptions(
            config=self.columns,
            time_system=self.time_system,
            partitions=self.partitions,
            memory=self.memory,
            workers=default_workers(),
            crew=crew,
            scratch=self.scratch,
            correct_to=self.correct_to,
            periods=self.periods,
            periods_radius=self.periods_radius,
            hats=self.hats,
            find_periods=self.find_periods,
        )

    def archive_options(self, crew: Crew | None = None) -> ArchiveOptions:
        """Return the options of the ingest of an archive's files, which `crew` does instead of threads."""
        return ArchiveOptions(
            format=self.format, band=self.band, radius=self.radius, flux_unit=self.flux_unit, ingest=self.options(crew)
        )


def _run_name() -> str:
    parameters = parameters_of_run(IngestParameters)
    return f"{short_name(parameters.out)} {parameters.release}".strip()


@flow(name="ingest", flow_run_name=_run_name, timeout_seconds=TIMEOUT_SECONDS, **FLOW)
def ingest(parameters: IngestParameters) -> dict[str, Any]:
    """Make a survey, and announce its release.

    Returns
    -------
    dict
        The report of the ingest: objects and observations, in and out.

    Raises
    ------
    VarstarError
        As `varstar_batch.ingest.from_tables.ingest` says.
    """
    tell_errors_in_one_line()
    report = ingest_stage(parameters)
    if parameters.release:
        announce_stage(parameters)
    return asdict(report)


@task(name="ingest", **STAGE)
def ingest_stage(parameters: IngestParameters) -> IngestReport:
    """Read the tables and write the partitions; the survey appears whole or not at all."""
    logger = get_run_logger()
    source, objects, out = parameters.observations, parameters.objects, parameters.out
    is_long = parameters.format == LONG
    total = count_observations(source, parameters.options()) if is_long else count_files(source)
    title, unit = "Ingesting", "observations" if is_long else "files"
    with (
        progress(title, total, unit, log=logger.info) as in_log,
        progress_artifact(title, total, unit, key_of("progress", out)) as in_ui,
        open_crew(parameters.workers, parameters.scheduler, parameters.cluster) as crew,
    ):

        def advance(amount: int) -> None:
            in_log(amount)
            in_ui(amount)

        if is_long and objects is not None:
            report = ingest_tables(source, objects, out, parameters.options(crew), advance)
        else:
            archive = ingest_archive(source, objects, out, parameters.archive_options(crew), advance)
            for one in archive.tally.rejected[:SHOWN]:
                logger.warning("set aside: %s: %s", one.file, one.error)
            if archive.tally.rejected:
                logger.warning("%d files set aside; the list is in _rejected.parquet", len(archive.tally.rejected))
            report = archive.ingest
    logger.info(
        "%d objects in %d partitions; %d of %d observations, %d have no object.",
        report.objects_written,
        report.partitions,
        report.observations_written,
        report.observations,
        report.orphans,
    )
    return report


@task(name="announce", **STAGE)
def announce_stage(parameters: IngestParameters) -> None:
    """Emit survey.release.published; deployments that wait for it start."""
    emit_release(parameters.out, parameters.release)
