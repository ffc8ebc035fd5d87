"""Light curves per second of `varstar train`'s passes against plain `keras.Model.fit`, at the paper's batch of 16.

    python -m tests.benchmarks.bench_training [--objects 2048] [--rounds 5] [--batch-size 16] [--rivals]

Both train the paper's network on the same curves and take turns pass by pass, so that other work on the machine slows
both alike: ratios are worth more than rates. The first pass of each, which compiles, is told apart. The last column is
what a pass over 17,000 light curves, the paper's number, would take; its own is 4 s on an RTX 4070 Ti.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.fold import fold
from varstar_batch.light_curves.rules import Limits
from varstar_batch.model.keras_runtime import keras_sees_gpu, load_keras
from varstar_batch.model.networks import build_paper_network
from varstar_batch.simulation.objects import simulate_objects
from varstar_batch.training.fitting.fit import TrainingSet, _Network
from varstar_batch.training.fitting.inputs import Inputs
from varstar_batch.training.fitting.recipes import PAPER
from varstar_batch.training.stars.folds import Split
from varstar_batch.training.stars.labelled import LabelledLightCurves

PAPER_OBJECTS = 17_000


def make_set(n: int) -> TrainingSet:
    """Simulate and fold at least n light curves, and keep n."""
    simulated = simulate_objects(0, n + n // 4 + 50, 3)
    folded = fold(simulated.light_curves, simulated.period, PAPER.preprocessing, Limits())
    rows = np.flatnonzero(folded.ok)[:n]
    texts = np.full(len(simulated), "", np.object_)
    objects = LabelledLightCurves(
        light_curves=simulated.light_curves,
        period=simulated.period,
        class_code=simulated.class_code.astype(np.int8),
        survey=texts,
        object_id=texts,
        ra=simulated.ra,
        dec=simulated.dec,
        class_original=texts,
        label=texts,
        band=texts,
        period_source=texts,
    )
    inputs = Inputs(folded.curve)
    return TrainingSet(objects=objects.take(rows), inputs=inputs.take(rows), others=inputs.take(rows[:0]))


class Plain:
    """What a tutorial does: compile with what Keras chooses, and fit arrays."""

    def __init__(self, data: TrainingSet, batch_size: int, **compile_options: object) -> None:
        keras = load_keras()
        keras.utils.set_random_seed(1)
        self.curves = data.inputs.curves[:, :, None]
        self.labels = keras.utils.to_categorical(data.objects.class_code, len(CLASSES))
        self.batch_size = batch_size
        self.model = build_paper_network()
        self.model.compile(
            optimizer=keras.optimizers.Adam(1e-4),
            loss="categorical_crossentropy",
            metrics=["accuracy"],
            **compile_options,
        )

    def once(self, _number: int) -> None:
        """Do one pass."""
        self.model.fit(self.curves, self.labels, batch_size=self.batch_size, epochs=1, verbose=0)


class Ours:
    """A pass of `varstar train`."""

    def __init__(self, data: TrainingSet, batch_size: int) -> None:
        everything = np.arange(len(data.objects))
        recipe = replace(PAPER, batch_size=batch_size)
        self.network = _Network(recipe, data, Split("all", everything, everything[:0]), 1)

    def once(self, number: int) -> None:
        """Do one pass."""
        self.network.train_once(number)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Light curves per second of training")
    parser.add_argument("--objects", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rivals", action="store_true", help="also plain Keras with and without XLA")
    options = parser.parse_args()
    keras = load_keras(options.threads)
    data = make_set(options.objects)
    runs = {"keras.Model.fit": Plain(data, options.batch_size), "varstar train": Ours(data, options.batch_size)}
    if options.rivals:
        runs["keras.Model.fit, XLA"] = Plain(data, options.batch_size, jit_compile=True)
        runs["keras.Model.fit, no XLA"] = Plain(data, options.batch_size, jit_compile=False)
    first, seconds = {}, {label: [] for label in runs}
    for number in range(options.rounds + 1):
        for label, run in runs.items():
            start = time.perf_counter()
            run.once(number)
            took = time.perf_counter() - start
            if number:
                seconds[label].append(took)
            else:
                first[label] = took
    place = "GPU" if keras_sees_gpu() else "CPU"
    print(f"{len(data.objects)} light curves, batches of {options.batch_size}, {keras.backend.backend()}, {place}")
    print("| what | light curves/s, median | lowest - highest | ratio | first pass [s] | 17,000 light curves [s] |")
    print("|---|---|---|---|---|---|")
    base = float(np.median(seconds["keras.Model.fit"]))
    for label, taken in seconds.items():
        rates = len(data.objects) / np.array(taken)
        median = float(np.median(rates))
        print(
            f"| {label} | {median:,.0f} | {rates.min():,.0f} - {rates.max():,.0f} | {base / np.median(taken):.2f} "
            f"| {first[label]:.1f} | {PAPER_OBJECTS / median:.1f} |"
        )


if __name__ == "__main__":
    main()
