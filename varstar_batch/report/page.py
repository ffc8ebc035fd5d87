"""A report as HTML: one page that loads nothing from anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

import numpy as np

from varstar_batch._version import __version__
from varstar_batch.catalog.compare import MOVED
from varstar_batch.catalog.known_stars.tables import heading, tables_of
from varstar_batch.catalog.run_files.tables import objects_line, periods_line, speed_line
from varstar_batch.light_curves.classes import MIRA, SEMIREGULAR
from varstar_batch.report.charts import (
    PALETTE,
    bars,
    folded_light_curve,
    histogram,
    matrix_table,
    scatter,
    sky_map,
)
from varstar_batch.report.data import NEAR_LINE, ReportData, Star
from varstar_batch.report.elements import card, document, grid, note, swatch, table
from varstar_batch.survey.labels import LabelReader, agreement

SECTIONS = (
    ("counts", "Counts"),
    ("known", "Known stars"),
    ("sky", "Sky"),
    ("certainty", "Certainty"),
    ("diagram", "Period and amplitude"),
    ("stars", "Light curves"),
    ("changes", "Changes"),
    ("run", "The run"),
    ("model", "The model"),
)

MOST_DOTS = 350
"""Of a light curve: more would only make the page larger."""

MOST_FAILURES = 20

GOOD, COOL, WARM = "#009e73", "#6a7fd8", "#d08a2e"
"""Colours of bars that stand for no class."""

KINDS = {
    "class": "changed class",
    "status": "changed status",
    "appeared": "appeared",
    "vanished": "vanished",
    "moved": f"a probability moved by more than {MOVED}",
}


def build_page(data: ReportData) -> str:
    """Return the report as the text of an HTML file."""
    colours = {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(data.classes)}
    bodies = {
        "counts": _counts(data, colours),
        "known": _known(data),
        "sky": _sky(data, colours),
        "certainty": _certainty(data, colours),
        "diagram": _diagram(data, colours),
        "stars": _stars(data, colours),
        "changes": _changes(data),
        "run": _run(data),
        "model": _model(data),
    }
    sections = "".join(f'<section id="{key}"><h2>{title}</h2>{bodies[key]}</section>' for key, title in SECTIONS)
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title in SECTIONS)
    name = data.catalog.rstrip("/").rsplit("/", 1)[-1]
    body = (
        f"{_header(data, name)}<nav>{links}</nav>{sections}"
        f"<footer>Catalog {escape(data.catalog)}, run {escape(data.run_id)}. "
        f"Written by varstar-batch {escape(__version__)}.</footer>"
    )
    return document(f"{name}: run {data.run_id}", body)


def _header(data: ReportData, name: str) -> str:
    record, model = data.record, data.record["model"]
    rows, classified = record["rows"], record["status"].get("ok", 0)
    tiles = {
        "objects in": objects_line(record).partition(" objects in")[0],
        f"classified ({classified:,})": f"{classified / rows:.1%}" if rows else "none",
        "light curves per second": f"{record['light_curves_per_second']:,.0f}"
        if record["light_curves_per_second"]
        else "–",
        "failed partitions": f"{record['failed_partitions']:,}",
    }
    if data.previous is not None:
        changed = sum(count for kind, count in data.previous.changed.items() if kind != "moved")
        tiles["changed since the last run"] = f"{changed:,}"
    held = f'<div class="warn">Held, not published: {escape("; ".join(data.held))}</div>' if data.held else ""
    alarms = {"failed partitions"} if record["failed_partitions"] else set()
    shown = "".join(
        f'<div class="tile{" alarm" if text in alarms else ""}"><b>{value}</b><span>{text}</span></div>'
        for text, value in tiles.items()
    )
    return (
        f'<header><h1>{escape(name)}</h1><p class="sub">Run {escape(data.run_id)}, finished '
        f"{escape(record['finished'].replace('T', ' ')[:16])} UTC. Survey {escape(record['survey'])}; "
        f'model {escape(model["name"])} {escape(model["version"])}.</p></header>{held}<div class="tiles">{shown}</div>'
    )


def _counts(data: ReportData, colours: dict[str, str]) -> str:
    record = data.record
    classes = [(name, record["classes"].get(name, 0)) for name in data.classes]
    hues = [GOOD if name == "ok" else WARM for name in record["status"]]
    by_class = bars(_counted(classes), list(colours.values()), total=sum(record["classes"].values()))
    by_status = bars(_counted(record["status"].items()), hues, total=record["rows"])
    both = grid(card(by_class, "By class"), card(by_status, "By status"), kind="two")
    line = periods_line(record)
    periods = card(note(escape(line)), "Periods") if line else ""
    return both + _families(data) + periods + _labels(data)


def _families(data: ReportData) -> str:
    """Return the objects by parent and subclass, and how many a definition could as well call otherwise."""
    cards = [
        card(bars(_counted(counts.items()), COOL), f"By {name}") for name, counts in data.families.items() if counts
    ]
    line, told = data.mira_line, ""
    if line is not None:
        whose = "as the run was told" if line.chosen else "where the labels of the model’s training have it"
        told = card(
            note(
                f"{line.near / line.total:.1%} of {line.total:,} long-period variables have an amplitude within "
                f"{NEAR_LINE} mag of {line.amplitude:g} mag, the line that divides {MIRA} from {SEMIREGULAR}, {whose}: "
                "each of them might as well be the other. The parent does not depend on it."
            )
        )
    return grid(*cards, kind="two") + told if cards else told


def _labels(data: ReportData) -> str:
    """Return the survey's own labels against the classes found, where it has any."""
    record = data.record
    reader = LabelReader(data.classes, record["configuration"].get("labels", {}))
    left_out = reader.left_out(record.get("labels_left_out", {})).values()
    notes = "".join(note(escape(line)) for line in left_out)
    pairs = [(pair.rpartition(">"), count) for pair, count in record["labels"].items()]
    matrix = {(label, found): count for (label, _, found), count in pairs if found}
    if not matrix:
        return card(notes, "The survey’s own labels") if notes else ""
    labels = [*data.classes, *sorted({label for label, _ in matrix} - set(data.classes))]
    right, total = agreement(record["labels"])
    told = note(
        f"{right / total:.1%} of {total:,} classified objects whose label names a class. Each row is the class that a "
        "label means, each column a class found."
    )
    against = card(told + matrix_table(matrix, labels, "label \\ class") + notes, "Against the survey’s own labels")
    surest = [
        (str(row["object_id"]), row["label"], row["class"], f"{row['class_prob']:.3f}", f"{row['period']:.6g}")
        for row in data.disagreements
    ]
    listed = table(surest, ("object_id", "label", "class", "p", "period [d]"), numbers=(3, 4))
    how = note("<code>SELECT * FROM catalog WHERE label_class &lt;&gt; class</code> gives all of them.")
    return against + (card(listed + how, f"The {len(surest)} surest that disagree") if surest else "")


