"""What a training takes over from the bundle that it goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import JsonValue

from varstar_batch.errors import InputError
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.family import Family, Outputs
from varstar_batch.training.fitting.recipes import Recipe, find_recipe
from varstar_batch.training.options import TrainingOptions
from varstar_batch.training.stars.labelled import LabelledLightCurves
from varstar_batch.training.stars.seen import marks_of, read_marks, write_marks

FEWEST_LABELS = 10
"""To learn from and to judge by."""


def tuned_recipe(start: Bundle, options: TrainingOptions) -> Recipe:
    """Return the recipe of a bundle's architecture, with the input as the bundle has it.

    Raises
    ------
    InputError
        Nobody knows the architecture, or options were given that no passes over light curves have a use for.
    """
    given = options.model_dump(include={"epochs", "judge_epochs", "batch_size", "learning_rate"}, exclude_none=True)
    if given:
        raise InputError(
            expected="no options of passes beside --from, which fits the last layer alone",
            got=", ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items()),
            where="--from",
            fix="leave them out",
        )
    contract = start.contract
    recipe = find_recipe(contract.architecture)
    return replace(recipe, preprocessing=contract.preprocessing, features=contract.features, epochs=1)


def check_labels(objects: LabelledLightCurves, folds: int, where: str) -> None:
    """Refuse labels that are too few to learn from and to judge by, or all of one class: the others would be forgotten.

    Raises
    ------
    InputError
        They are.
    """
    classes = np.unique(objects.class_code)
    needed = max(FEWEST_LABELS, 2 * folds)
    if len(objects) < needed or len(classes) < 2:
        only = f", all of {objects.classes[classes[0]]}" if len(classes) == 1 else ""
        raise InputError(
            expected=f"at least {needed} usable light curves with labels, of two classes or more",
            got=f"{len(objects)}{only}",
            where=where,
            fix="label more of what `varstar ask CATALOG` names",
        )


def outputs_of(start: Bundle, found: Outputs) -> Outputs:
    """Return the outputs of a bundle's network; of one that knows no parents with those that were found."""
    if start.contract.family is not None or found.family is None:
        return start.contract.outputs
    return Outputs(start.contract.classes, Family(parents=found.family.parents))


def record_from(
    start: Bundle, record: Mapping[str, Any], objects: LabelledLightCurves, penalty: float
) -> dict[str, JsonValue]:
    """Return the record of a training that went on from a bundle: what both have seen, and what was done now."""
    before: Mapping[str, Any] = start.contract.training
    marks = np.union1d(marks_of(objects.light_curves), read_marks(before))
    ranges = {
        name: [min(low, now[0]), max(high, now[1])]
        for name, now in record["ranges"].items()
        for low, high in [before.get("ranges", {}).get(name, now)]
    }
    return {
        **record,
        "from": {
            "model_version": start.contract.model_version,
            "hash": start.hash,
            "n_objects": before["n_objects"],
            "surveys": before["surveys"],
        },
        "marks": write_marks(marks),
        "bands": sorted({*before.get("bands", []), *record["bands"]}),
        "ranges": ranges,
        "mira_lines": record["mira_lines"] or before.get("mira_lines", []),
        "recipe": {"architecture": record["recipe"]["architecture"], "learned": "last layer", "penalty": penalty},
    }
