"""The page of a star: what it says of it, that it loads nothing, and what it says where something is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from tests.makers.runs import run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.history import published_runs
from varstar_batch.catalog.run_files.root import Catalog, open_catalog_root
from varstar_batch.cli import main
from varstar_batch.errors import InputError
from varstar_batch.report.star_page import build_star_page


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A survey that was classified twice, and that is there."""
    place = tmp_path_factory.mktemp("star")
    write_survey(place / "survey", (120,))
    run(place / "survey", place / "catalog")
    run(place / "survey", place / "catalog", fresh=True)
    return open_catalog_root(str(place / "catalog"))


def star_of(catalog: Catalog) -> dict[str, object]:
    surest = "SELECT * FROM catalog WHERE status = 'ok' ORDER BY class_prob DESC LIMIT 1"
    return dict(open_catalog(str(catalog)).query(surest).to_pylist()[0])


def test_it_says_what_the_catalog_says(catalog: Catalog) -> None:
    star = star_of(catalog)
    page = build_star_page(catalog, star["object_id"])
    assert f"<h1>{star['object_id']}</h1>" in page
    for text in (star["class"], f"{star['class_prob']:.3f}", f"{star['period']:.9g}", star["parents_95"]):
        assert str(text) in page
    # Both runs, with every class of each.
    runs = published_runs(catalog)
    assert len(runs) == 2
    assert all(f"<h3>{run_id}</h3>" in page for run_id in runs)
    assert page.count('<div class="bars">') == 2
    # Raw and folded, and where it lies among the others.
    assert page.count("data:image/png;base64,") >= 1
    assert "Period-amplitude diagram" in page
    assert "e0004d" in page


def test_it_loads_nothing_and_links_are_only_links(catalog: Catalog) -> None:
    page = build_star_page(catalog, star_of(catalog)["object_id"])
    assert "default-src 'none'" in page
    assert not re.search(r"<(script|link|iframe|object|embed)\b", page)
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
    links = re.findall(r'<a href="(https://[^"]*)" rel="noreferrer noopener">', page)
    assert len(links) == page.count("<a href=") == 3


def test_a_star_that_nobody_has_is_refused(catalog: Catalog) -> None:
    with pytest.raises(InputError, match="which is in none of its"):
        build_star_page(catalog, 987654321)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    rows = sky_rows(30, seed=2)
    nowhere = pa.nulls(30, pa.float64())
    for name in ("ra", "dec"):
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), nowhere)
    write_run(tmp_path / "c", run_name(1), RunSpec(partitions=in_slices(rows)))
    page = build_star_page(open_catalog_root(str(tmp_path / "c")), rows["object_id"][0].as_py())
    assert "The star has no position." in page
    assert "Without a position nobody can be asked." in page
    assert "could not be had" in page or "model is not there" in page


def test_the_survey_may_be_gone(catalog: Catalog, tmp_path: Path) -> None:
    page = build_star_page(catalog, star_of(catalog)["object_id"], str(tmp_path / "gone"))
    assert "The light curve could not be had" in page


def test_the_command_writes_it(catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    star = star_of(catalog)["object_id"]
    with pytest.raises(SystemExit) as exited:
        main(["show", str(catalog), str(star), "--out", str(tmp_path / "star.html")])
    assert not exited.value.code
    assert capsys.readouterr().out.strip().endswith("star.html")
    assert (tmp_path / "star.html").read_text().startswith("<!doctype html>")
    with pytest.raises(SystemExit) as exited:
        main(["show", str(catalog), str(star), "--out", str(tmp_path / "star.html/below.html")])
    assert exited.value.code == 2
