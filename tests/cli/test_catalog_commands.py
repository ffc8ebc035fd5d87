"""The commands about catalogs as a stranger uses them: answers for people and programs, one line where it is wrong."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.makers import command_line
from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from tests.makers.command_line import Result, exit_code

ROWS = sky_rows(500, seed=2)


@pytest.fixture
def varstar(capfdbinary: pytest.CaptureFixture[bytes]):
    def call(*words: object) -> Result:
        capfdbinary.readouterr()
        code = exit_code(*words)
        captured = capfdbinary.readouterr()
        return Result(code, captured.out.decode(), captured.err.decode())

    return call


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "catalog"
    write_run(root, run_name(1), RunSpec(partitions=in_slices(ROWS.slice(0, 400))))
    write_run(root, run_name(2), RunSpec(partitions=in_slices(ROWS), model_version="2"))
    return root


def refused(result: Result, code: int, *words: str) -> None:
    """As everywhere, and nothing else is said on the side."""
    command_line.refused(result, code, *words)
    assert len(result.err.splitlines()) == 1, result


def test_query_prints_a_table(varstar, root: Path) -> None:
    result = varstar("query", root, "SELECT class, count(*) AS n FROM catalog WHERE class = 'RR' GROUP BY class")
    assert result.code == 0
    expected = sum(name == "RR" for name in ROWS["class"].to_pylist())
    assert "RR" in result.out
    assert str(expected) in result.out
    assert "1 rows" in result.out


def test_query_says_when_there_is_more(varstar, root: Path) -> None:
    result = varstar("query", root, "SELECT object_id FROM catalog", "--limit", "7")
    assert "first 7 rows" in result.out
    assert "," not in result.out.splitlines()[3], "identifiers have no thousands separators"


@pytest.mark.parametrize("form", ["csv", "json"])
def test_query_for_programs(varstar, root: Path, form: str) -> None:
    result = varstar("query", root, "SELECT object_id, class FROM catalog ORDER BY object_id", "--format", form)
    assert result.code == 0
    rows = json.loads(result.out) if form == "json" else list(csv.DictReader(result.out.splitlines()))
    assert [int(row["object_id"]) for row in rows] == sorted(ROWS["object_id"].to_pylist())


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_query_into_a_file(varstar, root: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"answer.{ending}"
    result = varstar("query", root, "SELECT * FROM catalog", "--out", out)
    assert result.code == 0
    assert "500 rows" in result.err
    assert result.out == ""
    if ending == "parquet":
        assert pq.read_table(out).num_rows == 500
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_another_run_is_queried(varstar, root: Path) -> None:
    sql = "SELECT count(*) AS n FROM catalog"
    assert json.loads(varstar("query", root, sql, "--format", "json", "--run", "previous").out) == [{"n": 400}]
    sql = f"SELECT count(*) AS n FROM catalog_at('{run_name(1)}')"
    assert json.loads(varstar("query", root, sql, "--format", "json").out) == [{"n": 400}]


def test_cone(varstar, root: Path) -> None:
    words = ("cone", root, "--ra", 10, "--dec", -5, "--radius", 40)
    brief = varstar(*words)
    assert brief.code == 0
    rows = json.loads(varstar(*words, "--format", "json").out)
    assert f"{len(rows)} rows" in brief.out
    assert {"separation", "prob_RR", "run_id"} <= rows[0].keys()
    assert all(row["separation"] <= 40 * 3600 for row in rows)


def test_show_prints_one_star_through_all_runs(varstar, root: Path) -> None:
    star = ROWS["object_id"][3].as_py()
    result = varstar("show", root, star)
    assert result.code == 0
    assert result.out.count("object_id") == 2
    assert result.out.index(run_name(2)) < result.out.index(run_name(1)), "the newest first"
    late = varstar("show", root, ROWS["object_id"][450].as_py())
    assert "no such object" in late.out
    entries = json.loads(varstar("show", root, star, "--json").out)
    assert [entry["run_id"] for entry in entries] == [run_name(1), run_name(2)]
    assert entries[0]["row"]["prob_RR"] == pytest.approx(ROWS["prob_RR"][3].as_py())


def test_show_a_star_that_was_not_classified(varstar, root: Path) -> None:
    star = ROWS["object_id"][9].as_py()
    result = varstar("show", root, star)
    assert result.code == 0
    assert "status no_period" in result.out


def test_diff(varstar, root: Path, tmp_path: Path) -> None:
    result = varstar("diff", root, run_name(1), run_name(2), "--out", tmp_path / "changes.parquet")
    assert result.code == 0
    for word in ("appeared", "100", "new_in_survey", "model.version: 1 -> 2", "From (rows) to (columns)"):
        assert word in result.out, word
    assert pq.read_table(tmp_path / "changes.parquet").num_rows == 100
    content = json.loads(varstar("diff", root, "--json", "--limit", 5).out)
    assert content["changed"]["appeared"] == 100
    assert len(content["changes"]) == 5
    assert sum(sum(row.values()) for row in content["matrix"].values()) == 400


def test_runs(varstar, root: Path) -> None:
    result = varstar("runs", root, "--detail")
    assert result.code == 0
    for word in (run_name(1), run_name(2), "current", "toy 2", "classify", "4 chunks"):
        assert word in result.out, word
    content = json.loads(varstar("runs", root, "--json", "--detail").out)
    assert [run["state"] for run in content["runs"]] == ["published", "current"]
    assert len(content["tasks"]) == 4
    assert content["tasks"][0]["seconds"]["classify"] == 0.5


def test_rollback_and_prune(varstar, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_run(tmp_path, run_name(number), RunSpec(partitions={"a.parquet": ROWS.slice(0, 20)}))
    assert "again" in varstar("rollback", tmp_path, "previous").out
    assert json.loads(varstar("runs", tmp_path, "--json").out)["runs"][1]["state"] == "current"
    assert f"Would remove run {run_name(1)}" in varstar("prune", tmp_path, "--keep", 1, "--dry-run").out
    assert json.loads(varstar("prune", tmp_path, "--keep", 1, "--json").out) == {"removed": [run_name(1)]}
    assert "Nothing" in varstar("prune", tmp_path, "--keep", 1).out
    refused(varstar("rollback", tmp_path, run_name(2)), 3, "nothing was changed")
    refused(varstar("rollback", tmp_path, run_name(1)), 2, "none of them")
    refused(varstar("prune", tmp_path, "--keep", 0), 2, "--keep")


def test_verify_ends_with_1_and_a_list(varstar, tmp_path: Path) -> None:
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(ROWS)))
    assert varstar("verify", tmp_path).code == 0
    (tmp_path / "runs" / run_name(1) / "dataset" / "part-00002.parquet").unlink()
    result = varstar("verify", tmp_path)
    assert result.code == 1
    assert "part-00002.parquet" in result.out
    findings = json.loads(varstar("verify", tmp_path, "--json").out)["findings"]
    assert [finding["kind"] for finding in findings] == ["lost"]


def test_report(varstar, root: Path, tmp_path: Path) -> None:
    result = varstar("report", root, "--out", tmp_path / "report.html")
    assert result.code == 0
    assert run_name(2) in (tmp_path / "report.html").read_text()


def test_what_is_wrong_gets_one_line(varstar, root: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    (tmp_path / "file").write_text("x")
    for command in (("runs",), ("query", "SELECT 1"), ("verify",), ("show", "1"), ("diff",), ("report",), ("prune",)):
        name, *rest = command
        words = (*rest, "--keep", 1) if name == "prune" else rest
        refused(varstar(name, nothing, *words), 2, "nothing there", "varstar classify")
    refused(varstar("query", root, "DROP VIEW catalog"), 2, "read-only")
    refused(varstar("query", root, "SELECT * FROM read_text('/etc/passwd')"), 2, "nothing but the catalog")
    refused(varstar("query", root, "SELEC"), 2, "syntax error")
    refused(varstar("query", root, "SELECT 1", "--run", "1999"), 2, "varstar runs")
    refused(varstar("query", root, "SELECT 1", "--out", tmp_path / "a.txt"), 2, ".parquet")
    refused(varstar("query", root, "SELECT 1", "--format", "table", "--out", tmp_path / "a.csv"), 2, "terminals")
    refused(varstar("query", root, "SELECT 1", "--out", tmp_path / "file" / "a.csv"), 2, "answer")
    refused(varstar("cone", root, "--ra", 400, "--dec", 0, "--radius", 1), 2, "--ra")
    refused(varstar("cone", root, "--ra", 4, "--dec", 0, "--radius", 0), 2, "--radius")
    refused(varstar("show", root, "M31-V1"), 2, "whole number")
    refused(varstar("show", root, 1), 2, "none of its 2 runs")
    refused(varstar("diff", root, run_name(1), run_name(1)), 2, "twice")
    refused(varstar("diff", root, "1999"), 2, "none of them")
    refused(varstar("report", root, "--out", tmp_path / "file" / "report.html"), 2, "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_an_answer_goes_through_a_pipe(root: Path) -> None:
    """A reader that goes away early, as `head` does, is no error."""
    sql = "SELECT a.object_id FROM catalog a, catalog b"
    command = f"{sys.executable} -m varstar_batch query '{root}' '{sql}' --format csv | head -n 3"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=120)
    assert len(done.stdout.splitlines()) == 3
    assert "Traceback" not in done.stderr


def test_a_question_waits_for_nothing_that_it_does_not_need(root: Path) -> None:
    loaded = {
        "pandas",
        "pyarrow.dataset",
        "scipy",
        "astropy",
        "dask",
        "varstar_batch.survey.open",
        "varstar_batch.model.bundle",
    }
    code = (
        "import sys\nfrom varstar_batch.cli import main\ntry: main(sys.argv[1:])\n"
        f"except SystemExit as end: print('loaded', end.code, *sorted({loaded!r} & set(sys.modules)))"
    )
    words = ["query", str(root), "SELECT count(*) AS n FROM catalog"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.rsplit("loaded", 1)[1].split() == ["0"]
