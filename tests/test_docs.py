"""What the pages name is there: files, functions, commands, options and links; what is drawn of code is current."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from docs.layers import PAGE, with_picture
from docs.reference import write_reference
from varstar_batch.cli.app import load_command

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "CONTRIBUTING.md", PAGE)


def names_of(module: Path) -> set[str]:
    """Everything that a module defines, functions within classes included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


def missing(text: str) -> list[str]:
    """Paths that a page names and that are not there, and `file:function` whose function is not in the file."""
    lost = []
    for span in re.findall(r"`([^`\s]*(?:/|\.py)[^`\s]*)`", text):
        path, _, function = span.partition(":")
        places = [ROOT / path, ROOT / "varstar_batch" / path]
        there = next((place for place in places if place.exists()), None)
        if there is None or (function and function not in names_of(there)):
            lost.append(span)
    links = re.findall(r"\]\(([^)]+)\)", text)
    return lost + [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_function_that_a_page_names_is_there(page: Path) -> None:
    assert missing(page.read_text()) == []
    assert len(re.findall(r"`[^`\s]*/[^`\s]*`", page.read_text())) > 10


def test_a_name_that_is_gone_is_found() -> None:
    text = "`catalog/columns/schema.py:catalog_rows`, `catalog/columns/schema.py:gone`, `flows/gone.py`, [gone](x.md)"
    assert missing(text) == ["catalog/columns/schema.py:gone", "flows/gone.py", "x.md"]


def test_the_picture_of_the_layers_is_current() -> None:
    page = PAGE.read_text()
    assert with_picture(page) == page, "draw it again: python -m docs.layers"


COMMANDS = sorted(
    {
        (page.name, line)
        for page in (ROOT / "docs").glob("*.md")
        for line in re.findall(r'^ {0,4}(varstar (?:[^"\n]|"[^"]*")+)', page.read_text(), flags=re.M)
    }
)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_commands_of_the_pages_and_their_options_are_there(page: str, line: str) -> None:
    """They are run, too (tests/test_pages.py, tests/test_readme.py)."""
    del page
    words = shlex.split(re.sub(r"[\[\]]", "", line), comments=True)[1:]
    command = load_command(words[0])
    known = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]} | {"--help"}
    assert {word.partition("=")[0] for word in words if re.match("--?[a-z]", word)} <= known


def test_every_page_is_in_the_site() -> None:
    index = (ROOT / "docs/index.md").read_text()
    trees = re.findall(r"```{toctree}\n(.*?)```", index, flags=re.S)
    named = {line.strip() for tree in trees for line in tree.splitlines()}
    pages = {page.stem for kind in ("md", "ipynb") for page in (ROOT / "docs").glob(f"*.{kind}")}
    assert pages - {"index"} <= named


def test_the_tables_of_reference_are_those_of_the_code(tmp_path: Path) -> None:
    write_reference(tmp_path)
    columns = (tmp_path / "columns.md").read_text()
    for name in ("object_id", "class_prob", "status", "prob_RR"):
        assert f"| `{name}` |" in columns
    configuration = (tmp_path / "configuration.md").read_text()
    assert "| `max_changed` | number | `0.1` |" in configuration
    assert "## `[survey]`" in configuration
    commands = (tmp_path / "commands.md").read_text()
    assert "## varstar classify" in commands
    assert "`--incremental`" in commands
    assert "varstar_batch" in (tmp_path / "python.md").read_text()


def test_the_tutorial_comes_without_answers() -> None:
    """They are made anew each time the site is built."""
    cells = json.loads((ROOT / "docs/tutorial.ipynb").read_text())["cells"]
    assert len(cells) > 10
    assert all(not cell.get("outputs") for cell in cells)
