"""The text for people that goes with a bundle, and the tables of measures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from varstar_batch.model.bundle import BundleContract
from varstar_batch.training.judging.family_card import family_parts, ranges_line
from varstar_batch.training.judging.measures import MEASURES

SIMULATED = "simulated"
"""Begins the names of surveys that hold no real star."""

ACCURACIES = (
    "Accuracy is (TP + TN) / all, the paper's equation 1; what the accuracy column of its own table agrees with is the "
    "recall."
)
"""A note below every table."""

UNSEEN = "unseen_surveys"
"""Key of the metrics of networks that have not seen the survey."""

TRUSTED = 0.02
"""Expected calibration error up to which probabilities may be taken at their word."""

WEAK = 0.9
"""F1 below which a class is named as weak."""

_TITLES = {"accuracy": "accuracy (equation 1)", "f1": "F1"}


def write_card(contract: BundleContract) -> str:
    """Return the Markdown of ``card.md``, every figure from the contract."""
    training: dict[str, Any] = contract.training
    measures: dict[str, Any] = contract.metrics["held_out"]  # type: ignore[assignment]
    parts = [
        f"# Bundle {contract.model_version}",
        _purpose(contract),
        "## Data",
        _beginning(training),
        survey_table(training["surveys"]),
        _left_out(training),
        _bands(training),
        ranges_line(training),
        "**Licences.** The bundle holds weights and no light curve. Whoever publishes it answers for the licences of "
        "the surveys in the table, names them, and cites them as each survey asks.",
        "## How good it is",
        f"Each of these {measures['n_objects']:,} light curves was judged by a network that had not seen its star in "
        "any band or survey. Mean and standard deviation over the folds, each calibrated on the others; the network of "
        "this bundle was then trained on all.",
        _judges(training),
        measure_table(measures),
        summarise_measures(measures),
        ACCURACIES,
        part_table("survey", measures["by_survey"]),
        part_table("source of the period", measures["by_period_source"]),
        _precision(contract),
        *_unseen(contract),
        *family_parts(contract, contract.metrics.get(UNSEEN, measures)),
        "## Limits",
        _limits(contract, measures),
        "## How it was made",
        _making(contract),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def measure_table(measures: Mapping[str, Any]) -> str:
    """Return the paper's table of what `varstar_batch.training.judging.measures.judge` found, by class and average."""
    folds = measures["folds"]
    rows = [
        f"| class | light curves | {' | '.join(_TITLES.get(name, name) for name in MEASURES)} |",
        "|---|---:|" + "---:|" * len(MEASURES),
    ]
    lines = [(label, measures["by_class"][label]["n_objects"], values) for label, values in folds["by_class"].items()]
    for label, count, values in [*lines, ("**average**", measures["n_objects"], folds["macro"])]:
        cells = [_spread(values[name], folds["folds"]) if count else "" for name in MEASURES]
        rows.append(f"| {label} | {count:,} | {' | '.join(cells)} |")
    return "\n".join(rows)


