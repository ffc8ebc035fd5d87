"""Ingest tables of observations and objects into a survey, and say that its release has landed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger, task
from pydantic import Field

from flows.events import emit_release
from flows.running import FLOW, STAGE, FlowParameters, Place, parameters_of_run, short_name, tell_errors_in_one_line
from flows.watching import key_of, progress_artifact
from varstar_batch.cli.console import progress
from varstar_batch.storage.columns import SurveyConfig
from varstar_batch.storage.ingest import count_observations
from varstar_batch.storage.ingest import ingest as ingest_tables
from varstar_batch.storage.ingest_options import IngestOptions, IngestReport

TIMEOUT_SECONDS = 20 * 3600
"""Ten thousand million observations, read twice at the speed of one disk, are done in less."""


class IngestParameters(FlowParameters):
    """What to make a survey of, and where it goes."""

    observations: Place = Field(description="Parquet file or folder: one row for each observation", min_length=1)
    objects: Place = Field(description="Parquet file or folder: one row for each object", min_length=1)
    out: Place = Field(description="Folder or URL of the survey; nothing may be there yet", min_length=1)
    release: str = Field(
        default="", description="Name of the release; where there is one, survey.release.published is emitted"
    )
    time_system: str | None = Field(default=None, description="JD, HJD, BJD, ...; by default the objects' own column")
    partitions: int | None = Field(default=None, ge=1, description="Files; by the observations by default")
    memory: int = Field(default=512 * 2**20, ge=2**20, description="Bytes of observations that wait in memory")
    columns: SurveyConfig = Field(default_factory=SurveyConfig, description="Column names of the two tables")


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
        As `varstar_batch.storage.ingest.ingest` says.
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
    options = IngestOptions(
        config=parameters.columns,
        time_system=parameters.time_system,
        partitions=parameters.partitions,
        memory=parameters.memory,
    )
    title, total, unit = "Ingesting", count_observations(parameters.observations, options), "observations"
    with (
        progress(title, total, unit, log=logger.info) as in_log,
        progress_artifact(title, total, unit, key_of("progress", parameters.out)) as in_ui,
    ):

        def advance(amount: int) -> None:
            in_log(amount)
            in_ui(amount)

        report = ingest_tables(parameters.observations, parameters.objects, parameters.out, options, advance)
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
