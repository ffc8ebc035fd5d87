"""Draws the picture of the layers in architecture.md from what the modules import.

Run from the repository's root: .venv/bin/python -m docs.layers
"""

from __future__ import annotations

from pathlib import Path

from tests.test_layers import LEVELS, SOURCES, imports, package_of

PAGE = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- layers:begin -->\n", "<!-- layers:end -->"


def picture() -> str:
    """Return a row for each package, from the command line down, with the packages that its modules import."""
    edges: dict[str, set[str]] = {}
    for each in imports(SOURCES):
        mine, theirs = package_of(each.module), package_of(each.imported)
        if mine and theirs and mine != theirs:
            edges.setdefault(mine, set()).add(theirs)
    modules = {package_of(name) for name in SOURCES}
    order = [package for packages in reversed(LEVELS) for package in packages if package in modules]
    lines = ["```text", "package       imports"]
    for packages in reversed(LEVELS):
        there = [package for package in packages if package in modules]
        if there:
            lines.append("-" * 110)
        for package in there:
            below = " ".join(other for other in order if other in edges.get(package, ()))
            lines.append(f"{package:<14}{below}".rstrip())
    return "\n".join([*lines, "```", ""])


def with_picture(page: str) -> str:
    """Return the page with the picture as it is now."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + picture() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(with_picture(PAGE.read_text()))
