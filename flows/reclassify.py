"""Reclassify a survey: plan -> classify -> verify -> publish -> report, one Prefect task each, Dask futures inside.

What is finished is read from storage, so a task that is tried again, and a flow that is started again, skip it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from prefect import flow, get_run_logger, task
from pydantic import Field

from varstar_batch.api import ClassifiedSurvey, ClassifyRequest, classify_survey
from varstar_batch.catalog.compare import Difference, open_comparison
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.catalog.run_files.tables import objects_line
from varstar_batch.errors import ExitCode, VarstarError
from varstar_batch.flows.artifacts import Links, in_log_and_ui, show_counts, show_summary
from varstar_batch.flows.common import (
    FLOW,
    STAGE,
    FlowParameters,
    parameters_of_run,
    short_name,
    tell_errors_in_one_line,
)
from varstar_batch.flows.events import emit_held, emit_published
from varstar_batch.report import write_report
from varstar_batch.runs.prepare import Prepared, expected_objects
from varstar_batch.runs.stages import RunObserver

TIMEOUT_SECONDS = 20 * 3600
"""A nightly run that still goes on when the next is nearly due hangs; ended, it leaves its place in the queue."""

T = TypeVar("T")


class ReclassifyParameters(FlowParameters, ClassifyRequest):
    """What to reclassify, with which model, and where the catalog is."""

    mode: Literal["incremental", "full"] = Field(
        default="incremental", description=ClassifyRequest.model_fields["mode"].description
    )
    release: str = Field(default="", description="Name of the survey's release, for names, events and the summary")


class PartitionsFailedError(VarstarError):
    """The catalog was published, but some partitions of the survey are not in it."""

    exit_code = ExitCode.FAILURES


def _run_name() -> str:
    parameters = parameters_of_run(ReclassifyParameters)
    survey = f"{short_name(parameters.survey)} {parameters.release}".strip()
    return f"{survey} with {short_name(parameters.model) if parameters.model else 'the shipped model'}"


@flow(name="reclassify", flow_run_name=_run_name, timeout_seconds=TIMEOUT_SECONDS, **FLOW)
def reclassify(parameters: ReclassifyParameters) -> dict[str, Any]:
    """Reclassify a survey and publish its catalog.

    Returns
    -------
    dict
        The record of the run, as in its run.json.

    Raises
    ------
    PartitionsFailedError
        The run was published without the partitions that failed, or with what the run before has of them.
    HeldError
        The run is complete but did not pass its gate, so it was not published.
    VarstarError
        As the stages of `varstar_batch.runs.stages` say.
    """
    tell_errors_in_one_line()
    classified = classify_survey(parameters, _PrefectRun(parameters.catalog))
    record, prepared, failures = classified.record, classified.prepared, classified.failures
    if prepared.up_to_date:
        get_run_logger().info("Run %s is up to date: nothing to do.", prepared.run_id)
        return record
    held = classified.held()
    state = "Published" if held is None else "Held"
    get_run_logger().info("%s run %s of %s: %s.", state, prepared.run_id, prepared.catalog, objects_line(record))
    report_stage(parameters, classified)
    if held is not None:
        raise held
    if failures:
        raise PartitionsFailedError(
            expected=f"all {len(prepared.plan.survey.partitions)} partitions classified",
            got=f"{len(failures)} failed, the first: {failures[0].message}",
            where=str(prepared.catalog),
            fix=f"run {prepared.run_id} is published without them ({objects_line(record)}); mend the cause and start "
            "the flow again",
        )
    return record


class _PrefectRun(RunObserver):
    """Does each stage as a task, and tells the log and the UI."""

    def __init__(self, catalog: str) -> None:
        self.catalog = catalog

    def dashboard(self, link: str) -> None:
        # In the log, which is of this time: an artifact would still lead there when the cluster is gone.
        self.note(f"Dask dashboard: {link}")

    def stage(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        def call() -> T:
            return function(*arguments)

        return task(name=name, **STAGE)(call)()

    def note(self, message: str) -> None:
        get_run_logger().info(message)

    def warn(self, message: str) -> None:
        get_run_logger().warning(message)

    @contextmanager
    def classifying(self, prepared: Prepared) -> Iterator[Callable[[int], None]]:
        show = in_log_and_ui(get_run_logger(), self.catalog)
        with show("Classifying", expected_objects(prepared.plan.survey), "light curves") as advance:
            yield advance


@task(name="report", **STAGE)
def report_stage(parameters: ReclassifyParameters, classified: ClassifiedSurvey) -> None:
    """Tell people and other systems what was published: a page, artifacts, an event."""
    record, prepared = classified.record, classified.prepared
    place = str(prepared.catalog)
    reader = open_catalog(place, prepared.run_id)
    page = str(write_report(reader))
    show_counts(record, place)
    heading = f"{short_name(parameters.survey)} {parameters.release}".strip()
    links = Links(catalog=place, report=page)
    show_summary(heading, record, links, _difference(reader, prepared), classified.failures)
    emit = emit_held if record["held"] else emit_published
    emit(place, record, parameters.survey, parameters.release, page)


def _difference(reader: CatalogReader, prepared: Prepared) -> Difference | None:
    """Return what changed since the run that was the catalog's before, or None where there was none to read."""
    before = prepared.based_on.run_id
    if before not in prepared.catalog.run_ids():
        return None
    with open_comparison(reader.at(before), reader) as comparison:
        return comparison.summary()
