"""Every command that the README shows is one that works."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from varstar_batch.cli.app import app
from varstar_batch.cluster.configuration import RunConfig, validate_config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.S)


def shell_lines() -> list[str]:
    text = "\n".join(block for language, block in BLOCKS if language == "sh")
    # A quoted text may go over several lines.
    return [line for line in re.findall(r'^(?:[^"\n]|"[^"]*")+', text, flags=re.M) if line.strip()]


def test_the_first_two_commands_are_the_two_that_were_promised() -> None:
    assert [shlex.split(line, comments=True) for line in shell_lines()[:2]] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("make")])
def test_make_targets_exist(line: str) -> None:
    command = shlex.split(line, comments=True)
    done = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("varstar")])
def test_commands_parse_with_their_options(line: str) -> None:
    import typer.main

    _, name, *words = shlex.split(line, comments=True)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, words)
    assert context.params


def test_the_configuration_is_valid() -> None:
    (text,) = [block for language, block in BLOCKS if language == "toml"]
    assert validate_config(tomllib.loads(text), "README") != RunConfig()


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
