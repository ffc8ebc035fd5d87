"""The CNN on a GPU: light curves per second against two floors, fed by CPU threads, and a pass of training.

    python -m tests.benchmarks.bench_gpu [--device auto|cpu] [--light-curves 262144] [--workers 16] [--train 17000]

Keras computes on the backend that KERAS_BACKEND names (jax, torch, tensorflow). Without a GPU nothing is measured,
unless --device cpu asks for it, to see that the script works. Floors: operations (15.2 million a light curve) over the
rate of a large matrix product in the same arithmetic, and bytes (every block's output written and read once) over the
rate of a large copy; both measured here, before.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.harness import MFLOP, Options, Part, in_turns, rate_of
from tests.benchmarks.measures import Row, paired_ratio, spread
from tests.benchmarks.models import paper_bundle
from tests.benchmarks.report import table
from tests.benchmarks.surveys import SurveySize, write_survey
from varstar_batch.arithmetic.fold import fold
from varstar_batch.model.engines import open_engine
from varstar_batch.model.keras_runtime import keras_sees_gpu, load_keras, nvidia_driver_is_loaded
from varstar_batch.model.networks import build_paper_network, from_keras_file
from varstar_batch.storage.bundles import read_bundle
from varstar_batch.storage.reading import read_batches
from varstar_batch.storage.surveys import Survey, open_survey

VALUES = 512 + 2 * (256 * 128 + 128 * 64 + 64 * 32 + 32 * 32)
"""Numbers moved for a light curve: its input, and the pooled output of each block written and read."""

AIMS = {"CNN in bfloat16": 1_500_000, "end to end on 16 cores": 100_000, "seconds a pass of 17,000": 1}


def measure(options: Options) -> Part:
    """Measure as a part of `make bench`; nothing without a GPU."""
    return run(options, device="auto", n=2**14 if options.quick else 2**18, workers=_cores(), train=17_000)


def run(options: Options, *, device: str, n: int, workers: int, train: int) -> Part:
    """Measure `n` light curves on a device, "auto" or "cpu".

    Returns
    -------
    Part
        Without rows, and a note that says so, where a GPU is asked for and there is none.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    part = Part("The CNN on a GPU")
    on_gpu = nvidia_driver_is_loaded() and keras_sees_gpu()
    if not on_gpu and device != "cpu":
        part.notes.append("No GPU was to be had; run python -m tests.benchmarks.bench_gpu on a machine with one.")
        return part
    keras = load_keras()
    part.title = f"The CNN with Keras {keras.__version__} on {keras.backend.backend()}, {device_name(on_gpu)}"
    part.facts["aims"] = AIMS
    bundle_folder = paper_bundle(options.scratch)
    part.rows += _network_rows(options, bundle_folder, n, on_gpu)
    part.rows.append(_fed_row(options, bundle_folder, n, workers))
    part.rows.append(_training_row(options, train))
    part.notes.append("Resident: curves are in the GPU's memory already. Engine: from NumPy arrays and back to them.")
    return part


def device_name(on_gpu: bool) -> str:
    """Return what the computing is done on, as its driver calls it."""
    if not on_gpu:
        return f"{_cores()} CPU cores"
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = [
        line.split(":", 1)[1].strip() for file in found for line in file.read_text().splitlines() if "Model" in line
    ]
    return ", ".join(models) or "a GPU"


