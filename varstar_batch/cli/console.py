"""What a person sees: colour and bars on a terminal, plain lines in a log, JSON where a program reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from varstar_batch.errors import InputError
from varstar_batch.progress import err

out = Console(highlight=False, soft_wrap=True)


def error_line(message: str) -> None:
    """Print one line of error."""
    err.print(Text.assemble(("error: ", "bold red"), message))


def warning_line(message: str) -> None:
    """Print one line of warning."""
    err.print(Text.assemble(("warning: ", "bold yellow"), message))


def say(message: str) -> None:
    """Print a line for people."""
    out.print(Text(message))


def note(message: str) -> None:
    """Print a line about what is going on, beside the result."""
    err.print(Text(message))


def print_json(content: Any) -> None:
    """Print a value for programs."""
    sys.stdout.write(json.dumps(content, indent=1, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns of numbers stand to the right."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    out.print(table)


def print_counts(title: str, counts: Mapping[str, int], what: str) -> None:
    """Print counts by name with their shares."""
    total = sum(counts.values())
    rows = [(name, count, f"{count / total:.1%}") for name, count in counts.items()]
    print_table(title, (what, "objects", "share"), rows)


def parse_bytes(text: str, option: str) -> int:
    """Return the bytes that a text such as 256MiB means.

    Raises
    ------
    InputError
        It is no size.
    """
    from dask.utils import parse_bytes as parse

    try:
        return int(parse(text))
    except (ValueError, TypeError):
        raise InputError(
            expected="a size such as 256MiB", got=repr(text), where=option, fix="write a number and a unit"
        ) from None


def format_bytes(count: int) -> str:
    """Return bytes as people read them, such as 256 MiB."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 2**20:.0f} MiB"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def agreement(labels: dict[str, int]) -> str:
    """Return a line about how often the class agrees with the survey's own label."""
    pairs = [(key.split(">"), count) for key, count in labels.items()]
    classified = sum(count for (_, found), count in pairs if found)
    right = sum(count for (label, found), count in pairs if label == found)
    share = f"{right / classified:.1%}" if classified else "none"
    return f"Agreement with the survey's own classes: {share} of {classified:,} classified objects"
