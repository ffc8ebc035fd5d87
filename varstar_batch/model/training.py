"""Training: from labelled light curves to a calibrated bundle and the evidence of how good it is."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from varstar_batch._version import __version__
from varstar_batch.errors import InputError
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.status import Status, count_statuses
from varstar_batch.model.bundle import Bundle, BundleContract, PrecisionChange
from varstar_batch.model.cards import write_card
from varstar_batch.model.classify import temperature_softmax
from varstar_batch.model.cross_validation import calibrate, split_evidence
from varstar_batch.model.engines.open import open_engine
from varstar_batch.model.evaluation import Evidence, judge
from varstar_batch.model.fitting import Checkpoints, NoCheckpoints, TrainingSet, fit
from varstar_batch.model.folds import Split, fold_splits, star_groups
from varstar_batch.model.inputs import Inputs, check_finite, fold_inputs
from varstar_batch.model.keras_runtime import load_keras
from varstar_batch.model.labelled import NO_CLASS, LabelledLightCurves
from varstar_batch.model.recipes import Recipe, find_recipe

FEWEST_CLASSES = 2


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train. What is None is as the architecture's recipe has it.

    Parameters
    ----------
    architecture : str
        One of `RECIPES`.
    folds : int
        Of the cross-validation; 0 or 1 hold out one fifth, once.
    epochs, batch_size : int or None
        Passes over the training set (Keras's epochs), light curves of a step; >= 1.
    learning_rate : float or None
        Of Adam, > 0.
    min_per_class : int
        A class with fewer usable light curves is rare, >= 1.
    max_per_class : int
        Most light curves of a class, >= `min_per_class`; a choice for whoever reads the surveys.
    drop_rare_classes : bool
        Leave rare classes out, instead of refusing; the network will never answer with one of them.
    seed : int
        Of the choice, the folds, and the training; 0 to 2**31 - 1.
    """

    architecture: str = "paper"
    folds: int = 5
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    min_per_class: int = 400
    max_per_class: int = 5000
    drop_rare_classes: bool = False
    seed: int = 1

    def recipe(self) -> Recipe:
        """Return the architecture's recipe with what these options say.

        Raises
        ------
        InputError
            There is no such architecture.
        """
        chosen = {name: getattr(self, name) for name in ("epochs", "batch_size", "learning_rate")}
        given = {name: value for name, value in chosen.items() if value is not None}
        return replace(find_recipe(self.architecture), **given)


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingPlan:
    """A training that is fully decided and checked, and not begun.

    Parameters
    ----------
    options : TrainingOptions
    recipe : Recipe
        With the options' numbers.
    data : TrainingSet
    others : LabelledLightCurves
        Usable objects of other kinds, which no network is trained on.
    splits : tuple of Split
        Of the cross-validation.
    unusable : dict of str to int
        Labelled light curves that could not be folded, by status.
    dropped_classes : tuple of str
        Rare ones.
    fingerprint : str
        SHA-256 over all that the result depends on.
    """

    options: TrainingOptions
    recipe: Recipe
    data: TrainingSet
    others: LabelledLightCurves
    splits: tuple[Split, ...]
    unusable: dict[str, int]
    dropped_classes: tuple[str, ...]
    fingerprint: str

    @property
    def fits(self) -> tuple[Split, ...]:
        """Every network to fit: one for each split, and the last, on everything, which is the bundle's."""
        everything = np.arange(len(self.data.objects))
        return (*self.splits, Split("all", everything, everything[:0]))

    @property
    def passes(self) -> int:
        """Passes of all fits."""
        return len(self.fits) * self.recipe.epochs

    @property
    def counts(self) -> dict[str, int]:
        """Light curves by class."""
        codes = self.data.objects.class_code
        return {label: int((codes == code).sum()) for code, label in enumerate(CLASSES)}

    def describe(self) -> dict[str, JsonValue]:
        """Return what tells this training from another, for people."""
        options: dict[str, JsonValue] = asdict(self.options)
        return {**options, "light_curves": len(self.data.objects), "versions": dict(_versions())}


