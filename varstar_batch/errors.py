"""The errors a person meets: one line each, with what was expected, what was found, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """How a command ends."""

    DONE = 0
    FAILURES = 1
    """Done, but parts failed, were set aside, or are not as they should be."""
    INPUT = 2
    """Bad usage or bad input."""
    REFUSED = 3
    """Well formed, but it would mix things that do not belong together."""
    INTERRUPTED = 130


def one_line(text: object) -> str:
    """Return `text` on one line, so that an error never spreads over a log."""
    return " ".join(str(text).split())


def wanted(problem: Mapping[str, Any]) -> str:
    """Return what pydantic expected, of one of a ValidationError's problems, in plain words."""
    plain = {"missing": "a value", "extra_forbidden": "a name that is known"}
    message = (
        str(problem["msg"]).removeprefix("Input should be ").removeprefix("Value error, ").removeprefix("expected ")
    )
    return plain.get(str(problem["type"]), message)


def told(problem: Mapping[str, Any]) -> str:
    """Return what is wrong, of one of a ValidationError's problems, in plain words."""
    text = wanted(problem)
    return text if " should " in text else f"expected {text}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, old value, new value) of what differs in two nested mappings, by key; nested keys joined by dots."""
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}", a, b


class VarstarError(Exception):
    """Base of every error that is reported as one line and an exit code, never as a traceback.

    Parameters
    ----------
    expected, got, where, fix : str
        What should have been there, what was, in which file or option, and what the reader can do about it.
    """

    exit_code = ExitCode.INPUT

    def __init__(self, *, expected: str, got: str, where: str, fix: str) -> None:
        super().__init__(expected, got, where, fix)
        self.expected, self.got, self.where, self.fix = map(one_line, (expected, got, where, fix))

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}; {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries by pickle, which cannot pass keyword-only arguments by itself.
        return _rebuild, (type(self), self.__dict__)


class InputError(VarstarError):
    """Bad usage or bad input: exit code 2."""


class RefusedError(VarstarError):
    """What was asked is well formed, but would mix things that do not belong together: exit code 3."""

    exit_code = ExitCode.REFUSED


class PartitionError(VarstarError):
    """A partition that cannot be read or classified: it is recorded with its `kind`, and the run goes on.

    Parameters
    ----------
    kind : str
        Machine-readable cause, for example ``"unreadable"``, ``"schema"``, ``"duplicate_object_id"``.
    """

    exit_code = ExitCode.FAILURES

    def __init__(self, *, kind: str, expected: str, got: str, where: str, fix: str) -> None:
        super().__init__(expected=expected, got=got, where=where, fix=fix)
        self.kind = kind


def _rebuild(cls: type[VarstarError], state: dict[str, str]) -> VarstarError:
    error = cls.__new__(cls)
    error.__dict__.update(state)
    error.args = (state["expected"], state["got"], state["where"], state["fix"])
    return error


class NothingMatchedError(VarstarError):
    """Everything could be read, and none of it belongs together: exit code 1."""

    exit_code = ExitCode.FAILURES


class WorkersLostError(VarstarError):
    """Those who did the work are gone. What they have done stays: the same command goes on from there."""

    exit_code = ExitCode.FAILURES