def _known(data: ReportData) -> str:
    """Return completeness and purity by known stars, where somebody has asked."""
    if data.validation is None:
        return card(note("Nobody has held this run against known stars: <code>varstar validate</code> does."))
    told = "".join(note(escape(line)) for line in heading(data.validation))
    left_out = LabelReader(data.validation["classes"], data.validation["labels"]).left_out(
        data.validation["labels_left_out"]
    )
    told += "".join(note(escape(line)) for line in left_out.values())
    return card(told) + "".join(
        card(table([[str(cell) for cell in row] for row in rows], head, numbers=range(1, len(head))), title)
        for title, head, rows in tables_of(data.validation)
    )


def _sky(data: ReportData, colours: dict[str, str]) -> str:
    everything = np.sum(list(data.sky.values()), axis=0)
    if not everything.any():
        return card(note("The survey has no positions."))
    small = [
        card(sky_map(counts, f"Sky map of {name}", width=360), _class_title(name, int(counts.sum()), colours))
        for name, counts in data.sky.items()
        if name and counts.any()
    ]
    return (
        '<p class="lead">Equal-area projection, equatorial coordinates; brighter means more objects, on a logarithmic '
        f"scale.</p>{card(sky_map(everything, 'Sky map of all objects'), 'All objects')}{grid(*small, kind='strip')}"
    )


