"""Commands about surveys: `simulate`, `ingest` and `fold`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from varstar_batch.arithmetic.rules import Preprocessing
from varstar_batch.cli.console import parse_bytes, print_counts, print_json, progress, say, warning_line
from varstar_batch.cluster.clients import default_workers
from varstar_batch.cluster.configuration import load_config

DONE_WITH_FAILURES = 1


def register(app: typer.Typer) -> None:
    """Add the commands to `varstar`."""
    app.command()(simulate)
    app.command()(ingest)
    app.command()(fold)


def simulate(
    out: Annotated[str, typer.Argument(help="Folder or URL of the survey; must not hold anything yet.")],
    objects: Annotated[int, typer.Option(min=1, help="Light curves.")] = 20_000,
    partitions: Annotated[int, typer.Option(min=1, help="Files.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same survey.")] = 1,
) -> None:
    """Simulate a survey of the six classes with ASAS-SN-like cadence and noise, and their true classes."""
    from varstar_batch.storage.simulated import write_simulated_survey

    with progress("Simulating", objects, "light curves") as advance:
        write_simulated_survey(out, objects=objects, partitions=partitions, seed=seed, progress=advance)
    say(f"{objects:,} light curves in {partitions:,} partitions: {out}")


def ingest(
    observations: Annotated[str, typer.Argument(help="Parquet file or folder: one row for each observation.")],
    out: Annotated[str, typer.Argument(help="Folder or URL of the survey; must not hold anything yet.")],
    objects: Annotated[str, typer.Option(help="Parquet file or folder: one row for each object, with its period.")],
    time_system: Annotated[
        str | None, typer.Option(help="JD, HJD, BJD, MJD, HJD-2450000, ... [default: the objects' time_system]")
    ] = None,
    partitions: Annotated[int | None, typer.Option(min=1, help="Files. [default: by the observations]")] = None,
    memory: Annotated[str, typer.Option(help="Of observations that wait for their partition.")] = "512MiB",
    config: Annotated[str | None, typer.Option(help="TOML file: [survey] with the names of the columns.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top: survey.mag=Vmag.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Make a partitioned survey of a table of OBSERVATIONS and a table of objects; every object is one row."""
    from varstar_batch.storage.ingest import IngestOptions, count_observations
    from varstar_batch.storage.ingest import ingest as ingest_tables

    settings = load_config(config, set_ or [])
    options = IngestOptions(
        config=settings.survey,
        time_system=time_system,
        partitions=partitions,
        memory=parse_bytes(memory, "--memory"),
    )
    with progress("Ingesting", count_observations(observations, options), "observations") as advance:
        report = ingest_tables(observations, objects, out, options, advance)
    if as_json:
        print_json(asdict(report))
        return
    say(
        f"{report.objects:,} objects in, {report.objects_written:,} out in {report.partitions:,} partitions"
        f" ({report.objects_without_observations:,} without observations); time system {report.time_system}"
    )
    say(f"{report.observations:,} observations in, {report.observations_written:,} out: {out}")
    if report.orphans:
        examples = ", ".join(report.orphan_ids)
        warning_line(f"{report.orphans:,} observations left out: no object has their object_id ({examples}, ...)")


def fold(
    survey: Annotated[str, typer.Argument(help="Folder or URL of a survey.")],
    out: Annotated[str, typer.Argument(help="Folder or URL of the curves; must not hold anything yet.")],
    phase_zero: Annotated[
        str | None, typer.Option(help="Phase 0 at the first observation, or at maximum light.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="none (magnitudes), center (minus median) or minmax (0 to 1).")
    ] = None,
    config: Annotated[str | None, typer.Option(help="TOML file: [survey] and [preprocessing].")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top: preprocessing.sigma=4.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Partitions at once. [default: one per core]")] = None,
) -> None:
    """Clean and fold every light curve of SURVEY to 512 points, and write the curves to OUT as Parquet."""
    from varstar_batch.cluster.folding import fold_survey
    from varstar_batch.cluster.runs import expected_objects
    from varstar_batch.storage.surveys import open_survey

    choices = {"preprocessing.phase_zero": phase_zero, "preprocessing.scale": scale}
    overrides = ["preprocessing.scale=none", *(set_ or [])]
    overrides += [f"{key}={value}" for key, value in choices.items() if value is not None]
    settings = load_config(config, overrides)
    preprocessing = Preprocessing(**settings.preprocessing)
    opened = open_survey(survey, settings.survey)
    with progress("Folding", expected_objects(opened), "light curves") as advance:
        report = fold_survey(opened, out, preprocessing, threads or default_workers(), advance)
    print_counts("Status", report.status, "status")
    say(f"{sum(report.status.values()):,} objects: {out}")
    for failure in report.failures:
        warning_line(f"partition failed ({failure.kind}): {failure.message}")
    if report.failures:
        raise typer.Exit(DONE_WITH_FAILURES)
