"""The command line as a stranger uses it: right, and wrong in every way that the design names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.command_line import refused
from tests.makers.runs import start
from tests.makers.surveys import simulated_table, write_partition, write_survey
from varstar_batch._version import __version__
from varstar_batch.model.bundle_files import read_bundle, write_bundle
from varstar_batch.runs.execute import InProcess
from varstar_batch.runs.stages import RunObserver, execute_run


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("cli") / "survey")


def test_version_and_help(varstar) -> None:
    assert varstar("--version").out == f"varstar-batch {__version__}\n"
    text = varstar("--help").out
    for command in ("demo", "simulate", "ingest", "fold", "classify"):
        assert command in text


def test_classify_and_again(varstar, survey: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    first = varstar("classify", survey, catalog, "--workers", 0)
    assert first.code == 0, first
    assert "120 light curves in, 120 rows out" in first.out
    assert "Classifying: 120 of 120 (100%) light curves" in first.err
    assert "Agreement with the survey's own classes" in first.out
    again = varstar("classify", survey, catalog, "--workers", 0)
    assert (again.code, "up to date" in again.out) == (0, True)


def test_a_run_that_had_all_but_its_end_says_so(varstar, survey: Path, tmp_path: Path) -> None:
    prepared = start(survey, tmp_path / "catalog")
    execute_run(prepared, InProcess(), RunObserver())
    resumed = varstar("classify", survey, tmp_path / "catalog", "--workers", 0)
    assert resumed.code == 0, resumed
    assert "120 rows out; nothing was left to classify (" in resumed.out
    assert "Classifying: 120 of 120 (100%) light curves" in resumed.err
    assert "0 light curves/s" not in varstar("runs", tmp_path / "catalog").out + resumed.out + resumed.err


def test_json_is_json_and_nothing_else(varstar, survey: Path, tmp_path: Path) -> None:
    result = varstar("classify", survey, tmp_path / "catalog", "--workers", 0, "--json")
    record = json.loads(result.out)
    assert record["rows"] == 120


def test_plan_writes_nothing(varstar, survey: Path, tmp_path: Path) -> None:
    result = varstar("classify", survey, tmp_path / "catalog", "--plan")
    assert result.code == 0, result
    assert "120" in result.out
    assert "part-00002.parquet" in result.out
    assert not (tmp_path / "catalog").exists()
    plan = json.loads(varstar("classify", survey, tmp_path / "catalog", "--plan", "--json").out)
    assert plan["objects"] == 120
    assert len(plan["files"]) == 3
    assert len(plan["fingerprint"]) == 64


def test_fold_options_reach_the_curves(varstar, survey: Path, tmp_path: Path) -> None:
    words = ("fold", survey, tmp_path / "curves", "--phase-zero", "maximum", "--scale", "minmax")
    assert varstar(*words).code == 0
    table = pq.read_table(tmp_path / "curves")
    assert table.num_rows == 120
    assert table.column_names == ["object_id", "status", "n_obs", "n_used", "amplitude", "curve"]
    assert table.schema.field("curve").type == pa.list_(pa.float32(), 512)
    ok = table.filter(pa.compute.equal(table["status"], "ok"))
    curves = np.stack(ok["curve"].to_pylist())
    assert (curves.min(axis=1) == 0).all()
    assert (curves.max(axis=1) == 1).all()
    assert ok.num_rows < 120
    assert table["curve"].null_count == 120 - ok.num_rows
    # At phase 0 the star is at its brightest: the smallest magnitude.
    assert np.median(curves[:, 0]) == 0


def test_fold_records_a_bad_partition(varstar, tmp_path: Path) -> None:
    folder = write_survey(tmp_path / "survey", (20, 20))
    (folder / "part-00001.parquet").write_bytes(b"not Parquet at all")
    result = varstar("fold", folder, tmp_path / "curves")
    assert result.code == 1, result
    assert "part-00001.parquet" in result.err
    assert pq.read_table(tmp_path / "curves").num_rows == 20


def test_simulate_then_ingest_then_classify(varstar, tmp_path: Path) -> None:
    objects = simulated_table(0, 30)
    curves = objects["lightcurve"].combine_chunks()
    lengths = curves.field("time").value_lengths().to_numpy()
    columns = {name: curves.field(name).flatten() for name in ("time", "mag", "mag_err")}
    ids = np.repeat(objects["object_id"].to_numpy(), lengths)
    pq.write_table(pa.table({"object_id": ids, **columns}), tmp_path / "observations.parquet")
    pq.write_table(objects.drop_columns(["lightcurve"]), tmp_path / "objects.parquet")
    words = (
        "ingest",
        tmp_path / "observations.parquet",
        tmp_path / "survey",
        "--objects",
        tmp_path / "objects.parquet",
    )
    refused(varstar(*words), 2, "time system")
    assert varstar(*words, "--time-system", "HJD").code == 0
    result = varstar("classify", tmp_path / "survey", tmp_path / "catalog", "--workers", 0, "--json")
    assert json.loads(result.out)["rows"] == 30


def test_a_folder_with_no_parquet(varstar, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(varstar("classify", tmp_path / "empty", tmp_path / "catalog"), 2, "Parquet", str(tmp_path / "empty"))
    refused(varstar("classify", tmp_path / "none", tmp_path / "catalog"), 2, str(tmp_path / "none"))
    assert not (tmp_path / "catalog").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.rename_columns({"period": "perod"}), ["period", "perod"]),
        (lambda table: table.set_column(3, "period", pa.array(["long"] * table.num_rows)), ["period", "string"]),
        (lambda table: table.drop_columns(["lightcurve"]), ["lightcurve"]),
        (lambda table: table.drop_columns(["object_id"]), ["object_id"]),
    ],
)
def test_a_missing_or_mistyped_column(varstar, tmp_path: Path, change, words) -> None:
    (tmp_path / "survey").mkdir()
    pq.write_table(change(simulated_table(0, 10)), tmp_path / "survey" / "a.parquet")
    refused(varstar("classify", tmp_path / "survey", tmp_path / "catalog", "--workers", 0), 2, *words)
    assert not (tmp_path / "catalog").exists()


def test_nothing_that_can_be_read(varstar, tmp_path: Path) -> None:
    (tmp_path / "survey").mkdir()
    (tmp_path / "survey" / "a.parquet").write_text("this is not Parquet")
    refused(varstar("classify", tmp_path / "survey", tmp_path / "catalog", "--workers", 0), 2, "Parquet")
    assert not (tmp_path / "catalog").exists()


def test_a_partition_that_is_cut_short(varstar, tmp_path: Path) -> None:
    folder = write_survey(tmp_path / "survey")
    victim = folder / "part-00001.parquet"
    victim.write_bytes(victim.read_bytes()[:-100])
    result = varstar("classify", folder, tmp_path / "catalog", "--workers", 0)
    assert result.code == 1, result
    assert "part-00001.parquet" in result.err
    assert "80 of about 120 objects in; 1 partition failed; " in result.out, result.out


def test_configuration_mistakes(varstar, survey: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("[survey]\nmagnitud = 'mag'\n")
    words = ("classify", survey, tmp_path / "catalog")
    refused(varstar(*words, "--config", config), 2, "magnitud", "did you mean", "mag")
    refused(varstar(*words, "--set", "engin=keras"), 2, "did you mean 'engine'?")
    refused(varstar(*words, "--engine", "tpu"), 2, "engine", "tpu")
    refused(varstar(*words, "--chunk-memory", "lots"), 2, "--chunk-memory", "lots")
    refused(varstar(*words, "--preset", "asassn"), 2, "preset", "asassn")
    refused(varstar("fold", survey, tmp_path / "curves", "--scale", "log"), 2, "scale", "log")
    refused(varstar("fold", survey, tmp_path / "curves", "--phase-zero", "last"), 2, "--phase-zero", "last")
    assert not (tmp_path / "catalog").exists()
    assert not (tmp_path / "curves").exists()


def test_usage_mistakes(varstar, survey: Path, tmp_path: Path) -> None:
    refused(varstar("clasify", survey), 2, "clasify", "Did you mean 'classify'", "varstar --help")
    refused(varstar("classify", survey), 2, "catalog", "--help")
    refused(varstar("classify", survey, tmp_path / "c", "--workers", "many"), 2, "--workers")
    refused(varstar("classify", survey, tmp_path / "c", "--workers", "-1"), 2, "--workers")
    refused(varstar("classify", survey, tmp_path / "c", "--wrokers", "1"), 2, "--wrokers")
    refused(varstar("simulate", tmp_path / "s", "--objects", "0"), 2, "--objects")
    refused(varstar("classify", "ftp6://x", tmp_path / "c"), 2, "ftp6")
    refused(varstar("classify", "s3://key:secret@bucket/x", tmp_path / "c"), 2, "credentials")


def test_bundles_that_do_not_fit(varstar, survey: Path, tmp_path: Path) -> None:
    words = ("classify", survey, tmp_path / "catalog", "--workers", 0, "--model")
    refused(varstar(*words, tmp_path / "none"), 2, "bundle", str(tmp_path / "none"))
    write_bundle(read_bundle(), str(tmp_path / "bundle"))
    weights = tmp_path / "bundle" / "model.keras"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(varstar(*words, tmp_path / "bundle"), 2, "sha256")
    weights.write_bytes(content)
    contract = tmp_path / "bundle" / "bundle.json"
    document = json.loads(contract.read_text())
    # Which classes there are, and their order, is the bundle's to say; not that there are fewer than its network knows.
    fewer = document | {"classes": document["classes"][:-1]}
    contract.write_text(json.dumps(fewer))
    refused(varstar(*words, tmp_path / "bundle"), 2, "family")
    plain = {"temperature": document["calibration"]["temperature"]}
    contract.write_text(json.dumps(fewer | {"family": None, "parent_sets": None, "calibration": plain}))
    refused(varstar(*words, tmp_path / "bundle"), 3, "classes")
    assert not (tmp_path / "catalog").exists()


def test_a_stated_preprocessing_that_is_not_the_models(varstar, survey: Path, tmp_path: Path) -> None:
    words = ("classify", survey, tmp_path / "catalog", "--workers", 0, "--set", "preprocessing.sigma=4.5")
    refused(varstar(*words), 3, "sigma=3.0", "sigma=4.5")
    assert not (tmp_path / "catalog").exists()


def test_outputs_that_cannot_be(varstar, survey: Path, tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("a file")
    for command, what in (("classify", "catalog"), ("fold", "curves")):
        refused(varstar(command, survey, tmp_path / "held"), 2, "thesis.txt")
        refused(varstar(command, survey, tmp_path / "file"), 2, str(tmp_path / "file"))
        refused(varstar(command, survey, tmp_path / "file" / what), 2, str(tmp_path / "file"))
    refused(varstar("simulate", tmp_path / "held", "--objects", 10), 2, "thesis.txt")
    refused(varstar("demo", tmp_path / "held"), 2, "thesis.txt")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "held", "thesis.txt"]


def test_a_scheduler_that_is_not_there(varstar, survey: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("varstar_batch.cluster.client.CONNECT_SECONDS", 1)
    words = ("classify", survey, tmp_path / "catalog", "--scheduler")
    refused(varstar(*words, "tcp://127.0.0.1:9"), 2, "scheduler", "tcp://127.0.0.1:9")
    refused(varstar(*words, "nonsense://x"), 2, "nonsense://x")
    refused(varstar(*words, "tcp://127.0.0.1:9", "--workers", 2), 2, "--workers or --scheduler")
    assert not (tmp_path / "catalog").exists()


def test_a_closed_pipe_is_no_traceback(survey: Path) -> None:
    words = [sys.executable, "-m", "varstar_batch", "classify", str(survey), "unused", "--plan", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_the_partition_left_out_is_not_lost_when_it_is_mended(varstar, tmp_path: Path) -> None:
    folder = write_survey(tmp_path / "survey", (20, 20))
    victim = folder / "part-00001.parquet"
    whole = shutil.copy(victim, tmp_path / "whole.parquet")
    victim.write_bytes(victim.read_bytes()[:500])
    assert varstar("classify", folder, tmp_path / "catalog", "--workers", 0).code == 1
    shutil.copy(whole, victim)
    result = varstar("classify", folder, tmp_path / "catalog", "--workers", 0)
    assert result.code == 0, result
    assert "40 rows out" in result.out


def test_a_partition_written_by_others(varstar, tmp_path: Path) -> None:
    table = simulated_table(0, 60)
    (tmp_path / "survey").mkdir()
    renamed = table.rename_columns({"object_id": "SourceID", "period": "P", "class": "Type"})
    pq.write_table(renamed.drop_columns(["ra", "dec"]), tmp_path / "survey" / "x.parquet", compression="snappy")
    names = ["survey.object_id=SourceID", "survey.period=P", "survey.class=Type"]
    words = [word for name in names for word in ("--set", name)]
    result = varstar("classify", tmp_path / "survey", tmp_path / "catalog", "--workers", 0, "--json", *words)
    assert json.loads(result.out)["rows"] == 60
    write_partition(tmp_path / "canonical" / "x.parquet", table)
    other = varstar("classify", tmp_path / "canonical", tmp_path / "second", "--workers", 0, "--json")
    assert json.loads(other.out)["classes"] == json.loads(result.out)["classes"]


@pytest.mark.parametrize(
    ("ends", "code"),
    [("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('why')", 1), ("pass", 0), ("1 / 0", 1)],
    ids=["exit", "nothing", "text", "return", "error"],
)
def test_a_command_leaves_with_its_code_and_all_that_it_wrote(ends: str, code: int) -> None:
    """It leaves without Python's own end, so that what happens there has to be seen to."""
    script = f"""
import sys
from varstar_batch import cli

def main():
    import atexit
    atexit.register(sys.stdout.write, "last")
    sys.stdout.write("x" * 300_000)
    {ends}

cli.main = main
cli.program()
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "x" * 300_000 + "last")
    assert ("ZeroDivisionError" in done.stderr) == ("1 / 0" in ends)
    assert ("why" in done.stderr) == ("why" in ends)
