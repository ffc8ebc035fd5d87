"""How time and memory grow: with workers, objects, observations and partitions. In bfloat16, where it hurts soonest."""

from __future__ import annotations

import os
from pathlib import Path

from tests.benchmarks.classifying import Classified, classify
from tests.benchmarks.harness import Options, Part
from tests.benchmarks.measures import Row, slope, spread
from tests.benchmarks.models import paper_bundle
from tests.benchmarks.surveys import SurveySize, write_survey

ROWS_PER_PARTITION = 2_000
OBSERVATIONS = (51, 500, 5_000)
"""Of a light curve: 51 is the least that the cleaning rules let through after the one that might be dropped."""


def measure(options: Options) -> Part:
    """Measure the four kinds of growth, each with its slope."""
    part = Part("Scaling: how time and memory grow (bfloat16)")
    for measured in (_by_workers, _by_objects, _by_observations, _by_partitions):
        measured(part, options)
    return part


def _by_workers(part: Part, options: Options) -> None:
    size = _size(options.scaling_objects)  # fewer, and a run is half fixed costs, which no second worker takes on
    counts = [1, options.workers]
    # In turns, and pair by pair: the machine may be slower in the second minute than in the first.
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(1 if options.quick else 3):
        for count in counts:
            done = _classify(size, options, workers=count)
            rates[count].append(done.record["rows"] / done.record["seconds"])
    base = rates[1]
    for count, found in rates.items():
        ratio = spread([value / other for value, other in zip(found, base, strict=True)]) if count > 1 else None
        part.rows.append(
            Row(
                name=f"{count} worker{'s'[: count > 1]}, {size.objects:,} objects",
                value=spread(found),
                rounds=len(found),
                ratio=ratio,
                against="1 worker" if ratio else "",
                note=f"efficiency {ratio.median / count:.0%}" if ratio else "",
            )
        )
    usable = len(os.sched_getaffinity(0))
    if usable < options.workers:
        part.notes.append(f"{options.workers} workers shared {usable} cores.")


def _by_objects(part: Part, options: Options) -> None:
    counts = [options.scaling_objects // 100, options.scaling_objects // 10, options.scaling_objects]
    runs = [_classify(_size(count), options) for count in counts]
    _grow(part, "objects", counts, runs, [f"{count:,} objects" for count in counts])


def _by_observations(part: Part, options: Options) -> None:
    objects = max(200, options.scaling_objects // 50)
    sizes = [
        SurveySize(objects=objects, partitions=4, observations=count, spread=0.0, sentinels=0.0)
        for count in OBSERVATIONS
    ]
    runs = [_classify(size, options) for size in sizes]
    _grow(
        part,
        "observations",
        list(OBSERVATIONS),
        runs,
        [f"{objects:,} objects of {count:,} observations" for count in OBSERVATIONS],
    )


def _by_partitions(part: Part, options: Options) -> None:
    most = options.scaling_partitions
    counts = sorted({10, max(10, round((10 * most) ** 0.5)), most})
    objects = max(most, options.scaling_objects // 10)
    runs = [_classify(SurveySize(objects=objects, partitions=count), options) for count in counts]
    _grow(part, "partitions", counts, runs, [f"{objects:,} objects in {count:,} partitions" for count in counts])
    extra = runs[-1].process.seconds - runs[0].process.seconds
    part.facts["seconds_per_partition"] = round(extra / (counts[-1] - counts[0]), 5)
    part.notes.append(
        f"A partition costs {1000 * extra / (counts[-1] - counts[0]):.1f} ms of the whole run beyond its light curves."
    )


def _grow(part: Part, what: str, x: list[int], runs: list[Classified], names: list[str]) -> None:
    seconds = [run.process.seconds - run.start_up for run in runs]
    for name, run in zip(names, runs, strict=True):
        part.rows.append(Row(name=name, value=spread([run.rate]), memory=run.process.memory))
    exponent = slope(x, seconds)
    last = slope(x[-2:], seconds[-2:])
    memory = slope(x, [run.process.memory for run in runs])
    part.facts[what] = {
        "x": x,
        "seconds": [round(value, 2) for value in seconds],
        "start_up": [round(run.start_up, 2) for run in runs],
        "memory": [run.process.memory for run in runs],
        "exponent": round(exponent, 3),
        "exponent_of_the_last_two": round(last, 3),
        "memory_exponent": round(memory, 3),
    }
    part.notes.append(
        f"Time grows as {what}^{exponent:.2f} (the last two alone: ^{last:.2f}), memory as {what}^{memory:.2f}."
    )


def _size(objects: int) -> SurveySize:
    return SurveySize(objects=objects, partitions=max(4, objects // ROWS_PER_PARTITION))


def _classify(size: SurveySize, options: Options, workers: int | None = None) -> Classified:
    name = f"survey-{size.objects}-{size.partitions}-{size.observations}"
    survey = write_survey(options.scratch / name, size)
    catalog: Path = options.scratch / "catalog"
    bundle = paper_bundle(options.scratch)
    return classify(
        survey, bundle, catalog, "--precision", "bfloat16", workers=options.workers if workers is None else workers
    )
