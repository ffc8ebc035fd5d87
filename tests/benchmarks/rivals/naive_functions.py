"""The functions of `../shared/baseline/naive.py`, for rivals that do the same work in several processes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from tests.benchmarks.harness import NAIVE


def load_naive(path: Path = NAIVE) -> ModuleType:
    """Return the module. Raises FileNotFoundError where this machine does not have it."""
    spec = importlib.util.spec_from_file_location("naive", path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
