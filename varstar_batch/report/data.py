"""What a report shows, gathered from a catalog by aggregating queries: small, whatever the catalog's size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.catalog.compare import FAMILY, Difference, open_comparison
from varstar_batch.catalog.reader import CatalogReader
from varstar_batch.catalog.run_files.history import published_runs
from varstar_batch.catalog.sql.session import Answer, quoted
from varstar_batch.errors import InputError, PartitionError, VarstarError, one_line
from varstar_batch.files.parquet import read_table
from varstar_batch.light_curves.classes import MIRA, SEMIREGULAR
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.objects import LightCurve, light_curves_of
from varstar_batch.survey.open import open_survey

SKY_COLUMNS, SKY_ROWS = 120, 60
"""Cells of the sky: 3 degrees of right ascension by equal steps of sin(declination), so all of one area."""

BINS = 24
"""Of a distribution."""

DOTS = 400
"""Dots of one class in the period-amplitude diagram: about so many, up to twice as many, or all there are."""

STARS = 3
"""Of each class and kind whose light curves are shown."""

CHANGES = 15
"""Most objects that changed, listed; and as many whose label means another class."""


NEAR_LINE = 0.3
"""Magnitudes from the line between Miras and semi-regulars within which a star might as well be the other."""

Ask = Callable[[str], Answer]


@dataclass(frozen=True)
class Star:
    """One star that is shown with its light curve."""

    object_id: int | str
    class_: str
    class_prob: float
    second: str
    period: float
    surest: bool


@dataclass(frozen=True)
class MiraLine:
    """How much hangs on where Miras are divided from semi-regulars."""

    amplitude: float
    """Where the line is [mag]."""
    chosen: bool
    """Whether the run had it told; else it is where the labels of the model's training have it."""
    near: int
    """Long-period variables within `NEAR_LINE` of it."""
    total: int
    """All of them."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that a report shows."""

    catalog: str
    run_id: str
    record: dict[str, Any]
    """The content of ``run.json``."""
    classes: tuple[str, ...]
    sky: dict[str, npt.NDArray[np.int64]]
    """Dict of str to int64 array (SKY_ROWS, SKY_COLUMNS). Objects by class; by ``""`` those without."""
    probability: dict[str, npt.NDArray[np.int64]]
    entropy: dict[str, npt.NDArray[np.int64]]
    ood: dict[str, npt.NDArray[np.int64]]
    """Dict of str to int64 array (BINS,). Distributions by class: class_prob (0 to 1), entropy (0 to ln of the number
    of classes), ood_score (0 to 1)."""
    period_amplitude: dict[str, npt.NDArray[np.float64]]
    """Dict of str to float64 array (n, 2). log10 of the period [d] and amplitude [mag] of a sample."""
    families: dict[str, dict[str, int]]
    """Objects by parent and by subclass; both empty of a run of a version or a model that has none."""
    mira_line: MiraLine | None
    """None without long-period variables or without a line."""
    stars: list[Star]
    light_curves: dict[int | str, LightCurve] = field(default_factory=dict)
    """By object_id; a star may have none."""
    light_curves_note: str = ""
    """Why there are none, or fewer than stars."""
    previous: Difference | None = None
    """Against the run that was published before."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """The surest of the objects that changed."""
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    """The surest of the objects whose label means another class than was found."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    gate: list[dict[str, Any]] = field(default_factory=list)
    """What the run was measured by before it was published."""
    held: list[str] = field(default_factory=list)
    """Why it is not published."""
    bundle: Bundle | None = None
    validation: dict[str, Any] | None = None
    """How right the run is by known stars, where somebody has asked; see `catalog.known_stars.validate`."""


