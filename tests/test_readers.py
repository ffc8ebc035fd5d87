"""Every snippet of docs/readers.md runs, and finds what is in the catalog."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest

from tests.makers.catalogs import RunSpec, in_pixels, in_slices, run_name, sky_rows, write_run

PAGE = Path(__file__).resolve().parents[1] / "docs/readers.md"
SNIPPETS = dict(re.findall(r"^## (.+?)\n.*?```python\n(.*?)```", PAGE.read_text(), flags=re.S | re.M))
# tests/catalog/test_hats_catalog.py has a survey for it.
SNIPPETS.pop("LSDB")
ROWS = sky_rows(600, seed=3)
SURE = Counter(ROWS.filter(pc.field("class_prob") > 0.9)["class"].to_pylist())


@pytest.fixture(scope="module", params=["hats", "directory"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("readers") / "catalog"
    parts = in_pixels(ROWS, order=0) if request.param == "hats" else in_slices(ROWS)
    write_run(root, run_name(1), RunSpec(partitions=parts, layout=request.param))
    return root


@pytest.mark.parametrize("reader", SNIPPETS)
def test_a_snippet_finds_what_is_there(reader: str, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if reader == "Spark" and importlib.util.find_spec("pyspark") is None:
        pytest.skip("needs pyspark, 440 MB, which is no dependency of the tests")
    exec(SNIPPETS[reader].replace("CATALOG", str(root)), {})
    found = dict(re.findall(r"^\W*(\w+)\W+(\d+)\W*$", capfd.readouterr().out, flags=re.M))
    assert {name: int(count) for name, count in found.items() if name in SURE} == SURE


def test_there_is_a_snippet_for_each_reader() -> None:
    assert list(SNIPPETS) == ["DuckDB", "polars", "pandas", "Spark"]


def test_the_path_is_that_of_the_run_that_is_asked_for(varstar, root: Path) -> None:
    write_run(root, run_name(2), RunSpec(partitions=in_slices(ROWS), model_version="2"))
    assert varstar("path", root).out == f"{root}/runs/{run_name(2)}/dataset\n"
    told = varstar("path", root, "--run", "previous", "--json")
    assert f'"glob": "{root}/runs/{run_name(1)}/dataset/**/*.parquet"' in told.out
    assert varstar("path", root / "nowhere").code == 2
