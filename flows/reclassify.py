"""Reclassify a survey: plan -> classify -> verify -> publish -> report, one Prefect task each, Dask futures inside.

What is finished is read from storage, so a task that is tried again, and a flow that is started again, skip it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from pydantic import Field

from varstar_batch.catalog.compare import Difference, open_comparison
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.cluster.client import open_client
from varstar_batch.cluster.dask_runner import runner_on
from varstar_batch.errors import RefusedError, VarstarError
from varstar_batch.flows.artifacts import Links, key_of, progress_artifact, show_counts, show_dashboard, show_summary
from varstar_batch.flows.common import (
    FLOW,
    STAGE,
    FlowParameters,
    Place,
    parameters_of_run,
    short_name,
    tell_errors_in_one_line,
)
from varstar_batch.flows.events import emit_published
from varstar_batch.model.bundle import Bundle
from varstar_batch.progress import progress
from varstar_batch.report import write_report
from varstar_batch.requests import ClusterOptions
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import PartitionResult
from varstar_batch.runs.plan import RunPlan
from varstar_batch.runs.stages import (
    Executed,
    Prepared,
    execute_run,
    expected_objects,
    plan_run,
    prepare,
    publish,
    summary,
    verify,
)
from varstar_batch.survey.columns import PRESETS
from varstar_batch.survey.open import Failure

TIMEOUT_SECONDS = 20 * 3600
"""A nightly run that still goes on when the next is nearly due hangs; ended, it leaves its place in the queue."""

Preset = Literal["canonical", "asas-sn", "ztf", "ogle", "gaia"]


class ReclassifyParameters(FlowParameters):
    """What to reclassify, with which model, and where the catalog is."""

    survey: Place = Field(description="Folder or URL of the partitioned light curves", min_length=1)
    catalog: Place = Field(description="Folder or URL of the catalog; made where there is none", min_length=1)
    release: str = Field(default="", description="Name of the survey's release, for names, events and the summary")
    model: Place | None = Field(
        default=None, description="Folder or URL of a model bundle; the one that ships by default"
    )
    mode: Literal["incremental", "full"] = Field(
        default="incremental",
        description="incremental: partitions that did not change since the published run are taken over; "
        "full: everything is classified anew. Either way a run that was cut off is resumed",
    )
    abandon_unfinished: bool = Field(
        default=False,
        description="Begin a new run where one of another survey, model or configuration was cut off; else refuse",
    )
    preset: Preset = Field(default="canonical", description="Column names of a known survey; names changed below win")
    workers: int | None = Field(
        default=None, ge=0, description="Processes of a local cluster; 0: this process; one per core by default"
    )
    scheduler: str | None = Field(default=None, description="Address of a Dask scheduler, instead of a local cluster")
    cluster: ClusterOptions = Field(
        default_factory=ClusterOptions, description="TLS of a scheduler elsewhere (files on the worker), memory"
    )
    config: RunConfig = Field(default_factory=RunConfig, description="Column names, engine, memory, tolerance")

    def run_config(self) -> RunConfig:
        """Return the configuration with the preset's column names below those that somebody changed."""
        # The form of the UI sends every field, with its default where nobody touched it.
        changed = self.config.survey.model_dump(exclude_defaults=True)
        names = PRESETS[self.preset].model_dump(exclude_unset=True) | changed
        return self.config.model_copy(update={"survey": type(self.config.survey).model_validate(names)})


