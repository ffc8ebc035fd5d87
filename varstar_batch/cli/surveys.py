"""Commands that make surveys and curves: `simulate` and `fold`; `ingest` has a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from varstar_batch.cli.console import print_counts, say, warning_line
from varstar_batch.cluster.clients import default_workers
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.progress import progress
from varstar_batch.runs.config import load_config

DONE_WITH_FAILURES = 1
DEFAULT_PARTITIONS = 16


def register(app: typer.Typer) -> None:
    """Add the commands to `varstar`."""
    app.command()(simulate)
    app.command()(fold)


def simulate(
    out: Annotated[str, typer.Argument(help="Folder or URL of the survey; must not hold anything yet.")],
    objects: Annotated[int, typer.Option(min=1, help="Light curves.")] = 20_000,
    partitions: Annotated[int | None, typer.Option(min=1, help="Files. [default: 16]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same survey.")] = 1,
) -> None:
    """Simulate a survey of the six classes with ASAS-SN-like cadence and noise, and their true classes."""
    from varstar_batch.simulation.survey import write_simulated_survey

    files = min(DEFAULT_PARTITIONS, objects) if partitions is None else partitions
    with progress("Simulating", objects, "light curves") as advance:
        write_simulated_survey(out, objects=objects, partitions=files, seed=seed, progress=advance)
    say(f"{objects:,} light curves in {files:,} partitions: {out}")


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
    from varstar_batch.runs.stages import expected_objects
    from varstar_batch.survey.folded import fold_survey
    from varstar_batch.survey.open import open_survey

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
