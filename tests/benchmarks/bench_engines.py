"""Light curves per second of the inference engines, against plain `keras.Model.predict`.

    python tests/benchmarks/bench_engines.py [--objects 4096] [--threads 2] [--rounds 5]

The engines take turns, so that other work on the machine slows all of them alike: ratios are worth more than rates.
The last column is light curves per second of processor time times the threads: what a quiet machine would give.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.engines.open import open_engine
from varstar_batch.model.keras_runtime import load_keras
from varstar_batch.model.networks import from_keras_file


def main() -> None:
    parser = argparse.ArgumentParser(description="Light curves per second of the inference engines")
    parser.add_argument("--objects", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    bundle = read_bundle()
    curves = np.random.default_rng(0).random((options.objects, 512), dtype=np.float32)
    load_keras(options.threads)
    model = from_keras_file(bundle.keras_file)
    runs = {"keras predict, batches of 256": lambda: model.predict(curves[:, :, None], batch_size=256, verbose=0)}
    for name, precision in [("keras", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")]:
        engine = open_engine(bundle, name, precision, options.threads)
        runs[f"{name} engine, {engine.precision}"] = lambda engine=engine: engine.logits(curves)

    wall: dict[str, list[float]] = {label: [] for label in runs}
    processor: dict[str, list[float]] = {label: [] for label in runs}
    for run in runs.values():
        run()  # compiles
    for _ in range(options.rounds):
        for label, run in runs.items():
            wall_start, processor_start = time.perf_counter(), time.process_time()
            run()
            wall[label].append(options.objects / (time.perf_counter() - wall_start))
            processor[label].append(options.threads * options.objects / (time.process_time() - processor_start))

    print("| engine | light curves/s, median | lowest - highest | ratio | by processor time |")
    print("|---|---|---|---|---|")
    base = float(np.median(next(iter(wall.values()))))
    for label, rates in wall.items():
        median = np.median(rates)
        spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
        quiet = np.median(processor[label])
        print(f"| {label} | {median:,.0f} | {spread} | {median / base:.1f} | {quiet:,.0f} |")


if __name__ == "__main__":
    main()
