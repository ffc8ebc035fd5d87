"""What `varstar` tells of itself: groups of commands and options, choices, short names, completion, soon."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from varstar_batch.cli.app import COMMANDS, SERVICES, SURVEYS, load_command

HEAVY = {"numpy", "pyarrow", "duckdb", "pydantic", "fsspec", "astropy", "markdown_it", "httpx"}


def panels(text: str) -> dict[str, str]:
    """Return what stands under each heading of a help text."""
    found: dict[str, str] = {}
    for part in text.split("╭─ ")[1:]:
        found[part.split(" ")[0]] = part.split("╰")[0]
    return found


def test_commands_stand_in_groups(varstar) -> None:
    text = varstar("--help").out
    groups = panels(text)
    assert set(groups) == {"Options", *(panel for panel, _ in COMMANDS.values())}
    for name, (panel, _) in COMMANDS.items():
        assert f"│ {name} " in groups[panel]
    assert "Ctrl-C stops it all." in groups[SERVICES]
    assert groups[SURVEYS].splitlines()[1].startswith("│ ingest ")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    command = load_command(name)
    assert command.name == name
    assert command.help
    assert {"--help", "-h"} <= set(command.context_settings["help_option_names"])


def test_options_that_few_need_come_last(varstar) -> None:
    groups = panels(varstar("classify", "-h").out)
    assert list(groups) == ["Arguments", "Options", "Advanced", "Cluster"]
    assert "--incremental" in groups["Options"]
    assert "--lost-gpus" in groups["Advanced"]
    assert "--tls-key" in groups["Cluster"]
    assert "--no-" not in "".join(groups.values())


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        (("fold", "a", "b", "--scale", "log"), "'none', 'center', 'minmax'"),
        (("classify", "a", "b", "--engine", "abacus"), "'auto', 'openvino', 'keras'"),
        (("ingest", "a", "b", "--duplicates", "no"), "'drop', 'keep', 'refuse'"),
    ],
    ids=["scale", "engine", "duplicates"],
)
def test_a_choice_is_told(varstar, words: tuple[str, ...], choices: str) -> None:
    refused = varstar(*words)
    assert refused.code == 2
    assert f"'{words[-1]}' is not one of {choices}" in refused.err
    assert choices.replace("', '", "|").strip("'") in "".join(varstar(words[0], "--help").out.split())


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("classify", {"-m": "--model", "-c": "--config", "-s": "--set", "-w": "--workers"}),
        ("train", {"-o": "--out", "-c": "--config", "-s": "--set"}),
        ("evaluate", {"-o": "--out"}),
        ("query", {"-o": "--out"}),
        ("report", {"-o": "--out"}),
        ("ingest", {"-w": "--workers", "-s": "--set"}),
    ],
)
def test_short_names(command: str, names: dict[str, str]) -> None:
    options = [each.opts for each in load_command(command).params]
    for short, long in names.items():
        assert [opts for opts in options if short in opts] == [opts for opts in options if long in opts]


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("varstar que", {"query"}),
        ("varstar classify a b --eng", {"--engine"}),
        ("varstar classify a b --engine ", {"auto", "openvino", "keras"}),
        ("varstar cone --ra", {"--ra", "--radius"}),
    ],
    ids=["command", "option", "choice", "two"],
)
def test_the_shell_completes(line: str, completed: set[str]) -> None:
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_VARSTAR_COMPLETE": "complete_bash"}
    command = [sys.executable, "-m", "varstar_batch"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completed


@pytest.mark.parametrize("words", [["--version"], ["--help"]], ids=" ".join)
def test_it_is_told_without_loading_what_a_run_needs(words: list[str]) -> None:
    code = (
        "import sys\nfrom varstar_batch.cli import main\ntry: main(sys.argv[1:])\n"
        f"except SystemExit: print('loaded', *sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    loaded = done.stdout.rsplit("loaded", 1)[1].split()
    # Rich, by which Typer draws, brings its own reader of Markdown.
    assert set(loaded) <= ({"markdown_it"} if "--help" in words else set())
