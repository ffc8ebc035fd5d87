"""The CNN on a GPU: light curves per second against two floors, fed by CPU threads, and a pass of training.

    python -m tests.benchmarks.bench_gpu [--light-curves 262144] [--workers 16] [--train 17000]
    python -m tests.benchmarks.bench_gpu --allow-cpu --small     # without a GPU: to see that all of it works

Keras computes on the backend that KERAS_BACKEND names: jax (the one to take on a GPU), torch or tensorflow. Without a
GPU nothing is measured, unless --allow-cpu asks for it. Floors: operations over the peak of the arithmetic, and bytes
(inputs once, and what every pooling leaves, written and read once) over the bandwidth of the memory. Both are from the
data sheet of the GPU (`tests.benchmarks.gpus`) or from --tflops and --bandwidth, else measured: of a large matrix
product, and of a large copy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.benchmarks.gpu_backend import allow_tf32, cores, device_name, measured_peaks
from tests.benchmarks.gpus import known_gpu, work_of
from tests.benchmarks.harness import Options, Part, in_turns, rate_of
from tests.benchmarks.measures import Row, paired_ratio, spread
from tests.benchmarks.models import SHIPPED_BUNDLE, paper_bundle
from tests.benchmarks.report import table
from tests.benchmarks.surveys import SurveySize, write_survey
from varstar_batch.light_curves.features import choose_features
from varstar_batch.light_curves.fold import fold
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.engines.keras_forward import compile_forward
from varstar_batch.model.engines.open import open_engine
from varstar_batch.model.keras_runtime import keras_sees_gpu, load_keras, nvidia_driver_is_loaded
from varstar_batch.model.networks import build_paper_network, from_keras_file, logits_model
from varstar_batch.survey.open import Survey, open_survey
from varstar_batch.survey.read import read_batches
from varstar_batch.training.fitting.fit import compile_options, passes_of
from varstar_batch.training.fitting.inputs import Float32, Inputs

AIMS = {"CNN in bfloat16": 1_500_000, "end to end on 16 cores": 100_000, "seconds a pass of 17,000": 1}
TRAINING_BATCH = 16
"""The paper's."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured, and on what.

    Attributes
    ----------
    light_curves : int
        That the network classifies in a round.
    batch : int
        Of them in one call, where they are on the device already.
    train : int
        Light curves of a pass of training.
    workers : int
        Threads that read and fold.
    allow_cpu : bool
        Measure on the CPU where there is no GPU.
    tflops : float or None
        Peak of the GPU in bfloat16, 10^12 operations per second, where the table does not know it.
    bandwidth : float or None
        Of its memory, 10^12 bytes per second.
    """

    light_curves: int = 2**18
    batch: int = 8192
    train: int = 17_000
    workers: int = 16
    allow_cpu: bool = False
    tflops: float | None = None
    bandwidth: float | None = None

    def small(self) -> Sizes:
        """Return sizes for which a CPU takes a minute."""
        return replace(self, light_curves=512, batch=128, train=TRAINING_BATCH * 4, workers=2)


def measure(options: Options) -> Part:
    """Measure as a part of `make bench`; nothing without a GPU."""
    sizes = Sizes(workers=cores())
    return run(options, replace(sizes, light_curves=2**14) if options.quick else sizes)


def run(options: Options, sizes: Sizes) -> Part:
    """Measure.

    Returns
    -------
    Part
        Without rows, and a note that says so, where a GPU is asked for and there is none.
    """
    part = Part("The CNN on a GPU")
    on_gpu = nvidia_driver_is_loaded() and keras_sees_gpu()
    if not on_gpu and not sizes.allow_cpu:
        part.notes.append("No GPU was to be had; run python -m tests.benchmarks.bench_gpu on a machine with one.")
        return part
    keras = load_keras()
    name = device_name(on_gpu)
    part.title = f"The CNN with Keras {keras.__version__} on {keras.backend.backend()}, {name}"
    part.facts["aims"] = AIMS
    for network, folder in (("paper", paper_bundle(options.scratch)), ("survey", SHIPPED_BUNDLE)):
        bundle = read_bundle(str(folder))
        part.rows += _network_rows(options, sizes, network, bundle, name if on_gpu else None)
        part.rows.append(_fed_row(options, sizes, network, bundle))
    part.rows.append(_training_row(options, sizes, on_gpu))
    part.notes.append("Resident: inputs are in the GPU's memory already. Engine: from NumPy arrays and back to them.")
    return part


def _network_rows(options: Options, sizes: Sizes, network: str, bundle: Bundle, gpu: str | None) -> list[Row]:
    inputs = _random_inputs(bundle, sizes.light_curves)
    operations, moved = work_of(from_keras_file(bundle.keras_file))
    rows: list[Row] = []
    base: list[float] = []
    for arithmetic in ("float32", "tf32", "bfloat16"):
        if arithmetic == "tf32" and gpu is None:
            continue  # only GPUs have it
        allow_tf32(arithmetic == "tf32")
        precision = "bfloat16" if arithmetic == "bfloat16" else "float32"
        engine = open_engine(bundle, "keras", precision, cores())
        calls = {
            f"{network}, {arithmetic}, resident": _resident(
                bundle, precision, min(sizes.batch, sizes.light_curves), sizes
            ),
            f"{network}, {arithmetic}, engine": rate_of(
                lambda engine=engine: engine.logits(inputs.curves, inputs.features), sizes.light_curves
            ),
        }
        flops, bandwidth = _peaks(arithmetic, sizes, gpu)
        by_operations = flops / operations
        by_bytes = bandwidth / (moved * (2 if precision == "bfloat16" else 4))
        for name, rates in in_turns(calls, options.rounds).items():
            base = base or rates
            rows.append(
                Row(
                    name=name,
                    value=spread(rates),
                    rounds=len(rates),
                    floor=min(by_operations, by_bytes),
                    note=f"floors: {by_operations:,.0f}/s by operations, {by_bytes:,.0f}/s by bytes",
                    ratio=None if rates is base else paired_ratio(rates, base),
                    against="" if rates is base else f"{network}, float32, resident",
                )
            )
    allow_tf32(False)
    return rows


def _random_inputs(bundle: Bundle, n: int) -> Inputs:
    random = np.random.default_rng(0)
    curves = random.random((n, bundle.contract.preprocessing.n_phase), dtype=np.float32)
    k = len(bundle.contract.features)
    return Inputs(curves, random.random((n, k), dtype=np.float32) if k else None)


def _resident(bundle: Bundle, precision: str, batch: int, sizes: Sizes) -> Callable[[], float]:
    keras = load_keras()
    model = from_keras_file(bundle.keras_file)
    if precision == "bfloat16":
        for layer in model.layers:
            layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    forward = compile_forward(logits_model(model))
    given = _random_inputs(bundle, batch).for_keras()
    tensors = forward.put(given if isinstance(given, list) else [given])
    calls = max(1, sizes.light_curves // batch)

    def classify() -> None:
        for _ in range(calls):
            result = forward.run(tensors)
        # Work on a device is done in order: when the last result is here, all of them are there.
        forward.fetch(result)

    return rate_of(classify, batch * calls)


def _peaks(arithmetic: str, sizes: Sizes, gpu: str | None) -> tuple[float, float]:
    """Return operations and bytes per second."""
    known = known_gpu(gpu) if gpu is not None else None
    if known is not None and sizes.tflops is None and sizes.bandwidth is None:
        return known.flops(arithmetic), known.bandwidth * 1e12
    flops, bandwidth = measured_peaks("bfloat16" if arithmetic == "bfloat16" else "float32", gpu is not None)
    if sizes.tflops is not None and arithmetic == "bfloat16":
        flops = sizes.tflops * 1e12
    return flops, bandwidth if sizes.bandwidth is None else sizes.bandwidth * 1e12


def _fed_row(options: Options, sizes: Sizes, network: str, bundle: Bundle) -> Row:
    """Read and fold in threads, and classify what they hand over: what a GPU does in a run."""
    n = sizes.light_curves
    size = SurveySize(objects=n, partitions=max(sizes.workers, n // 8192))
    survey = open_survey(write_survey(options.scratch / f"survey-{n}-{size.partitions}-{size.observations}", size))
    engine = open_engine(bundle, "keras", "bfloat16", cores())

    def whole() -> None:
        with ThreadPoolExecutor(sizes.workers) as pool:
            for curves, features in pool.map(lambda number: _folded(survey, number, bundle), range(size.partitions)):
                engine.logits(curves, features)

    rates = in_turns({"": rate_of(whole, n)}, options.rounds)[""]
    name = f"{network}, bfloat16, fed with Parquet by {sizes.workers} threads that read and fold"
    return Row(name=name, value=spread(rates), rounds=len(rates))


def _folded(survey: Survey, number: int, bundle: Bundle) -> tuple[Float32, Float32 | None]:
    rules, limits, names = bundle.contract.preprocessing, survey.source.limits, bundle.contract.features
    folded = [
        fold(batch.light_curves, batch.period, rules, limits, features=bool(names))
        for batch in read_batches(survey.source, survey.partitions[number], None, 2**22)
    ]
    curves = np.concatenate([each.curve[each.ok] for each in folded])
    if not names:
        return curves, None
    return curves, choose_features(np.concatenate([each.features[each.ok] for each in folded]), names)


def _training_row(options: Options, sizes: Sizes, on_gpu: bool) -> Row:
    """Train as `varstar train` does."""
    keras = load_keras()
    random = np.random.default_rng(3)
    n = sizes.train
    inputs = Inputs(random.random((n, 512), dtype=np.float32))
    labels = random.integers(0, 6, n).astype(np.int32)
    model = build_paper_network()
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        **compile_options(keras.backend.backend(), n // TRAINING_BATCH, gpu=on_gpu),
    )
    model.optimizer.build(model.trainable_variables)
    one_pass = passes_of(model, TRAINING_BATCH, gpu=on_gpu)

    def seconds() -> float:
        start = time.perf_counter()
        one_pass(inputs, labels, None)
        return time.perf_counter() - start

    found = in_turns({"": seconds}, min(3, options.rounds))[""]
    return Row(
        name=f"training, one pass of {n:,} light curves at batch {TRAINING_BATCH}",
        value=spread([n / each for each in found]),
        rounds=len(found),
        note=f"{np.median(found):.2f} s a pass",
    )


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--allow-cpu", action="store_true", help="measure on the CPU where there is no GPU")
    parser.add_argument("--small", action="store_true", help="sizes to see that all of it works")
    parser.add_argument("--light-curves", type=int, default=Sizes.light_curves)
    parser.add_argument("--workers", type=int, default=cores(), help="threads that read and fold")
    parser.add_argument("--train", type=int, default=Sizes.train, help="light curves of a pass")
    parser.add_argument("--tflops", type=float, help="peak of the GPU in bfloat16")
    parser.add_argument("--bandwidth", type=float, help="of its memory, TB/s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scratch", type=Path, default=Options.scratch)
    chosen = vars(parser.parse_args())
    options = Options(rounds=chosen.pop("rounds"), scratch=chosen.pop("scratch"))
    small = chosen.pop("small")
    sizes = Sizes(**chosen)
    part = run(options, sizes.small() if small else sizes)
    print(part.title)
    if part.rows:
        print(table(part.to_json()))
    for note in part.notes:
        print(f"- {note}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
