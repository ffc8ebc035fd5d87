"""A report as HTML: one page that loads nothing from anywhere."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from varstar_batch._version import __version__
from varstar_batch.report import drawing
from varstar_batch.report.gathering import ReportData
from varstar_batch.report.sections import changes_section, model_section, run_section, stars_section
from varstar_batch.report.sky import sky_map
from varstar_batch.report.style import CSS

SECTIONS = (
    ("counts", "Counts"),
    ("sky", "Sky"),
    ("certainty", "Certainty"),
    ("diagram", "Period and amplitude"),
    ("stars", "Light curves"),
    ("changes", "Changes"),
    ("run", "The run"),
    ("model", "The model"),
)


def build_page(data: ReportData) -> str:
    """Return the report as the text of an HTML file."""
    colours = class_colours(data)
    bodies = {
        "counts": _counts(data, colours),
        "sky": _sky(data, colours),
        "certainty": _certainty(data, colours),
        "diagram": _diagram(data, colours),
        "stars": stars_section(data, colours),
        "changes": changes_section(data),
        "run": run_section(data),
        "model": model_section(data),
    }
    sections = "".join(
        f'<section id="{key}"><h2>{escape(title)}</h2>{bodies[key]}</section>' for key, title in SECTIONS
    )
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, title in SECTIONS)
    title = f"{data.catalog.rstrip('/').rsplit('/', 1)[-1]}: run {data.run_id}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # The browser itself holds the page to its word that it loads nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        f"{_header(data)}<nav>{links}</nav>{sections}"
        f"<footer>Catalog {escape(data.catalog)}, run {escape(data.run_id)}. "
        f"Written by varstar-batch {escape(__version__)}.</footer></main></body></html>\n"
    )


def class_colours(data: ReportData) -> dict[str, str]:
    """Return a colour for every class."""
    return {name: drawing.PALETTE[k % len(drawing.PALETTE)] for k, name in enumerate(data.classes)}


def swatch(colour: str) -> str:
    """Return a dot of a colour."""
    return f'<span class="swatch" style="background:{colour}"></span>'


def _header(data: ReportData) -> str:
    record = data.record
    model = record["model"]
    rows, classified = record["rows"], record["status"].get("ok", 0)
    tiles = [
        (f"{rows:,}", "objects", False),
        (f"{classified / rows:.1%}" if rows else "none", f"classified ({classified:,})", False),
        (f"{record['light_curves_per_second']:,.0f}", "light curves per second", False),
        (f"{record['failed_partitions']:,}", "failed partitions", record["failed_partitions"] > 0),
    ]
    if data.previous is not None:
        tiles.append((f"{sum(data.previous.changed.values()):,}", "changed since the last run", False))
    shown = "".join(
        f'<div class="tile{" alarm" if alarm else ""}"><b>{value}</b><span>{escape(text)}</span></div>'
        for value, text, alarm in tiles
    )
    return (
        f"<header><h1>{escape(data.catalog.rstrip('/').rsplit('/', 1)[-1])}</h1>"
        f'<p class="sub">Run {escape(data.run_id)}, finished {escape(record["finished"].replace("T", " ")[:16])} UTC. '
        f"Survey {escape(record['survey'])}; model {escape(model['name'])} {escape(model['version'])}.</p></header>"
        f'<div class="tiles">{shown}</div>'
    )


def _counts(data: ReportData, colours: dict[str, str]) -> str:
    record = data.record
    classes = [(name, count, f"{count:,}") for name in data.classes for count in (record["classes"].get(name, 0),)]
    statuses = [(name, count, f"{count:,}") for name, count in record["status"].items()]
    hues = ["#009e73" if name == "ok" else "#d08a2e" for name in record["status"]]
    by_class = drawing.bars(classes, list(colours.values()), total=sum(record["classes"].values()))
    by_status = drawing.bars(statuses, hues, total=record["rows"])
    return (
        f'<div class="grid two"><div class="card"><h3>By class</h3>{by_class}</div>'
        f'<div class="card"><h3>By status</h3>{by_status}</div></div>{_labels(data)}'
    )


def _labels(data: ReportData) -> str:
    """Return the survey's own labels against the classes found, where it has any."""
    matrix: dict[tuple[str, str], int] = {}
    for pair, count in data.record["labels"].items():
        label, _, found = pair.partition(">")
        if found:
            matrix[label, found] = matrix.get((label, found), 0) + count
    if not matrix:
        return ""
    labels = [*data.classes, *sorted({label for label, _ in matrix} - set(data.classes))]
    total = sum(matrix.values())
    right = sum(count for (label, found), count in matrix.items() if label == found)
    table = drawing.matrix_table(matrix, labels, "label \\ class")
    return (
        f'<div class="card"><h3>Against the survey’s own labels</h3><p class="note">{right / total:.1%} of {total:,} '
        f"classified objects that have a label. Each row is a label, each column a class found.</p>{table}</div>"
    )


def _sky(data: ReportData, colours: dict[str, str]) -> str:
    everything = np.sum(list(data.sky.values()), axis=0)
    if not everything.any():
        return '<div class="card"><p class="note">The survey has no positions.</p></div>'
    small = "".join(
        f'<div class="card"><h3>{swatch(colours[name])}{escape(name)} <span class="count">{int(counts.sum()):,}</span>'
        f"</h3>{sky_map(counts, f'Sky map of {name}', width=360)}</div>"
        for name, counts in data.sky.items()
        if name and counts.any()
    )
    return (
        '<p class="lead">Equal-area projection, equatorial coordinates; brighter means more objects, on a logarithmic '
        f'scale.</p><div class="card"><h3>All objects</h3>{sky_map(everything, "Sky map of all objects")}</div>'
        f'<div class="grid strip">{small}</div>'
    )


def _certainty(data: ReportData, colours: dict[str, str]) -> str:
    largest = math.log(len(data.classes))
    cards = []
    for name in data.classes:
        total = int(data.probability[name].sum())
        if not total:
            continue
        charts = drawing.histogram(data.probability[name], 0, 1, colours[name], "probability of the class")
        charts += drawing.histogram(data.entropy[name], 0, largest, colours[name], "entropy [nat]")
        if data.ood[name].any():
            charts += drawing.histogram(data.ood[name], 0, 1, colours[name], "strangeness (ood_score)")
        cards.append(
            f'<div class="card"><h3>{swatch(colours[name])}{escape(name)} <span class="count">{total:,}</span></h3>'
            f"{charts}</div>"
        )
    return (
        '<p class="lead">How sure the model was: mass at the right of the probability and at the left of the entropy '
        "is what one hopes for. A strangeness near 1 means stars unlike those that it was trained on.</p>"
        f'<div class="grid strip">{"".join(cards)}</div>'
    )


def _diagram(data: ReportData, colours: dict[str, str]) -> str:
    legend = "".join(f"<span>{swatch(colours[name])}{escape(name)}</span>" for name in data.classes)
    shown = sum(len(points) for points in data.period_amplitude.values())
    return (
        f'<div class="card"><div class="legend">{legend}</div>'
        f"{drawing.scatter(data.period_amplitude, colours)}"
        f'<p class="note">{shown:,} objects, chosen by a hash of their identifier.</p></div>'
    )