def _network_rows(options: Options, bundle_folder: Path, n: int, on_gpu: bool) -> list[Row]:
    bundle = read_bundle(str(bundle_folder))
    curves = np.random.default_rng(0).random((n, 512), dtype=np.float32)
    rows = []
    base: list[float] = []
    for arithmetic in ("float32", "tf32", "bfloat16"):
        if arithmetic == "tf32" and not on_gpu:
            continue  # only GPUs have it
        allow_tf32(arithmetic == "tf32")
        precision = "bfloat16" if arithmetic == "bfloat16" else "float32"
        engine = open_engine(bundle, "keras", precision, _cores())
        batch = min(n, 8192 if on_gpu else 256)
        calls = {
            f"{arithmetic}, resident": _resident(bundle.keras_file, precision, batch, max(1, n // batch)),
            f"{arithmetic}, engine": rate_of(lambda engine=engine: engine.logits(curves), n),
        }
        by_operations, by_bytes = _floors(precision, on_gpu)
        for name, rates in in_turns(calls, options.rounds).items():
            base = base or rates
            note = f"floors: {by_operations:,.0f}/s by operations, {by_bytes:,.0f}/s by bytes"
            rows.append(
                Row(
                    name=name,
                    value=spread(rates),
                    rounds=len(rates),
                    floor=min(by_operations, by_bytes),
                    note=note,
                    ratio=None if rates is base else paired_ratio(rates, base),
                    against="" if rates is base else "float32, resident",
                )
            )
    allow_tf32(False)
    return rows


def allow_tf32(allowed: bool) -> None:
    """Let the backend round float32 products to TensorFloat-32, or not."""
    backend = load_keras().backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(allowed)
    elif backend == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.backends.cudnn.allow_tf32 = allowed
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if allowed else "float32")


def _resident(keras_file: bytes, precision: str, batch: int, calls: int) -> Callable[[], float]:
    keras = load_keras()
    model = from_keras_file(keras_file)
    if precision == "bfloat16":
        for layer in model.layers:
            layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    forward = _compiled(model)
    curves = keras.ops.convert_to_tensor(np.random.default_rng(1).random((batch, 512, 1), dtype=np.float32))

    def classify() -> None:
        for _ in range(calls):
            result = forward(curves)
        # Work on a device is done in order: when the last result is here, all of them are there.
        keras.ops.convert_to_numpy(result)

    return rate_of(classify, batch * calls)


def _compiled(model: Any) -> Callable[[Any], Any]:
    backend = load_keras().backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        compiled: Callable[[Any], Any] = tf.function(lambda x: model(x, training=False), jit_compile=True)
        return compiled
    if backend == "jax":
        import jax

        trained = [variable.value for variable in model.trainable_variables]
        others = [variable.value for variable in model.non_trainable_variables]
        step = jax.jit(lambda trained, others, x: model.stateless_call(trained, others, x, training=False)[0])
        return lambda x: step(trained, others, x)
    import torch

    compiled_model = torch.compile(model, mode="max-autotune") if torch.cuda.is_available() else model

    def forward(x: Any) -> Any:
        with torch.inference_mode():
            return compiled_model(x, training=False)

    return forward


def _floors(precision: str, on_gpu: bool) -> tuple[float, float]:
    """Return light curves per second by operations and by bytes."""
    ops = load_keras().ops
    side, count = (8192, 2**28) if on_gpu else (512, 2**22)
    matrix = ops.cast(ops.convert_to_tensor(np.random.default_rng(2).random((side, side), dtype=np.float32)), precision)
    long = ops.cast(ops.ones((count,)), precision)

    def seconds(work: Callable[[], Any]) -> float:
        best = np.inf
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(4):
                result = work()
            ops.convert_to_numpy(ops.reshape(result, (-1,))[:1])
            best = min(best, time.perf_counter() - start)
        return best / 4

    width = 2 if precision == "bfloat16" else 4
    flops = 2 * side**3 / seconds(lambda: ops.matmul(matrix, matrix))
    bandwidth = 2 * width * count / seconds(lambda: long + 1)
    return flops / (MFLOP * 1e6), bandwidth / (VALUES * width)


def _fed_row(options: Options, bundle_folder: Path, n: int, workers: int) -> Row:
    """Read and fold in threads, and classify what they hand over: what a GPU does in a run."""
    size = SurveySize(objects=n, partitions=max(workers, n // 8192))
    survey = open_survey(write_survey(options.scratch / f"survey-{n}-{size.partitions}-{size.observations}", size))
    bundle = read_bundle(str(bundle_folder))
    engine = open_engine(bundle, "keras", "bfloat16", _cores())

    def whole() -> None:
        with ThreadPoolExecutor(workers) as pool:
            for curves in pool.map(lambda number: _folded(survey, number, bundle), range(size.partitions)):
                engine.logits(curves)

    rates = in_turns({"": rate_of(whole, n)}, options.rounds)[""]
    name = f"bfloat16, fed with Parquet by {workers} threads that read and fold"
    return Row(name=name, value=spread(rates), rounds=len(rates))


def _folded(survey: Survey, number: int, bundle: Any) -> np.ndarray:
    rules, limits = bundle.contract.preprocessing, survey.source.limits
    folded = [
        fold(batch.light_curves, batch.period, rules, limits)
        for batch in read_batches(survey.source, survey.partitions[number], None, 2**22)
    ]
    return np.concatenate([each.curve[each.ok] for each in folded])


def _training_row(options: Options, n: int) -> Row:
    keras = load_keras()
    rng = np.random.default_rng(3)
    curves = rng.random((n, 512, 1), dtype=np.float32)
    labels = np.eye(6, dtype=np.float32)[rng.integers(0, 6, n)]
    model = build_paper_network()
    steps = 1 if keras.backend.backend() == "torch" else max(1, min(64, n // 16))
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4),
        loss="categorical_crossentropy",
        steps_per_execution=steps,
        jit_compile=keras.backend.backend() != "torch",
    )

    def once() -> float:
        start = time.perf_counter()
        model.fit(curves, labels, batch_size=16, epochs=1, verbose=0)
        return time.perf_counter() - start

    seconds = in_turns({"": once}, min(3, options.rounds))[""]
    return Row(
        name=f"training, one pass of {n:,} light curves at batch 16",
        value=spread([n / each for each in seconds]),
        rounds=len(seconds),
        note=f"{np.median(seconds):.2f} s a pass",
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    parser.add_argument("--light-curves", type=int, default=2**18)
    parser.add_argument("--workers", type=int, default=_cores())
    parser.add_argument("--train", type=int, default=17_000, help="light curves of a pass")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scratch", type=Path, default=Options.scratch)
    chosen = parser.parse_args()
    options = Options(rounds=chosen.rounds, scratch=chosen.scratch)
    part = run(options, device=chosen.device, n=chosen.light_curves, workers=chosen.workers, train=chosen.train)
    print(part.title)
    if part.rows:
        print(table(part.to_json()))
    for note in part.notes:
        print(f"- {note}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
