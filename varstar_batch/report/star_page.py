"""The page of one star: its light curve, its answers through all runs, its periods, where it lies, and who knows it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np

from varstar_batch._version import __version__
from varstar_batch.catalog.reader import CatalogReader
from varstar_batch.catalog.run_files.root import Catalog
from varstar_batch.catalog.star_history import star_history
from varstar_batch.errors import VarstarError, one_line
from varstar_batch.report.charts import PALETTE, bars, scatter
from varstar_batch.report.data import bundle_of, period_amplitude
from varstar_batch.report.elements import card, document, grid, note, table
from varstar_batch.report.light_curve import plot_light_curve
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.objects import find_object
from varstar_batch.survey.open import open_survey

NEIGHBOURS = 60.0
"""Arcseconds around the star that are looked through for others."""

MOST_NEIGHBOURS = 20

HERE = "#e0004d"
"""Colour of the star itself among others."""


def build_star_page(catalog: Catalog, object_id: int | str, survey_url: str | None = None) -> str:
    """Return the page of a star as the text of an HTML file.

    Parameters
    ----------
    catalog : Catalog
    object_id : int or str
    survey_url : str, optional
        Where the survey is now; by default where it was when it was classified.

    Raises
    ------
    InputError
        No run has the star, or it cannot be an identifier of this catalog.
    """
    found = [(run, row) for run, row in star_history(catalog, object_id) if row is not None]
    run, row = found[-1]
    reader = CatalogReader(catalog, run)
    body = "".join(
        (
            _header(row, run),
            _section("Light curve", _light_curve(reader, row, survey_url or reader.record["survey"])),
            _section("What the runs say", _through_runs(found)),
            _section("Periods", _periods(row)),
            _section("Among its kind", _among_others(reader, row)),
            _section("Neighbours", _neighbours(reader, row)),
            _section("Elsewhere", _links(row)),
            f"<footer>Catalog {escape(str(catalog))}, run {escape(run)}. "
            f"Written by varstar-batch {escape(__version__)}.</footer>",
        )
    )
    return document(f"{row['object_id']}: {row['class'] or row['status']}", body)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _header(row: Mapping[str, Any], run: str) -> str:
    tiles = {"class": row["class"] or "none", "status": row["status"]}
    if row["class"] is not None:
        tiles["its probability"] = f"{row['class_prob']:.3f}"
    if row.get("parents_95"):
        tiles["parents, 95 %"] = str(row["parents_95"])
    if row["period"] is not None:
        tiles["period [d]"] = f"{row['period']:.7g}"
    if row.get("ood_score") is not None:
        tiles["strangeness"] = f"{row['ood_score']:.3f}"
    shown = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(text)}</span></div>' for text, value in tiles.items()
    )
    place = "" if row["ra"] is None else f"Right ascension {row['ra']:.6f}°, declination {row['dec']:+.6f}°. "
    return (
        f'<header><h1>{escape(str(row["object_id"]))}</h1><p class="sub">{place}Run {escape(run)}, '
        f'model {escape(str(row["model_version"]))}.</p></header><div class="tiles">{shown}</div>'
    )


def _light_curve(reader: CatalogReader, row: Mapping[str, Any], survey_url: str) -> str:
    bundle = bundle_of(reader)
    if bundle is None:
        return card(note("The run’s model is not there, so the light curve cannot be cleaned as it had it."))
    names = SurveyConfig.model_validate(reader.record["configuration"].get("survey", {}))
    try:
        survey = open_survey(survey_url, names)
        batch = find_object(survey, str(row["object_id"])).batch
    except (VarstarError, OSError) as error:
        return card(note(f"The light curve could not be had: {escape(one_line(error))}"))
    rules, source = bundle.contract.preprocessing, survey.source
    pictures = [card(_picture(plot_light_curve(batch, source.limits, rules, source.time_system), "Raw and folded"))]
    better = row.get("best_period")
    if better is not None and row.get("period_flag") not in {None, "ok"} and better != row["period"]:
        other = replace(batch, period=np.array([better]))
        drawn = plot_light_curve(other, source.limits, rules, source.time_system)
        pictures.append(card(_picture(drawn, "Folded with the better period"), f"With {better:.7g} d"))
    return "".join(pictures)


def _picture(png: bytes, text: str) -> str:
    content = base64.b64encode(png).decode()
    return f'<img alt="{text}" style="width:100%;height:auto" src="data:image/png;base64,{content}">'


def _through_runs(found: list[tuple[str, dict[str, Any]]]) -> str:
    cards = []
    for run, row in reversed(found):
        named = {name.removeprefix("prob_"): value for name, value in row.items() if name.startswith("prob_")}
        shown = [(name, value, f"{value:.3f}") for name, value in named.items() if value is not None]
        drawn = bars(shown, PALETTE[: len(shown)]) if shown else note(f"Not classified: {row['status']}.")
        cards.append(card(drawn, escape(run)))
    return grid(*cards, kind="strip")


def _periods(row: Mapping[str, Any]) -> str:
    facts = {
        "Period that it was folded with [d]": None if row["period"] is None else f"{row['period']:.9g}",
        "Where that is from": row.get("period_origin"),
        "Against others": row.get("period_flag"),
        "The one that fits best [d]": None if row.get("best_period") is None else f"{row['best_period']:.9g}",
        "Class with that": row.get("best_class"),
    }
    rows = [(name, str(value)) for name, value in facts.items() if value is not None]
    return card(table(rows) if rows else note("The star has none."))


def _among_others(reader: CatalogReader, row: Mapping[str, Any]) -> str:
    if row["class"] is None or not row["period"] or not row["amplitude"]:
        return card(note("Without class, period and amplitude it has no place there."))
    with reader.open_queries() as ask:
        points = {name: found for name, found in period_amplitude(ask, reader).items() if len(found)}
    colours = {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(reader.classes)}
    points["this star"] = np.array([[np.log10(row["period"]), row["amplitude"]]])
    legend = "".join(
        f'<span><span class="swatch" style="background:{colour}"></span>{escape(name)}</span>'
        for name, colour in (colours | {"this star": HERE}).items()
        if name in points
    )
    drawn = scatter(points, colours | {"this star": HERE})
    return card(f'<div class="legend">{legend}</div><div class="here">{drawn}</div>')


def _neighbours(reader: CatalogReader, row: Mapping[str, Any]) -> str:
    if row["ra"] is None or row["dec"] is None:
        return card(note("The star has no position."))
    near = reader.cone(row["ra"], row["dec"], NEIGHBOURS / 3600).to_pylist()
    others = [each for each in near if each["object_id"] != row["object_id"]]
    if not others:
        return card(note(f"None of the catalog within {NEIGHBOURS:g} arcsec."))
    rows = [
        (
            str(each["object_id"]),
            f"{each['separation']:.1f}",
            each["class"] or each["status"],
            "" if each["period"] is None else f"{each['period']:.6g}",
        )
        for each in others[:MOST_NEIGHBOURS]
    ]
    more = len(others) - len(rows)
    rest = note(f"and {more:,} more") if more > 0 else ""
    return card(table(rows, ("object_id", "arcsec", "class", "period [d]"), numbers=(1, 3)) + rest)


def _links(row: Mapping[str, Any]) -> str:
    if row["ra"] is None or row["dec"] is None:
        return card(note("Without a position nobody can be asked."))
    place = quote(f"{row['ra']:.6f} {row['dec']:+.6f}")
    where = {
        "SIMBAD": f"https://simbad.cds.unistra.fr/simbad/sim-coo?Coord={place}&Radius=10&Radius.unit=arcsec",
        "VSX": f"https://vsx.aavso.org/index.php?view=results.get&coords={place}&format=d&size=10&unit=3",
        "Gaia DR3 (VizieR)": f"https://vizier.cds.unistra.fr/viz-bin/VizieR-4?-source=I/355/gaiadr3&-c={place}&-c.rs=5",
    }
    links = "".join(
        f'<li><a href="{escape(address)}" rel="noreferrer noopener">{name}</a></li>' for name, address in where.items()
    )
    return card(
        f"<ul>{links}</ul>" + note("By position, within some arcseconds; nobody is asked before you follow one.")
    )