@dataclass(frozen=True, eq=False)
class Trained:
    """A bundle, and what its measures rest on."""

    bundle: Bundle
    evidence: Evidence


def plan_training(data: LabelledLightCurves, options: TrainingOptions) -> TrainingPlan:
    """Fold everything, check it, and divide it into folds.

    Parameters
    ----------
    data : LabelledLightCurves
        Objects without a class are kept to measure the out-of-distribution score on, if they are of other kinds.
    options : TrainingOptions

    Raises
    ------
    InputError
        One class only, a rare class, inputs that are not finite, fewer stars of a class than folds.
    """
    recipe = options.recipe()
    where = ", ".join(sorted(set(data.survey)))
    threads = len(os.sched_getaffinity(0))
    status, inputs = fold_inputs(data.light_curves, data.period, recipe, n_threads=threads)
    labelled, usable = data.class_code != NO_CLASS, status == Status.OK
    rare = _rare_classes(data.class_code[labelled & usable], options, where)
    kept = labelled & usable & ~np.isin(data.class_code, rare)
    others = np.flatnonzero(data.other_kinds() & usable)
    rows = np.flatnonzero(kept)
    training_set = TrainingSet(
        objects=data.take(rows), inputs=inputs.take(rows), others=inputs.take(others), n_threads=threads
    )
    check_finite(training_set.inputs, recipe, where)
    check_finite(training_set.others, recipe, where)
    _check_stars(training_set.objects, options, where)
    return TrainingPlan(
        options=options,
        recipe=recipe,
        data=training_set,
        others=data.take(others),
        splits=fold_splits(training_set.objects, options.folds, options.seed),
        unusable=count_statuses(status[labelled & ~usable]),
        dropped_classes=tuple(CLASSES[code] for code in rare),
        fingerprint=_fingerprint(training_set, recipe, options),
    )


def train(
    plan: TrainingPlan,
    name: str,
    checkpoints: Checkpoints | None = None,
    progress: Callable[[int], None] = lambda passes: None,
) -> Trained:
    """Fit a network for each fold, to measure and to calibrate, and one on everything, which is the bundle's.

    Parameters
    ----------
    plan : TrainingPlan
    name : str
        Of the bundle.
    checkpoints : Checkpoints, optional
        Where an unfinished training is kept, and gone on with. They must be of this plan.
    progress : callable, optional
        Takes the number of passes done since its last call, of `TrainingPlan.passes`.
    """
    checkpoints = NoCheckpoints() if checkpoints is None else checkpoints
    seeds = np.random.SeedSequence(plan.options.seed).generate_state(len(plan.fits), np.uint32) >> 1
    fitted = [
        fit(plan.data, split, plan.recipe, int(seed), checkpoints, progress)
        for split, seed in zip(plan.fits, seeds, strict=True)
    ]
    evidence = split_evidence(plan, fitted)
    keras_file = fitted[-1].keras_file
    calibration, ood = calibrate(plan, fitted)
    contract = BundleContract(
        name=name,
        model_version=f"{name}-{hashlib.sha256(keras_file).hexdigest()[:8]}",
        architecture=plan.recipe.architecture,
        classes=CLASSES,
        preprocessing=plan.recipe.preprocessing,
        features=plan.recipe.features,
        calibration=calibration,
        ood=ood,
        precision={},
        training=_training_record(plan),
        metrics={"held_out": judge(evidence, CLASSES)},
        versions=_versions(),
        weights_sha256=hashlib.sha256(keras_file).hexdigest(),
    )
    precision = measure_precision(Bundle(contract, keras_file, ""), plan.data.inputs)
    contract = contract.model_copy(update={"precision": precision})
    return Trained(Bundle(contract, keras_file, write_card(contract)), evidence)


