"""Parents and subclasses: what labels say of them, what a network learns of it, and how good and honest that is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.makers.labelled import TINY, labelled_sines, sine_light_curves, texts
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.model.answers import answers_of, class_logits, parent_probabilities, sets_of_parents
from varstar_batch.model.bundle import parse_bundle
from varstar_batch.model.family import Calibration, Family, Outputs, check_family
from varstar_batch.survey.labels import kinds_of, parent_of
from varstar_batch.training.evaluate import gather_evidence
from varstar_batch.training.fitting import recipes
from varstar_batch.training.fitting.calibration import fit_calibration, fit_parent_sets, fit_temperature
from varstar_batch.training.judging.family_measures import set_measures, subclass_measures
from varstar_batch.training.judging.measures import judge
from varstar_batch.training.options import TrainingOptions
from varstar_batch.training.plan import plan_training
from varstar_batch.training.stars import subclasses
from varstar_batch.training.stars.ranges import mira_lines, ranges_of
from varstar_batch.training.stars.subclasses import allowed_leaves, find_family, set_loss
from varstar_batch.training.train import train

FAMILY = Family(
    parents={name: parent_of(name) for name in CLASSES}, subclasses={"RR": ("RRAB", "RRC"), "ECL": ("EA", "EB", "EW")}
)
OUTPUTS = Outputs(CLASSES, FAMILY)


@pytest.mark.parametrize(
    ("label", "kinds"),
    [
        ("RRab", {"RRAB"}),
        ("EW/EB (contact/semi-det.)", {"EW", "EB"}),
        ("EC/ESD/ED mix (Close Binary Eclipsing)", set()),  # nobody knows what "ED mix" is
        ("RR Lyrae, First Overtone", {"RRC"}),
        ("RR Lyrae, Double Mode", {"RR"}),
        ("EA|EB", {"EA", "EB"}),
        ("Algol (Beta Persei)", {"EA"}),
        ("EA/RS", set()),  # a feature of another kind of star says nothing of a subclass
        ("", set()),
        ("ROT", set()),
    ],
)
def test_labels_name_kinds(label, kinds):
    assert kinds_of(label) == kinds


def divided_sines(n, classes=CLASSES):
    """So many objects of each class; RR are RRAB or RRC by their label, and by their number of maxima."""
    objects = labelled_sines(len(classes) * n, classes=classes)
    rr, ecl = classes.index("RR"), classes.index("ECL")
    which = np.arange(len(objects)) // len(classes) % 2
    original = np.where(objects.class_code == rr, np.where(which == 0, "RRab", "RRc"), "")
    original = np.where(objects.class_code == ecl, "EA", original)
    shape = np.where((objects.class_code == rr) & (which == 1), len(classes), objects.class_code)
    return replace(objects, class_original=texts(original), light_curves=sine_light_curves(shape, 3))


def test_a_family_is_found_in_names_and_labels():
    objects = divided_sines(200)
    family = find_family(objects, subclasses=True)
    assert family.parents == {"CEP": "CEP", "DSCUT": "DSCUT", "ECL": "ECL", "M": "LPV", "RR": "RR", "SR": "LPV"}
    # A single subclass divides nothing.
    assert family.subclasses == {"RR": ("RRAB", "RRC")}
    assert find_family(objects, subclasses=False).subclasses == {}
    few = objects.take(np.arange(2 * 6 * subclasses.FEWEST_OF_SUBCLASS - 6))
    assert find_family(few, subclasses=True).subclasses == {}


def test_classes_of_other_names_have_parents_too():
    objects = replace(labelled_sines(8, classes=("RRAB", "RRC", "BLAP", "M")), label=texts(["x"] * 8))
    assert find_family(objects, subclasses=True).parents == {"RRAB": "RR", "RRC": "RR", "BLAP": "BLAP", "M": "LPV"}


def test_a_label_allows_the_leaves_that_it_names_and_all_where_it_names_none():
    objects = labelled_sines(12).take(np.array([2, 2, 2, 2, 4, 4, 0, 2]))  # ECL is 2, RR is 4
    original = ["EA", "EW/EB (contact/semi-det.)", "eclipsing binary", "RRab", "RRc", "RRd", "Cepheid F", ""]
    objects = replace(objects, class_original=texts(original), label=texts([""] * 7 + ["EW"]))
    allowed = [
        {leaf for leaf, yes in zip(OUTPUTS.leaves, row, strict=True) if yes} for row in allowed_leaves(objects, OUTPUTS)
    ]
    every = {"EA", "EB", "EW"}
    assert allowed == [{"EA"}, {"EB", "EW"}, every, every, {"RRC"}, {"RRAB", "RRC"}, {"CEP"}, {"EW"}]


def test_the_loss_is_the_cross_entropy_of_what_a_label_allows():
    probabilities = np.array([[0.5, 0.2, 0.3], [0.1, 0.7, 0.2]], np.float32)
    targets = np.array([[1, 0, 1], [0, 1, 0]], np.float32)
    np.testing.assert_allclose(np.asarray(set_loss(targets, probabilities)), -np.log([0.8, 0.7]), rtol=1e-6)


def test_parents_are_sums_and_each_level_has_its_temperature():
    logits = np.random.default_rng(5).normal(0, 3, (50, len(OUTPUTS.leaves)))
    warm = Calibration(temperature=2.0, classes={"LPV": 3.0}, subclasses={"RR": 0.5, "ECL": 1.0})
    cold = Calibration(temperature=2.0, classes={"LPV": 0.3}, subclasses={"RR": 2.0, "ECL": 1.0})
    one, other = answers_of(OUTPUTS, warm, logits, None), answers_of(OUTPUTS, cold, logits, None)
    np.testing.assert_allclose(one.classes.sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(one.logs), one.classes)
    # What divides LPV changes nothing for LPV, nor for the others.
    np.testing.assert_allclose(parent_probabilities(OUTPUTS, one.classes), parent_probabilities(OUTPUTS, other.classes))
    assert OUTPUTS.parents == ("CEP", "DSCUT", "ECL", "LPV", "RR")
    rr = slice(*OUTPUTS.bounds[4:6])
    np.testing.assert_allclose(np.exp(one.divided[:, rr]).sum(axis=1), 1)
    assert np.ptp(one.divided[:, rr], axis=1).sum() > np.ptp(other.divided[:, rr], axis=1).sum()
    # With all temperatures 1 the leaves' softmax is all there is.
    plain = answers_of(
        OUTPUTS, Calibration(temperature=1, classes={"LPV": 1}, subclasses={"RR": 1, "ECL": 1}), logits, None
    )
    weights = np.exp(logits)
    np.testing.assert_allclose(plain.classes[:, 4], weights[:, rr].sum(axis=1) / weights.sum(axis=1), rtol=1e-12)


def test_temperatures_of_all_levels_are_found():
    random = np.random.default_rng(7)
    logits = random.normal(0, 2, (20_000, len(OUTPUTS.leaves)))
    true = Calibration(temperature=1.5, classes={"LPV": 3.0}, subclasses={"RR": 0.7, "ECL": 2.0})
    answers = answers_of(OUTPUTS, true, logits, None)
    leaves = answers.classes[:, OUTPUTS.class_of] * np.exp(answers.divided)
    leaf = (leaves.cumsum(axis=1) < random.random((len(logits), 1))).sum(axis=1)
    allowed = np.arange(leaves.shape[1]) == leaf[:, None]
    # Half of the labels do not tell EB from EW.
    vague = np.isin(leaf, [OUTPUTS.leaves.index("EB"), OUTPUTS.leaves.index("EW")]) & (random.random(len(leaf)) < 0.5)
    allowed[np.ix_(vague, [OUTPUTS.leaves.index("EB"), OUTPUTS.leaves.index("EW")])] = True
    found = fit_calibration(OUTPUTS, logits, None, OUTPUTS.class_of[leaf], allowed, np.zeros(len(leaf), np.int64))
    assert found.temperature == pytest.approx(1.5, rel=0.05)
    assert found.classes["LPV"] == pytest.approx(3.0, rel=0.15)
    assert found.subclasses["RR"] == pytest.approx(0.7, rel=0.05)
    assert found.subclasses["ECL"] == pytest.approx(2.0, rel=0.1)
    assert fit_temperature(np.zeros((0, 3)), np.zeros((0, 3), np.bool_)) == 1.0


def test_surveys_count_by_the_root_of_their_size_and_the_one_most_in_doubt_divides_a_parent():
    random = np.random.default_rng(8)
    sizes, spread = np.array([16_000, 1_000, 40]), np.array([1.0, 3.0, 20.0])
    group = np.repeat(np.arange(3), sizes)
    logits = random.normal(0, 3, (len(group), len(OUTPUTS.leaves)))
    classes = class_logits(OUTPUTS, logits) / spread[group, None]
    weights = np.exp(classes)
    truth = (weights.cumsum(axis=1) < random.random((len(group), 1)) * weights.sum(axis=1)[:, None]).sum(axis=1)
    found = fit_calibration(OUTPUTS, logits, None, truth, OUTPUTS.class_of == truth[:, None], group)
    # The third has too few long-period variables to say anything.
    assert found.classes["LPV"] == pytest.approx(3.0, rel=0.2)
    alike = fit_calibration(OUTPUTS, logits, None, truth, OUTPUTS.class_of == truth[:, None], 0 * group)
    assert alike.temperature < found.temperature
    assert alike.classes["LPV"] < 2


def test_a_head_learns_from_features_what_the_network_does_not_tell():
    random = np.random.default_rng(9)
    n, ab, c = 3000, OUTPUTS.leaves.index("RRAB"), OUTPUTS.leaves.index("RRC")
    rr = CLASSES.index("RR")
    truth = np.where(random.random(n) < 0.7, rr, CLASSES.index("ECL"))
    logits = random.normal(0, 1, (n, len(OUTPUTS.leaves)))
    features = random.normal(5, 2, (n, 4))
    is_c = random.random(n) < 1 / (1 + np.exp(-2 * ((features[:, 1] - 5) + logits[:, c] - logits[:, ab])))
    allowed = OUTPUTS.class_of == truth[:, None]
    told = (truth == rr) & (random.random(n) < 0.8)
    allowed[told & is_c, ab] = allowed[told & ~is_c, c] = False
    calibration = fit_calibration(OUTPUTS, logits, features, truth, allowed, np.zeros(n, np.int64))
    assert calibration.subclasses["ECL"] == 1.0  # no label says anything
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration
    check_family(CLASSES, FAMILY, calibration, None)
    new = answers_of(OUTPUTS, calibration, logits, features)
    probability = np.exp(new.divided[:, c])
    np.testing.assert_allclose(probability + np.exp(new.divided[:, ab]), 1)
    exact = 1 / (1 + np.exp(-2 * ((features[:, 1] - 5) + logits[:, c] - logits[:, ab])))
    assert np.abs(probability - exact).mean() < 0.03
    with pytest.raises(ValueError, match="features"):
        answers_of(OUTPUTS, calibration, logits, None)
    short = calibration.subclasses["RR"].model_copy(update={"bias": (0.0,)})
    broken = calibration.model_copy(update={"subclasses": {"RR": short, "ECL": 1.0}})
    with pytest.raises(ValueError, match="2 rows of weights of RR"):
        check_family(CLASSES, FAMILY, broken, None)


def test_sets_hold_the_true_parent_as_often_as_they_say_parent_by_parent():
    random = np.random.default_rng(11)

    def drawn(n):
        truth = random.choice(6, n, p=[0.3, 0.02, 0.28, 0.1, 0.2, 0.1])
        logits = random.normal(0, 1.5, (n, len(OUTPUTS.leaves))) + 3.0 * (OUTPUTS.class_of == truth[:, None])
        plain = Calibration(temperature=1, classes={"LPV": 1}, subclasses={"RR": 1, "ECL": 1})
        return parent_probabilities(OUTPUTS, answers_of(OUTPUTS, plain, logits, None).classes), truth

    group = np.arange(20_000) % 4
    sets = fit_parent_sets(OUTPUTS, *drawn(20_000), group)
    parents, truth = drawn(20_000)
    measures = set_measures(OUTPUTS, sets_of_parents(OUTPUTS, sets, parents), truth)
    for level in ("95", "99"):
        assert 1 <= measures[level]["size"] < 2.5
        for cover in measures[level]["by_parent"].values():
            assert cover > int(level) / 100 - 0.02
    assert measures["95"]["size"] < measures["99"]["size"]
    # What was never seen is in no set, what was seen too rarely in each.
    parents, truth = drawn(500)
    rare = fit_parent_sets(OUTPUTS, parents[truth != 1], truth[truth != 1], group[: (truth != 1).sum()])
    assert rare.least["95"]["DSCUT"] == 1
    assert fit_parent_sets(OUTPUTS, parents[:5], np.array([0, 0, 0, 0, 4]), np.zeros(5, int)).least["99"]["CEP"] == 0


def test_sets_are_wider_where_groups_differ():
    random = np.random.default_rng(3)
    n = 4000
    truth, group = np.zeros(n, int), np.arange(n) % 8
    # Each group is as sure as it happens to be.
    p = 1 - 10 ** (random.normal(0, 0.5, 8)[group] + random.normal(-2, 0.3, n))
    parents = np.clip(np.stack([p, 1 - p, 0 * p, 0 * p, 0 * p], axis=1), 0, 1)
    alike = fit_parent_sets(OUTPUTS, parents, truth, np.zeros(n, int))
    apart = fit_parent_sets(OUTPUTS, parents, truth, group)
    assert apart.least["95"]["CEP"] < alike.least["95"]["CEP"] - 0.01
    assert alike.least["95"]["CEP"] == pytest.approx(np.quantile(p, 0.05), abs=1e-3)


def test_subclass_measures_by_hand():
    leaf = OUTPUTS.leaves.index
    said = [{"EA"}] * 3 + [{"EB", "EW"}] * 2 + [{"EA", "EB", "EW"}, {"RRAB"}, {"CEP"}]
    allowed = np.array([[name in each for name in OUTPUTS.leaves] for each in said])
    #  right, right, another class, right, wrong, not counted, right, called EA
    found = np.array([leaf("EA"), leaf("EA"), -1, leaf("EW"), leaf("EA"), leaf("EA"), leaf("RRAB"), leaf("EA")])
    measures = subclass_measures(OUTPUTS, found, allowed)
    assert list(measures) == ["EA", "EB", "EW", "RRAB", "RRC"]
    assert measures["EA"] == {
        "n_objects": 3,
        "precision": 0.5,
        "recall": 0.66667,
        "f1": 0.57143,
        "n_others": 2,
        "f1_of_others": 0.66667,
    }
    assert measures["RRAB"]["f1"] == 1
    assert measures["EW"]["n_objects"] == 0  # no label says EW alone


def test_a_network_learns_subclasses_and_its_bundle_and_card_tell(monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": replace(TINY, subclasses=True)})
    monkeypatch.setattr(subclasses, "FEWEST_OF_SUBCLASS", 20)
    objects = divided_sines(60, ("CEP", "ECL", "RR"))
    plan = plan_training(objects, TrainingOptions(architecture="tiny", folds=2, min_per_class=5))
    result = train(plan, "sines")
    bundle, contract = result.bundle, result.bundle.contract
    assert contract.outputs.leaves == ("CEP", "ECL", "RRAB", "RRC")
    assert parse_bundle(contract.to_json(), bundle.keras_file, bundle.card, where="test") == bundle
    measures = contract.metrics["held_out"]
    assert min(measures["subclasses"][name]["f1"] for name in ("RRAB", "RRC")) > 0.8
    assert measures["accuracy"] > 0.8
    assert measures["parent_sets"]["99"]["cover"] > 0.95
    assert contract.training["ranges"]["observations"] == [60, 60]
    assert contract.training["mira_lines"] == []
    assert "Parents: CEP, ECL, RR. The" in bundle.card
    assert "It divides RR into RRAB, RRC." in bundle.card
    assert f"| RRAB | 30 | {measures['subclasses']['RRAB']['precision']:.3f} |" in bundle.card
    assert f"| 95 % | {measures['parent_sets']['95']['size']:.2f} |" in bundle.card
    assert "99 % of them have periods of 1 to 1 d" in bundle.card
    evidence, _, _ = gather_evidence(bundle, objects)
    again = judge(evidence, contract.classes)
    assert again["subclasses"]["RRC"]["f1"] > 0.8
    assert again["parent_sets"]["99"]["cover"] > 0.95
    assert json.dumps(again)


def test_the_line_between_miras_and_semiregulars_is_found_by_survey():
    n = 400
    objects = labelled_sines(n, classes=CLASSES)
    is_mira = np.arange(n) % 2 == 0
    survey = np.where(np.arange(n) < 200, "v", "i")
    code = np.where(is_mira, CLASSES.index("M"), CLASSES.index("SR")).astype(np.int8)
    objects = replace(objects, class_code=code, survey=texts(survey), band=texts(np.where(survey == "v", "V", "I")))
    random = np.random.default_rng(2)
    line = np.where(survey == "v", 2.5, 0.9)
    amplitude = (line + np.where(is_mira, 1, -1) * random.uniform(0.05, 0.8, n)).astype(np.float32)
    every, in_i, in_v = mira_lines(objects, amplitude)
    assert (in_v["survey"], in_v["band"], in_v["agree"]) == ("v", "V", 1)
    assert in_v["amplitude"] == pytest.approx(2.5, abs=0.06)
    assert in_i["amplitude"] == pytest.approx(0.9, abs=0.06)
    assert every["survey"] == ""
    assert every["agree"] < 1
    assert (every["M"], every["SR"]) == (200, 200)
    assert mira_lines(replace(objects, classes=("A", "B", "C", "D", "E", "F")), amplitude) == []
    ranges = ranges_of(objects, amplitude, np.arange(n) + 50)
    assert ranges["period"] == [1, 1]
    assert ranges["observations"] == pytest.approx([52, 447], rel=0.01)
