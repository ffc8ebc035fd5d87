"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "surveys"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real light curves of six surveys; the test is skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real light curves in ../shared/data, which this machine does not have")
    return SHARED_DATA
