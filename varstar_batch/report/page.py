"""A report as HTML: one page that loads nothing from anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

import numpy as np

from varstar_batch._version import __version__
from varstar_batch.catalog.compare import MOVED
from varstar_batch.catalog.tables import objects_line, periods_line, speed_line
from varstar_batch.catalog.validation_tables import heading, tables_of
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
    style = files(__package__).joinpath("style.css").read_text()
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # The browser itself holds the page to its word that it loads nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(name)}: run {escape(data.run_id)}</title><style>{style}</style></head><body><main>"
        f"{_header(data, name)}<nav>{links}</nav>{sections}"
        f"<footer>Catalog {escape(data.catalog)}, run {escape(data.run_id)}. "
        f"Written by varstar-batch {escape(__version__)}.</footer></main></body></html>\n"
    )


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
    both = _grid(_card(by_class, "By class"), _card(by_status, "By status"), kind="two")
    line = periods_line(record)
    periods = _card(_note(escape(line)), "Periods") if line else ""
    return both + _families(data) + periods + _labels(data)


def _families(data: ReportData) -> str:
    """Return the objects by parent and subclass, and how many a definition could as well call otherwise."""
    cards = [
        _card(bars(_counted(counts.items()), COOL), f"By {name}") for name, counts in data.families.items() if counts
    ]
    line, note = data.mira_line, ""
    if line is not None:
        whose = "as the run was told" if line.chosen else "where the labels of the model’s training have it"
        note = _card(
            _note(
                f"{line.near / line.total:.1%} of {line.total:,} long-period variables have an amplitude within "
                f"{NEAR_LINE} mag of {line.amplitude:g} mag, the line that divides {MIRA} from {SEMIREGULAR}, {whose}: "
                "each of them might as well be the other. The parent does not depend on it."
            )
        )
    return _grid(*cards, kind="two") + note if cards else note


def _labels(data: ReportData) -> str:
    """Return the survey's own labels against the classes found, where it has any."""
    record = data.record
    reader = LabelReader(data.classes, record["configuration"].get("labels", {}))
    left_out = reader.left_out(record.get("labels_left_out", {})).values()
    notes = "".join(_note(escape(line)) for line in left_out)
    pairs = [(pair.rpartition(">"), count) for pair, count in record["labels"].items()]
    matrix = {(label, found): count for (label, _, found), count in pairs if found}
    if not matrix:
        return _card(notes, "The survey’s own labels") if notes else ""
    labels = [*data.classes, *sorted({label for label, _ in matrix} - set(data.classes))]
    right, total = agreement(record["labels"])
    note = _note(
        f"{right / total:.1%} of {total:,} classified objects whose label names a class. Each row is the class that a "
        "label means, each column a class found."
    )
    card = _card(note + matrix_table(matrix, labels, "label \\ class") + notes, "Against the survey’s own labels")
    surest = [
        (str(row["object_id"]), row["label"], row["class"], f"{row['class_prob']:.3f}", f"{row['period']:.6g}")
        for row in data.disagreements
    ]
    listed = _table(surest, ("object_id", "label", "class", "p", "period [d]"), numbers=(3, 4))
    how = _note("<code>SELECT * FROM catalog WHERE label_class &lt;&gt; class</code> gives all of them.")
    return card + (_card(listed + how, f"The {len(surest)} surest that disagree") if surest else "")


def _known(data: ReportData) -> str:
    """Return completeness and purity by known stars, where somebody has asked."""
    if data.validation is None:
        return _card(_note("Nobody has held this run against known stars: <code>varstar validate</code> does."))
    told = "".join(_note(escape(line)) for line in heading(data.validation))
    left_out = LabelReader(data.validation["classes"], data.validation["labels"]).left_out(
        data.validation["labels_left_out"]
    )
    told += "".join(_note(escape(line)) for line in left_out.values())
    return _card(told) + "".join(
        _card(_table([[str(cell) for cell in row] for row in rows], head, numbers=range(1, len(head))), title)
        for title, head, rows in tables_of(data.validation)
    )


