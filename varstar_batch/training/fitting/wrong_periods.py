"""The small network that questions periods: fitted on labelled stars folded with right and with wrong periods.

Run ``python -m varstar_batch.training.fitting.wrong_periods SURVEY... [--together A+B,...] [--write FILE]``;
``make periods`` does it for the network that ships. What it prints is measured on stars of surveys that the network has
not seen.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rivals import SIDEREAL_DAY, rival_periods
from varstar_batch.light_curves.rules import Limits
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.periods import BOUND, VERDICTS, PeriodJudge, judge_inputs
from varstar_batch.training.stars.labelled import LabelledLightCurves
from varstar_batch.training.stars.read_labelled import read_labelled

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

WIDTH = 48
"""Of the two hidden layers."""

FALSE_ALARMS = 0.05
"""Share of the right periods of surveys held out that are flagged."""

RANDOM = (1 / 1000, 20.0)
"""Frequencies [1/d] between which periods that have nothing to do with a star are drawn."""

_DAY = 1 / SIDEREAL_DAY
# How a wrong frequency comes from the right one, |factor f + shift|, and how often it is shown for a right one's four.
_WRONG: Mapping[str, tuple[float, float, float]] = {
    "P": (1, 0, 4),
    "2P": (1 / 2, 0, 1),
    "P/2": (2, 0, 1),
    "1/P - 1": (1, -1, 0.6),
    "1/P + 1": (1, 1, 0.6),
    "1/P - 1 sidereal": (1, -_DAY, 0.6),
    "1/P + 1 sidereal": (1, _DAY, 0.6),
    "1/P - 2": (1, -2, 0.3),
    "1/P + 2": (1, 2, 0.3),
    "1/P - 2 sidereal": (1, -2 * _DAY, 0.3),
    "1/P + 2 sidereal": (1, 2 * _DAY, 0.3),
    "P/3": (3, 0, 0.5),
    "3P": (1 / 3, 0, 0.3),
    "random": (0, 0, 0.5),
}
GIVEN = tuple(_WRONG)
"""What is folded with instead of the right period."""

TOLD = ("2P", "P/2", "1/P - 1", "1/P + 1")
"""Those that the flagged share is told of."""


@dataclass(frozen=True, eq=False)
class Examples:
    """m light curves folded with some period, as the small network sees them, and which of `VERDICTS` is right."""

    inputs: Floats
    """Float32 (m, N_INPUTS)."""
    verdict: Ints
    given: Ints
    """Intp (m,). Indices into `VERDICTS` and `GIVEN`."""
    star: Ints
    """Intp (m,). Row of the labelled light curves."""


def make_examples(stars: LabelledLightCurves, seed: int = 1) -> Examples:
    """Fold each star that has a curve with its own period and with wrong ones."""
    preprocessing = read_bundle().contract.preprocessing
    rng = np.random.default_rng(seed)
    parts = []
    usable = np.ones(len(stars), np.bool_)
    for number, (factor, shift, _) in enumerate(_WRONG.values()):
        frequency = np.abs(factor / stars.period + shift)
        if GIVEN[number] == "random":
            low, high = np.log(RANDOM)
            frequency = np.exp(rng.uniform(low, high, len(stars)))
        period = 1 / np.maximum(frequency, 1e-5)
        folded = fold(stars.light_curves, period, preprocessing, Limits(), features="rivals")
        if GIVEN[number] == "P":
            usable = folded.ok
        rows = np.flatnonzero(folded.ok & usable)
        # Which rival of the wrong period is the right one.
        unlike = np.abs(rival_periods(period[rows]) / stars.period[rows, None] - 1)
        verdict = np.where(unlike.min(axis=1) < 1e-9, unlike.argmin(axis=1), len(VERDICTS) - 1)
        parts.append((judge_inputs(folded, rows), verdict, np.full(len(rows), number), rows))
    return Examples(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def fit_judge(
    examples: Examples, weight: npt.NDArray[np.float64], limit: float, trained_on: dict[str, int]
) -> PeriodJudge:
    """Fit the small network by cross entropy on examples drawn with these weights.

    Notes
    -----
    Source: Kingma and Ba 2015, arXiv:1412.6980 (Adam), its rate falling as a cosine.
    """
    passes, drawn, size, rate, decay = 12, 120_000, 512, 3e-3, 1e-3
    rng = np.random.default_rng(1)
    mean, scale = examples.inputs.mean(axis=0), examples.inputs.std(axis=0) + 1e-6
    inputs = np.clip((examples.inputs - mean) / scale, -BOUND, BOUND).astype(np.float32)
    widths = (inputs.shape[1], WIDTH, WIDTH, len(VERDICTS))
    values = [
        array.astype(np.float32)
        for n_in, n_out in pairwise(widths)
        for array in (rng.normal(size=(n_in, n_out)) / np.sqrt(n_in), np.zeros(n_out))
    ]
    first, second = [np.zeros_like(each) for each in values], [np.zeros_like(each) for each in values]
    steps = passes * (drawn // size)
    shares = weight / weight.sum()
    for step in range(1, steps + 1):
        if (step - 1) % (drawn // size) == 0:
            order = rng.choice(len(inputs), drawn, p=shares)
        chosen = order[(step - 1) % (drawn // size) * size :][:size]
        now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        for k, gradient in enumerate(_gradients(values, inputs[chosen], examples.verdict[chosen])):
            first[k] = 0.9 * first[k] + 0.1 * gradient
            second[k] = 0.999 * second[k] + 0.001 * gradient**2
            move = first[k] / (1 - 0.9**step) / (np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8)
            values[k] = (values[k] - now * move) * np.float32(1 - now * decay * (k % 2 == 0))
    return PeriodJudge(
        mean=_stored(mean),
        scale=_stored(scale),
        weights=tuple(tuple(map(_stored, matrix)) for matrix in values[::2]),
        biases=tuple(map(_stored, values[1::2])),
        limit=limit,
        trained_on=trained_on,
    )


def _gradients(values: Sequence[Floats], inputs: Floats, verdict: Ints) -> list[Floats]:
    activations = [inputs]
    for weights, biases in zip(values[::2], values[1::2], strict=True):
        activations.append(np.maximum(activations[-1] @ weights + biases, 0))
    logits = activations[-2] @ values[-2] + values[-1]
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(verdict)), verdict] -= 1
    error /= len(verdict)
    gradients: list[Floats] = []
    for layer in (2, 1, 0):
        gradients = [activations[layer].T @ error, error.sum(axis=0), *gradients]
        error = (error @ values[2 * layer].T) * (activations[layer] > 0)
    return gradients


def _stored(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)


def example_weights(stars: LabelledLightCurves, examples: Examples) -> npt.NDArray[np.float64]:
    """Return how often each example is shown: rare classes more often than they come, by the root of their number."""
    counts = np.maximum(np.bincount(stars.class_code, minlength=len(stars.classes)), 1)
    shown = np.array([share for _, _, share in _WRONG.values()])
    weight: npt.NDArray[np.float64] = shown[examples.given] / np.sqrt(counts[stars.class_code[examples.star]])
    return weight


def judge_unseen(
    stars: LabelledLightCurves, examples: Examples, together: Sequence[Sequence[str]]
) -> npt.NDArray[np.float32]:
    """Return float32 (m, len(VERDICTS)): what networks say that have not seen the survey of the example."""
    said = np.zeros((len(examples.star), len(VERDICTS)), np.float32)
    weight = example_weights(stars, examples)
    survey = stars.survey[examples.star]
    for held in _groups(sorted(set(stars.survey)), together):
        out = np.isin(survey, held)
        judge = fit_judge(examples, np.where(out, 0, weight), 0.5, {})
        said[out] = judge.probabilities(examples.inputs[out])
    return said


def _groups(names: Sequence[str], together: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    yield from together
    yield from ([name] for name in names if not any(name in group for group in together))


def print_table(stars: LabelledLightCurves, examples: Examples, said: npt.NDArray[np.float32], limit: float) -> None:
    """Print shares of periods that are flagged, and for which the right one is found too, by class and by survey."""
    flagged = 1 - said[:, 0] > limit
    right = flagged & (said[:, 1:].argmax(axis=1) + 1 == examples.verdict)
    names = np.array(stars.classes, object)[stars.class_code[examples.star]]
    print("| stars | light curves | P flagged |" + " | ".join(f"{name} flagged (mended)" for name in TOLD) + " |")
    print("|---|---:|---:|" + "---:|" * len(TOLD))
    surveys = stars.survey[examples.star]
    for by in (names, surveys, np.full(len(names), "all", object)):
        for name in sorted(set(by)):
            rows = [(by == name) & (examples.given == GIVEN.index(given)) for given in ("P", *TOLD)]
            cells = [f"{flagged[row].mean():.1%} ({right[row].mean():.1%})" for row in rows[1:]]
            print(f"| {name} | {rows[0].sum():,} | {flagged[rows[0]].mean():.1%} | {' | '.join(cells)} |")
    told = np.isin(examples.given, [GIVEN.index(name) for name in TOLD])
    print(
        f"of these wrong periods {flagged[told].mean():.1%} flagged, {right[told].mean():.1%} mended; limit {limit:.3f}"
    )
    for number, given in enumerate(GIVEN[1:], 1):
        rows_given = examples.given == number
        print(f"{given}: {flagged[rows_given].mean():.1%} flagged, {right[rows_given].mean():.1%} mended")


def main(words: Sequence[str] | None = None) -> int:
    """Fit, measure, and write the network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("surveys", nargs="+")
    parser.add_argument("--together", default="", help="surveys held out at once, as in A+B,C+D")
    parser.add_argument("--write", type=Path, help="file to write the network to")
    chosen = parser.parse_args(words)
    stars = read_labelled(chosen.surveys)
    examples = make_examples(stars)
    together = [group.split("+") for group in chosen.together.split(",") if group]
    said = judge_unseen(stars, examples, together)
    limit = float(np.quantile(1 - said[examples.given == 0, 0], 1 - FALSE_ALARMS))
    print_table(stars, examples, said, limit)
    if chosen.write is not None:
        names = Counter(stars.survey[examples.star[examples.given == 0]])
        judge = fit_judge(examples, example_weights(stars, examples), round(limit, 4), dict(sorted(names.items())))
        chosen.write.write_text(json.dumps(judge.model_dump(mode="json"), separators=(",", ":")) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
