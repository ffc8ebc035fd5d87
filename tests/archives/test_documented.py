"""The table of formats in the documentation is what the code reads, and a golden file shows each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.makers.archive_files import GOLDEN
from varstar_batch.archives.formats import FORMATS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
ROWS = {
    cells[0].strip("` "): cells
    for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines())
    if len(cells) == 6 and cells[0].startswith("`")
}


def names_in(cell: str) -> set[str]:
    """Names of columns in a cell; ``MAG_0 ... MAG_4`` stands for those between as well."""
    names = set(re.findall(r"`([^`]+)`", cell))
    for stem, first, last in re.findall(r"`(\w+?)(\d)` \.\.\. `\w+?(\d)`", cell):
        names |= {f"{stem}{number}" for number in range(int(first), int(last) + 1)}
    return names


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_as_documented(name: str) -> None:
    form = FORMATS[name]
    _, times, needed, optional, *_ = ROWS[name]
    assert times == form.time_system
    assert names_in(needed) == {*form.columns, *form.aliases}
    assert names_in(optional) == set(form.optional)
    assert ("no names" in needed) == bool(form.headerless)


def test_every_format_is_documented_and_has_golden_files() -> None:
    assert set(ROWS) == set(FORMATS) == {expected for _, expected, *_ in GOLDEN.values()}
