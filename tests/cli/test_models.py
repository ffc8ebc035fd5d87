"""`varstar train` and `varstar evaluate` as a stranger uses them, killed in the middle, and refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pytest

from tests.makers.command_line import refused
from tests.makers.labelled import TINY, labelled_sines, texts, write_labelled
from varstar_batch.cli import main
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.training.fitting import recipes

WORDS = ("--architecture", "tiny", "--folds", 2, "--min-per-class", 10)


@pytest.fixture(autouse=True)
def _tiny_recipe(monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": TINY})


@pytest.fixture(scope="module")
def surveys(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("train")
    made = [labelled_sines(180, seed=3, others=30, survey="one"), labelled_sines(120, seed=4, survey="two")]
    made[1].period_source[:] = "derived"
    return [write_labelled(folder / data.survey[0], data) for data in made]


@pytest.fixture(scope="module")
def bundle(surveys, tmp_path_factory) -> Path:
    """A bundle made by the command; whoever wants another trains it."""
    out = tmp_path_factory.mktemp("bundle") / "tiny"
    words = [str(word) for word in ("train", *surveys, "--out", out, *WORDS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "RECIPES", {"tiny": TINY})
        with pytest.raises(SystemExit) as exited:
            main(words)
    assert not exited.value.code
    return out


def is_png(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 5000


def test_a_bundle_with_its_report(bundle):
    assert sorted(path.name for path in bundle.iterdir()) == ["bundle.json", "card.md", "model.keras", "report"]
    report = {path.name: path for path in (bundle / "report").iterdir()}
    assert sorted(report) == [
        "confusion.png",
        "learning.png",
        "light-curves.png",
        "metrics.json",
        "metrics.md",
        "reliability.png",
    ]
    assert all(is_png(path) for name, path in report.items() if name.endswith(".png"))
    measures = json.loads(report["metrics.json"].read_text())
    assert measures["accuracy"] > 0.8
    assert measures["n_others"] == 30
    assert set(measures["by_survey"]) == {"one", "two"}
    assert set(measures["by_period_source"]) == {"made", "derived"}
    assert set(measures["histories"]) == {"fold 1", "fold 2", "all"}
    table = report["metrics.md"].read_text()
    assert "| CEP | 50 |" in table
    assert "equation 1" in table
    assert "![confusion](confusion.png)" in table
    assert read_bundle(bundle).contract.training["surveys"]["two"]["SR"] == 20
    assert not list(bundle.parent.glob("*.training"))


def test_json_is_json_and_nothing_else(varstar, surveys, tmp_path):
    words = ("train", surveys[0], "--out", tmp_path / "b", *WORDS, "--folds", 0, "--epochs", 1, "--json")
    result = varstar(*words)
    assert result.code == 0, result
    assert json.loads(result.out)["n_objects"] == 36
    assert "Training: 2 of 2 (100%) passes" in result.err


def test_surveys_held_out_and_a_network_that_learnt_nothing(varstar, surveys, tmp_path):
    out = tmp_path / "b"
    words = ("train", *surveys, "--out", out, *WORDS, "--folds", 0, "--epochs", 1, "--learning-rate", 1e-9)
    result = varstar(*words, "--unseen")
    assert result.code == 0, result
    assert "On surveys that were held out:" in result.out
    assert "was recognised" in result.err
    card = (out / "card.md").read_text()
    assert "surveys that it has not seen" in card
    weak = card[card.index("- Weak classes on surveys that it has not seen: ") :].splitlines()[0]
    measures = json.loads((out / "report" / "metrics.json").read_text())
    never = [name for name, each in measures["unseen_surveys"]["by_class"].items() if not each["recall"]]
    assert never
    assert all(f"{name} (0.00)" in weak for name in never)
    assert "## On surveys that were held out" in (out / "report" / "metrics.md").read_text()
    refused(varstar(*words, "--unseen", "--together", "one+three", "--replace"), 2, "--together", "among one, two")


def test_evaluate_gives_the_same_measures_by_survey(varstar, surveys, bundle, tmp_path):
    result = varstar("evaluate", bundle, *surveys, "--out", tmp_path / "report", "--json")
    assert result.code == 0, result
    measures = json.loads(result.out)
    assert measures["accuracy"] > 0.9
    assert {name: part["n_objects"] for name, part in measures["by_survey"].items()} == {"one": 180, "two": 120}
    assert measures["n_others"] == 30
    assert "was trained on 300 of these 330 light curves" in result.err
    names = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert names == ["confusion.png", "light-curves.png", "metrics.json", "metrics.md", "reliability.png", "stars.csv"]
    stars = pa_csv.read_csv(tmp_path / "report" / "stars.csv")
    assert stars.num_rows == 330
    right = [one for one in stars["right"].to_pylist() if one is not None]
    assert (len(right), sum(right) / len(right)) == (300, pytest.approx(measures["accuracy"], abs=5e-6))
    assert set(stars.filter(pc.equal(stars["label_class"], ""))["label"].to_pylist()) == {"spotted"}
    new = varstar("evaluate", bundle, write_labelled(tmp_path / "one", labelled_sines(60, seed=8)))
    assert "Macro F1" in new.out
    assert "flatter" not in new.err  # another survey of the same name
    refused(varstar("evaluate", bundle, surveys[0], "--out", tmp_path / "report"), 2, "metrics.json")
    refused(varstar("evaluate", tmp_path / "nothing", surveys[0]), 2, "no bundle.json")


def test_evaluate_without_other_kinds_or_with_light_curves_that_cannot_be_used(varstar, bundle, tmp_path):
    data = labelled_sines(60, seed=9, survey="three")
    data.light_curves.mag[: 60 * 4] = 99.99
    result = varstar("evaluate", bundle, write_labelled(tmp_path / "three", data), "--json")
    measures = json.loads(result.out)
    assert measures["ood_auroc"] is None
    assert measures["unusable"] == {"no_observations": 4}
    data.light_curves.mag[:] = 99.99
    refused(varstar("evaluate", bundle, write_labelled(tmp_path / "four", data)), 2, "that can be classified", "60 ")


def test_one_survey_has_its_own_settings(varstar, surveys, tmp_path):
    words = ("train", *surveys, "--out", tmp_path / "b", *WORDS, "--folds", 0, "--epochs", 1)
    result = varstar(*words, "--set", "two.class=class_original", "--json")
    assert result.code == 0, result
    assert "nobody knows what their labels mean: 120 objects ('known' 120)" in result.err


def test_refusals(varstar, surveys, bundle, tmp_path):
    out = tmp_path / "out"
    words = ("train", surveys[0], "--out", out, *WORDS)
    refused(varstar(*words, "--min-per-class", 31), 2, "two classes or more", "no class only")
    refused(varstar(*words, "--folds", 31), 2, "at least 31 stars of each class", "30 of CEP")
    refused(varstar(*words, "--architecture", "resnet"), 2, "one of tiny", "'resnet'")
    refused(varstar("train", tmp_path / "none", "--out", out, *WORDS), 2, "nothing there")
    refused(varstar("train", surveys[0], "--out", bundle, *WORDS), 2, "one with bundle.json", "--replace")
    refused(varstar("train", surveys[0], "--out", surveys[0], *WORDS, "--replace"), 2, "one with part-00000.parquet")
    unknown = labelled_sines(60, survey="bad")
    bad = write_labelled(tmp_path / "bad", unknown, **{"class": ["odd"] * 60})
    refused(varstar("train", bad, "--out", out, *WORDS), 2, "'odd' 60", "[labels]")
    one = labelled_sines(120).take(np.arange(0, 120, 6))
    refused(varstar("train", write_labelled(tmp_path / "cep", one), "--out", out, *WORDS), 2, "got CEP 20 only")
    rare = labelled_sines(120).take(np.flatnonzero(np.arange(120) % 6 != 4))
    rare.object_id[:] = texts(range(100))
    path = write_labelled(tmp_path / "rare", rare)
    refused(varstar("train", path, "--out", out, *WORDS), 2, "got RR 0", "--drop-rare-classes")
    assert not out.exists()
    assert not list(tmp_path.glob("*.training"))


def test_replacing_a_bundle(varstar, surveys, bundle, tmp_path):
    out = tmp_path / "old"
    words = ("train", surveys[0], "--out", out, *WORDS, "--folds", 0, "--epochs", 1)
    shutil.copytree(bundle, out)
    before = read_bundle(out).hash
    refused(varstar(*words), 2, "--replace")
    result = varstar(*words, "--replace", "--seed", 7)
    assert result.code == 0, result
    assert read_bundle(out).hash != before


def test_stars_are_asked_for_labelled_and_learned_from(varstar, surveys, bundle, tmp_path):
    catalog, asked = tmp_path / "catalog", tmp_path / "asked.csv"
    assert varstar("classify", surveys[1], catalog, "--model", bundle, "--workers", 0).code == 0
    assert varstar("ask", catalog, "--n", 60, "--out", asked).code == 0
    table = pa_csv.read_csv(asked)
    assert table.column_names[:6] == ["object_id", "ra", "dec", "period", "amplitude", "class"]
    assert len(set(table["object_id"].to_pylist())) == 60
    out = tmp_path / "tuned"
    words = ("train", surveys[1], "--from", bundle, "--labels", asked, "--out", out)
    refused(varstar(*words), 2, "stars with a label")
    survey = labelled_sines(120, seed=4, survey="two")
    class_of = {name: survey.classes[code] for name, code in zip(survey.object_id, survey.class_code, strict=True)}
    labels = pa.array([class_of[name] for name in table["object_id"].to_pylist()])
    pa_csv.write_csv(table.set_column(5, "class", labels), asked)
    result = varstar(*words, "--name", "tuned")
    assert result.code == 0, result
    assert "Bundle tuned-" in result.out
    contract = read_bundle(out).contract
    assert contract.training["n_objects"] == 60
    assert contract.training["from"]["hash"] == read_bundle(bundle).hash
    assert varstar("ask", catalog, "--n", 100, "--labels", asked, "--out", tmp_path / "next.csv").code == 0
    again = pa_csv.read_csv(tmp_path / "next.csv")["object_id"].to_pylist()
    assert len(again) == 60
    assert not set(again) & set(table["object_id"].to_pylist())
    refused(varstar(*words, "--replace", "--epochs", 3), 2, "--epochs 3", "leave them out")
    refused(varstar("train", surveys[1], "--from", tmp_path / "none", "--out", tmp_path / "x"), 2, "a bundle")
    refused(varstar("ask", catalog, "--n", 0), 2, "--n")


KILLED = """
import os
import signal
import sys
from tests.makers.labelled import TINY
from varstar_batch.training.fitting import recipes
from varstar_batch.training.fitting.checkpoints import WorkFolder
recipes.RECIPES = {"tiny": TINY}
write = WorkFolder.write
def die_after_the_third(self, name, content):
    write(self, name, content)
    if name == "fold-2.npz":
        os.kill(os.getpid(), signal.SIGKILL)
WorkFolder.write = die_after_the_third
from varstar_batch.cli import main
main(sys.argv[1:])
"""


def test_a_training_that_is_killed_goes_on_and_ends_the_same(varstar, surveys, bundle, tmp_path):
    out = tmp_path / "again"
    words = [str(word) for word in ("train", *surveys, "--out", out, *WORDS)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], stderr=subprocess.DEVNULL, check=False)
    assert killed.returncode == -signal.SIGKILL
    work = Path(f"{out}.training")
    assert not out.exists()
    refused(varstar(*words, "--seed", 5), 3, "seed 1 instead of 5", "--fresh")
    result = varstar(*words)
    assert result.code == 0, result
    assert "Going on: 3 networks" in result.err
    again, expected = read_bundle(out), read_bundle(bundle)
    assert again.contract.metrics == expected.contract.metrics
    assert again.keras_file == expected.keras_file
    assert not work.exists()
