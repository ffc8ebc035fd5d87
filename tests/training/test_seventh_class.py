"""A seventh class needs labels and a training, and no line of code: classes are the bundle's."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.compute as pc
import pytest

from tests.makers.labelled import TINY, labelled_sines, write_labelled
from tests.makers.runs import read_rows
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.training.fitting import recipes

SEVEN = ("ACV", *CLASSES)


@pytest.fixture(autouse=True)
def _tiny_recipe(monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": TINY})


def test_a_seventh_class_is_trained_evaluated_classified_published_and_found(varstar, tmp_path):
    stars = labelled_sines(210, others=10, classes=SEVEN)
    survey, model, catalog = write_labelled(tmp_path / "seven", stars), tmp_path / "model", tmp_path / "catalog"
    words = ("--architecture", "tiny", "--folds", 2, "--min-per-class", 10)
    six = varstar("train", survey, "--out", tmp_path / "six", *words)
    assert six.code == 0, six
    assert "Left out, of kinds that are no class of the model: 30 objects ('ACV' 30)" in " ".join(six.err.split())
    assert read_bundle(tmp_path / "six").contract.classes == CLASSES
    trained = varstar("train", survey, "--out", model, *words, "--classes", ",".join(SEVEN))
    assert trained.code == 0, trained
    assert "Left out" not in trained.err
    assert read_bundle(model).contract.classes == SEVEN
    judged = varstar("evaluate", model, survey, "--json")
    assert list(json.loads(judged.out)["by_class"]) == list(SEVEN)

    ran = varstar("classify", survey, catalog, "--model", model, "--workers", 0)
    assert ran.code == 0, ran
    rows = read_rows(catalog)
    assert [name for name in rows.column_names if name.startswith("prob_")] == [f"prob_{name}" for name in SEVEN]
    probabilities = np.stack([rows[f"prob_{name}"].to_numpy() for name in SEVEN], axis=1)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert rows["class"].to_pylist() == np.array(SEVEN)[probabilities.argmax(axis=1)].tolist()
    found = pc.sum(pc.equal(rows["class"], "ACV")).as_py()
    assert found > 20
    # Its parent is itself, as the bundle says, and so are those of the others but for M and SR.
    assert set(pc.unique(rows["parent"]).to_pylist()) == {"ACV", "CEP", "DSCUT", "ECL", "LPV", "RR"}
    assert set(pc.unique(rows["subclass"]).to_pylist()) == {None}
    counted = varstar("query", catalog, "SELECT count(*) AS n FROM catalog WHERE class = 'ACV'", "--format", "json")
    assert (counted.code, json.loads(counted.out)) == (0, [{"n": found}]), counted
    assert varstar("verify", catalog).code == 0
