"""What is left beside a bundle, or of an evaluation: measures for programs and for people, and figures."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from varstar_batch.files.location import Location, locate, writable
from varstar_batch.model.bundle import BundleContract
from varstar_batch.model.bundle_files import REPORT_FOLDER, write_bundle
from varstar_batch.training.judging.card import (
    ACCURACIES,
    UNSEEN,
    measure_table,
    part_table,
    summarise_measures,
    unseen_table,
)
from varstar_batch.training.judging.family_card import family_tables
from varstar_batch.training.judging.figures import draw_figures
from varstar_batch.training.judging.measures import Evidence
from varstar_batch.training.train import Trained

METRICS_JSON = "metrics.json"
METRICS_TABLE = "metrics.md"
STARS = "stars.csv"


def write_trained(trained: Trained, out: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Write the bundle, and the report into its folder.

    Raises
    ------
    InputError
        The place holds something else, or cannot be written.
    """
    write_bundle(trained.bundle, out, replace=replace)
    folder = locate(out, what="bundle") / REPORT_FOLDER
    write_report_of(trained.evidence, training_measures(trained.bundle.contract), trained.bundle.contract, folder)


def training_measures(contract: BundleContract) -> dict[str, Any]:
    """Return the measures of the folds and, under `UNSEEN`, of the surveys held out, if there were any."""
    metrics: dict[str, Any] = contract.metrics
    return {**metrics["held_out"], **({UNSEEN: metrics[UNSEEN]} if UNSEEN in metrics else {})}


def write_report_of(evidence: Evidence, measures: dict[str, Any], contract: BundleContract, folder: Location) -> None:
    """Write ``metrics.json``, ``metrics.md`` and the figures of a training or an evaluation.

    Raises
    ------
    InputError
        They cannot be written.
    """
    figures = draw_figures(evidence, contract.classes, contract.preprocessing)
    content = {key: dict(values) for key, values in evidence.histories.items()}
    document = {"model": contract.model_version, **measures, "histories": content}
    files = {
        METRICS_JSON: json.dumps(document, indent=1, allow_nan=False).encode() + b"\n",
        METRICS_TABLE: measures_page(measures, contract, sorted(figures)).encode(),
        **figures,
    }
    for name, bytes_ in files.items():
        writable(str(folder), "report", partial((folder / name).write_bytes, bytes_))


def write_stars(stars: pa.Table, folder: Location) -> None:
    """Write ``stars.csv``, a row for each star that was judged. Raises InputError where it cannot be written."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(stars, sink)
    content = sink.getvalue().to_pybytes()
    writable(str(folder), "report", lambda: (folder / STARS).write_bytes(content))


def measures_page(measures: dict[str, Any], contract: BundleContract, figures: list[str]) -> str:
    """Return the tables of measures as Markdown, with the figures of these names."""
    parts = [
        f"# {contract.model_version} on {measures['n_objects']:,} labelled light curves",
        measure_table(measures),
        f"{ACCURACIES} Averages are plain, over the classes that occur.",
        summarise_measures(measures),
        *family_tables(measures),
        part_table("survey", measures["by_survey"]),
        part_table("source of the period", measures["by_period_source"]),
        *_of_surveys_held_out(measures),
        *(f"![{name.removesuffix('.png')}]({name})" for name in figures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of_surveys_held_out(measures: dict[str, Any]) -> list[str]:
    if UNSEEN not in measures:
        return []
    unseen = measures[UNSEEN]
    return ["## On surveys that were held out", unseen_table(unseen), summarise_measures(unseen)]
