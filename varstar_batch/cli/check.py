"""The outcome of one check of the set-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from varstar_batch.errors import VarstarError

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    fix: str = ""


def check_of_error(name: str, error: VarstarError) -> Check:
    """Return the outcome of a check that ended with an error."""
    return Check(name, "failed", f"{error.where}: expected {error.expected}, got {error.got}", error.fix)
