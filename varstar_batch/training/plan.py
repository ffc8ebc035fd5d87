"""What a training is to be: its options, and the plan that follows from them and from the labelled stars."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from pydantic import JsonValue

from varstar_batch._version import __version__
from varstar_batch.errors import InputError
from varstar_batch.light_curves.status import Status, count_statuses
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.family import Outputs
from varstar_batch.model.keras_runtime import load_keras
from varstar_batch.training.fitting.fit import TrainingSet
from varstar_batch.training.fitting.inputs import check_finite, fold_light_curves, inputs_of
from varstar_batch.training.fitting.recipes import Recipe
from varstar_batch.training.options import TrainingOptions
from varstar_batch.training.stars.folds import Split, fold_splits, star_groups, survey_splits
from varstar_batch.training.stars.labelled import NO_CLASS, LabelledLightCurves, count_classes
from varstar_batch.training.stars.ranges import mira_lines, ranges_of
from varstar_batch.training.stars.subclasses import find_family
from varstar_batch.training.start import check_labels, outputs_of, tuned_recipe

FEWEST_CLASSES = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingPlan:
    """A training that is fully decided and checked, and not begun."""

    options: TrainingOptions
    recipe: Recipe
    """With the options' numbers."""
    data: TrainingSet
    others: LabelledLightCurves
    """Usable objects of other kinds, which no network is trained on."""
    splits: tuple[Split, ...]
    """Of the cross-validation."""
    unseen: tuple[Split, ...]
    """Of surveys; empty where the options do not ask for them."""
    left_out: dict[str, int]
    """Objects of the surveys by label that means no class."""
    unusable: dict[str, int]
    """Labelled light curves that could not be folded, by status."""
    dropped_classes: tuple[str, ...]
    """Rare ones."""
    ranges: dict[str, JsonValue]
    mira_lines: list[JsonValue]
    """See `varstar_batch.training.stars.ranges`."""
    fingerprint: str
    """SHA-256 over all that the result depends on."""
    start: Bundle | None = None
    """Whose network goes on learning; None where a new one begins."""

    @property
    def fits(self) -> tuple[Split, ...]:
        """Every network to fit: one for each split, and the last, on everything, which is the bundle's."""
        everything = np.arange(len(self.data.objects))
        return (*self.splits, *self.unseen, Split("all", everything, everything[:0]))

    def recipe_of(self, split: Split) -> Recipe:
        """Return the recipe of one of `fits`: a network that only measures may have fewer passes."""
        passes = self.options.judge_epochs
        return self.recipe if passes is None or not len(split.held) else replace(self.recipe, epochs=passes)

    @property
    def passes(self) -> int:
        """Passes of all fits."""
        return sum(self.recipe_of(split).epochs for split in self.fits)

    @property
    def counts(self) -> dict[str, int]:
        """Light curves by class."""
        return count_classes(self.data.objects.class_code, self.data.objects.classes)

    def describe(self) -> dict[str, JsonValue]:
        """Return what tells this training from another, for people."""
        options: dict[str, JsonValue] = self.options.model_dump()
        return {**options, "light_curves": len(self.data.objects), "versions": dict(_versions())}


def plan_training(data: LabelledLightCurves, options: TrainingOptions, start: Bundle | None = None) -> TrainingPlan:
    """Fold everything, check it, and divide it into folds.

    Parameters
    ----------
    data : LabelledLightCurves
        Objects without a class are kept to measure the out-of-distribution score on, if they are of other kinds.
    options : TrainingOptions
    start : Bundle, optional
        Whose network goes on learning: then no class is too rare. The data must have its classes.

    Raises
    ------
    InputError
        One class only, a rare class, inputs that are not finite, fewer stars of a class than folds.
    """
    recipe = options.recipe() if start is None else tuned_recipe(start, options)
    where = ", ".join(sorted(set(data.survey)))
    threads = len(os.sched_getaffinity(0))
    folded = fold_light_curves(data.light_curves, data.period, recipe, n_threads=threads)
    status, inputs = folded.status, inputs_of(folded, recipe.features)
    labelled, usable = data.class_code != NO_CLASS, status == Status.OK
    rare = []
    if start is None:
        rare = _rare_classes(count_classes(data.class_code[labelled & usable], data.classes), options, where)
    kept = labelled & usable & ~np.isin(data.class_code, [data.classes.index(label) for label in rare])
    others = np.flatnonzero(data.other_kinds() & usable)
    rows = np.flatnonzero(kept)
    objects = data.take(rows)
    outputs = Outputs(data.classes, find_family(objects, subclasses=recipe.subclasses))
    training_set = TrainingSet(
        objects=objects,
        inputs=inputs.take(rows),
        others=inputs.take(others),
        outputs=outputs if start is None else outputs_of(start, outputs),
        n_threads=threads,
    )
    check_finite(training_set.inputs, recipe, where)
    check_finite(training_set.others, recipe, where)
    if start is None:
        _check_stars(training_set.objects, options, where)
    else:
        check_labels(training_set.objects, options.folds, where)
    return TrainingPlan(
        options=options,
        recipe=recipe,
        data=training_set,
        others=data.take(others),
        splits=fold_splits(training_set.objects, options.folds, options.seed),
        unseen=survey_splits(training_set.objects, _together(options, training_set.objects)) if options.unseen else (),
        unusable=count_statuses(status[labelled & ~usable]),
        left_out=dict(data.left_out),
        dropped_classes=tuple(rare),
        ranges=ranges_of(objects, folded.amplitude[rows], folded.n_used[rows]),
        mira_lines=mira_lines(objects, folded.amplitude[rows]),
        fingerprint=_fingerprint(training_set, recipe, options, start),
        start=start,
    )


def _together(options: TrainingOptions, objects: LabelledLightCurves) -> list[list[str]]:
    together = [names.split("+") for names in options.together]
    known = sorted(set(objects.survey))
    if unknown := [name for names in together for name in names if name not in known]:
        raise InputError(
            expected=f"surveys among {', '.join(known)}",
            got=", ".join(unknown),
            where="--together",
            fix="name surveys by the last part of their folder",
        )
    return together


def _rare_classes(counts: dict[str, int], options: TrainingOptions, where: str) -> list[str]:
    rare = [label for label, count in counts.items() if count < options.min_per_class]
    told = ", ".join(f"{label} {counts[label]:,}" for label in rare)
    if len(counts) - len(rare) < FEWEST_CLASSES:
        enough = [f"{label} {count:,}" for label, count in counts.items() if label not in rare]
        raise InputError(
            expected=f"usable light curves of two classes or more, at least {options.min_per_class:,} of each",
            got=f"{' and '.join(enough) or 'no class'} only (beside {told})",
            where=where,
            fix="add labelled surveys, or ask for fewer with --min-per-class",
        )
    if rare and not options.drop_rare_classes:
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
                got=f"{stars} of {objects.classes[code]}",
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


def _fingerprint(data: TrainingSet, recipe: Recipe, options: TrainingOptions, start: Bundle | None) -> str:
    parts: list[Any] = [] if start is None else [start.hash]
    parts += [data.objects.classes, data.objects.fingerprint, _recipe_record(recipe), options.model_dump(), _versions()]
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
