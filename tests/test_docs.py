"""What CONTRIBUTING.md and docs/architecture.md name is there, and the picture of the layers is current."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from docs.layers import PAGE, with_picture

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
    text = "`catalog/schema.py:catalog_rows`, `catalog/schema.py:gone`, `flows/gone.py`, [gone](x.md)"
    assert missing(text) == ["catalog/schema.py:gone", "flows/gone.py", "x.md"]


def test_the_picture_of_the_layers_is_current() -> None:
    page = PAGE.read_text()
    assert with_picture(page) == page, "draw it again: python -m docs.layers"
