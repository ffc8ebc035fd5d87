"""The sections of a report that tell of single stars, of changes, of the run, and of the model."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from varstar_batch.report import drawing
from varstar_batch.report.gathering import ReportData, Star
from varstar_batch.survey.objects import LightCurve

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
    table = drawing.matrix_table(difference.matrix, labels, "was \\ is")
    changed = [(KINDS[name], n, f"{n:,}") for name, n in difference.changed.items()]
    causes = [(name.replace("+", " and "), n, f"{n:,}") for name, n in difference.causes.items()]
    settings = "".join(f"<li><code>{escape(_shortened(line))}</code></li>" for line in difference.settings)
    why = drawing.bars(causes, WARM) if causes else '<p class="note">Nothing changed.</p>'
    return (
        f'<p class="lead">Since run {escape(difference.run_a)} ({difference.rows_a:,} objects).</p>'
        f'<div class="grid two"><div class="card"><h3>What happened</h3>{drawing.bars(changed, COOL)}</div>'
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
    drops = drawing.bars(dropped, WARM, total=record["observations"]) if dropped else '<p class="note">None.</p>'
    return (
        f'<div class="grid two"><div class="card"><table>{rows}</table></div><div class="card">'
        f"<h3>Worker time by stage</h3>{drawing.bars(stages, COOL)}"
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
    return f'<div class="card">{title}{drawing.folded_light_curve(phase, curve.mag[::step], colour)}</div>'


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
