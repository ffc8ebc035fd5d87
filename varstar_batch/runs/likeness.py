"""Is a survey like what a model was trained on? Its bands, periods, amplitudes and observations against the card."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from varstar_batch.errors import PartitionError
from varstar_batch.model.bundle import BundleContract
from varstar_batch.survey.bands import FUSE, UNKNOWN
from varstar_batch.survey.decode import fold_batch
from varstar_batch.survey.open import Partition, Survey
from varstar_batch.survey.read import SurveyBatch, read_batches
from varstar_batch.survey.summary import bands_of_objects

PARTITIONS, OBJECTS, OBSERVATIONS = 4, 500, 2**19
"""What is looked at: the first objects of so many partitions, so many of each, and at most so many observations."""

FEW = 0.1
"""Share of the objects outside of a range of the training up to which nothing is said. It is 0.01 of the whole
training, and up to 0.06 of single surveys of it."""

_SAID = {
    "period": ("periods", "d"),
    "amplitude": ("amplitudes", "mag"),
    "observations": ("numbers of observations", "an object"),
}

Float64 = npt.NDArray[np.float64]


@dataclass
class _Sample:
    """What some objects of a survey are like."""

    values: dict[str, list[Float64]] = field(default_factory=lambda: {name: [] for name in _SAID})
    """By the name of a range."""
    bands: Counter[str] = field(default_factory=Counter)


def unlike_training(survey: Survey, contract: BundleContract) -> list[str]:
    """Return one line for each thing in which a survey lies outside of what a model was trained on.

    Parameters
    ----------
    survey : Survey
        A sample of its objects is read.
    contract : BundleContract
        Without ranges, as of a bundle made before there were any, only the bands are compared.
    """
    training: Mapping[str, Any] = contract.training
    sample = _take(survey, contract)
    lines = [line] if (line := _other_bands(sample.bands, training.get("bands", []))) else []
    for name, (low, high) in training.get("ranges", {}).items():
        values = np.concatenate([np.zeros(0), *sample.values[name]])
        count = max(len(values), 1)
        below, above = float((values < low).sum() / count), float((values > high).sum() / count)
        if below + above > FEW:
            what, unit = _SAID[name]
            both = ((below, "below"), (above, "above"))
            sides = " and ".join(f"{share:.0%} {side} it" for share, side in both if share >= FEW / 2)
            lines.append(
                f"{what} lie outside of {low:g} to {high:g} {unit}, where 99 % of the training's are: {sides}, of "
                f"{len(values):,} objects looked at; the model knows no such stars"
            )
    return lines


def _other_bands(bands: Mapping[str, int], trained: list[str]) -> str:
    """Return a line about bands of which no survey of the training was."""
    # Such as "crts-north: V_CSS (unfiltered)": each of its words names the band.
    described = dict.fromkeys(text.partition(": ")[2] for text in trained)
    known = {word for text in described for word in (text, *re.split(r"[\s()]+", text))}
    other = sorted(name for name in bands if name != UNKNOWN and name not in known)
    if not other or not trained:
        return ""
    return (
        f"no survey of the training is in the band {' or '.join(other)}, and amplitudes and shapes differ from band to "
        f"band; it has {'; '.join(described)}"
    )


def _take(survey: Survey, contract: BundleContract) -> _Sample:
    source, sample = survey.source, _Sample()
    seen = replace(source, bands=source.bands or FUSE)
    for partition in survey.partitions[:: max(1, len(survey.partitions) // PARTITIONS)][:PARTITIONS]:
        try:
            if source.columns.band is None:
                sample.bands.update(bands_of_objects(survey, partition))
            for batch in _first(replace(survey, source=seen), partition):
                _add(sample, batch, contract, survey)
        except PartitionError:
            continue  # the run will say what is wrong with it
    if source.bands not in {None, FUSE}:
        sample.bands = Counter({str(source.bands): 1})
    return sample


def _first(survey: Survey, partition: Partition) -> Iterator[SurveyBatch]:
    """Yield the first objects of a partition; nothing where it has none."""
    groups = None if survey.source.form == "long" else (0,)
    try:
        batch = next(read_batches(survey.source, partition, groups, OBSERVATIONS), None)
    except ValueError:
        return  # without any row group
    if batch is not None:
        yield batch.slice(0, min(OBJECTS, len(batch.period)))


def _add(sample: _Sample, batch: SurveyBatch, contract: BundleContract, survey: Survey) -> None:
    if batch.by_band is not None:
        sample.bands.update(batch.by_band.total())
    folded = fold_batch(batch, contract.preprocessing, survey.source.limits).of_objects()
    ok = folded.ok
    sample.values["period"].append(batch.period[np.isfinite(batch.period) & (batch.period > 0)])
    sample.values["amplitude"].append(folded.amplitude[ok].astype(np.float64))
    sample.values["observations"].append(folded.n_used[ok].astype(np.float64))