def _certainty(data: ReportData, colours: dict[str, str]) -> str:
    cards = []
    for name in data.classes:
        total = int(data.probability[name].sum())
        if not total:
            continue
        drawn = histogram(data.probability[name], 0, 1, colours[name], "probability of the class")
        drawn += histogram(data.entropy[name], 0, math.log(len(data.classes)), colours[name], "entropy [nat]")
        if data.ood[name].any():
            drawn += histogram(data.ood[name], 0, 1, colours[name], "strangeness (ood_score)")
        cards.append(card(drawn, _class_title(name, total, colours)))
    return (
        '<p class="lead">How sure the model was: mass at the right of the probability and at the left of the entropy '
        "is what one hopes for. A strangeness near 1 means stars unlike those that it was trained on.</p>"
        f"{grid(*cards, kind='strip')}"
    )


def _diagram(data: ReportData, colours: dict[str, str]) -> str:
    legend = "".join(f"<span>{swatch(colours[name])}{escape(name)}</span>" for name in data.classes)
    shown = sum(len(points) for points in data.period_amplitude.values())
    told = note(f"{shown:,} objects, chosen by a hash of their identifier.")
    return card(f'<div class="legend">{legend}</div>{scatter(data.period_amplitude, colours)}{told}')


def _stars(data: ReportData, colours: dict[str, str]) -> str:
    """Return the folded light curves of the surest and the most doubtful stars of each class."""
    parts = [
        '<p class="lead">Observations folded with the catalog’s period, two cycles, brighter above, crosses for what '
        "cleaning dropped: for each class the stars that the model was surest of, and those it doubted most.</p>"
    ]
    if data.light_curves_note:
        parts.append(f'<div class="warn">{escape(data.light_curves_note)}</div>')
    drawn = [star for star in data.stars if star.object_id in data.light_curves]
    for name in data.classes:
        for surest, title in ((True, "surest"), (False, "most doubtful")):
            cards = [_star(data, star, colours[name]) for star in drawn if (star.class_, star.surest) == (name, surest)]
            if cards:
                parts.append(f'<h3 class="row">{escape(name)}: {title}</h3>{grid(*cards, kind="strip")}')
    return "".join(parts)


