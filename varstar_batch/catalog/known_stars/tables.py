"""What known stars say of a run as tables for people, on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Summary = Mapping[str, Any]


class Table(NamedTuple):
    """A table for people."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[object, ...]]


def heading(summary: Summary) -> list[str]:
    """Return lines about which stars were asked and how many are right."""
    lines = [
        f"{summary['matched']:,} of {summary['reference_stars']:,} stars of {summary['reference']} are in run "
        f"{summary['run_id']}, by {summary['matched_by']}; {summary['with_class']:,} of them have a label that means a "
        "class",
        f"Right: {_share(summary['right'])} of {summary['right']['of']:,}",
    ]
    if summary["contradictory"]:
        lines.append(f"Left out, since their labels mean several classes: {summary['contradictory']:,} stars")
    if summary["not_classified"]:
        counts = ", ".join(f"{status} {count:,}" for status, count in summary["not_classified"].items())
        lines.append(f"Not classified, and so missing from the completeness: {counts}")
    lines += [f"No {name} of these stars is known" for name in ("magnitude", "period") if not summary[f"by_{name}"]]
    return lines


def tables_of(summary: Summary) -> list[Table]:
    """Return completeness and purity by class, parent, magnitude and period; tables without a row are left out."""
    level = f"{summary['confidence']:.0%}"
    head = ("known stars", f"completeness ({level})", "so classified", f"purity ({level})", "of other kinds")
    tables = [
        Table(
            f"By {name}",
            (name, *head),
            [
                (label, *_counted(values["completeness"]), *_counted(values["purity"]), values["other_kinds"])
                for label, values in summary[f"by_{name}"].items()
            ],
        )
        for name in ("class", "parent")
    ]
    for name, unit in (("magnitude", "mag"), ("period", "d")):
        bins = summary[f"by_{name}"]
        labels = [label for label in summary["classes"] if any(label in each["by_class"] for each in bins)]
        rows = [
            (
                _range(each),
                *_counted(each["right"]),
                *(_both(each["by_class"].get(label)) for label in labels),
            )
            for each in bins
        ]
        shown = (f"{name} [{unit}]", "known stars", f"right ({level})", *labels)
        tables.append(Table(f"By {name}: of each class completeness / purity", shown, rows))
    return [table for table in tables if table.rows]


def _counted(share: Summary) -> tuple[int, str]:
    return share["of"], _share(share)


def _share(share: Summary) -> str:
    if share["share"] is None:
        return "-"
    return f"{share['share']:.1%} ({share['low']:.1%} to {share['high']:.1%})"


def _both(values: Summary | None) -> str:
    shares = [None, None] if values is None else [values[name]["share"] for name in ("completeness", "purity")]
    return " / ".join("-" if share is None else f"{share:.0%}" for share in shares)


def _range(edges: Summary) -> str:
    return f"from {edges['from']:g}" if edges["to"] is None else f"{edges['from']:g} to {edges['to']:g}"
