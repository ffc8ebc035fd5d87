"""Whether another period fits a light curve better than the one it was folded with.

How well it repeats with each of the rivals, its features and its number of observations go to a small network, which
has seen right and wrong periods of labelled stars. The classes and their network have no say: with its probabilities
and `ood_score` among what it is told, a tree ensemble finds 0.907 of the wrong periods of three surveys held out, and
0.905 without; and a period has to be doubted before anything can be folded again. Fitted and measured by
`varstar_batch.training.fitting.wrong_periods`: docs/periods.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from varstar_batch.light_curves.features import FEATURES
from varstar_batch.light_curves.fold import Folded
from varstar_batch.light_curves.rivals import BINS, RIVALS, rival_periods

Float32 = npt.NDArray[np.float32]

OK, ALIAS, DOUBTFUL = "ok", "1 d alias", "doubtful"
PERIOD_FLAGS = (OK, "2P", "P/2", "3P", ALIAS, DOUBTFUL)
"""What a period is, as catalogs write it: no other fits better; twice, half or three times as long fits better; an
alias does, of one or two turns a day; it does not look like a period of the light curve, and none of the others does.
"""

VERDICTS = (*RIVALS, DOUBTFUL)
"""Which period is right, in the order of the small network's answers; the first is the period itself."""

_FLAG_OF_VERDICT = np.array(
    [PERIOD_FLAGS.index(name if name in PERIOD_FLAGS else ALIAS) for name in (OK, *VERDICTS[1:])], np.int8
)
N_INPUTS = len(RIVALS) * len(BINS) + len(FEATURES) + 1
"""Of the small network."""

BOUND = 4.0
"""Standard deviations beyond which an input counts no further."""

_BATCH = 16_384


class PeriodJudge(BaseModel):
    """The contents of ``periods.json``: a network of two hidden layers, and from which doubt on a period is flagged."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: tuple[float, ...] = Field(min_length=N_INPUTS, max_length=N_INPUTS)
    scale: tuple[float, ...] = Field(min_length=N_INPUTS, max_length=N_INPUTS)
    weights: tuple[tuple[tuple[float, ...], ...], ...] = Field(min_length=3, max_length=3)
    biases: tuple[tuple[float, ...], ...] = Field(min_length=3, max_length=3)
    limit: float = Field(gt=0, lt=1, description="Least probability of all other verdicts together that flags a period")
    trained_on: dict[str, int] = Field(description="Light curves by survey")

    def probabilities(self, inputs: Float32) -> Float32:
        """Return the probability of each of `VERDICTS`, float32 (n, len(VERDICTS)), for inputs as `judge_inputs`."""
        layers = list(zip(self.weights, self.biases, strict=True))
        mean, scale = np.asarray(self.mean, np.float32), np.asarray(self.scale, np.float32)
        values = np.clip((inputs - mean) / scale, -BOUND, BOUND)
        for number, (weights, biases) in enumerate(layers):
            values = values @ np.asarray(weights, np.float32) + np.asarray(biases, np.float32)
            if number < len(layers) - 1:
                values = np.maximum(values, 0)
        values = np.exp(values - values.max(axis=1, keepdims=True, initial=-np.inf))
        probabilities: Float32 = values / values.sum(axis=1, keepdims=True)
        return probabilities


@dataclass(frozen=True, eq=False)
class PeriodVerdict:
    """What `question` says of n objects."""

    flag: npt.NDArray[np.int8]
    """Int8 (n,). Index into `PERIOD_FLAGS`; -1 where the object has no curve."""
    best: npt.NDArray[np.float64]
    """Float64 (n,). Period that fits best [d]; NaN where none was found to fit, or the object has no curve."""

    @property
    def better(self) -> npt.NDArray[np.intp]:
        """Objects that another period fits better, intp (m,), ascending."""
        return np.flatnonzero((self.flag > 0) & np.isfinite(self.best))


def question(folded: Folded, period: npt.NDArray[np.float64]) -> PeriodVerdict:
    """Say of each object whether its period is right, and which of its rivals fits better if not.

    Parameters
    ----------
    folded : Folded
        n objects, folded with features and rivals; of several bands the one with the most observations tells.
    period : float64 array (n,)
        That they were folded with [d].
    """
    objects = folded.of_objects()
    ok = np.flatnonzero(objects.ok)
    flag, best = np.full(len(objects), -1, np.int8), np.full(len(objects), np.nan)
    for start in range(0, len(ok), _BATCH):
        rows = ok[start : start + _BATCH]
        verdict = _verdicts(read_judge(), judge_inputs(objects, rows))
        flag[rows] = _FLAG_OF_VERDICT[verdict]
        rivals = np.column_stack([rival_periods(period[rows]), np.full(len(rows), np.nan)])
        rivals[:, 0] = period[rows]
        best[rows] = rivals[np.arange(len(rows)), verdict]
    # No frequency is left where an alias is that of the day itself.
    lost = np.isinf(best)
    flag[lost], best[lost] = PERIOD_FLAGS.index(DOUBTFUL), np.nan
    return PeriodVerdict(flag, best)


def judge_inputs(folded: Folded, rows: npt.NDArray[np.intp]) -> Float32:
    """Return what the small network is told of some objects that have curves, float32 (len(rows), N_INPUTS)."""
    dispersion = np.log10(np.clip(folded.dispersion[rows], 1e-3, 10)).reshape(len(rows), len(RIVALS), len(BINS))
    dispersion[:, 1:] -= dispersion[:, :1]
    n_used = np.log10(folded.n_used[rows].astype(np.float32))
    inputs: Float32 = np.concatenate(
        [dispersion.reshape(len(rows), -1), folded.features[rows], n_used[:, None]], axis=1
    )
    return inputs


def _verdicts(judge: PeriodJudge, inputs: Float32) -> npt.NDArray[np.intp]:
    probabilities = judge.probabilities(inputs)
    others = probabilities[:, 1:]
    return np.where(1 - probabilities[:, 0] > judge.limit, 1 + others.argmax(axis=1), 0)


@lru_cache(maxsize=1)
def read_judge() -> PeriodJudge:
    """Return the small network that ships with the package."""
    file = resources.files("varstar_batch.model") / "periods.json"
    return PeriodJudge.model_validate(json.loads(file.read_bytes()))