def _star(data: ReportData, star: Star, colour: str) -> str:
    curve = data.light_curves[star.object_id]
    title = (
        f'<div class="star"><b>{escape(str(star.object_id))}</b><span>{star.class_} {star.class_prob:.3f}, '
        f"{star.period:.5g} d</span></div>"
    )
    used = np.flatnonzero(curve.used)
    if len(used) < 2:
        return card(title + note("No usable observations."))
    brightest = curve.time[used[int(np.argmin(curve.mag[used]))]]
    phase = ((curve.time - brightest) / star.period) % 1.0
    shown, dropped = used[:: -(-len(used) // MOST_DOTS)], np.flatnonzero(~curve.used)[:MOST_DOTS]
    figure = folded_light_curve(phase[shown], curve.mag[shown], colour, (phase[dropped], curve.mag[dropped]))
    return card(title + figure)


def _changes(data: ReportData) -> str:
    """Return what changed since the run that was published before."""
    difference = data.previous
    if difference is None:
        return card(note("There is no earlier run to compare with."))
    labels = sorted({label for pair in difference.matrix for label in pair}, key=lambda name: (name.islower(), name))
    changed = _counted((KINDS[name], n) for name, n in difference.changed.items())
    causes = _counted((name.replace("+", " and "), n) for name, n in difference.causes.items())
    why = bars(causes, WARM) if causes else note("Nothing changed.")
    settings = "".join(f"<li><code>{escape(_shortened(line))}</code></li>" for line in difference.settings)
    surest = [
        (
            str(row["object_id"]),
            f"{row['label_a'] or 'nothing'} → {row['label_b'] or 'nothing'}",
            *("" if row[key] is None else f"{row[key]:.3f}" for key in ("class_prob_a", "class_prob_b")),
            row["cause"].replace("_", " "),
        )
        for row in data.changes
    ]
    listed = table(surest, ("object_id", "was → is", "p then", "p now", "cause"), numbers=(2, 3))
    return (
        f'<p class="lead">Since run {escape(difference.run_a)} ({difference.rows_a:,} objects).</p>'
        + grid(card(bars(changed, COOL), "What happened"), card(why, "Why"), kind="two")
        + (card(f"<ul>{settings}</ul>", "Settings that differ") if settings else "")
        + card(matrix_table(difference.matrix, labels, "was \\ is"), "From class to class")
        + (card(listed, f"The {len(surest)} surest of them") if surest else "")
    )


def _run(data: ReportData) -> str:
    """Return how the run went: throughput, where the time went, what failed."""
    record = data.record
    stages = [(name, s, f"{s:,.1f} s") for name, s in record["worker_seconds"].items()]
    dropped = _counted((name, n) for name, n in record["dropped"].items() if n)
    facts = {
        "Survey": record["survey"],
        "Partitions": f"{record['partitions']:,}, {record['resumed_partitions']:,} of them found done",
        "Objects": objects_line(record),
        "Observations": f"{record['observations']:,}",
        "Time": f"{record['seconds']:,.1f} s",
        "Throughput": speed_line(record),
        "Peak memory of a worker": f"{record['peak_memory'] / 2**20:,.0f} MiB",
        "Catalog on storage": f"{record['bytes_out'] / 2**20:,.1f} MiB",
        "Code version": record["code_version"],
        "Fingerprint": record["fingerprint"][:16],
    }
    rows = "".join(
        f'<tr><th class="text">{key}</th><td class="text wrap">{escape(value)}</td></tr>'
        for key, value in facts.items()
    )
    drops = bars(dropped, WARM, total=record["observations"]) if dropped else note("None.")
    work = f'{bars(stages, COOL)}<h3 class="row">Observations dropped</h3>{drops}'
    failures = [(row["partition"], row["kind"], row["message"]) for row in data.failures]
    more = len(failures) - MOST_FAILURES
    rest = note(f"and {more:,} more, in failures.parquet") if more > 0 else ""
    checks = [("passed" if check["passed"] else "not passed", check["text"]) for check in data.gate]
    gate = card(table(checks), "Gate") if checks else ""
    return (
        grid(card(f"<table>{rows}</table>"), card(work, "Worker time by stage"), kind="two")
        + gate
        + (
            card(table(failures[:MOST_FAILURES]) + rest, f"Failures ({len(failures):,})")
            if failures
            else card(note("No partition failed."), "Failures")
        )
    )


def _model(data: ReportData) -> str:
    """Return the model's card."""
    if data.bundle is None:
        return card(note("The run’s model is not there any more."))
    from markdown_it import MarkdownIt

    # No raw HTML and no pictures: a card may come from anywhere, and the page must load nothing.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    return f'<div class="card prose">{markdown.render(data.bundle.card)}</div>'


def _class_title(name: str, count: int, colours: dict[str, str]) -> str:
    return f'{swatch(colours[name])}{escape(name)} <span class="count">{count:,}</span>'


def _counted(counts: Iterable[tuple[str, int]]) -> list[tuple[str, float, str]]:
    """Return counts as rows of `bars`."""
    return [(name, n, f"{n:,}") for name, n in counts]


def _shortened(line: str) -> str:
    """Return a line whose hashes are cut to what the eye can compare."""
    return " ".join(word[:12] + "…" if len(word) == 64 and word.isalnum() else word for word in line.split())
