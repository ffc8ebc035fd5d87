"""A catalog in a notebook: conditions and parameters as text, polars, astropy's positions, files for other tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table

from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from varstar_batch.catalog.cone import cone_of
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.errors import InputError

ROWS = sky_rows(600, seed=8)
FORMATS = ("vot", "fits", "ecsv")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("python") / "catalog"
    for number in (1, 2):
        write_run(root, run_name(number), RunSpec(partitions=in_slices(ROWS), row_group_rows=100))
    return root


@pytest.fixture(scope="module")
def reader(root: Path) -> CatalogReader:
    return open_catalog(root)


def test_a_condition_may_be_sql(reader: CatalogReader) -> None:
    asked = pc.field("class_prob") > 0.9
    expected = reader.to_arrow(["object_id", "class", "ra"], asked).sort_by("object_id")
    found = reader.to_arrow(["object_id", "class", "ra"], "class_prob > 0.9 -- sure").sort_by("object_id")
    assert found.equals(expected)
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert 0 < len(expected) < len(ROWS)
    assert reader.to_pandas(where="class = 'RR'")["class"].unique().tolist() == ["RR"]
    assert str(reader.to_astropy(["ra"], "class IS NULL")["ra"].unit) == "deg"
    assert sum(map(len, reader.to_batches(["ra"], "true"))) == len(ROWS)
    with pytest.raises(InputError, match=r"columns of the catalog: object_id.*'clas'"):
        reader.to_arrow(["clas"])
    with pytest.raises(InputError, match="probability"):
        reader.to_arrow(where="probability > 0.9")
    with pytest.raises(InputError, match="nothing but the catalog"):
        reader.to_arrow(where="object_id IN (SELECT 1 FROM read_csv('/etc/passwd'))")


def test_polars(reader: CatalogReader) -> None:
    pytest.importorskip("polars")
    frame = reader.to_polars(["object_id", "class"], "class = 'RR'")
    assert frame["class"].unique().to_list() == ["RR"]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT count(*) AS n FROM catalog WHERE class = ?", ["RR"]),
        ("SELECT count(*) AS n FROM catalog WHERE class = $label", {"label": "RR"}),
        ("SELECT count(*) AS n FROM catalog WHERE class = ANY(?)", [["RR"]]),
    ],
)
def test_sql_takes_parameters(reader: CatalogReader, sql: str, parameters: Any) -> None:
    expected = pc.sum(pc.equal(ROWS["class"], "RR")).as_py()
    assert reader.query(sql, parameters)["n"].to_pylist() == [expected]
    hostile = "RR' OR true --"
    assert reader.query("SELECT count(*) AS n FROM catalog WHERE class = ?", [hostile])["n"].to_pylist() == [0]
    limit = np.float64(0.5)
    assert reader.query("SELECT count(*) AS n FROM catalog WHERE class_prob < ?", [limit])["n"][0].as_py() > 0


@pytest.mark.parametrize("parameters", [[], ["a", "b"], {"x": 1}, [object()]], ids=["none", "two", "named", "object"])
def test_parameters_that_do_not_fit(reader: CatalogReader, parameters: Any) -> None:
    with pytest.raises(InputError, match="SQL: expected"):
        reader.query("SELECT count(*) FROM catalog WHERE class = ?", parameters)


@pytest.mark.parametrize(
    "asked",
    [
        (83.633, 22.0145, 20),
        ("83.633", "22.0145", "20"),
        ("05:34:31.92", "+22:00:52.2", "20"),
        ("5h34m31.92s", "22d00m52.2s", "1200arcmin"),
        ("05 34 31.92", "22 00 52.2", 20 * u.deg),
        (83.633 * u.deg, 22.0145 * u.deg, Angle(20, "deg")),
        (SkyCoord(83.633, 22.0145, unit="deg"), 20 * u.deg),
        (SkyCoord(83.633, 22.0145, unit="deg").galactic, 20 * u.deg),
    ],
    ids=["degrees", "texts", "colons", "letters", "blanks", "quantities", "SkyCoord", "galactic"],
)
def test_a_cone_takes_positions_as_people_have_them(reader: CatalogReader, asked: tuple[Any, ...]) -> None:
    expected = reader.cone(83.633, 22.0145, 20)
    assert expected.num_rows > 3
    found = reader.cone(*asked)
    assert found["object_id"].equals(expected["object_id"])
    assert np.allclose(found["separation"], expected["separation"], atol=1e-3)


def test_a_cone_of_a_skycoord_and_a_named_radius(reader: CatalogReader) -> None:
    center = SkyCoord(83.633, 22.0145, unit="deg")
    assert reader.cone(center, radius=20 * u.deg).num_rows == reader.cone(center, 20).num_rows


@pytest.mark.parametrize("asked", [("north", 0, 1), (10, "twelve", 1), (10, 20, None), (10, None, 1), (10, 20, "1 kg")])
def test_what_is_no_angle(asked: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="expected an angle"):
        cone_of(*asked)


def test_it_says_what_it_is(reader: CatalogReader) -> None:
    text = repr(reader)
    assert f"{len(ROWS)} of {len(ROWS)} objects in" in text
    assert str(reader.path) in text
    assert "RR " in text
    assert "<td>" in reader._repr_html_()
    runs = reader.runs()
    assert runs["state"].tolist() == ["published", "current"]
    assert runs["objects"].tolist() == [len(ROWS)] * 2
    assert run_name(1) in repr(runs)


def check_with_astropy(path: Path, rows: int) -> None:
    table = Table.read(path, format={".vot": "votable", ".fits": "fits", ".ecsv": "ascii.ecsv"}[path.suffix])
    assert len(table) == rows
    assert str(table["ra"].unit) == "deg"
    known = {str(row["object_id"]): row for row in ROWS.to_pylist()}
    for row in table:
        expected = known[str(row["object_id"])]
        assert str(row["class"] or "").replace("--", "") == (expected["class"] or "")
        if expected["ra"] is not None:
            assert row["ra"] == expected["ra"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("command", ["query", "cone", "show"])
def test_other_tools_get_files_with_units(varstar, root: Path, tmp_path: Path, form: str, command: str) -> None:
    out = tmp_path / f"answer.{form}"
    star = ROWS["object_id"][0].as_py()
    words = {
        "query": ["query", root, "SELECT * FROM catalog"],
        "cone": ["cone", root, "--ra", "05:34:31.92", "--dec", "-22:00:52", "--radius", "1800arcmin"],
        "show": ["show", root, star],
    }[command]
    done = varstar(*words, "-o", out)
    assert done.code == 0, done
    rows = {"query": len(ROWS), "show": 2}.get(command)
    check_with_astropy(out, rows if rows is not None else int(done.err.split()[0].replace(",", "")))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    content = out.read_bytes()
    assert b"pos.eq.ra" in content
    if command == "show":
        assert set(Table.read(out, format="votable" if form == "vot" else None)["run"]) == {run_name(1), run_name(2)}


def test_parquet_of_a_question_keeps_units(varstar, root: Path, tmp_path: Path) -> None:
    assert (
        varstar("query", root, "SELECT ra, count(*) AS n FROM catalog GROUP BY ra", "-o", tmp_path / "a.parquet").code
        == 0
    )
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.field("ra").metadata[b"unit"] == b"deg"
    assert not schema.field("n").metadata or b"unit" not in schema.field("n").metadata


@pytest.mark.parametrize("form", FORMATS)
def test_awkward_answers(varstar, root: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"answer.{form}"
    sql = (
        "SELECT 1::UBIGINT AS big, NULL::INT AS n, NULL::BOOL AS b, true AS yes, 'é' AS text, 1 AS twice, 2 AS twice, "
        "DATE '2026-11-28' AS day, 1.5::DECIMAL(4, 1) AS d"
    )
    assert varstar("query", root, sql, "-o", out).code == 0
    table = Table.read(out, format={"vot": "votable", "fits": "fits", "ecsv": "ascii.ecsv"}[form])
    assert table["twice_2"][0] == 2
    assert table["n"].mask[0]
    assert bool(table["yes"][0])
    assert str(table["day"][0]) == "2026-11-28"
    assert str(table["text"][0]) == ("\\xe9" if form == "fits" else "é")
    refused = varstar("query", root, "SELECT [1, 2] AS lists", "-o", out)
    assert (refused.code, "lists or structs" in refused.err) == (2, True)
    assert varstar("query", root, "SELECT * FROM catalog WHERE false", "-o", out).code == 0


@pytest.mark.skipif(shutil.which("stilts") is None, reason="STILTS (Debian package stilts) is not installed")
@pytest.mark.parametrize("form", ["vot", "fits"])
def test_stilts_reads_them(varstar, root: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"answer.{form}"
    assert varstar("query", root, "SELECT * FROM catalog ORDER BY object_id", "-o", out).code == 0

    def tpipe(*options: str) -> str:
        words = ["stilts", "tpipe", f"in={out}", *options, "ofmt=csv"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    meta = {line.split(",")[0]: line for line in tpipe("cmd=meta name units ucd").splitlines()}
    assert meta["period"] == "period,d,time.period"
    assert meta["ra"] == "ra,deg,pos.eq.ra;meta.main"
    lines = tpipe('cmd=keepcols "object_id class carried"').splitlines()[1:]
    rows = ROWS.sort_by("object_id").select(["object_id", "class"]).to_pylist()
    assert lines == [f"{row['object_id']},{row['class'] or ''},false" for row in rows]
