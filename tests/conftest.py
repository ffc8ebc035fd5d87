"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.makers.command_line import Result, exit_code

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "surveys"


def pytest_collection_finish() -> None:
    """Keep what was imported out of garbage collections: half a second each, again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let go of it, before libraries look for what they have not got back."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real light curves of six surveys; the test is skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real light curves in ../shared/data, which this machine does not have")
    return SHARED_DATA


@pytest.fixture
def varstar(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`varstar`, called with words in this process."""

    def call(*words: object) -> Result:
        capsys.readouterr()
        code = exit_code(*words)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call
