"""Classifiers side by side on labelled surveys: networks of this project, a random forest and boosting on its features.

    python -m tests.benchmarks.bench_classifiers build/surveys/* [--only forest boosting survey] [--passes 10]

Each is judged twice, by light curves that it has not seen: of the same surveys (cross-validation, no star on both
sides), and of a survey that is wholly unknown (one is left out after the other). The out-of-distribution score is
judged on objects of other kinds, without a class and with an original label that none of the others has. A fit that
was cut off goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from varstar_batch.files.location import locate
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits
from varstar_batch.training.cross_validation import split_evidence
from varstar_batch.training.fitting.checkpoints import WorkFolder
from varstar_batch.training.fitting.fit import fit
from varstar_batch.training.fitting.recipes import RECIPES
from varstar_batch.training.judging.card import unseen_table
from varstar_batch.training.judging.measures import Evidence, judge
from varstar_batch.training.options import TrainingOptions
from varstar_batch.training.plan import TrainingPlan, plan_training
from varstar_batch.training.stars.folds import Split, fold_splits, survey_splits
from varstar_batch.training.stars.labelled import LabelledLightCurves
from varstar_batch.training.stars.read_labelled import Selection, read_labelled

TREES = 500
"""Of the forest."""

ROUNDS = 100
"""Of the boosting."""

ON_FEATURES = ("forest", "boosting")
"""Classifiers of scikit-learn."""

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """What a classifier came to on some splits."""

    measures: dict[str, Any]
    seconds: float


def judge_network(architecture: str, plan: TrainingPlan, work: Path) -> Evidence:
    """Fit a network for each split."""
    kept = WorkFolder(locate(work / f"{architecture}-{plan.fingerprint[:12]}", what="work folder"), resumed=True)
    fitted = []
    for number, split in enumerate(plan.splits):
        start = time.perf_counter()
        fitted.append(fit(plan.data, split, plan.recipe, 100 + number, kept))
        right = fitted[-1].held_logits.argmax(axis=1) == plan.data.objects.class_code[split.held]
        print(
            f"  {architecture}, {split.name}: {right.mean():.4f} right, {time.perf_counter() - start:.0f} s", flush=True
        )
    return split_evidence(plan, fitted)


def on_features(name: str, trees: int, seed: int) -> Any:
    """Return a new classifier of scikit-learn."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    if name == "boosting":
        return HistGradientBoostingClassifier(max_iter=ROUNDS, class_weight="balanced", random_state=seed)
    return RandomForestClassifier(
        trees, class_weight="balanced_subsample", min_samples_leaf=2, n_jobs=-1, random_state=seed
    )


def judge_on_features(name: str, plan: TrainingPlan, splits: tuple[Split, ...], trees: int) -> Evidence:
    """Fit a classifier for each split, on all features; its score of what is unlike is what its best answer leaves."""

    def features(objects: LabelledLightCurves) -> np.ndarray:
        folded = fold(objects.light_curves, objects.period, plan.recipe.preprocessing, Limits(), features=True)
        return folded.features

    known, unknown = features(plan.data.objects), features(plan.others)
    truth = plan.data.objects.class_code
    held = np.concatenate([split.held for split in splits])
    probabilities, others = [], []
    for number, split in enumerate(splits):
        fitted = on_features(name, trees, number)
        fitted.fit(known[split.train], truth[split.train])
        for rows, found in ((known[split.held], probabilities), (unknown, others)):
            votes = np.zeros((len(rows), len(CLASSES)))
            if len(rows):
                votes[:, fitted.classes_] = fitted.predict_proba(rows)
            found.append(votes)
    votes = np.concatenate(probabilities)
    return Evidence(
        objects=plan.data.objects.take(held),
        probabilities=votes,
        fold=np.repeat(np.arange(len(splits)), [len(split.held) for split in splits]),
        ood_score=1 - votes.max(axis=1),
        others=plan.others,
        other_probabilities=np.stack(others),
        other_score=1 - np.stack(others).max(axis=2),
    )