def measure_precision(bundle: Bundle, inputs: Inputs) -> dict[str, PrecisionChange]:
    """Return what bfloat16 changes on some inputs; empty on a CPU that cannot compute it."""
    engine = open_engine(bundle, "openvino", "bfloat16")
    if engine.precision != "bfloat16":
        return {}
    temperature = bundle.contract.calibration.temperature
    exact, changed = (
        temperature_softmax(each.logits(inputs.curves, inputs.features).astype(np.float64), temperature)
        for each in (open_engine(bundle, "openvino", "float32"), engine)
    )
    return {
        "bfloat16": PrecisionChange(
            max_probability_change=round(float(np.abs(exact - changed).max()), 6),
            changed_classes=round(float(np.mean(exact.argmax(axis=1) != changed.argmax(axis=1))), 6),
            n_objects=len(inputs),
        )
    }


def _rare_classes(class_code: npt.NDArray[np.int8], options: TrainingOptions, where: str) -> npt.NDArray[np.intp]:
    counts = np.bincount(class_code, minlength=len(CLASSES))
    rare = np.flatnonzero(counts < options.min_per_class)
    told = ", ".join(f"{CLASSES[code]} {counts[code]:,}" for code in rare)
    if len(CLASSES) - len(rare) < FEWEST_CLASSES:
        enough = [f"{CLASSES[code]} {counts[code]:,}" for code in np.flatnonzero(counts >= options.min_per_class)]
        raise InputError(
            expected=f"usable light curves of two classes or more, at least {options.min_per_class:,} of each",
            got=f"{' and '.join(enough) or 'no class'} only (beside {told})",
            where=where,
            fix="add labelled surveys, or ask for fewer with --min-per-class",
        )
    if len(rare) and not options.drop_rare_classes:
        raise InputError(
            expected=f"at least {options.min_per_class:,} usable light curves of each class",
            got=told,
            where=where,
            fix="ask for fewer with --min-per-class, leave these classes out with --drop-rare-classes, or add surveys",
        )
    return rare


def _check_stars(objects: LabelledLightCurves, options: TrainingOptions, where: str) -> None:
    groups = star_groups(objects)
    needed = max(options.folds, FEWEST_CLASSES)
    for code in np.unique(objects.class_code):
        stars = len(np.unique(groups[objects.class_code == code]))
        if stars < needed:
            raise InputError(
                expected=f"at least {needed} stars of each class, one for each fold",
                got=f"{stars} of {CLASSES[code]}",
                where=where,
                fix="ask for fewer --folds, or leave out the class",
            )


def _recipe_record(recipe: Recipe) -> dict[str, JsonValue]:
    """Return the numbers and names of a recipe."""
    record: dict[str, Any] = {}
    for name, value in vars(recipe).items():
        if callable(value):
            record[name] = getattr(value, "__qualname__", None) or repr(value)
        elif name == "preprocessing":
            record[name] = asdict(value)
        else:
            record[name] = list(value) if isinstance(value, tuple) else value
    return record


def _training_record(plan: TrainingPlan) -> dict[str, JsonValue]:
    objects = plan.data.objects
    surveys: dict[str, JsonValue] = {
        str(name): {
            label: int((objects.class_code[objects.survey == name] == code).sum()) for code, label in enumerate(CLASSES)
        }
        for name in sorted(set(objects.survey))
    }
    recipe = _recipe_record(plan.recipe)
    bands = sorted({f"{survey}: {band}" for survey, band in zip(objects.survey, objects.band, strict=True) if band})
    return {
        "source": ", ".join(surveys),
        "fingerprint": plan.data.objects.fingerprint,
        "n_objects": len(objects),
        "surveys": surveys,
        "bands": [*bands],
        "unusable": dict(plan.unusable),
        "dropped_classes": list(plan.dropped_classes),
        "options": {key: value for key, value in asdict(plan.options).items() if value is not None},
        "recipe": {key: value for key, value in recipe.items() if key not in ("preprocessing", "features")},
    }


def _fingerprint(data: TrainingSet, recipe: Recipe, options: TrainingOptions) -> str:
    parts = [data.objects.fingerprint, _recipe_record(recipe), asdict(options), _versions()]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    digest.update(data.inputs.curves.tobytes())
    digest.update(b"" if data.inputs.features is None else data.inputs.features.tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    keras = load_keras()
    backend = keras.backend.backend()
    return {
        "varstar_batch": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "keras": keras.__version__,
        "backend": f"{backend} {version(backend)}",
    }