def unseen_table(measures: Mapping[str, Any]) -> str:
    """Return a table of how right answers are for surveys left out of the training, the worst first, and for all."""
    parts = sorted(measures["by_survey"].items(), key=lambda part: part[1]["accuracy"])
    rows = [
        "| survey | light curves | right | F1 | M and SR as one | calibration error | wrong, probability > 0.9 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, part in [*parts, ("**all**", measures)]:
        shares = [part["accuracy"], part["macro"]["f1"], part["parents"], part["calibration_error"]]
        cells = [*(f"{share:.3f}" for share in shares), f"{part['sure_and_wrong']:.2%}"]
        rows.append(f"| {name} | {part['n_objects']:,} | {' | '.join(cells)} |")
    return "\n".join(rows)


def part_table(title: str, parts: Mapping[str, Any]) -> str:
    """Return a table of measures by something; empty where it would have a single row."""
    if len(parts) < 2:
        return ""
    rows = [
        f"| {title} | light curves | right | precision | recall | F1 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, values in parts.items():
        cells = [values["accuracy"], *(values["macro"][key] for key in ("precision", "recall", "f1"))]
        rows.append(f"| {name} | {values['n_objects']:,} | {' | '.join(f'{value:.3f}' for value in cells)} |")
    return "\n".join(rows)


def survey_table(surveys: Mapping[str, Mapping[str, int]]) -> str:
    """Return a table of the light curves by survey and class."""
    labels = list(next(iter(surveys.values())))
    rows = [f"| survey | {' | '.join(labels)} |", "|---|" + "---:|" * len(labels)]
    rows += [f"| {name} | {' | '.join(f'{counts[label]:,}' for label in labels)} |" for name, counts in surveys.items()]
    return "\n".join(rows)


def summarise_measures(measures: Mapping[str, Any]) -> str:
    """Return what the tables do not tell: the share of right answers, calibration, other kinds."""
    text = f"Right in {measures['accuracy']:.2%}; expected calibration error {measures['calibration_error']:.4f}."
    area = measures["ood_auroc"]
    if area is not None:
        text += (
            f" The out-of-distribution score tells {measures['n_others']:,} objects of other kinds from these with an "
            f"AUROC of {area['mean']:.3f}."
        )
    return text


def _spread(value: Mapping[str, float], folds: int) -> str:
    return f"{value['mean']:.3f} ± {value['std']:.3f}" if folds > 1 else f"{value['mean']:.3f}"


def _purpose(contract: BundleContract) -> str:
    features = f" and {len(contract.features)} features of the light curve" if contract.features else ""
    return (
        f"Architecture `{contract.architecture}`: probabilities of the classes {', '.join(contract.classes)} from a "
        f"phase-folded light curve{features}, after Akhmetali et al. (arXiv:2508.11964)."
    )


def _left_out(training: Mapping[str, Any]) -> str:
    told = [f"{count:,} {label.replace('_', ' ')}" for label, count in training["unusable"].items()]
    told += [f"{count:,} labelled {label}" for label, count in training.get("labels_left_out", {}).items()]
    return f"Left out of the labelled light curves read: {', '.join(told)}." if told else ""


def _beginning(training: Mapping[str, Any]) -> str:
    count = f"{training['n_objects']:,} labelled light curves of {len(training['surveys'])} survey(s):"
    start = training.get("from")
    if start is None:
        return f"Trained on {count}"
    return (
        "**Take it for these surveys only**: on others, classes with few labels here or none are found less often. "
        f"**Fine-tuned** from the network of {start['model_version']}, which was trained on {start['n_objects']:,} "
        f"light curves of {', '.join(start['surveys'])} (its card says how good it is on those), on {count}"
    )


def _judges(training: Mapping[str, Any]) -> str:
    passes = training["options"].get("judge_epochs")
    if passes is None:
        return ""
    return (
        f"The networks that judge, here and below, had {passes} passes over their light curves; this bundle's had "
        f"{training['recipe']['epochs']}."
    )


def _bands(training: Mapping[str, Any]) -> str:
    return f"Bands: {'; '.join(training['bands'])}." if training["bands"] else ""


def _unseen(contract: BundleContract) -> list[str]:
    measures: Any = contract.metrics.get(UNSEEN)
    if measures is None:
        return []
    return [
        "## How good it is on surveys that it has not seen",
        "Each survey was judged by a network that had seen none of its stars, in whatever band, and nothing of the "
        "survey, nor of those that were held out with it; each calibrated on the other surveys so held out. "
        "**Expect this of a new survey**; the bundle's calibration and `ood_score` rest on these answers.",
        unseen_table(measures),
        summarise_measures(measures),
    ]


def _limits(contract: BundleContract, measures: Mapping[str, Any]) -> str:
    training: dict[str, Any] = contract.training
    told = [
        "- It chooses among its classes and knows no other: a star of another kind gets one of them, and only "
        "`ood_score` may tell. Look at it before believing a probability.",
        "- It needs a period, and believes it. A wrong one gives a wrong class with conviction.",
        "- These measures are for stars of the surveys above. On a survey with another band, cadence or noise expect "
        "less: `varstar evaluate` measures it where there are labels.",
    ]
    dropped = training["dropped_classes"]
    if dropped:
        told.append(f"- **It never answers {', '.join(dropped)}**: there were too few of them to learn from.")
    if all(name.startswith(SIMULATED) for name in training["surveys"]):
        told.append("- **It has seen no real star**: simulated light curves are cleaner and more alike than the sky.")
    weak = [
        f"{label} ({values['f1']['mean']:.2f})"
        for label, values in measures["folds"]["by_class"].items()
        if measures["by_class"][label]["n_objects"] and values["f1"]["mean"] < WEAK
    ]
    if weak:
        told.append(f"- Weak classes, by F1: {', '.join(weak)}.")
    elsewhere: Any = contract.metrics.get(UNSEEN, {"by_class": {}})
    weak = [
        f"{label} ({values['f1']:.2f})"
        for label, values in elsewhere["by_class"].items()
        if values["n_objects"] and values["f1"] < WEAK
    ]
    if weak:
        told.append(f"- Weak classes on surveys that it has not seen: {', '.join(weak)}.")
    if measures["calibration_error"] > TRUSTED:
        told.append(
            "- Its probabilities are off by more than two percent on average; take them for an order, not odds."
        )
    if not contract.features:
        told.append("- It knows the shape of the folded curve only: not the period, not the amplitude.")
    return "\n".join(told)


def _making(contract: BundleContract) -> str:
    training: dict[str, Any] = contract.training
    preprocessing = _pairs(contract.model_dump()["preprocessing"])
    features = f"Features: {', '.join(contract.features)}. " if contract.features else ""
    return (
        f"Preprocessing: {preprocessing}. {features}Options: {_pairs(training['options'])}. Recipe: "
        f"{_pairs(training['recipe'])}. Versions: {_pairs(contract.versions)}. Fingerprint of the training data "
        f"(SHA-256): `{training['fingerprint']}`."
    )


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _precision(contract: BundleContract) -> str:
    return "\n".join(
        f"With {name} arithmetic no probability of {change.n_objects:,} light curves changes by more than "
        f"{change.max_probability_change:.4f}, and the class of {change.changed_classes:.2%} of them changes."
        for name, change in contract.precision.items()
    )
