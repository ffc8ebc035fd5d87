"""The table of deploy/RUNBOOK.md: what is said of each fault, for the tests that make it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RUNBOOK = Path(__file__).resolve().parents[2] / "deploy/RUNBOOK.md"


@dataclass(frozen=True)
class Fault:
    """A line of the table."""

    made: str
    said: tuple[str, ...]
    cure: str
    test: str


def faults() -> dict[str, Fault]:
    """Return the lines by their first column."""
    found = {}
    for line in RUNBOOK.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "fault":
            name, made, said, cure, test = cells
            found[name] = Fault(made, tuple(re.findall('"([^"]+)"', said)), cure, test.strip("`"))
    return found


def check_said(fault: str, message: str) -> None:
    """Insist that a message has the words that the table says of a fault."""
    words = faults()[fault].said
    assert words, f"the runbook says of {fault!r} that nothing is said"
    for each in words:
        assert each in message, f"the runbook has {each!r} of {fault!r}, said was: {message}"