def _sky(data: ReportData, colours: dict[str, str]) -> str:
    everything = np.sum(list(data.sky.values()), axis=0)
    if not everything.any():
        return _card(_note("The survey has no positions."))
    small = [
        _card(sky_map(counts, f"Sky map of {name}", width=360), _class_title(name, int(counts.sum()), colours))
        for name, counts in data.sky.items()
        if name and counts.any()
    ]
    return (
        '<p class="lead">Equal-area projection, equatorial coordinates; brighter means more objects, on a logarithmic '
        f"scale.</p>{_card(sky_map(everything, 'Sky map of all objects'), 'All objects')}{_grid(*small, kind='strip')}"
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
        cards.append(_card(drawn, _class_title(name, total, colours)))
    return (
        '<p class="lead">How sure the model was: mass at the right of the probability and at the left of the entropy '
        "is what one hopes for. A strangeness near 1 means stars unlike those that it was trained on.</p>"
        f"{_grid(*cards, kind='strip')}"
    )


def _diagram(data: ReportData, colours: dict[str, str]) -> str:
    legend = "".join(f"<span>{_swatch(colours[name])}{escape(name)}</span>" for name in data.classes)
    shown = sum(len(points) for points in data.period_amplitude.values())
    note = _note(f"{shown:,} objects, chosen by a hash of their identifier.")
    return _card(f'<div class="legend">{legend}</div>{scatter(data.period_amplitude, colours)}{note}')


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
                parts.append(f'<h3 class="row">{escape(name)}: {title}</h3>{_grid(*cards, kind="strip")}')
    return "".join(parts)


def _star(data: ReportData, star: Star, colour: str) -> str:
    curve = data.light_curves[star.object_id]
    title = (
        f'<div class="star"><b>{escape(str(star.object_id))}</b><span>{star.class_} {star.class_prob:.3f}, '
        f"{star.period:.5g} d</span></div>"
    )
    used = np.flatnonzero(curve.used)
    if len(used) < 2:
        return _card(title + _note("No usable observations."))
    brightest = curve.time[used[int(np.argmin(curve.mag[used]))]]
    phase = ((curve.time - brightest) / star.period) % 1.0
    shown, dropped = used[:: -(-len(used) // MOST_DOTS)], np.flatnonzero(~curve.used)[:MOST_DOTS]
    figure = folded_light_curve(phase[shown], curve.mag[shown], colour, (phase[dropped], curve.mag[dropped]))
    return _card(title + figure)


def _changes(data: ReportData) -> str:
    """Return what changed since the run that was published before."""
    difference = data.previous
    if difference is None:
        return _card(_note("There is no earlier run to compare with."))
    labels = sorted({label for pair in difference.matrix for label in pair}, key=lambda name: (name.islower(), name))
    changed = _counted((KINDS[name], n) for name, n in difference.changed.items())
    causes = _counted((name.replace("+", " and "), n) for name, n in difference.causes.items())
    why = bars(causes, WARM) if causes else _note("Nothing changed.")
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
    listed = _table(surest, ("object_id", "was → is", "p then", "p now", "cause"), numbers=(2, 3))
    return (
        f'<p class="lead">Since run {escape(difference.run_a)} ({difference.rows_a:,} objects).</p>'
        + _grid(_card(bars(changed, COOL), "What happened"), _card(why, "Why"), kind="two")
        + (_card(f"<ul>{settings}</ul>", "Settings that differ") if settings else "")
        + _card(matrix_table(difference.matrix, labels, "was \\ is"), "From class to class")
        + (_card(listed, f"The {len(surest)} surest of them") if surest else "")
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
    drops = bars(dropped, WARM, total=record["observations"]) if dropped else _note("None.")
    work = f'{bars(stages, COOL)}<h3 class="row">Observations dropped</h3>{drops}'
    failures = [(row["partition"], row["kind"], row["message"]) for row in data.failures]
    more = len(failures) - MOST_FAILURES
    rest = _note(f"and {more:,} more, in failures.parquet") if more > 0 else ""
    checks = [("passed" if check["passed"] else "not passed", check["text"]) for check in data.gate]
    gate = _card(_table(checks), "Gate") if checks else ""
    return (
        _grid(_card(f"<table>{rows}</table>"), _card(work, "Worker time by stage"), kind="two")
        + gate
        + (
            _card(_table(failures[:MOST_FAILURES]) + rest, f"Failures ({len(failures):,})")
            if failures
            else _card(_note("No partition failed."), "Failures")
        )
    )


def _model(data: ReportData) -> str:
    """Return the model's card."""
    if data.bundle is None:
        return _card(_note("The run’s model is not there any more."))
    from markdown_it import MarkdownIt

    # No raw HTML and no pictures: a card may come from anywhere, and the page must load nothing.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    return f'<div class="card prose">{markdown.render(data.bundle.card)}</div>'


def _card(content: str, title: str = "") -> str:
    return f'<div class="card">{f"<h3>{title}</h3>" if title else ""}{content}</div>'


def _grid(*cards: str, kind: str) -> str:
    return f'<div class="grid {kind}">{"".join(cards)}</div>'


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _swatch(colour: str) -> str:
    return f'<span class="swatch" style="background:{colour}"></span>'


def _class_title(name: str, count: int, colours: dict[str, str]) -> str:
    return f'{_swatch(colours[name])}{escape(name)} <span class="count">{count:,}</span>'


def _counted(counts: Iterable[tuple[str, int]]) -> list[tuple[str, float, str]]:
    """Return counts as rows of `bars`."""
    return [(name, n, f"{n:,}") for name, n in counts]


def _table(rows: Sequence[Sequence[str]], head: Sequence[str] = (), numbers: Sequence[int] = ()) -> str:
    """Return a table of texts; the columns of numbers are set to the right."""
    kinds = ["" if k in numbers else ' class="text"' for k in range(max(map(len, [head, *rows])))]
    names = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, head, strict=bool(head)))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{escape(text)}</td>' for kind, text in zip(kinds, row, strict=True))}</tr>"
        for row in rows
    )
    thead = f"<thead><tr>{names}</tr></thead>" if head else ""
    return f'<div class="scroll"><table class="list">{thead}<tbody>{body}</tbody></table></div>'


def _shortened(line: str) -> str:
    """Return a line whose hashes are cut to what the eye can compare."""
    return " ".join(word[:12] + "…" if len(word) == 64 and word.isalnum() else word for word in line.split())
