"""Training: from labelled light curves to a calibrated bundle and the evidence of how good it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from varstar_batch.model.bundle import Bundle, BundleContract
from varstar_batch.training.cross_validation import calibrate, split_evidence
from varstar_batch.training.fitting.fit import Checkpoints, NoCheckpoints, fit
from varstar_batch.training.judging.card import UNSEEN, write_card
from varstar_batch.training.judging.measures import Evidence, judge
from varstar_batch.training.plan import TrainingPlan, _recipe_record, _versions
from varstar_batch.training.precision import with_precisions
from varstar_batch.training.stars.labelled import count_classes
from varstar_batch.training.stars.seen import marks_of, write_marks
from varstar_batch.training.start import record_from
from varstar_batch.training.tune import PENALTY, calibrated_from, tune


@dataclass(frozen=True, eq=False)
class Trained:
    """A bundle, and what its measures rest on."""

    bundle: Bundle
    evidence: Evidence


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
    if plan.start is None:
        fitted = [
            fit(plan.data, split, plan.recipe_of(split), int(seed), checkpoints, progress)
            for split, seed in zip(plan.fits, seeds, strict=True)
        ]
    else:
        fitted = tune(plan.data, plan.fits, plan.start, progress)
    evidence, classes = split_evidence(plan, fitted), plan.data.objects.classes
    metrics = {"held_out": judge(evidence, classes)}
    keras_file = fitted[-1].keras_file
    calibrated = calibrate(plan, fitted)
    if plan.unseen:
        # What is familiar, and how sure one may be, is asked on surveys to come.
        unseen, of_surveys = replace(plan, splits=plan.unseen, unseen=()), fitted[len(plan.splits) : -1]
        metrics[UNSEEN] = judge(split_evidence(unseen, of_surveys), classes)
        calibrated = calibrate(unseen, of_surveys)
    record = _training_record(plan)
    if plan.start is not None:
        calibrated = calibrated_from(plan.start, calibrated)
        record = record_from(plan.start, record, plan.data.objects, PENALTY)
    contract = BundleContract(
        name=name,
        model_version=f"{name}-{hashlib.sha256(keras_file).hexdigest()[:8]}",
        architecture=plan.recipe.architecture,
        classes=classes,
        preprocessing=plan.recipe.preprocessing,
        features=plan.recipe.features,
        family=plan.data.outputs.family,
        calibration=calibrated.calibration,
        parent_sets=calibrated.parent_sets,
        ood=calibrated.ood,
        precision={},
        training=record,
        metrics=metrics,
        versions=_versions(),
        weights_sha256=hashlib.sha256(keras_file).hexdigest(),
    )
    contract = with_precisions(Bundle(contract, keras_file, ""), plan.data.inputs)
    return Trained(Bundle(contract, keras_file, write_card(contract)), evidence)


def _training_record(plan: TrainingPlan) -> dict[str, JsonValue]:
    objects = plan.data.objects
    surveys: dict[str, JsonValue] = {
        str(name): {**count_classes(objects.class_code[objects.survey == name], objects.classes)}
        for name in sorted(set(objects.survey))
    }
    recipe = _recipe_record(plan.recipe)
    bands = sorted({f"{survey}: {band}" for survey, band in zip(objects.survey, objects.band, strict=True) if band})
    return {
        "source": ", ".join(surveys),
        "fingerprint": plan.data.objects.fingerprint,
        "marks": write_marks(marks_of(objects.light_curves)),
        "n_objects": len(objects),
        "surveys": surveys,
        "bands": [*bands],
        "ranges": plan.ranges,
        "mira_lines": plan.mira_lines,
        "unusable": dict(plan.unusable),
        "labels_left_out": dict(plan.left_out),
        "dropped_classes": list(plan.dropped_classes),
        "options": plan.options.model_dump(mode="json", exclude_none=True),
        "recipe": {key: value for key, value in recipe.items() if key not in ("preprocessing", "features")},
    }