def measure(name: str, plan: TrainingPlan, splits: tuple[Split, ...], options: argparse.Namespace) -> Result:
    """Judge one classifier on some splits."""
    start = time.perf_counter()
    if name in ON_FEATURES:
        evidence = judge_on_features(name, plan, splits, options.trees)
    else:
        evidence = judge_network(name, replace(plan, splits=splits), options.work)
    return Result(judge(evidence, CLASSES), time.perf_counter() - start)


def print_tables(results: dict[str, dict[str, Result]]) -> None:
    """Print what was found as Markdown."""
    print("\n| classifier | split | right | macro F1 | calibration error | other kinds, AUROC | seconds |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name, by_split in results.items():
        for split, result in by_split.items():
            found, area = result.measures, result.measures["ood_auroc"]
            print(
                f"| {name} | {split} | {found['accuracy']:.4f} | {found['macro']['f1']:.4f} "
                f"| {found['calibration_error']:.4f} | {area['mean'] if area else float('nan'):.3f} "
                f"| {result.seconds:,.0f} |"
            )
    for split in next(iter(results.values())):
        print(f"\nF1 by class, {split}\n\n| classifier | {' | '.join(CLASSES)} |\n|---|{'---:|' * len(CLASSES)}")
        for name, by_split in results.items():
            classes = by_split[split].measures["by_class"]
            print(f"| {name} | {' | '.join(format(classes[label]['f1'], '.3f') for label in CLASSES)} |")
    for name, by_split in results.items():
        for split, result in by_split.items():
            print(f"\n{name}, {split}\n\n{unseen_table(result.measures)}")


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description="Classifiers side by side")
    parser.add_argument("surveys", nargs="+", help="labelled surveys, for example those of `make bundle`")
    parser.add_argument("--only", nargs="+", default=[*ON_FEATURES, *RECIPES], choices=[*ON_FEATURES, *RECIPES])
    parser.add_argument("--splits", nargs="+", default=["folds", "surveys"], choices=["folds", "surveys"])
    parser.add_argument("--together", nargs="+", default=[], help="surveys left out at once, joined by +")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--passes", type=int, help="of every network [default: each recipe's]")
    parser.add_argument("--min-per-class", type=int, default=400)
    parser.add_argument("--max-per-class", type=int, default=5000)
    parser.add_argument("--trees", type=int, default=TREES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "classifiers", help="unfinished fits")
    parser.add_argument("--out", type=Path, help="JSON file with all measures")
    options = parser.parse_args()

    selection = Selection(max_per_class=options.max_per_class, seed=options.seed, others=True)
    data = read_labelled(options.surveys, None, selection)
    results: dict[str, dict[str, Result]] = {}
    for name in options.only:
        chosen = TrainingOptions(
            architecture="survey" if name in ON_FEATURES else name,
            folds=options.folds,
            epochs=options.passes,
            min_per_class=options.min_per_class,
            max_per_class=options.max_per_class,
            seed=options.seed,
        )
        plan = plan_training(data, chosen)
        objects = plan.data.objects
        if not results:
            counts = ", ".join(f"{label} {count:,}" for label, count in plan.counts.items())
            print(f"{len(objects):,} light curves: {counts}; {len(plan.others):,} of other kinds")
        every = {
            "folds": (f"{options.folds} folds", fold_splits(objects, options.folds, options.seed)),
            "surveys": (
                "one survey left out",
                survey_splits(objects, [names.split("+") for names in options.together]),
            ),
        }
        results[name] = {}
        for key in options.splits:
            title, splits = every[key]
            results[name][title] = measure(name, plan, splits, options)
    print_tables(results)
    if options.out is not None:
        document = {name: {key: vars(value) for key, value in each.items()} for name, each in results.items()}
        options.out.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
