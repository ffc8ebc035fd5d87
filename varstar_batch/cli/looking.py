"""Commands that look at a survey: `inspect` and `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from varstar_batch.cli.console import note, print_counts, print_json, print_table, say, warning_line
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.runs.config import load_config

DONE_WITH_FAILURES = 1


def register(app: typer.Typer) -> None:
    """Add the commands to `varstar`."""
    app.command()(inspect)
    app.command()(plot)


def inspect(
    survey: Annotated[str, typer.Argument(help="Folder or URL of a survey.")],
    config: Annotated[str | None, typer.Option(help="TOML file: [survey] and [preprocessing].")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top: survey.mag=Vmag.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print what is in SURVEY: counts, times, bands, periods, classes, and what a run would make of it."""
    from varstar_batch.survey.open import open_survey
    from varstar_batch.survey.summary import summarise

    settings = load_config(config, set_ or [])
    opened = open_survey(survey, settings.survey)
    summary = summarise(opened, Preprocessing(**settings.preprocessing))
    if as_json:
        print_json(vars(summary))
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
            ("bands", ", ".join(f"{name} {count:,}" for name, count in sorted(summary.bands.items())) or "not told"),
        ]
        print_table("", ("", survey), rows)
        if summary.objects:
            print_counts("Status before classification", summary.statuses, "status")
            print_counts("Classes", summary.classes, "class")
        if summary.dropped:
            print_table("Observations that cleaning drops", ("reason", "observations"), sorted(summary.dropped.items()))
    for failure in summary.failures:
        warning_line(f"partition that cannot be read: {failure}")
    if summary.failures:
        raise typer.Exit(DONE_WITH_FAILURES)


def plot(
    survey: Annotated[str, typer.Argument(help="Folder or URL of a survey.")],
    object_id: Annotated[str, typer.Argument(help="Identifier of the object.")],
    out: Annotated[Path | None, typer.Option(help="PNG file to write. [default: OBJECT_ID.png]")] = None,
    config: Annotated[str | None, typer.Option(help="TOML file: [survey] and [preprocessing].")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE on top: survey.mag=Vmag.")] = None,
) -> None:
    """Draw the light curve of an object of SURVEY, raw and folded."""
    from varstar_batch.files.location import locate, writable
    from varstar_batch.report.light_curve_plot import plot_light_curve
    from varstar_batch.survey.objects import find_object
    from varstar_batch.survey.open import open_survey

    settings = load_config(config, set_ or [])
    opened = open_survey(survey, settings.survey)
    found = find_object(opened, object_id)
    source = opened.source
    picture = plot_light_curve(found.batch, source.limits, Preprocessing(**settings.preprocessing), source.time_system)
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in object_id)
    name = str(out or f"{safe}.png")
    writable(name, "picture", lambda: locate(name, what="picture").write_bytes(picture))
    note(f"{object_id} is in partition {found.partition}")
    say(name)


def _span(span: tuple[float, float] | None) -> str:
    return "none" if span is None else f"{span[0]:.6f} to {span[1]:.6f}".replace(".000000", "")


def _periods(periods: tuple[float, float, float] | None) -> str:
    return "" if periods is None else f"; {periods[0]:.6g} to {periods[2]:.6g} d, median {periods[1]:.6g} d"
