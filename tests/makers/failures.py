"""Failures on command: a method that fails when it is called for the nth time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from varstar_batch.files.location import Location


def fail_calls(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    failures: Mapping[int, BaseException],
    *,
    owner: Any = Location,
    of: str = "",
) -> list[str]:
    """Let calls of a method fail, by their number from 1; return the list of what was called, which grows.

    `of` counts only calls whose object has this text in its name.
    """
    original = getattr(owner, name)
    calls: list[str] = []

    def called(self: Any, *arguments: Any, **options: Any) -> Any:
        if of in str(self):
            calls.append(str(self))
            if len(calls) in failures:
                raise failures[len(calls)]
        return original(self, *arguments, **options)

    monkeypatch.setattr(owner, name, called)
    return calls
