"""Commands that classify: `classify` and `demo`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from varstar_batch.cli.console import (
    DONE_WITH_FAILURES,
    agreement,
    note,
    out,
    parse_bytes,
    print_counts,
    print_json,
    print_table,
    say,
    warning_line,
)
from varstar_batch.cli.demo import demo
from varstar_batch.cli.tls import InsecureScheduler, TlsCa, TlsCert, TlsKey
from varstar_batch.cluster.client import open_client
from varstar_batch.cluster.dask_runner import runner_on
from varstar_batch.cluster.forking import load_ahead_of_workers
from varstar_batch.progress import progress
from varstar_batch.requests import ClusterOptions
from varstar_batch.runs.config import load_config
from varstar_batch.runs.execute import PartitionResult
from varstar_batch.runs.plan import RunPlan
from varstar_batch.runs.stages import Prepared, execute_run, expected_objects, plan_run, prepare, publish, verify
from varstar_batch.survey.open import Failure


def register(app: typer.Typer) -> None:
    """Add the commands to `varstar`."""
    app.command()(classify)
    app.command()(demo)


def classify(
    survey: Annotated[str, typer.Argument(help="Folder or URL of a survey: HATS, or any folder of Parquet files.")],
    catalog: Annotated[str, typer.Argument(help="Folder or URL of the catalog; made where there is none.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or URL of a model bundle. [default: the one that ships]")
    ] = None,
    config: Annotated[str | None, typer.Option(help="TOML file: [survey] names, limits; engine, memory.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top of it: survey.mag=Vmag.")] = None,
    preset: Annotated[str | None, typer.Option(help="Known survey, for its column names.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; 0: none. [default: one per core]")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler that is running.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, openvino or keras.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16.")] = None,
    chunk_memory: Annotated[str | None, typer.Option(help="Memory of a chunk in a worker, e.g. 256MiB.")] = None,
    fresh: Annotated[bool, typer.Option(help="Begin a new run where one could be resumed.")] = False,
    incremental: Annotated[
        bool, typer.Option(help="Take over the partitions that did not change since the published run.")
    ] = False,
    max_failed_fraction: Annotated[
        float | None, typer.Option(help="Share of failed partitions beyond which to give up. [default: 1]")
    ] = None,
    lost_gpus: Annotated[
        str | None, typer.Option(help="cpu or wait: when the last GPU worker is gone. [default: cpu]")
    ] = None,
    worker_memory: Annotated[str | None, typer.Option(help="Memory of a worker process, e.g. 2GiB.")] = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure_scheduler: InsecureScheduler = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be done and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's record as JSON.")] = False,
) -> None:
    """Classify every light curve of SURVEY into a published CATALOG, one row for every object.

    A run that was cut off goes on where it stopped when the same command is given again.
    """
    overrides = [f"survey.preset={preset}"] if preset else []
    overrides += set_ or []
    overrides += [
        f"{key}={value}"
        for key, value in (
            ("engine", engine),
            ("precision", precision),
            ("max_failed_fraction", max_failed_fraction),
            ("lost_gpus", lost_gpus),
        )
        if value is not None
    ]
    overrides += [f"chunk_memory={parse_bytes(chunk_memory, '--chunk-memory')}"] if chunk_memory is not None else []
    settings = load_config(config, overrides)
    if not (plan or scheduler or workers == 0):
        load_ahead_of_workers()
    run_plan, bundle = plan_run(survey, model, settings)
    if plan:
        _print_plan(run_plan, as_json)
        return
    # The cluster first: where it cannot be had, nothing is written.
    options = ClusterOptions(
        tls_ca=tls_ca,
        tls_cert=tls_cert,
        tls_key=tls_key,
        insecure=insecure_scheduler,
        worker_memory=None if worker_memory is None else parse_bytes(worker_memory, "--worker-memory"),
    )
    with open_client(workers, scheduler, options) as client:
        prepared = prepare(run_plan, bundle, catalog, fresh=fresh, incremental=incremental)
        if prepared.up_to_date:
            record = prepared.published_record()
        else:
            note(_heading(prepared))
            with progress("Classifying", expected_objects(run_plan.survey), "light curves") as advance:
                executed = execute_run(prepared, runner_on(client, settings), advance, _warn_of_failure)
            verify(prepared, executed)
            record = publish(prepared, executed)
    if as_json:
        print_json(record)
    elif prepared.up_to_date:
        say(f"{prepared.catalog} is up to date: run {prepared.run_id} (--fresh classifies again)")
    else:
        print_record(record, prepared)
    if record["failed_partitions"]:
        raise typer.Exit(DONE_WITH_FAILURES)


def print_record(record: dict[str, Any], prepared: Prepared) -> None:
    """Print what a run did, for people."""
    print_counts("Status", record["status"], "status")
    print_counts("Class", record["classes"], "class")
    rate, seconds = record["light_curves_per_second"], record["seconds"]
    say(
        f"{record['rows']:,} light curves in, {record['rows']:,} rows out; {rate:,.0f} light curves/s ({seconds:.1f} s)"
    )
    if record["labels"]:
        say(agreement(record["labels"]))
    if record["failed_partitions"]:
        warning_line(
            f"{record['failed_partitions']} partitions failed: see {prepared.context.run / 'failures.parquet'}"
        )
    say(f"Published run {prepared.run_id} in {prepared.catalog}")


def _heading(prepared: Prepared) -> str:
    count = len(prepared.plan.survey.partitions)
    resumed = f", {len(prepared.done):,} of them done before" if prepared.done else ""
    resumed += f", {len(prepared.carried):,} taken over unchanged" if prepared.carried else ""
    model = prepared.plan.model
    return f"Run {prepared.run_id}: {count:,} partitions{resumed}; model {model['name']} {model['version']}"


def _warn_of_failure(result: PartitionResult) -> None:
    if isinstance(result, Failure):
        warning_line(f"partition failed ({result.kind}): {result.message}")


def _print_plan(plan: RunPlan, as_json: bool) -> None:
    description = {**plan.describe(), "objects": expected_objects(plan.survey)}
    if as_json:
        print_json(description | {"files": [partition.key for partition in plan.survey.partitions]})
        return
    for key, value in description.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {entry}" for name, entry in value.items())  # noqa: PLW2901
        out.print(f"[bold]{key.replace('_', ' '):>13}[/]  {value}")
    rows = [(partition.key, partition.size) for partition in plan.survey.partitions[:5]]
    print_table("", ("partition", "bytes"), rows)
    if len(plan.survey.partitions) > len(rows):
        say(f"... and {len(plan.survey.partitions) - len(rows):,} more; nothing was written")
