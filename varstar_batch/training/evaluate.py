"""Judging a bundle by labelled light curves."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits
from varstar_batch.light_curves.status import STATUS_LABELS, Status, count_statuses
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.classify import Classification, classify
from varstar_batch.model.engines.open import open_engine
from varstar_batch.training.judging.measures import Evidence
from varstar_batch.training.stars.labelled import NO_CLASS, LabelledLightCurves


def gather_evidence(bundle: Bundle, data: LabelledLightCurves) -> tuple[Evidence, dict[str, int], pa.Table]:
    """Classify labelled light curves as a run would.

    Parameters
    ----------
    bundle : Bundle
    data : LabelledLightCurves
        Those without a class are kept if they are of other kinds.

    Returns
    -------
    evidence : Evidence
        Of all that could be classified, as one fold.
    unusable : dict of str to int
        Labelled light curves that could not, by status.
    stars : pa.Table
        A row for each light curve: what is known of it, what was found, and whether that is its label's class.

    Raises
    ------
    InputError
        None of the labelled light curves can be classified.
    """
    threads = len(os.sched_getaffinity(0))
    contract = bundle.contract
    folded = fold(
        data.light_curves,
        data.period,
        contract.preprocessing,
        Limits(),
        features=bool(contract.features),
        n_threads=threads,
    )
    result = classify(bundle, open_engine(bundle, threads=threads), folded)
    labelled, classified = data.class_code != NO_CLASS, result.status == Status.OK
    rows, others = np.flatnonzero(labelled & classified), np.flatnonzero(data.other_kinds() & classified)
    unusable = count_statuses(result.status[labelled & ~classified])
    if not len(rows):
        raise InputError(
            expected="labelled light curves that can be classified",
            got="none: " + ", ".join(f"{count:,} {label}" for label, count in unusable.items()),
            where=", ".join(sorted(set(data.survey))),
            fix="look at the survey with varstar inspect",
        )
    evidence = Evidence(
        objects=data.take(rows),
        probabilities=result.probabilities[rows].astype(np.float64),
        fold=np.zeros(len(rows), np.int64),
        ood_score=result.ood_score[rows].astype(np.float64),
        outputs=contract.outputs if contract.family else None,
        leaf=result.subclass_code[rows],
        parent_sets=result.parent_sets[rows] if contract.parent_sets else np.zeros((0, 0, 0), np.bool_),
        others=data.take(others),
        other_probabilities=result.probabilities[None, others].astype(np.float64),
        other_score=result.ood_score[None, others].astype(np.float64),
    )
    return evidence, unusable, _stars(data, result)


def _stars(data: LabelledLightCurves, result: Classification) -> pa.Table:
    names = pa.array(data.classes)

    def class_of(codes: npt.NDArray[np.int8]) -> pa.Array:
        return names.take(pa.array(codes, mask=codes < 0))

    def number(values: npt.NDArray[Any]) -> pa.Array:
        return pa.array(values, from_pandas=True)

    label_class, found = class_of(data.class_code), class_of(result.class_code)
    return pa.table(
        {
            "survey": pa.array(data.survey),
            "object_id": pa.array(data.object_id),
            "ra": number(data.ra),
            "dec": number(data.dec),
            "period": number(data.period),
            "label": pa.array(np.where(data.label == "", data.class_original, data.label)),
            "label_class": label_class,
            "status": pa.array(STATUS_LABELS).take(pa.array(result.status)),
            "class": found,
            "right": pc.equal(label_class, found),
            "class_prob": number(result.class_prob),
            "second_class": class_of(result.second_code),
            "ood_score": number(result.ood_score),
            **{f"prob_{name}": number(result.probabilities[:, k]) for k, name in enumerate(data.classes)},
        }
    )
