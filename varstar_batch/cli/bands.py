"""The option --band."""

from __future__ import annotations

from typing import Annotated

import typer

from varstar_batch.cli.options import NAMES
from varstar_batch.survey.columns import SurveyConfig

BandOption = Annotated[
    str | None, typer.Option(*NAMES["bands"], help=f"{SurveyConfig.model_fields['bands'].description}.")
]


def chosen_bands(bands: str | None) -> dict[str, dict[str, str]]:
    """Return what --band or --bands says, as part of a configuration."""
    return {} if bands is None else {"survey": {"bands": bands}}
