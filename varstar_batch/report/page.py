"""A report as HTML: one page that loads nothing from anywhere."""

from __future__ import annotations

import math
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from varstar_batch._version import __version__
from varstar_batch.report import charts
from varstar_batch.report.charts import sky_map
from varstar_batch.report.data import ReportData, Star
from varstar_batch.survey.objects import LightCurve

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
    style = files(__package__).joinpath("style.css").read_text()
    title = f"{data.catalog.rstrip('/').rsplit('/', 1)[-1]}: run {data.run_id}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # The browser itself holds the page to its word that it loads nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"{_header(data)}<nav>{links}</nav>{sections}"
        f"<footer>Catalog {escape(data.catalog)}, run {escape(data.run_id)}. "
        f"Written by varstar-batch {escape(__version__)}.</footer></main></body></html>\n"
    )


def class_colours(data: ReportData) -> dict[str, str]:
    """Return a colour for every class."""
    return {name: charts.PALETTE[k % len(charts.PALETTE)] for k, name in enumerate(data.classes)}


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
    by_class = charts.bars(classes, list(colours.values()), total=sum(record["classes"].values()))
    by_status = charts.bars(statuses, hues, total=record["rows"])
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
    table = charts.matrix_table(matrix, labels, "label \\ class")
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
        drawn = charts.histogram(data.probability[name], 0, 1, colours[name], "probability of the class")
        drawn += charts.histogram(data.entropy[name], 0, largest, colours[name], "entropy [nat]")
        if data.ood[name].any():
            drawn += charts.histogram(data.ood[name], 0, 1, colours[name], "strangeness (ood_score)")
        cards.append(
            f'<div class="card"><h3>{swatch(colours[name])}{escape(name)} <span class="count">{total:,}</span></h3>'
            f"{drawn}</div>"
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
        f"{charts.scatter(data.period_amplitude, colours)}"
        f'<p class="note">{shown:,} objects, chosen by a hash of their identifier.</p></div>'
    )


MOST_DOTS = 350
"""Of a light curve: more would only make the page larger."""


MOST_FAILURES = 20


COOL, WARM = "#6a7fd8", "#d08a2e"


KINDS = {"class": "changed class", "status": "changed status", "appeared": "appeared", "vanished": "vanished"}


def stars_section(data: ReportData, colours: dict[str, str]) -> str:
    """Return the folded light curves of the surest and the most doubtful stars of each class."""
    parts = [
        '<p class="lead">Observations folded with the catalog’s period, two cycles, brighter above: for each class the '
        "stars that the model was surest of, and those it doubted most.</p>"
    ]
    if data.light_curves_note:
        parts.append(f'<div class="warn">{escape(data.light_curves_note)}</div>')
    for name in data.classes:
        for surest in (True, False):
            stars = [star for star in data.stars if star.class_ == name and star.surest == surest]
            cards = "".join(
                _star(star, data.light_curves[star.object_id], colours[name])
                for star in stars
                if star.object_id in data.light_curves
            )
            if cards:
                title = "surest" if surest else "most doubtful"
                parts.append(f'<h3 class="row">{escape(name)}: {title}</h3><div class="grid strip">{cards}</div>')
    return "".join(parts)


def changes_section(data: ReportData) -> str:
    """Return what changed since the run that was published before."""
    difference = data.previous
    if difference is None:
        return '<div class="card"><p class="note">There is no earlier run to compare with.</p></div>'
    labels = sorted({label for pair in difference.matrix for label in pair}, key=lambda name: (name.islower(), name))
    table = charts.matrix_table(difference.matrix, labels, "was \\ is")
    changed = [(KINDS[name], n, f"{n:,}") for name, n in difference.changed.items()]
    causes = [(name.replace("+", " and "), n, f"{n:,}") for name, n in difference.causes.items()]
    settings = "".join(f"<li><code>{escape(_shortened(line))}</code></li>" for line in difference.settings)
    why = charts.bars(causes, WARM) if causes else '<p class="note">Nothing changed.</p>'
    return (
        f'<p class="lead">Since run {escape(difference.run_a)} ({difference.rows_a:,} objects).</p>'
        f'<div class="grid two"><div class="card"><h3>What happened</h3>{charts.bars(changed, COOL)}</div>'
        f'<div class="card"><h3>Why</h3>{why}</div></div>'
        + (f'<div class="card"><h3>Settings that differ</h3><ul>{settings}</ul></div>' if settings else "")
        + f'<div class="card"><h3>From class to class</h3>{table}</div>{_changed_stars(data.changes)}'
    )


