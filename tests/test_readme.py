"""Every command that the README and the page about one's own survey show is one that works."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varstar_batch.cli import main
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.runs.config import RunConfig, validate_config
from varstar_batch.simulation.survey import write_simulated_survey
from varstar_batch.training.judging.card import UNSEEN, unseen_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
OWN_SURVEY = (ROOT / "docs/own-survey.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README + OWN_SURVEY, flags=re.S)


def shell_lines() -> list[str]:
    text = "\n".join(block for language, block in BLOCKS if language == "sh")
    # A quoted text may go over several lines.
    return [line for line in re.findall(r'^(?:[^"\n]|"[^"]*")+', text, flags=re.M) if line.strip()]


def test_the_first_two_commands_are_the_two_that_were_promised() -> None:
    assert [shlex.split(line, comments=True) for line in shell_lines()[:2]] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("make")])
def test_make_targets_exist(line: str) -> None:
    command = shlex.split(line, comments=True)
    done = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which everything stands that the README's commands speak of; the commands run in it."""
    folder = tmp_path_factory.mktemp("readme")
    with contextlib.chdir(folder):
        write_simulated_survey("demo/survey", objects=300, partitions=3, seed=1)
        survey = pq.read_table("demo/survey")
        curves = survey["lightcurve"].combine_chunks()
        lengths = curves.field("time").value_lengths().to_numpy()
        columns = {name: curves.field(name).flatten() for name in ("time", "mag", "mag_err")}
        ids = np.repeat(survey["object_id"].to_numpy(), lengths)
        pq.write_table(pa.table({"object_id": ids, **columns}), "observations.parquet")
        time_system = pa.array(["HJD"] * survey.num_rows)
        pq.write_table(survey.drop_columns(["lightcurve"]).append_column("time_system", time_system), "objects.parquet")
        assert run("classify", "demo/survey", "demo/catalog", "--workers", "0") == 0
        yield folder


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(words)
    return int(exited.value.code or 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "line"), list(enumerate(line for line in shell_lines() if line.startswith("varstar")))
)
def test_commands_do_what_they_say(number: int, line: str, workplace: Path) -> None:
    assert Path.cwd() == workplace
    stand_ins = {
        "SURVEY": "demo/survey",
        "CATALOG": f"catalog-{number}",
        "OUT": f"out-{number}",
        "BUNDLE": str(ROOT / "varstar_batch/model/bundles/default"),
        "survey": f"survey-{number}",
    }
    with contextlib.ExitStack() as stack:
        if "--scheduler" in line:
            stand_ins["tcp://127.0.0.1:8786"] = stack.enter_context(scheduler())
        words = shlex.split(line, comments=True)
        if words[1] == "train":
            # 300 stars, once over them: what the command does with thousands takes half an hour.
            stand_ins = {"SURVEY": "demo/survey", "BUNDLE": f"bundle-{number}"}
            words += ["--epochs", "1", "--folds", "0", "--min-per-class", "2"]
        assert run(*(stand_ins.get(word, word) for word in words[1:])) == 0


@contextlib.contextmanager
def scheduler() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster:
        yield cluster.scheduler_address


def test_three_arrays_are_a_class_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len([line for line in text.splitlines() if line]) == 2
    time = np.sort(np.random.default_rng(5).uniform(0, 300, 200))
    mag = 15 + 0.4 * np.sin(2 * np.pi * time / 0.55)
    exec(text, {"time": time, "mag": mag, "mag_err": np.full(200, 0.02)})
    assert re.search(r"\b(CEP|DSCUT|ECL|M|RR|SR)\b", capsys.readouterr().out)


def test_the_configuration_is_valid() -> None:
    (text,) = [block for language, block in BLOCKS if language == "toml"]
    assert validate_config(tomllib.loads(text), "own-survey.md") != RunConfig()


def test_the_figures_of_the_bundle_are_those_of_its_card() -> None:
    contract = read_bundle(None).contract
    metrics: dict[str, Any] = contract.metrics
    folds, unseen = metrics["held_out"], metrics[UNSEEN]
    right = [f"{100 * each['accuracy']:.1f} % / {each['macro']['f1']:.3f}" for each in (folds, unseen)]
    honest = f"{unseen['calibration_error']:.3f} | {unseen['ood_auroc']['mean']:.2f}"
    assert f"| `survey`, which ships | {right[0]} | {right[1]} | {honest} |" in README
    assert README.count(f"{contract.training['n_objects']:,}") == 2  # type: ignore[str-format]
    told = re.findall(r"^\| ([\w+-]+) \| ([\d,]+) \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", unseen_table(unseen), flags=re.M)
    worst = told[0][0]
    told_of_training = " ".join(README.split())
    assert f"the worst of them {worst}, {100 * unseen['by_survey'][worst]['accuracy']:.1f} %" in told_of_training
    assert f"with both as one, {100 * unseen['parents']:.1f} % are right" in told_of_training
    training: dict[str, Any] = contract.training
    assert "judge_epochs" not in training["options"]
    assert f"had {training['recipe']['epochs']} passes, as the bundle's." in told_of_training
    assert f"{len(training['surveys'])} surveys and bands" in README


def test_the_links_lead_somewhere() -> None:
    home = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
    raw = home.replace("github.com", "raw.githubusercontent.com")
    for picture, target in re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", README):
        # Absolute, since the README is read on the package index, too.
        assert target.startswith("https://"), target
        if target.startswith((home, raw)):
            place = f"{raw}/main/" if picture else f"{home}/blob/main/"
            assert target.startswith(place)
            assert (ROOT / target.removeprefix(place)).exists(), target
