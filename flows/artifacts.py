"""What a person sees in the UI of a run: progress that moves, a table of counts, a summary with what changed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from typing import Any
from urllib.parse import urlencode

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from varstar_batch.catalog.compare import Difference
from varstar_batch.catalog.run_files.tables import objects_line, speed_line
from varstar_batch.progress import Advance, ShowProgress, progress
from varstar_batch.survey.open import Failure

SECONDS_BETWEEN_UPDATES = 5.0
"""Of the progress artifact: each is a request to the server, which the run waits for."""

FAILURES_SHOWN = 20


def key_of(kind: str, place: str) -> str:
    """Return the key of an artifact; the UI shows the artifacts of one key as versions of one thing."""
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{place}".lower()).strip("-")


@contextmanager
def progress_artifact(title: str, total: int | None, unit: str, key: str) -> Iterator[Advance]:
    """Show progress in the UI while the context is open; it ends at 100 % only where nothing was raised.

    Parameters
    ----------
    title : str
        What is going on.
    total : int or None
        How many there will be; where nobody knows, only the description moves.
    unit : str
        Of what.
    key : str
        Of the artifact.
    """
    begun = told = time.monotonic()
    artifact = create_progress_artifact(0.0, key=key, description=title)
    done = 0

    def tell(percent: float) -> None:
        rate = done / max(time.monotonic() - begun, 1e-9)
        of = f" of {total:,}" if total else ""
        text = f"{title}: {done:,}{of} {unit}, {rate:,.0f}/s"
        update_progress_artifact(artifact_id=artifact, progress=percent, description=text)  # type: ignore[arg-type]

    def advance(amount: int) -> None:
        nonlocal done, told
        done += amount
        if time.monotonic() - told >= SECONDS_BETWEEN_UPDATES:
            told = time.monotonic()
            tell(min(99.0, 100 * done / total) if total else 0.0)

    yield advance
    tell(100.0)


def in_log_and_ui(logger: Logger | LoggerAdapter[Any], place: str) -> ShowProgress:
    """Return what shows progress in the log of a run and in the UI, there as the progress of a place."""

    @contextmanager
    def show(title: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        with (
            progress(title, total, unit, log=logger.info) as in_log,
            progress_artifact(title, total, unit, key_of("progress", place)) as in_ui,
        ):

            def advance(amount: int) -> None:
                in_log(amount)
                in_ui(amount)

            yield advance

    return show


def show_counts(record: Mapping[str, Any], place: str) -> None:
    """Leave a table of objects by class and by status."""
    rows = [
        {"kind": kind, "name": name, "objects": count, "share": f"{count / max(1, record['rows']):.2%}"}
        for kind in ("classes", "status")
        for name, count in record[kind].items()
    ]
    names = {"classes": "class", "status": "status"}
    create_table_artifact(
        [row | {"kind": names[row["kind"]]} for row in rows],
        key=key_of("counts", place),
        description=f"Objects by class and by status, run {record['run_id']}",
    )


@dataclass(frozen=True)
class Links:
    """Where the catalog and the report of a run are."""

    catalog: str
    report: str


def show_summary(
    heading: str, record: Mapping[str, Any], links: Links, difference: Difference | None, failures: Sequence[Failure]
) -> None:
    """Leave the summary of a run."""
    text = summary_text(heading, record, links, difference, failures)
    create_markdown_artifact(text, key=key_of("summary", links.catalog), description=f"Run {record['run_id']}")


def summary_text(
    heading: str, record: Mapping[str, Any], links: Links, difference: Difference | None, failures: Sequence[Failure]
) -> str:
    """Return a run's summary in Markdown: what it was, what changed since the one before, what failed."""
    parts = [_facts(record, links), _gate(record), _changes(difference), _failures(record, failures)]
    return "\n\n".join([f"## {heading}", *parts])


def _facts(record: Mapping[str, Any], links: Links) -> str:
    classified = record["status"].get("ok", 0)
    model = record["model"]
    facts = {
        "run": f"`{record['run_id']}`",
        "catalog": f"`{links.catalog}`",
        "report": _linked(links.report),
        "model": f"{model['name']} {model['version']}",
        "objects": f"{objects_line(record)}; {classified:,} classified",
        "partitions failed": f"{record['failed_partitions']:,}",
        "partitions done by an earlier try": f"{record['resumed_partitions']:,}",
        "partitions taken over": f"{record['carried_partitions']:,}",
        "speed": f"{speed_line(record)}, {record['seconds']:,.1f} s",
    }
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]
    return "\n".join(lines)


def _gate(record: Mapping[str, Any]) -> str:
    lines = [f"- {'passed' if check['passed'] else '**not passed**'}: {check['text']}" for check in record["gate"]]
    title = "### Gate: held, not published" if record["held"] else "### Gate: passed"
    return "\n".join([title, "", *lines])


def _linked(place: str) -> str:
    """Return a report as a link that a browser opens: on the web, or by the page of `varstar serve`; else its place."""
    page = os.environ.get("VARSTAR_REPORTS", "")
    if place.startswith(("https://", "http://")):
        return f"[{place}]({place})"
    if page:
        return f"[{place}]({page}?{urlencode({'at': place})})"
    return f"`{place}`"


def _changes(difference: Difference | None) -> str:
    if difference is None:
        return "### Changes\n\nThe first run of this catalog: nothing to compare with."
    title = f"### Changes since `{difference.run_a}`"
    if not any(difference.changed.values()) and not difference.settings:
        return f"{title}\n\nNone: {difference.rows_b:,} objects have the class that they had."
    happened = [f"- {count:,} objects: {what}" for what, count in difference.changed.items() if count]
    why = [f"- because of {cause}: {count:,}" for cause, count in difference.causes.items()]
    settings = [f"- {line}" for line in difference.settings]
    moved = sorted(((n, pair) for pair, n in difference.matrix.items() if pair[0] != pair[1]), reverse=True)[:10]
    table = ["", "| from | to | objects |", "|---|---|--:|", *(f"| {a} | {b} | {n:,} |" for n, (a, b) in moved)]
    return "\n".join([title, "", *happened, *why, *settings, *(table if moved else [])])


def _failures(record: Mapping[str, Any], failures: Sequence[Failure]) -> str:
    if not record["failed_partitions"]:
        return "### Failures\n\nNone."
    lines = [f"- `{failure.partition}` ({failure.kind}): {failure.message}" for failure in failures[:FAILURES_SHOWN]]
    if len(failures) > FAILURES_SHOWN:
        lines.append(f"- and {len(failures) - FAILURES_SHOWN:,} more, in the run's `failures.parquet`")
    return "\n".join([f"### {record['failed_partitions']:,} partitions failed", "", *lines])
