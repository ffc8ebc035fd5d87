"""Reclassify a survey: plan -> classify -> verify -> publish, one Prefect task each, Dask futures inside.

What is finished is read from storage, so a task that is tried again, and a flow that is started again, skip it.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field

from varstar_batch.cli.console import progress
from varstar_batch.cluster.clients import open_client
from varstar_batch.cluster.configuration import RunConfig
from varstar_batch.cluster.execute import PartitionResult
from varstar_batch.cluster.runs import (
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
from varstar_batch.cluster.work import Failure


class ReclassifyParameters(BaseModel):
    """What to reclassify, with which model, and where the catalog is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    survey: str = Field(description="Folder or URL of the partitioned light curves", min_length=1)
    catalog: str = Field(description="Folder or URL of the catalog; made where there is none", min_length=1)
    model: str | None = Field(
        default=None, description="Folder or URL of a model bundle; the one that ships by default"
    )
    workers: int | None = Field(default=None, ge=0, description="Processes of a local cluster; one per core by default")
    scheduler: str | None = Field(default=None, description="Address of a Dask scheduler, instead of a local cluster")
    fresh: bool = Field(default=False, description="Begin a new run even where one could be resumed")
    config: RunConfig = Field(default_factory=RunConfig, description="Column names, engine, memory")


def _run_name() -> str:
    parameters = flow_run.parameters["parameters"]
    survey = str(getattr(parameters, "survey", None) or parameters["survey"]).rstrip("/")
    return f"reclassify {survey.rsplit('/', 1)[-1]}"


@flow(name="reclassify", flow_run_name=_run_name)
def reclassify(parameters: ReclassifyParameters) -> dict[str, Any]:
    """Reclassify a survey and publish its catalog.

    Returns
    -------
    dict
        The record of the run, as in its run.json.

    Raises
    ------
    VarstarError
        As the stages of `varstar_batch.cluster.runs` say.
    """
    prepared = plan_stage(parameters)
    if prepared.up_to_date:
        get_run_logger().info("Run %s is up to date: nothing to do.", prepared.run_id)
        return prepared.published_record()
    executed = classify_stage(parameters, prepared)
    verify_stage(prepared, executed)
    return publish_stage(prepared, executed)


@task(name="plan", cache_policy=NO_CACHE)
def plan_stage(parameters: ReclassifyParameters) -> Prepared:
    """Plan the run and give it its place in the catalog."""
    plan, bundle = plan_run(parameters.survey, parameters.model, parameters.config)
    prepared = prepare(plan, bundle, parameters.catalog, fresh=parameters.fresh)
    get_run_logger().info(
        "Run %s: %d partitions, %d of them done.", prepared.run_id, len(plan.survey.partitions), len(prepared.done)
    )
    return prepared


@task(name="classify", cache_policy=NO_CACHE)
def classify_stage(parameters: ReclassifyParameters, prepared: Prepared) -> Executed:
    """Classify every partition that is not on storage yet."""
    logger = get_run_logger()

    def on_partition(result: PartitionResult) -> None:
        if isinstance(result, Failure):
            logger.warning("Partition failed (%s): %s", result.kind, result.message)

    with (
        open_client(parameters.workers, parameters.scheduler) as client,
        progress("Classifying", expected_objects(prepared.plan.survey), "light curves", log=logger.info) as advance,
    ):
        executed = execute_run(prepared, client, advance, on_partition)
    record = summary(prepared, executed)
    logger.info("Classified %d light curves, %s per second.", record["rows"], record["light_curves_per_second"])
    return executed


@task(name="verify", cache_policy=NO_CACHE)
def verify_stage(prepared: Prepared, executed: Executed) -> None:
    """Check what lies on storage before anybody sees it."""
    verify(prepared, executed)


@task(name="publish", cache_policy=NO_CACHE)
def publish_stage(prepared: Prepared, executed: Executed) -> dict[str, Any]:
    """Move the catalog's pointer to the run."""
    record = publish(prepared, executed)
    get_run_logger().info("Published run %s of %s.", prepared.run_id, prepared.catalog)
    return record