def run_section(data: ReportData) -> str:
    """Return how the run went: throughput, where the time went, what failed."""
    record = data.record
    stages = [(name, s, f"{s:,.1f} s") for name, s in record["worker_seconds"].items()]
    dropped = [(name, n, f"{n:,}") for name, n in record["dropped"].items() if n]
    facts = [
        ("Survey", record["survey"]),
        ("Partitions", f"{record['partitions']:,}, {record['resumed_partitions']:,} of them found done"),
        ("Observations", f"{record['observations']:,}"),
        ("Time", f"{record['seconds']:,.1f} s"),
        ("Throughput", f"{record['light_curves_per_second']:,.0f} light curves/s"),
        ("Peak memory of a worker", f"{record['peak_memory'] / 2**20:,.0f} MiB"),
        ("Catalog on storage", f"{record['bytes_out'] / 2**20:,.1f} MiB"),
        ("Code version", record["code_version"]),
        ("Fingerprint", record["fingerprint"][:16]),
    ]
    rows = "".join(
        f'<tr><th class="text">{escape(k)}</th><td class="text wrap">{escape(v)}</td></tr>' for k, v in facts
    )
    drops = charts.bars(dropped, WARM, total=record["observations"]) if dropped else '<p class="note">None.</p>'
    return (
        f'<div class="grid two"><div class="card"><table>{rows}</table></div><div class="card">'
        f"<h3>Worker time by stage</h3>{charts.bars(stages, COOL)}"
        f'<h3 class="row">Observations dropped</h3>{drops}</div></div>{_failures(data)}'
    )


def model_section(data: ReportData) -> str:
    """Return the model's card."""
    if data.bundle is None:
        return '<div class="card"><p class="note">The run’s model is not there any more.</p></div>'
    from markdown_it import MarkdownIt

    # No raw HTML and no pictures: a card may come from anywhere, and the page must load nothing.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    return f'<div class="card prose">{markdown.render(data.bundle.card)}</div>'


def _star(star: Star, curve: LightCurve, colour: str) -> str:
    title = (
        f'<div class="star"><b>{escape(str(star.object_id))}</b><span>{star.class_} {star.class_prob:.3f}, '
        f"{star.period:.5g} d</span></div>"
    )
    if len(curve.time) < 2:
        return f'<div class="card">{title}<p class="note">No usable observations.</p></div>'
    step = -(-len(curve.time) // MOST_DOTS)
    brightest = curve.time[int(np.argmin(curve.mag))]
    phase = ((curve.time[::step] - brightest) / star.period) % 1.0
    return f'<div class="card">{title}{charts.folded_light_curve(phase, curve.mag[::step], colour)}</div>'


def _changed_stars(changes: list[dict[str, Any]]) -> str:
    if not changes:
        return ""

    def probability(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    rows = []
    for row in changes:
        texts = (
            str(row["object_id"]),
            f"{row['label_a'] or 'nothing'} → {row['label_b'] or 'nothing'}",
            row["cause"].replace("_", " "),
        )
        name, change, cause = (f'<td class="text">{escape(text)}</td>' for text in texts)
        numbers = "".join(f"<td>{probability(row[key])}</td>" for key in ("class_prob_a", "class_prob_b"))
        rows.append(f"<tr>{name}{change}{numbers}{cause}</tr>")
    return (
        f'<div class="card"><h3>The {len(changes)} surest of them</h3><div class="scroll"><table class="list">'
        '<thead><tr><th class="text">object_id</th><th class="text">was → is</th><th>p then</th><th>p now</th>'
        f'<th class="text">cause</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div></div>'
    )


def _failures(data: ReportData) -> str:
    if not data.failures:
        return '<div class="card"><h3>Failures</h3><p class="note">No partition failed.</p></div>'
    rows = "".join(
        f'<tr><td class="text">{escape(row["partition"])}</td><td class="text">{escape(row["kind"])}</td>'
        f'<td class="text">{escape(row["message"])}</td></tr>'
        for row in data.failures[:MOST_FAILURES]
    )
    more = len(data.failures) - MOST_FAILURES
    rest = f'<p class="note">and {more:,} more, in failures.parquet</p>' if more > 0 else ""
    return (
        f'<div class="card"><h3>Failures ({len(data.failures):,})</h3><div class="scroll"><table class="list">'
        f"<tbody>{rows}</tbody></table></div>{rest}</div>"
    )


def _shortened(line: str) -> str:
    """Return a line whose hashes are cut to what the eye can compare."""
    return " ".join(word[:12] + "…" if len(word) == 64 and word.isalnum() else word for word in line.split())