class PartitionsFailedError(VarstarError):
    """The catalog was published, but some partitions of the survey are not in it."""

    exit_code = 1


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
        The run was published without the partitions that failed.
    VarstarError
        As the stages of `varstar_batch.runs.stages` say.
    """
    tell_errors_in_one_line()
    prepared = plan_stage(parameters)
    if prepared.up_to_date:
        get_run_logger().info("Run %s is up to date: nothing to do.", prepared.run_id)
        return prepared.published_record()
    executed = classify_stage(parameters, prepared)
    verify_stage(prepared, executed)
    record = publish_stage(prepared, executed)
    report_stage(parameters, prepared, executed.failures, record)
    if executed.failures:
        first = executed.failures[0]
        raise PartitionsFailedError(
            expected=f"all {len(prepared.plan.survey.partitions)} partitions classified",
            got=f"{len(executed.failures)} failed, the first: {first.message}",
            where=str(prepared.catalog),
            fix=f"run {prepared.run_id} is published without them; mend the cause and start the flow again",
        )
    return record


@task(name="plan", **STAGE)
def plan_stage(parameters: ReclassifyParameters) -> Prepared:
    """Plan the run and give it its place in the catalog."""
    plan, bundle = plan_run(parameters.survey, parameters.model, parameters.run_config())
    prepared = _prepare(parameters, plan, bundle)
    get_run_logger().info(
        "Run %s: %d partitions, %d of them done, %d taken over.",
        prepared.run_id,
        len(plan.survey.partitions),
        len(prepared.done),
        len(prepared.carried),
    )
    return prepared


def _prepare(parameters: ReclassifyParameters, plan: RunPlan, bundle: Bundle) -> Prepared:
    incremental = parameters.mode == "incremental"
    try:
        prepared = prepare(plan, bundle, parameters.catalog, incremental=incremental)
    except RefusedError as error:
        if not parameters.abandon_unfinished:
            raise
        get_run_logger().warning("Beginning a new run. %s", error)
        return prepare(plan, bundle, parameters.catalog, fresh=True, incremental=incremental)
    if prepared.up_to_date and not incremental:
        return prepare(plan, bundle, parameters.catalog, fresh=True)
    return prepared


@task(name="classify", **STAGE)
def classify_stage(parameters: ReclassifyParameters, prepared: Prepared) -> Executed:
    """Classify every partition that is not on storage yet."""
    logger = get_run_logger()
    title, total, unit = "Classifying", expected_objects(prepared.plan.survey), "light curves"

    def on_partition(result: PartitionResult) -> None:
        if isinstance(result, Failure):
            logger.warning("Partition failed (%s): %s", result.kind, result.message)

    # Whatever ends this block, a signal too, closes the client and the local cluster: nothing goes on working.
    with ExitStack() as stack:
        client = stack.enter_context(
            open_client(parameters.workers, parameters.scheduler, parameters.cluster, dashboard=True)
        )
        if client is not None and client.dashboard_link:
            show_dashboard(client.dashboard_link, parameters.catalog)
            logger.info("Dask dashboard: %s", client.dashboard_link)
        in_log = stack.enter_context(progress(title, total, unit, log=logger.info))
        in_ui = stack.enter_context(progress_artifact(title, total, unit, key_of("progress", parameters.catalog)))

        def on_rows(amount: int) -> None:
            in_log(amount)
            in_ui(amount)

        executed = execute_run(prepared, runner_on(client, prepared.plan.config), on_rows, on_partition)
    record = summary(prepared, executed)
    logger.info("Classified %d light curves, %s per second.", record["rows"], record["light_curves_per_second"])
    return executed


@task(name="verify", **STAGE)
def verify_stage(prepared: Prepared, executed: Executed) -> None:
    """Check what lies on storage before anybody sees it."""
    verify(prepared, executed)


@task(name="publish", **STAGE)
def publish_stage(prepared: Prepared, executed: Executed) -> dict[str, Any]:
    """Move the catalog's pointer to the run."""
    record = publish(prepared, executed)
    get_run_logger().info("Published run %s of %s.", prepared.run_id, prepared.catalog)
    return record


@task(name="report", **STAGE)
def report_stage(
    parameters: ReclassifyParameters, prepared: Prepared, failures: tuple[Failure, ...], record: dict[str, Any]
) -> None:
    """Tell people and other systems what was published: a page, artifacts, an event."""
    place = str(prepared.catalog)
    reader = open_catalog(place, prepared.run_id)
    page = str(write_report(reader))
    show_counts(record, place)
    heading = f"{short_name(parameters.survey)} {parameters.release}".strip()
    show_summary(heading, record, Links(catalog=place, report=page), _difference(reader, prepared), failures)
    emit_published(place, record, parameters.survey, parameters.release, page)


def _difference(reader: CatalogReader, prepared: Prepared) -> Difference | None:
    """Return what changed since the run that was the catalog's before, or None where there was none to read."""
    before = prepared.based_on.run_id
    if before not in prepared.catalog.run_ids():
        return None
    with open_comparison(reader.at(before), reader) as comparison:
        return comparison.summary()
