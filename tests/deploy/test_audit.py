"""The audit of the dependencies: nothing is wrong with ours, and whatever is planted is found."""

from __future__ import annotations

import importlib.util
import json
import shutil
import stat
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "deploy/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


AUDIT = load()
FILE = ROOT / "constraints.txt"


def test_every_line_of_ours_is_a_pin() -> None:
    pins, problems = AUDIT.read_pins(FILE)
    assert problems == []
    assert len(pins) > 200


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("numpy>=2", "expected NAME==VERSION"),
        ("numpy", "expected NAME==VERSION"),
        ("-i https://example.org/simple", "expected NAME==VERSION"),
        ("numpy @ https://example.org/numpy.whl", "expected NAME==VERSION"),
        ("numpy==2.*", "expected NAME==VERSION"),
        ("NumPy==1.0", "a second time"),
    ],
)
def test_a_line_that_pins_nothing_is_found(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "constraints.txt"
    file.write_text(FILE.read_text() + line + "\n")
    _, problems = AUDIT.read_pins(file)
    assert len(problems) == 1
    assert said in problems[0]


def test_another_version_than_the_pinned_one_is_found() -> None:
    assert list(AUDIT.unpinned({"a": "1", "b": "2"}, {"a": "1", "b": "2", AUDIT.OURS: "3"})) == []
    found = list(AUDIT.unpinned({"a": "1"}, {"a": "1.1", "evil": "6"}))
    assert found == [
        "a 1.1 is installed, constraints.txt says 1",
        "evil 6 is installed, constraints.txt says nothing",
    ]


def test_a_vulnerable_version_is_found() -> None:
    import tomllib

    advisories = tomllib.loads((ROOT / "deploy/advisories.toml").read_text())
    pins, _ = AUDIT.read_pins(FILE)
    assert list(AUDIT.known(pins, advisories)) == []
    assert set(advisories) <= set(pins)
    for name in advisories:
        (found,) = AUDIT.known({name: "0.1"}, advisories)
        assert found.startswith(f"{name} 0.1: vulnerable before")


def test_a_file_that_was_changed_after_it_was_installed_is_found(tmp_path: Path) -> None:
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    (tmp_path / "thing.py").write_text("print(1)\n")
    (info / "RECORD").write_text("gone.py,sha256=AA,1\n")
    package = Distribution.at(info)
    assert list(AUDIT.changed([package])) == ["thing: gone.py is missing"]
    (info / "RECORD").write_text(f"thing.py,sha256={digest(tmp_path / 'thing.py')},9\n")
    assert list(AUDIT.changed([package])) == []
    (tmp_path / "thing.py").write_text("print(2)\n")
    assert list(AUDIT.changed([package])) == ["thing: thing.py is not what was installed"]


def digest(file: Path) -> str:
    import base64
    import hashlib

    return base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()


def test_other_weights_are_found(tmp_path: Path) -> None:
    assert list(AUDIT.other_weights(AUDIT.BUNDLE)) == []
    shutil.copytree(AUDIT.BUNDLE, tmp_path / "bundle")
    weights = tmp_path / "bundle/model.keras"
    weights.write_bytes(weights.read_bytes() + b"x")
    assert len(list(AUDIT.other_weights(tmp_path / "bundle"))) == 1


ANSWERS = {
    "vulnerable": {"dependencies": [{"name": "x", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]},
    "fine": {"dependencies": [{"name": "x", "version": "1", "vulns": []}]},
    "unknown": {"dependencies": [{"name": "x", "skip_reason": "Dependency not found"}]},
}


@pytest.mark.parametrize(
    ("answer", "found", "said"),
    [
        (json.dumps(ANSWERS["vulnerable"]), ["x 1: CVE-1, fixed in 2"], "knew 1 packages"),
        (json.dumps(ANSWERS["fine"]), [], "knew 1 packages"),
        (json.dumps(ANSWERS["unknown"]), [], "knew 0 packages"),
        ("Traceback", [], "did not answer"),
    ],
)
def test_what_pip_audit_says_counts(
    answer: str, found: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\necho '{answer}'\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    problems, sentence = AUDIT.ask_database(FILE)
    assert problems == found
    assert said in sentence


def test_without_pip_audit_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert AUDIT.ask_database(FILE) == ([], "pip-audit is not installed: no database was asked")


@pytest.mark.slow
def test_the_command_fails_on_a_bad_file(tmp_path: Path) -> None:
    bad = tmp_path / "constraints.txt"
    bad.write_text(FILE.read_text().replace("keras==", "keras==0."))
    words = [sys.executable, str(ROOT / "deploy/audit.py"), str(bad)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": "/nowhere"})
    assert done.returncode == 1
    assert "keras" in done.stdout