def gather(reader: CatalogReader, survey_url: str | None = None) -> ReportData:
    """Return what a report of a run shows.

    Parameters
    ----------
    reader : CatalogReader
        The run.
    survey_url : str, optional
        Where the survey is now; by default where it was when it was classified.
    """
    classes, bundle = reader.classes, bundle_of(reader)
    with reader.open_queries() as ask:
        sky = _sky(ask, classes)
        histograms = _histograms(ask, classes)
        points = period_amplitude(ask, reader)
        families = {name: _objects_by(ask, reader, name) for name in FAMILY}
        line = _mira_line(ask, reader, bundle)
        stars = _stars(ask)
        disagreements = _disagreements(ask, reader)
    curves, note = _light_curves(reader, stars, bundle, survey_url or reader.record["survey"])
    previous, changes = _changes(reader)
    found = reader.catalog.gate(reader.run_id)
    return ReportData(
        catalog=str(reader.catalog),
        run_id=reader.run_id,
        record=reader.record,
        classes=classes,
        sky=sky,
        probability=histograms["class_prob"],
        entropy=histograms["entropy"],
        ood=histograms["ood_score"],
        period_amplitude=points,
        families=families,
        mira_line=line,
        stars=stars,
        light_curves=curves,
        light_curves_note=note,
        previous=previous,
        changes=changes,
        disagreements=disagreements,
        failures=read_table(reader.run / "failures.parquet").to_pylist(),
        bundle=bundle,
        validation=reader.catalog.validation(reader.run_id),
        gate=found["gate"],
        held=found["held"] if reader.run_id in reader.catalog.held_runs() else [],
    )


def _sky(ask: Ask, classes: tuple[str, ...]) -> dict[str, npt.NDArray[np.int64]]:
    counts = {name: np.zeros((SKY_ROWS, SKY_COLUMNS), np.int64) for name in (*classes, "")}
    found = ask(
        f"""SELECT coalesce("class", '') AS label,
        (floor(((ra % 360) + 360) % 360 / {360 / SKY_COLUMNS}))::INT % {SKY_COLUMNS} AS x,
        least({SKY_ROWS - 1}, floor((sin(radians(dec)) + 1) * {SKY_ROWS / 2}))::INT AS y, count(*) AS n
        FROM catalog WHERE isfinite(ra) AND dec BETWEEN -90 AND 90 GROUP BY ALL"""
    )
    for row in found.table().to_pylist():
        counts[row["label"]][row["y"], row["x"]] = row["n"]
    return counts


def _histograms(ask: Ask, classes: tuple[str, ...]) -> dict[str, dict[str, npt.NDArray[np.int64]]]:
    """Return counts by column, class and bin, from one pass over the rows."""
    largest = {"class_prob": 1.0, "entropy": math.log(len(classes)), "ood_score": 1.0}
    # Whole numbers of one byte are grouped several times faster than what floor() and least() give.
    bins = ", ".join(f"floor({name} * {BINS / end})::UTINYINT AS {name}" for name, end in largest.items())
    found = ask(f'SELECT "class" AS label, {bins}, count(*) AS n FROM catalog WHERE "class" IS NOT NULL GROUP BY ALL')
    counts = {column: {name: np.zeros(BINS, np.int64) for name in classes} for column in largest}
    for batch in found:
        for row in batch.to_pylist():
            for column, by_class in counts.items():
                if row[column] is not None:
                    by_class[row["label"]][min(row[column], BINS - 1)] += row["n"]
    return counts


def period_amplitude(ask: Ask, reader: CatalogReader) -> dict[str, npt.NDArray[np.float64]]:
    """Return log10 period [d] and amplitude [mag] of some stars of each class, float64 (n, 2) by its name."""
    # A hash of the identifier takes the same stars every time, and needs no sorting. With powers of two the least step
    # leaves most rows out before anything else is looked at.
    steps = {
        name: 2 ** max(0, int(math.log2(max(1, reader.record["classes"].get(name, 0)) / DOTS)))
        for name in reader.classes
    }
    step = " ".join(f"WHEN {quoted(name)} THEN {step}" for name, step in steps.items())
    found = ask(
        f"""SELECT "class" AS label, log10(period) AS x, amplitude::DOUBLE AS y FROM catalog
        WHERE hash(object_id) % {min(steps.values())} = 0 AND "class" IS NOT NULL AND period > 0
        AND amplitude IS NOT NULL AND hash(object_id) % (CASE "class" {step} ELSE 1 END) = 0"""
    ).table()
    label = np.array(found["label"].to_pylist(), dtype=object)
    points = np.stack([found["x"].to_numpy(), found["y"].to_numpy()], axis=1)
    return {name: points[label == name][: 2 * DOTS] for name in reader.classes}


def _objects_by(ask: Ask, reader: CatalogReader, column: str) -> dict[str, int]:
    if column not in reader.schema.names:  # a run of a version that did not write it
        return {}
    found = ask(f"SELECT {column}, count(*) AS n FROM catalog WHERE {column} IS NOT NULL GROUP BY ALL ORDER BY ALL")
    return {row[column]: row["n"] for row in found.table().to_pylist()}


