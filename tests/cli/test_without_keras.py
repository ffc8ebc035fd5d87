"""Without Keras and TensorFlow, as in the CPU image: it classifies, and says in one line what it cannot do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.makers.surveys import write_survey
from varstar_batch.model import keras_runtime
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.engines.open import open_engine

HIDE = """
import sys
for name in {names!r}:
    sys.modules[name] = None  # as if it was not installed
from varstar_batch.cli import main
main({words!r})
"""


def varstar_without(names: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    code = HIDE.format(names=names, words=list(words))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_survey_is_classified(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (60,))
    words = ("classify", str(survey), str(tmp_path / "catalog"), "--workers", "0", "--json")
    done = varstar_without(["keras", "tensorflow"], *words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("missing", "backend", "fix"),
    [
        ("keras", "tensorflow", "pip install 'varstar-batch[train]'"),
        ("tensorflow", "tensorflow", "pip install 'varstar-batch[train]'"),
        ("torch", "torch", "pip install keras torch"),
    ],
)
def test_what_needs_it_says_what_to_install(
    missing: str, backend: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    survey = write_survey(tmp_path / "survey", (60,))
    words = ("classify", str(survey), str(tmp_path / "catalog"), "--workers", "0", "--engine", "keras")
    done = varstar_without([missing], *words)
    assert done.returncode == 2, done.stderr
    assert f"no package {missing}" in done.stderr
    assert fix in done.stderr
    assert "Traceback" not in done.stderr


def test_auto_takes_openvino_on_a_machine_with_a_graphics_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_runtime, "nvidia_driver_is_loaded", lambda: True)
    monkeypatch.setattr(keras_runtime, "find_spec", lambda name: None)
    assert open_engine(read_bundle(None)).name == "openvino"
