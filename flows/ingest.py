"""Ingest tables of observations and objects into a survey, and say that its release has landed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger, task
from pydantic import Field

from varstar_batch import api
from varstar_batch.flows.artifacts import in_log_and_ui
from varstar_batch.flows.common import (
    FLOW,
    STAGE,
    FlowParameters,
    parameters_of_run,
    short_name,
    tell_errors_in_one_line,
)
from varstar_batch.flows.events import emit_release
from varstar_batch.ingest.options import ArchiveReport, IngestReport, IngestRequest

TIMEOUT_SECONDS = 20 * 3600
"""Ten thousand million observations, read twice at the speed of one disk, are done in less."""


SHOWN = 10
"""Files that were set aside, in the log; the survey lists all."""


class IngestParameters(FlowParameters, IngestRequest):
    """What to make a survey of, and where it goes."""

    release: str = Field(
        default="", description="Name of the release; where there is one, survey.release.published is emitted"
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
    show = in_log_and_ui(logger, parameters.out)
    report = api.ingest(parameters, show)
    if isinstance(report, ArchiveReport):
        rejected = report.tally.rejected
        for one in rejected[:SHOWN]:
            logger.warning("set aside: %s: %s", one.file, one.error)
        if rejected:
            logger.warning("%d files set aside; the list is in _rejected.parquet", len(rejected))
        report = report.ingest
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