def _mira_line(ask: Ask, reader: CatalogReader, bundle: Bundle | None) -> MiraLine | None:
    chosen = reader.record["configuration"].get("mira_amplitude")
    lines: Any = [] if bundle is None else bundle.contract.training.get("mira_lines", [])
    if chosen is None and not lines:
        return None
    amplitude = float(lines[0]["amplitude"] if chosen is None else chosen)
    found = ask(
        f"""SELECT count(*) FILTER (WHERE abs(amplitude - {amplitude!r}) <= {NEAR_LINE}) AS near, count(*) AS total
        FROM catalog WHERE "class" IN ('{MIRA}', '{SEMIREGULAR}')"""
    )
    row = found.table().to_pylist()[0]
    return MiraLine(amplitude, chosen is not None, row["near"], row["total"]) if row["total"] else None


def _stars(ask: Ask) -> list[Star]:
    fields = "object_id: object_id, p: class_prob::DOUBLE, second: second_class, period: period"
    chosen = ask(
        f"""SELECT "class" AS label, arg_max({{{fields}}}, class_prob, {STARS}) AS surest,
        arg_min({{{fields}}}, class_prob, {STARS}) AS doubtful
        FROM catalog WHERE "class" IS NOT NULL GROUP BY ALL ORDER BY label"""
    )
    return [
        Star(star["object_id"], row["label"], star["p"], star["second"], star["period"], kind == "surest")
        for row in chosen.table().to_pylist()
        for kind in ("surest", "doubtful")
        for star in row[kind]
    ]


def _disagreements(ask: Ask, reader: CatalogReader) -> list[dict[str, Any]]:
    if "label_class" not in reader.schema.names:  # a run of a version that did not write it
        return []
    found = ask(
        f"""SELECT object_id, label, "class", class_prob::DOUBLE AS class_prob, period FROM catalog
        WHERE label_class <> "class" ORDER BY class_prob DESC, object_id LIMIT {CHANGES}"""
    )
    rows: list[dict[str, Any]] = found.table().to_pylist()
    return rows


def _light_curves(
    reader: CatalogReader, stars: list[Star], bundle: Bundle | None, survey_url: str
) -> tuple[dict[int | str, LightCurve], str]:
    if not stars:
        return {}, "No star was classified."
    if bundle is None:
        return {}, "The run's model is not there, so the light curves cannot be cleaned as it had them."
    names = SurveyConfig.model_validate(reader.record["configuration"].get("survey", {}))
    try:
        survey = open_survey(survey_url, names)
    except (VarstarError, OSError) as error:
        return {}, f"The survey is not where it was classified: {one_line(error)}"
    files = reader.files_of([star.object_id for star in stars])
    prefix = "" if reader.record["layout"] == "hats" else "dataset/"
    partitions = {f"{prefix}{partition.key}": partition for partition in survey.partitions}
    found: dict[int | str, LightCurve] = {}
    problems: list[str] = []
    for key in dict.fromkeys(files.values()):
        if key not in partitions:
            problems.append(f"{key} is gone from the survey")
            continue
        wanted = [object_id for object_id, file in files.items() if file == key]
        rules = bundle.contract.preprocessing
        try:
            found |= {c.object_id: c for c in light_curves_of(survey.source, partitions[key], wanted, rules)}
        except (PartitionError, OSError) as error:
            problems.append(one_line(error))
    missing = len(stars) - len(found)
    note = f"{missing} of {len(stars)} light curves could not be had. {'; '.join(problems[:2])}" if missing else ""
    return found, note.strip()


def bundle_of(reader: CatalogReader) -> Bundle | None:
    """Return the bundle of a run, None where it is not there any more."""
    try:
        return read_bundle(str(reader.run / "model"))
    except VarstarError:
        return None


def _changes(reader: CatalogReader) -> tuple[Difference | None, list[dict[str, Any]]]:
    earlier = [run for run in published_runs(reader.catalog) if run < reader.run_id]
    if not earlier:
        return None, []
    try:
        with open_comparison(CatalogReader(reader.catalog, earlier[-1]), reader) as comparison:
            rows = [row for batch in comparison.changes(CHANGES) for row in batch.to_pylist()]
            return comparison.summary(), rows
    except InputError:
        return None, []  # runs of surveys that cannot be compared
