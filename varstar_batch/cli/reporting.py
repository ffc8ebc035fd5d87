"""The command `report`."""

from __future__ import annotations

from typing import Annotated

import typer

from varstar_batch.catalog.reader import open_catalog
from varstar_batch.cli.console import note


def register(app: typer.Typer) -> None:
    """Add the command to `varstar`."""
    app.command()(report)


def report(
    catalog: Annotated[str, typer.Argument(help="Folder or URL of a catalog.")],
    out_file: Annotated[str, typer.Option("--out", help="HTML file to write.")] = "report.html",
    run: Annotated[str | None, typer.Option(help="Which run. [default: the current one]")] = None,
    survey: Annotated[
        str | None, typer.Option(help="Where the light curves are now. [default: where they were classified]")
    ] = None,
) -> None:
    """Write one self-contained page about a run of CATALOG: counts, sky, distributions, stars, changes, the model."""
    from varstar_batch.report import write_report

    written = write_report(open_catalog(catalog, run), out_file, survey_url=survey)
    note(f"Report in {written}")
