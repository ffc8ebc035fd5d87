"""The report: what is on the page, that it loads nothing, and how it stands in a browser, on a screen and a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.light_curves import Preprocessing, fold
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.model.bundle_files import read_bundle, write_bundle
from varstar_batch.report import report_location, write_report
from varstar_batch.report.charts import bars, folded_light_curve, histogram, matrix_table, scatter, sky_map
from varstar_batch.report.data import STARS, gather
from varstar_batch.report.page import SECTIONS
from varstar_batch.survey.objects import find_object
from varstar_batch.survey.open import open_survey

HOSTILE = "/surveys/<script>alert('x')</script>&"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> CatalogReader:
    """Two runs of a small survey that is there, the second with a failed partition and another model."""
    root = tmp_path_factory.mktemp("report")
    survey = write_survey(root / "survey", (120, 120))
    rows = {}
    for number, path in enumerate(sorted(survey.glob("*.parquet"))):
        there = pq.read_table(path, columns=["object_id", "ra", "dec", "period"])
        part = sky_rows(there.num_rows, seed=number, id_type=there["object_id"].type)
        for name in there.column_names:
            part = part.set_column(part.schema.get_field_index(name), name, there[name])
        rows[path.name] = part
    catalog = root / "catalog"
    write_run(catalog, run_name(1), RunSpec(partitions=rows, survey=str(survey)))
    shifted = {key: shift_classes(part) for key, part in rows.items()}
    failures = (("part-99999.parquet", "unreadable", "<b>cut short</b>"),)
    spec = RunSpec(partitions=shifted, survey=str(survey), model_version="2", failures=failures)
    write_run(catalog, run_name(2), spec, publish=False)
    write_bundle(read_bundle(), str(catalog / "runs" / run_name(2) / "model"), replace=True)
    reader = open_catalog(catalog)
    reader.catalog.publish(run_name(2), based_on=1)
    return reader.at("current")


def shift_classes(rows: pa.Table) -> pa.Table:
    names = [
        name and CLASSES[(CLASSES.index(name) + (k % 5 == 0)) % 6] for k, name in enumerate(rows["class"].to_pylist())
    ]
    return rows.set_column(rows.schema.get_field_index("class"), "class", pa.array(names))


@pytest.fixture(scope="module")
def page(reader: CatalogReader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report(reader, out)
    return out


class Outline(HTMLParser):
    """Elements that are not closed, attributes that load something, identifiers, and the text."""

    EMPTY = frozenset({"meta", "br", "hr", "input", "img", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in {"src", "href", "data", "action", "srcset"} and value and not value.startswith(("#", "data:")):
                self.loads.append(value)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(page: Path) -> Outline:
    parser = Outline()
    parser.feed(page.read_text())
    return parser


def test_the_page_is_well_formed_and_loads_nothing(page: Path) -> None:
    found = outline(page)
    assert found.open == []
    assert found.loads == []
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(found.tags)
    assert not re.search(r"url\(|@import", page.read_text())
    assert "default-src 'none'" in page.read_text()
    assert page.stat().st_size < 1_000_000


def test_every_section_is_there_with_its_numbers(page: Path, reader: CatalogReader) -> None:
    found = outline(page)
    assert found.ids == [key for key, _ in SECTIONS]
    record = reader.record
    for wanted in (f"{record['rows']:,}", "no period", *CLASSES, record["model"]["name"], reader.run_id, run_name(1)):
        assert wanted in found.text, wanted
    assert "new model" in found.text
    assert "model.version: 1 -> 2" in found.text
    assert "Failures (1)" in found.text
    assert "<b>cut short</b>" in found.text, "shown as text, not as markup"
    assert "Architecture survey" in found.text, "the model's card"


def test_light_curves_of_the_surest_and_the_most_doubtful_of_each_class(page: Path, reader: CatalogReader) -> None:
    data = gather(reader)
    assert data.light_curves_note == ""
    assert set(data.light_curves) == {star.object_id for star in data.stars}
    assert page.read_text().count('aria-label="Folded light curve"') == len(data.stars)
    rows = reader.to_pandas(["object_id", "class", "class_prob"])
    for name in CLASSES:
        ranked = rows[rows["class"] == name].sort_values("class_prob")["object_id"].tolist()
        surest = {star.object_id for star in data.stars if star.class_ == name and star.surest}
        doubtful = {star.object_id for star in data.stars if star.class_ == name and not star.surest}
        assert surest == set(ranked[-STARS:])
        assert doubtful == set(ranked[:STARS])
    for curve in data.light_curves.values():
        assert (np.diff(curve.time) >= 0).all()
        assert (np.abs(curve.mag) < 29).all(), "no sentinel is drawn"
    survey = open_survey(reader.record["survey"])
    for star, curve in data.light_curves.items():
        batch = find_object(survey, str(star)).batch
        folded = fold(batch.light_curves, batch.period, Preprocessing(), survey.source.limits)
        assert curve.used.sum() == folded.n_used[0], "what is drawn as used is what a run counts as used"


def test_aggregates_add_up_to_the_catalog(reader: CatalogReader) -> None:
    data = gather(reader)
    assert sum(int(counts.sum()) for counts in data.sky.values()) == len(reader)
    for name in CLASSES:
        count = reader.record["classes"].get(name, 0)
        assert data.probability[name].sum() == data.entropy[name].sum() == count
        assert len(data.period_amplitude[name]) <= count
    assert data.previous is not None
    assert data.previous.changed["class"] == len(data.changes) or len(data.changes) == 15


def test_where_the_survey_is_gone_the_page_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "catalog", run_name(1), RunSpec(partitions=in_slices(sky_rows(100)), survey=HOSTILE))
    write_bundle(read_bundle(), str(tmp_path / "catalog" / "runs" / run_name(1) / "model"), replace=True)
    write_report(open_catalog(tmp_path / "catalog"), tmp_path / "report.html")
    found = outline(tmp_path / "report.html")
    assert "script" not in found.tags
    assert "The survey is not where it was classified" in found.text
    assert HOSTILE in found.text
    assert "There is no earlier run" in found.text


def test_a_catalog_without_positions_objects_or_model(tmp_path: Path) -> None:
    rows = sky_rows(50)
    nowhere = rows.set_column(1, "ra", pa.nulls(50, pa.float64())).set_column(2, "dec", pa.nulls(50, pa.float64()))
    for name, part in (("nowhere", nowhere), ("empty", rows.slice(0, 0))):
        write_run(tmp_path / name, run_name(1), RunSpec(partitions={"a.parquet": part}))
        write_report(open_catalog(tmp_path / name), tmp_path / f"{name}.html")
        found = outline(tmp_path / f"{name}.html")
        assert "no positions" in found.text
        assert "model is not there" in found.text
        assert found.open == []


def test_a_flow_leaves_its_report_beside_the_runs(reader: CatalogReader) -> None:
    location = write_report(reader)
    assert str(location) == str(report_location(reader)) == str(reader.catalog.root / f"reports/{reader.run_id}.html")
    assert location.is_file()


def test_charts_hold_what_they_are_given() -> None:
    counts = np.array([0, 5, 10], np.int64)
    drawn = histogram(counts, 0, 3, "#123456", "a <b>")
    assert re.findall(r'title="([^"]*)" style="height:([^"]*)"', drawn) == [
        ("0.00 to 1.00: 0", "0.0%"),
        ("1.00 to 2.00: 5", "50.0%"),
        ("2.00 to 3.00: 10", "100.0%"),
    ]
    assert "a &lt;b&gt;" in drawn
    assert histogram(np.zeros(3, np.int64), 0, 1, "#000", "x").count("height:0.0%") == 3
    assert "No object" in scatter({"RR": np.zeros((0, 2))}, {"RR": "#000"})
    points = np.array([[0.0, 0.5], [1.0, 2.0], [1.0, 0.0]])
    assert scatter({"RR": points}, {"RR": "#000"}).count("h0") == 2, "an amplitude of 0 has no logarithm"
    drawn = folded_light_curve(np.array([0.1, 0.9]), np.full(2, 12.0), "#000", (np.array([0.5]), np.array([15.0])))
    assert (drawn.count("h0"), drawn.count("m-2-2")) == (4, 2), "twice each: observations, and what was dropped"
    assert matrix_table({("a", "a"): 3, ("a", "b"): 1}, ["a", "b"], "x").count("<td") == 4
    assert bars([("x_y", 0, "0"), ("z", 2, "2")], "#000", total=2).count('class="bar"') == 1
    assert "width:100.00%" in bars([("z", 2, "2")], "#000")
    sky = np.zeros((60, 120), np.int64)
    sky[30, 0] = 7
    assert "data:image/png;base64," in sky_map(sky, "one cell")


PROBE = """<!doctype html><body style="margin:0">
<iframe id="f" src="{page}" width="{width}" height="900" style="border:0"></iframe><script>
document.getElementById("f").onload = function () {{
  const w = this.contentWindow, d = w.document, box = e => e.getBoundingClientRect();
  const texts = [...d.querySelectorAll("svg text")].map(e => box(e).height).filter(h => h > 0);
  const seen = document.createElement("pre");
  seen.id = "seen";
  seen.textContent = JSON.stringify({{
    title: d.title, wide: d.documentElement.scrollWidth, client: d.documentElement.clientWidth,
    loaded: w.performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:")),
    svgs: [...d.querySelectorAll("svg")].map(e => [box(e).width, box(e).height]),
    smallest: Math.min(...texts), body: parseFloat(w.getComputedStyle(d.body).fontSize),
    sections: [...d.querySelectorAll("section")].map(e => box(e).height),
    images: [...d.querySelectorAll("image")].length
  }});
  document.body.append(seen);
}};
</script></body>"""


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_real_browser(page: Path, tmp_path: Path, width: int) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs a headless browser: apt-get install chromium")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(page=page.as_uri(), width=width))
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-web-security",
        "--allow-file-access-from-files",
    ]
    options += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--disable-background-networking",
        "--virtual-time-budget=8000",
    ]
    command = [chromium, *options, "--window-size=1400,1000", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    match = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)
    assert match, done.stderr[-2000:]
    seen = json.loads(match.group(1).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert run_name(2) in seen["title"]
    assert seen["loaded"] == []
    assert seen["wide"] <= seen["client"] <= width, "nothing sticks out to the side"
    assert len(seen["sections"]) == len(SECTIONS)
    assert min(seen["sections"]) > 60
    assert all(w > 100 and h > 40 for w, h in seen["svgs"])
    assert seen["images"] >= 2
    assert seen["smallest"] >= 8, "texts of charts stay legible"
    assert seen["body"] >= 16
