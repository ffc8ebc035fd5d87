"""The command line called in this process, and what its refusals have in common."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from varstar_batch.cli import main


@dataclass(frozen=True)
class Result:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"


def exit_code(*words: object) -> int:
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as exited:
        main([str(word) for word in words])
    return int(exited.value.code or 0)


def refused(result: Result, code: int, *words: str) -> None:
    """The command ended with `code` and exactly one line of error, which has all the words."""
    assert result.code == code, result
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result
    assert "Traceback" not in result.err + result.out
    for word in words:
        assert word in lines[0], result
