"""The compiled kernel as a guest: threads, import cost, where its machine code is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

import varstar_batch
from tests.makers.light_curves import assert_same, make, sine
from varstar_batch.light_curves import Folded, Limits, Preprocessing, fold


def test_threads_and_concurrent_calls_change_nothing():
    objects = [sine(n, seed=n) for n in np.random.default_rng(2).integers(0, 400, 200)]
    curves, periods = make(*objects), np.geomspace(0.1, 100, 200)
    expected = fold(curves, periods, Preprocessing(), Limits())
    for n_threads in (2, 3, 300):
        assert_same(fold(curves, periods, Preprocessing(), Limits(), n_threads=n_threads), expected)
    results: list[Folded] = []
    calls = [
        threading.Thread(target=lambda: results.append(fold(curves, periods, Preprocessing(), Limits(), n_threads=2)))
        for _ in range(4)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert len(results) == 4
    for result in results:
        assert_same(result, expected)


def run_python(code: str, folder: Path, **environment: str) -> str:
    keep = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, env=keep | environment, capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout.strip()


def test_importing_the_layer_loads_neither_numba_nor_pyarrow(tmp_path):
    code = "import sys, varstar_batch.light_curves; print({'numba', 'pyarrow', 'astropy'} & set(sys.modules))"
    assert run_python(code, tmp_path) == "set()"


def test_machine_code_is_kept_in_the_user_cache_or_nowhere_if_the_package_is_read_only(tmp_path):
    package = tmp_path / "site" / "varstar_batch"
    shutil.copytree(
        Path(varstar_batch.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "bundles")
    )
    # A file where the folder should be refuses everyone, also the superuser who ignores modes.
    (package / "light_curves" / "kernel" / "__pycache__").touch()
    code = (
        "from varstar_batch.light_curves.kernel import fold_range as k\n"
        "print(k.__file__); print(k.fold_range.stats.cache_path)"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    file, cache = run_python(code, tmp_path, XDG_CACHE_HOME=str(tmp_path / "user"), **environment).splitlines()
    assert Path(file).is_relative_to(package)
    assert Path(cache).is_relative_to(tmp_path / "user")
    nowhere = str(tmp_path / "site" / "varstar_batch" / "light_curves" / "kernel" / "__pycache__")
    file, cache = run_python(code, tmp_path, XDG_CACHE_HOME=nowhere, IPYTHONDIR=nowhere, **environment).splitlines()
    assert cache == "None"
