"""What a person sees: colour and bars on a terminal, plain lines in a log, JSON where a program reads."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from varstar_batch.errors import InputError
from varstar_batch.progress import err

out = Console(highlight=False, soft_wrap=True)

# Codes that move the cursor, colour a terminal, or turn the direction of a text; line feeds and tabs are told apart.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def visible(text: str, *, one_line: bool = False) -> str:
    """Return a text whose control characters are written out as \\x1b is; with `one_line` line feeds and tabs, too."""
    text = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return text.replace("\n", "\\n").replace("\t", "\\t") if one_line else text


def error_line(message: str) -> None:
    """Print one line of error."""
    err.print(Text.assemble(("error: ", "bold red"), visible(message)))


def warning_line(message: str) -> None:
    """Print one line of warning."""
    err.print(Text.assemble(("warning: ", "bold yellow"), visible(message)))


def say(message: str) -> None:
    """Print a line for people."""
    out.print(Text(visible(message)))


def note(message: str) -> None:
    """Print a line about what is going on, beside the result."""
    err.print(Text(visible(message)))


def print_fields(fields: Mapping[str, object], width: int = 7, style: str = "bold") -> None:
    """Print values below each other, each behind its name, which stands to the right in `width` columns."""
    for name, value in fields.items():
        out.print(Text.assemble((f"{name:>{width}}", style), f"  {visible(str(value), one_line=True)}"))


def print_json(content: Any) -> None:
    """Print a value for programs."""
    sys.stdout.write(json.dumps(content, indent=1, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, exact: bool = False) -> None:
    """Print a table; columns of numbers stand to the right.

    Parameters
    ----------
    title : str
        May be empty.
    columns : sequence of str
    rows : sequence of sequences
    exact : bool
        Of numbers that may be identifiers: without separators, and never folded; where a terminal is too narrow, the
        rows stand one below the other, without what is None.
    """
    table = Table(title=Text(visible(title)) if title else None, title_justify="left", header_style="bold")
    for index, name in enumerate(columns):
        number = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(Text(visible(name, one_line=True)), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value, exact)) for value in row))
    width = Measurement.get(out, out.options.update(width=10_000), table).maximum
    if not exact or width <= out.width:
        out.print(table)
    elif not out.is_terminal:
        Console(highlight=False, width=width).print(table)
    else:
        if title:
            say(title)
        longest = max(len(name) for name in columns)
        for row in rows:
            say("-" * min(out.width, 40))
            for name, value in zip(columns, row, strict=True):
                if value is not None:
                    say(f"{name:<{longest}}  {_cell(value, exact)}")


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


def _cell(value: object, exact: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.8g}" if exact else f"{value:.6g}"
    if exact or not isinstance(value, int):
        return visible(str(value), one_line=True)
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:,}"


def print_agreement(labels: dict[str, int]) -> None:
    """Print how often the class is the one that the survey's label means, where it has any."""
    if labels:
        from varstar_batch.survey.labels import agreement

        right, classified = agreement(labels)
        share = f"{right / classified:.1%}" if classified else "none"
        say(f"Agreement with the survey's own classes: {share} of {classified:,} classified objects")
