"""Results as people read them: tables in the terminal, a section of docs/benchmarks.md with a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.measures import Row, Spread

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
ORDER = (
    "end_to_end",
    "fold",
    "features",
    "engines",
    "reading",
    "overhead",
    "s3",
    "flow",
    "scaling",
    "memory",
    "estimate",
    "query",
    "gpu",
)


def table(part: Mapping[str, Any]) -> str:
    """Return the rows of a part as a Markdown table; columns that would be empty are left out."""
    rows = [Row.from_json(row) for row in part["rows"]]
    unit = rows[0].unit if rows else ""
    columns = {
        "": [row.name for row in rows],
        unit: [number(row.value.median) for row in rows],
        "lowest - highest": [between(row.value) if row.rounds > 1 else "" for row in rows],
        "ratio": [
            f"{row.ratio.median:.1f} ({row.ratio.low:.1f} - {row.ratio.high:.1f})" if row.ratio else "" for row in rows
        ],
        "peak memory": [f"{row.memory / 2**20:,.0f} MiB" if row.memory else "" for row in rows],
        "of the floor": [f"{row.value.median / row.floor:.0%}" if row.floor else "" for row in rows],
        "remark": [row.note for row in rows],
    }
    kept = {title: cells for title, cells in columns.items() if any(cells)}
    lines = [list(kept), ["---", *["---:"] * (len(kept) - 1)], *zip(*kept.values(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def section(results: Mapping[str, Any], plot: str | None) -> str:
    """Return the text between the markers of the page.

    Parameters
    ----------
    results : mapping
        What `tests/benchmarks/results.json` holds.
    plot : str or None
        Path of the plot as the page names it.
    """
    parts = results["parts"]
    done = [name for name in ORDER if name in parts and "rows" in parts[name]]
    text = [f"Measured by `make bench` on {machine_line(results['machine'])}.", ""]
    if "end_to_end" in done:
        part = parts["end_to_end"]
        text += [f"**{part['title']}.** {_repeats(part)}", "", table(part), ""]
        text += [*(f"- {note}" for note in part["notes"]), ""]
        if plot:
            text += [f"![Light curves per second end to end, and how time grows]({plot})", ""]
    for name in (name for name in done if name != "end_to_end"):
        part = parts[name]
        if part["rows"]:
            text += [f"**{part['title']}.** {_repeats(part)}", "", table(part), ""]
        else:
            text += [f"**{part['title']}.**", ""]
        if part["notes"]:
            text += [*(f"- {note}" for note in part["notes"]), ""]
    return "\n".join(text)


def write_section(page: Path, text: str) -> None:
    """Put `text` between the markers of a page, instead of what is there.

    Raises
    ------
    ValueError
        The markers are not there, once each and in order.
    """
    whole = page.read_text()
    if whole.count(BEGIN) != 1 or whole.count(END) != 1 or whole.index(BEGIN) > whole.index(END):
        raise ValueError(f"{page.name}: expected one {BEGIN} and one {END} after it")
    before, rest = whole.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}")


def machine_line(machine: Mapping[str, Any]) -> str:
    """Return the machine in one line."""
    instructions = ", ".join(machine["instructions"]) or "no vector instructions known"
    return (
        f"{machine['cores']} cores of {machine['processor']} ({instructions}), {machine['memory'] / 2**30:.0f} GiB, "
        f"Python {machine['python']}, OpenVINO {machine['packages']['openvino']}"
    )


def draw(results: Mapping[str, Any], target: Path) -> bool:
    """Draw the end-to-end rates and the growth of time; return whether there was anything to draw."""
    parts = results["parts"]
    rows = [Row.from_json(row) for row in parts.get("end_to_end", {}).get("rows", [])]
    if not rows:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    growth = {
        name: facts for name, facts in parts.get("scaling", {}).get("facts", {}).items() if isinstance(facts, dict)
    }
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    bars, lines = figure.subplots(1, 2, width_ratios=(3, 2))
    names = [row.name.replace(": ", ":\n").replace(" on ", "\non ").replace(", the net", ",\nthe net") for row in rows]
    errors = [[row.value.median - row.value.low for row in rows], [row.value.high - row.value.median for row in rows]]
    colors = ["#1d4e89" if row.name.startswith("varstar") else "#b8bfc6" for row in rows]
    bars.barh(names, [row.value.median for row in rows], xerr=errors, color=colors, ecolor="#444444", capsize=3)
    for place, row in enumerate(rows):
        bars.text(row.value.high * 1.02, place, number(row.value.median), va="center", fontsize=9)
    bars.invert_yaxis()
    bars.set_xlim(0, max(row.value.high for row in rows) * 1.18)
    bars.locator_params(axis="x", nbins=5)
    bars.xaxis.set_major_formatter("{x:,.0f}")
    bars.set_xlabel("light curves per second, Parquet to catalog")
    bars.spines[["top", "right"]].set_visible(False)
    for (name, facts), marker in zip(growth.items(), "os^", strict=False):
        x = [value / facts["x"][0] for value in facts["x"]]
        label = f"{name}: exponent {facts['exponent']:.2f}"
        lines.loglog(x, facts["seconds"], marker=marker, label=label)
    if growth:
        lines.set_xlabel("times as many")
        lines.set_ylabel("seconds after start-up")
        lines.set_ylim(top=3 * max(max(facts["seconds"]) for facts in growth.values()))  # the legend's room
        lines.legend(frameon=False, fontsize=9, loc="upper left")
        lines.spines[["top", "right"]].set_visible(False)
    else:
        lines.set_visible(False)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110, metadata={"Software": None})
    return True


def number(value: float) -> str:
    """Return a number with as many digits as anyone reads."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def between(value: Spread) -> str:
    """Return the range of a spread."""
    return f"{number(value.low)} - {number(value.high)}"


def _repeats(part: Mapping[str, Any]) -> str:
    rounds = sorted({row.get("rounds", 1) for row in part["rows"]})
    if rounds in ([], [1]):
        return f"One run each, {part['measured']}."
    counts = " or ".join(str(count) for count in rounds)
    return f"Median of {counts} rounds in turns, ratios pair by pair, {part['measured']}."
