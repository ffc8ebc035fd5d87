"""Training: from labelled light curves to a calibrated bundle and the evidence of how good it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from varstar_batch.model.answers import answers_of
from varstar_batch.model.bundle import Bundle, BundleContract, PrecisionChange
from varstar_batch.model.engines.engine import Engine, Precision
from varstar_batch.model.engines.int8 import measure_ranges
from varstar_batch.model.engines.open import open_engine
from varstar_batch.training.card import UNSEEN, write_card
from varstar_batch.training.cross_validation import calibrate, split_evidence
from varstar_batch.training.fit import Checkpoints, NoCheckpoints, fit
from varstar_batch.training.inputs import Inputs
from varstar_batch.training.labelled import count_classes
from varstar_batch.training.measures import Evidence, judge
from varstar_batch.training.plan import TrainingPlan, _recipe_record, _versions
from varstar_batch.training.seen import marks_of, write_marks
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


CALIBRATED_ON = 4096
"""Light curves at most, spread over the training's, on which 8 bits are calibrated."""


def with_precisions(bundle: Bundle, inputs: Inputs) -> BundleContract:
    """Return a bundle's contract with ranges for 8 bits, and with what each lower precision changes on some inputs."""
    some = inputs.take(np.linspace(0, len(inputs) - 1, min(CALIBRATED_ON, len(inputs))).astype(np.int64))
    ranges = measure_ranges(bundle, some.curves, some.features)
    contract = bundle.contract.model_copy(update={"int8_ranges": ranges})
    precision = measure_precision(replace(bundle, contract=contract), inputs)
    return contract.model_copy(update={"precision": precision})


def measure_precision(bundle: Bundle, inputs: Inputs) -> dict[str, PrecisionChange]:
    """Return what lower precisions change on some inputs; without those that the processor or the bundle cannot have."""
    outputs, calibration = bundle.contract.outputs, bundle.contract.calibration

    def classes(engine: Engine) -> npt.NDArray[np.float64]:
        return answers_of(outputs, calibration, engine.logits(inputs.curves, inputs.features).astype(np.float64)).classes

    exact, found = classes(open_engine(bundle, "openvino", "float32")), {}
    lower: tuple[Precision, ...] = ("bfloat16", "int8") if bundle.contract.int8_ranges else ("bfloat16",)
    for name in lower:
        engine = open_engine(bundle, "openvino", name)
        if engine.precision != name:
            continue
        changed = classes(engine)
        found[name] = PrecisionChange(
            max_probability_change=round(float(np.abs(exact - changed).max()), 6),
            changed_classes=round(float(np.mean(exact.argmax(axis=1) != changed.argmax(axis=1))), 6),
            n_objects=len(inputs),
        )
    return found


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
