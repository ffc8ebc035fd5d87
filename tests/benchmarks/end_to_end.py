"""From Parquet to a published catalog, beside what people would write without this project; same survey, same model."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.classifying import Classified, classify
from tests.benchmarks.floors import disk_bytes_per_second, light_curves_by_operations, peak_flops
from tests.benchmarks.harness import NAIVE, Options, Part, ProcessRun, checked, run_process
from tests.benchmarks.measures import Row, paired_ratio, spread
from tests.benchmarks.models import SHIPPED_BUNDLE, paper_bundle
from tests.benchmarks.surveys import SurveySize, write_survey

NAIVE_NAME = "naive.py: one process, a loop over light curves, Keras"
FLOAT32, BFLOAT16 = "varstar classify, float32", "varstar classify, bfloat16"
SHIPPED = "varstar classify, float32, the network that ships instead"
PRINTED = re.compile(r"(\d+) objects ([\d.]+) seconds")

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}
ONE_THREAD = QUIET | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""For programs of several processes, which would fight for the cores otherwise."""


def measure(options: Options) -> Part:
    """Measure this project and its rivals in turns."""
    scratch = options.scratch
    size = SurveySize(objects=options.objects, partitions=min(64, max(4, options.objects // 1000)))
    survey = write_survey(scratch / f"survey-{size.objects}-{size.partitions}-{size.observations}", size)
    bundle = paper_bundle(scratch)
    ours: dict[str, list[Classified]] = {FLOAT32: [], BFLOAT16: [], SHIPPED: []}
    memory: dict[str, int] = {}

    def varstar(name: str, precision: str, bundle: Path = bundle) -> float:
        done = classify(survey, bundle, scratch / "catalog", "--precision", precision, workers=options.workers)
        ours[name].append(done)
        memory[name] = max(memory.get(name, 0), done.process.memory)
        return done.rate

    def rival(name: str, command: list[str], env: dict[str, str]) -> float:
        run = checked(run_process(command, env=env))
        memory[name] = max(memory.get(name, 0), run.memory)
        shutil.rmtree(scratch / f"rival-{os.getpid()}", ignore_errors=True)
        return printed_rate(run, size.objects)

    calls: dict[str, Callable[[], float]] = {}
    part = Part(f"End to end: {size.objects:,} light curves of {size.observations} observations, Parquet to catalog")
    commands = rival_commands(survey, bundle / "model.keras", scratch / f"rival-{os.getpid()}", options.workers)
    if not commands:
        part.notes.append("The rivals need ../shared/baseline/naive.py, which this machine does not have.")
    for name, (command, env) in commands.items():
        calls[name] = lambda name=name, command=command, env=env: rival(name, command, env)
    calls[FLOAT32] = lambda: varstar(FLOAT32, "float32")
    calls[BFLOAT16] = lambda: varstar(BFLOAT16, "bfloat16")
    calls[SHIPPED] = lambda: varstar(SHIPPED, "float32", SHIPPED_BUNDLE)
    frequent = {name: call for name, call in calls.items() if name == NAIVE_NAME or name in ours}
    # The warm-up is for this project alone: it compiles its kernels once, and it fills the page cache for all.
    varstar(FLOAT32, "float32")
    ours[FLOAT32].clear()
    values = _rounds(frequent, {name: call for name, call in calls.items() if name not in frequent}, options)
    floors = _floors(options, survey, size)
    for name, rates in values.items():
        against = NAIVE_NAME if NAIVE_NAME in values and name != NAIVE_NAME else ""
        part.rows.append(
            Row(
                name=name,
                value=spread(rates),
                rounds=len(rates),
                ratio=paired_ratio(rates, values[NAIVE_NAME]) if against else None,
                against="naive.py" if against else "",
                memory=memory[name],
                floor=None if name == SHIPPED else floors["bfloat16" if name == BFLOAT16 else "float32"],
            )
        )
    _tell(part, ours, floors, options)
    return part


def rival_commands(survey: Path, model: Path, out: Path, workers: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return the rivals' command lines and environments; none where `naive.py` is missing."""
    if not NAIVE.exists():
        return {}
    arguments = [str(survey), str(model), str(out)]
    module = [sys.executable, "-m"]
    rivals = {
        NAIVE_NAME: ([sys.executable, str(NAIVE), *arguments], QUIET),
        f"multiprocessing.Pool({workers}) of its functions": (
            [*module, "tests.benchmarks.rivals.pool", *arguments, str(workers)],
            ONE_THREAD,
        ),
        f"LSDB map_partitions on {workers} Dask workers, its fold, Keras": (
            [*module, "tests.benchmarks.rivals.lsdb_partitions", *arguments, str(workers)],
            ONE_THREAD,
        ),
    }
    if importlib.util.find_spec("ray") is not None:  # no dependency of this project: measured where somebody has it
        rivals[f"Ray Data {version('ray')} on {workers} cores, the same functions"] = (
            [*module, "tests.benchmarks.rivals.ray_data", *arguments, str(workers)],
            ONE_THREAD | {"RAY_USAGE_STATS_ENABLED": "0"},
        )
    return rivals


def printed_rate(run: ProcessRun, objects: int) -> float:
    """Return the light curves per second that a rival printed. Raises RuntimeError if it printed none."""
    match = PRINTED.search(run.out)
    if match is None or int(match[1]) > objects or int(match[1]) == 0:
        raise RuntimeError(f"expected a line about {objects} objects, got {run.out[-200:]!r}")
    # Objects that could not be classified are no rows of a rival's output, but it has read them.
    return objects / float(match[2])


def _rounds(
    frequent: dict[str, Callable[[], float]], slow: dict[str, Callable[[], float]], options: Options
) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {name: [] for name in [*frequent, *slow]}
    for number in range(max(options.rounds, options.rival_rounds)):
        if number < options.rounds:
            for name, call in frequent.items():
                values[name].append(call())
        if number < options.rival_rounds:
            for name, call in slow.items():
                values[name].append(call())
    return {name: found for name, found in values.items() if found}


def _floors(options: Options, survey: Path, size: SurveySize) -> dict[str, float]:
    cores = options.workers
    on_storage = sum(file.stat().st_size for file in survey.rglob("*.parquet"))
    return {
        "float32": light_curves_by_operations(peak_flops("float32", cores)),
        "bfloat16": light_curves_by_operations(peak_flops("bfloat16", cores)),
        "disk": size.objects / (on_storage / disk_bytes_per_second(options.scratch)),
    }


def _tell(part: Part, ours: dict[str, list[Classified]], floors: dict[str, float], options: Options) -> None:
    for name, runs in ours.items():
        start_up = spread([run.start_up for run in runs])
        first = spread([run.first_done for run in runs])
        executed = spread([run.record["rows"] / run.record["seconds"] for run in runs])
        whole = spread([run.whole_rate for run in runs])
        part.facts[name] = {
            "start_up_seconds": round(start_up.median, 2),
            "first_chunk_done_seconds": round(first.median, 2),
            "chunks_only": round(executed.median),
            "start_up_included": round(whole.median),
            "worker_seconds": runs[-1].record["worker_seconds"],
        }
        part.notes.append(
            f"{name}: start-up {start_up.median:.1f} s ({start_up.low:.1f} - {start_up.high:.1f}) until the first "
            f"chunk is taken up, {first.median:.1f} s until it is done; "
            f"{whole.median:,.0f} light curves/s with start-up."
        )
    part.facts["floors"] = {name: round(value) for name, value in floors.items()}
    part.notes.append(
        "All run the paper's network, but where it says otherwise: the one that ships also takes features, which the "
        "rivals do not compute, and is a fraction of its size."
    )
    part.notes.append(
        "Rates count from the first chunk to the end of the process, publishing included; those of the rivals leave "
        "out imports and loading the model, too."
    )
    part.notes.append(
        f"Floor: what {options.workers} cores' peak arithmetic allows for the CNN alone "
        f"({floors['float32']:,.0f} in float32, {floors['bfloat16']:,.0f} in bfloat16); the disk would allow "
        f"{floors['disk']:,.0f}."
    )
