"""Folding what was read of a survey: with the observations that reading left out counted, and each band by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from varstar_batch.light_curves.fold import Folded, fold
from varstar_batch.light_curves.rules import Limits, Preprocessing
from varstar_batch.light_curves.status import DropReason, Status
from varstar_batch.survey.bands import split
from varstar_batch.survey.decode import SurveyBatch


def fold_batch(
    batch: SurveyBatch,
    preprocessing: Preprocessing,
    limits: Limits,
    *,
    features: bool | Literal["rivals"] = False,
    n_threads: int = 1,
) -> Folded:
    """Fold a batch, as `fold`.

    Returns
    -------
    Folded
        Observations that reading left out are among `n_obs` and `dropped`. Where bands are to be folded each by itself,
        one row for each of them: see `Folded.objects`.
    """
    light_curves, period, objects = batch.light_curves, batch.period, None
    if batch.bands is not None:
        light_curves, objects = split(light_curves, batch.bands)
        period = np.repeat(period, np.diff(objects))
    folded = fold(light_curves, period, preprocessing, limits, features=features, n_threads=n_threads)
    if batch.left_out is not None:
        first = np.arange(len(folded)) if objects is None else objects[:-1]
        total = batch.left_out.sum(axis=1, dtype=np.int32)
        folded.n_obs[first] += total
        folded.dropped[first, DropReason.FLAGGED] = batch.left_out[:, 0]
        folded.dropped[first, DropReason.OTHER_BAND] = batch.left_out[:, 1]
        # The light curve is not empty as delivered.
        emptied = first[(total > 0) & (folded.status[first] == Status.NO_OBSERVATIONS)]
        folded.status[emptied] = Status.TOO_FEW_OBSERVATIONS
    return replace(folded, objects=objects)
