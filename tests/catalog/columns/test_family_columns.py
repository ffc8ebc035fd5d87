"""Parents and subclasses in catalog rows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.makers.models import FAMILY, family_bundle, make_bundle, survey_model
from tests.makers.runs import OPEN_GATE, read_rows, run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.features import FEATURES
from varstar_batch.model.bundle_files import write_bundle
from varstar_batch.report.data import MiraLine, gather
from varstar_batch.report.page import build_page
from varstar_batch.runs.config import RunConfig

COLUMNS = ("parent", "parent_prob", "subclass", "subclass_prob", "parents_95", "parents_99")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("survey"))


def rows_of(survey, folder, bundle):
    write_bundle(bundle, folder / "model")
    run(survey, folder / "catalog", model=folder / "model")
    return read_rows(folder / "catalog")


def test_parents_are_sums_subclasses_are_of_the_class_and_sets_hold_the_most_probable(survey, tmp_path):
    rows = rows_of(survey, tmp_path, family_bundle())
    ok = np.array(rows["status"].to_pylist()) == "ok"
    assert 100 < ok.sum() < len(ok)
    for name in COLUMNS[:2] + COLUMNS[4:]:
        np.testing.assert_array_equal(np.array([value is not None for value in rows[name].to_pylist()]), ok)
    probabilities = {name: rows[f"prob_{name}"].to_numpy()[ok].astype(float) for name in CLASSES}
    sums = {
        parent: sum(probabilities[name] for name in CLASSES if FAMILY.parents[name] == parent)
        for parent in dict.fromkeys(FAMILY.parents.values())
    }
    best = np.array(list(sums))[np.stack(list(sums.values())).argmax(axis=0)]
    found = rows.filter(pa.array(ok))
    assert found["parent"].to_pylist() == best.tolist()
    np.testing.assert_allclose(found["parent_prob"].to_numpy(), np.stack(list(sums.values())).max(axis=0), atol=1e-6)
    assert len(set(best)) > 2
    for row in found.to_pylist():
        subclasses = FAMILY.subclasses.get(row["class"])
        assert (row["subclass"] is None) == (row["subclass_prob"] is None) == (subclasses is None)
        if subclasses:
            assert row["subclass"] in subclasses
            assert 1 / len(subclasses) - 1e-6 <= row["subclass_prob"] / row["class_prob"] <= 1 + 1e-6
        few, many = (set(row[name].split("|")) for name in ("parents_95", "parents_99"))
        assert row["parent"] in few <= many
    expected = {parent for parent, values in sums.items() if values[0] >= 0.05}
    assert set(found["parents_99"][0].as_py().split("|")) == expected


def test_a_bundle_that_knows_no_family_gives_nulls(survey, tmp_path):
    plain = make_bundle(survey_model(), architecture="survey", features=FEATURES, ood=None)
    rows = rows_of(survey, tmp_path, plain)
    assert rows["class"].null_count < 100
    assert {name: rows[name].null_count for name in COLUMNS} == dict.fromkeys(COLUMNS, rows.num_rows)


def test_a_survey_may_say_which_amplitude_makes_a_mira(survey, tmp_path, varstar):
    own = rows_of(survey, tmp_path / "own", family_bundle())
    amplitude = own["amplitude"].to_numpy()
    line = float(np.nanmedian(amplitude[np.isin(own["class"].to_pylist(), ["M", "SR"])]))
    catalog = tmp_path / "told"
    done = varstar(
        *("classify", survey, catalog, "--model", tmp_path / "own/model", "--workers", 0, "--mira-amplitude", line)
    )
    assert done.code == 0, done
    told = read_rows(catalog)
    kinds = set()
    for before, row in zip(own.to_pylist(), told.to_pylist(), strict=True):
        same = ("parent", "prob_RR", "ood_score", "parents_95", "amplitude")
        assert {name: row[name] for name in same} == {name: before[name] for name in same}
        if row["class"] in {"M", "SR"}:
            assert row["class"] == ("M" if row["amplitude"] >= line else "SR")
            assert row["class_prob"] == pytest.approx(before["prob_M"] + before["prob_SR"], abs=1e-6)
            assert min(row["prob_M"], row["prob_SR"]) == 0
            kinds.add((before["class"], row["class"]))
    assert len(kinds) > 2
    assert varstar("verify", catalog).code == 0
    found = gather(open_catalog(str(catalog)))
    lpv = told.filter(pc.is_in(told["class"], pa.array(["M", "SR"])))
    near = int(np.sum(np.abs(lpv["amplitude"].to_numpy().astype(float) - line) <= 0.3))
    assert found.mira_line == MiraLine(line, chosen=True, near=near, total=lpv.num_rows)
    assert found.families["subclass"]["RRAB"] == pc.sum(pc.equal(told["subclass"], "RRAB")).as_py()
    assert f"within 0.3 mag of {line:g} mag" in build_page(found)
    assert "By subclass" in build_page(found)


def test_show_and_diff_tell_of_parents_and_subclasses(survey, tmp_path, varstar):
    catalog = tmp_path / "catalog"
    runs = []
    for seed in (0, 1):
        write_bundle(family_bundle(seed), tmp_path / f"model-{seed}")
        run(survey, catalog, model=tmp_path / f"model-{seed}", config=RunConfig(gate=OPEN_GATE))
        runs.append(read_rows(catalog))
    before, after = (rows.to_pylist() for rows in runs)
    star = next(row for row in after if row["subclass"])
    shown = varstar("show", catalog, star["object_id"]).out
    assert f"parent {star['parent']} {star['parent_prob']:.4f}, subclass {star['subclass']}" in shown
    assert f"may be, at 95 % {star['parents_95'].replace('|', ' or ')}, at 99 % " in shown
    told = json.loads(varstar("diff", catalog, before[0]["run_id"], after[0]["run_id"], "--json").out)
    expected = {
        name: sum(
            a[name] is not None and b[name] is not None and a[name] != b[name]
            for a, b in zip(before, after, strict=True)
        )
        for name in ("parent", "subclass")
    }
    assert told["families"] == expected
    assert expected["parent"] > 0
    sql = "SELECT count(*) AS n FROM catalog WHERE list_contains(string_split(parents_99, '|'), 'LPV')"
    (counted,) = json.loads(varstar("query", catalog, sql, "--format", "json").out)
    assert counted["n"] == sum("LPV" in (row["parents_99"] or "") for row in after) > 0
    change = told["changes"][0]
    assert {"parent_a", "parent_b", "subclass_a", "subclass_b"} <= set(change)


def test_an_amplitude_that_divides_nothing_is_refused(survey, tmp_path, varstar):
    two = make_bundle(survey_model(), architecture="survey", features=FEATURES, ood=None, classes=tuple("ABCDEF"))
    write_bundle(two, tmp_path / "model")
    words = ("classify", survey, tmp_path / "catalog", "--model", tmp_path / "model", "--mira-amplitude", 2.5)
    done = varstar(*words)
    assert done.code == 2
    assert "--mira-amplitude: expected a model with the classes M and SR" in " ".join(done.err.split())
    assert not (tmp_path / "catalog").exists()
