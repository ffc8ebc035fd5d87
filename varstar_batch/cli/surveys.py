"""Commands that make surveys and curves: `simulate` and `fold`; `ingest` has a module of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from varstar_batch.cli.bands import BandOption, chosen_bands
from varstar_batch.cli.console import note, print_counts, print_json, print_table, say, warning_line
from varstar_batch.cli.options import ConfigOption, JsonOption, SetOption, SurveyArgument
from varstar_batch.cluster.client import default_workers
from varstar_batch.errors import ExitCode
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.rules import PhaseZero, Preprocessing, Scale
from varstar_batch.progress import progress
from varstar_batch.runs.config import load_config

DEFAULT_PARTITIONS = 16


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
    survey: SurveyArgument,
    out: Annotated[str, typer.Argument(help="Folder or URL of the curves; must not hold anything yet.")],
    phase_zero: Annotated[
        PhaseZero | None, typer.Option(help="Phase 0 at the first observation, or at maximum light.")
    ] = None,
    scale: Annotated[
        Scale | None, typer.Option(help="none (magnitudes), center (minus median) or minmax (0 to 1).")
    ] = None,
    bands: BandOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Partitions at once. [default: one per core]")] = None,
) -> None:
    """Clean and fold every light curve of SURVEY to 512 points, and write the curves to OUT as Parquet."""
    from varstar_batch.runs.prepare import expected_objects
    from varstar_batch.survey.folded import fold_survey
    from varstar_batch.survey.open import open_survey
    from varstar_batch.survey.read import check_bands

    chosen = {name: value for name, value in (("phase_zero", phase_zero), ("scale", scale)) if value is not None}
    unscaled = {"preprocessing": {"scale": "none"}}
    after = {"preprocessing": chosen, **chosen_bands(bands)}
    settings = load_config(config, set_ or [], before=unscaled, after=after)
    preprocessing = Preprocessing(**settings.preprocessing)
    opened = open_survey(survey, settings.survey)
    check_bands(opened)
    with progress("Folding", expected_objects(opened), "light curves") as advance:
        report = fold_survey(opened, out, preprocessing, threads or default_workers(), advance)
    print_counts("Status", report.status, "status")
    say(f"{sum(report.status.values()):,} objects: {out}")
    for failure in report.failures:
        warning_line(f"partition failed ({failure.kind}): {failure.message}")
    if report.failures:
        raise typer.Exit(ExitCode.FAILURES)


def inspect(
    survey: SurveyArgument,
    bands: BandOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: Annotated[str | None, typer.Option(help="Bundle to compare it with. [default: the one that ships]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what is in SURVEY: counts, times, bands, periods, classes, and what a run would make of it.

    Whatever of it lies outside of the model's training is warned of.
    """
    from varstar_batch.model.bundle_files import read_bundle
    from varstar_batch.runs.likeness import unlike_training
    from varstar_batch.survey.bands import choice_of
    from varstar_batch.survey.open import open_survey
    from varstar_batch.survey.summary import summarise

    settings = load_config(config, set_ or [], after=chosen_bands(bands))
    opened = open_survey(survey, settings.survey)
    contract = read_bundle(model).contract
    summary = summarise(opened, Preprocessing(**settings.preprocessing))
    unlike = unlike_training(opened, contract)
    if as_json:
        print_json(vars(summary) | {"unlike_training": unlike})
    else:
        least, median, most = summary.observations_of_objects
        rows = [
            ("objects", f"{summary.objects:,} in {summary.partitions:,} partitions ({summary.layout}, {summary.form})"),
            ("observations", f"{summary.observations:,}; {least:,.0f} to {most:,.0f} an object, median {median:,.0f}"),
            ("identifiers", summary.object_id_type),
            ("positions", f"of {summary.with_position:,} objects"),
            ("times", f"{_span(summary.time)}, {summary.time_system or 'no time system declared'}"),
            ("magnitudes", _span(summary.mag)),
            ("periods", f"of {summary.with_period:,} objects{_periods(summary.periods)}"),
            ("periods from", _told(summary.period_origins) or "nowhere"),
            (
                "converted",
                ", ".join(f"{role} from {change}" for role, change in summary.converted.items()) or "nothing",
            ),
            ("bands", _told(summary.bands) or "not told"),
        ]
        print_table("", ("", survey), rows)
        if summary.objects:
            print_counts("Status before classification", summary.statuses, "status")
            _print_labels(summary.classes, settings.labels)
        if summary.dropped:
            print_table("Observations that cleaning drops", ("reason", "observations"), sorted(summary.dropped.items()))
    if summary.in_several_bands and opened.source.bands is None:
        several = f"{summary.in_several_bands:,} objects are in several bands, which are never mixed"
        warning_line(f"{several}: {choice_of(summary.bands)}")
    if not as_json:
        for line in unlike:
            warning_line(line)
    for failure in summary.failures:
        warning_line(f"partition that cannot be read: {failure}")
    if summary.failures:
        raise typer.Exit(ExitCode.FAILURES)


def plot(
    survey: SurveyArgument,
    object_id: Annotated[str, typer.Argument(help="Identifier of the object.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG file to write. [default: OBJECT_ID.png]")] = None,
    bands: BandOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Draw the light curve of an object of SURVEY, raw and folded."""
    from varstar_batch.files.location import locate, writable
    from varstar_batch.report.light_curve import plot_light_curve
    from varstar_batch.survey.objects import find_object
    from varstar_batch.survey.open import open_survey

    settings = load_config(config, set_ or [], after=chosen_bands(bands))
    opened = open_survey(survey, settings.survey)
    found = find_object(opened, object_id)
    source = opened.source
    picture = plot_light_curve(found.batch, source.limits, Preprocessing(**settings.preprocessing), source.time_system)
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in object_id)
    name = str(out or f"{safe}.png")
    writable(name, "picture", lambda: locate(name, what="picture").write_bytes(picture))
    note(f"{object_id} is in partition {found.partition}")
    say(name)


def _print_labels(labels: Mapping[str, int], own: Mapping[str, str]) -> None:
    """Print the survey's labels, with what the model that ships takes them for."""
    from varstar_batch.survey.labels import LabelReader
    from varstar_batch.survey.summary import NO_LABEL

    reader, total = LabelReader(CLASSES, own), sum(labels.values())
    meanings = {label: reader.read(None if label == NO_LABEL else label) for label in labels}
    said = {"blank": "", "other": "another kind", "unsaid": "no single class", "unknown": "nobody knows"}
    rows = [
        (label, meanings[label].class_ or said[meanings[label].why], count, f"{count / total:.1%}")
        for label, count in labels.items()
    ]
    print_table("Classes", ("label", "read as", "objects", "share"), rows)


def _span(span: tuple[float, float] | None) -> str:
    return "none" if span is None else f"{span[0]:.6f} to {span[1]:.6f}".replace(".000000", "")


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _periods(periods: tuple[float, float, float] | None) -> str:
    return "" if periods is None else f"; {periods[0]:.6g} to {periods[2]:.6g} d, median {periods[1]:.6g} d"
