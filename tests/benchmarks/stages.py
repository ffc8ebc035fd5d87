"""The stages one by one, each beside what one would write without it: folding, the engines, reading."""

from __future__ import annotations

import numpy as np

from tests.benchmarks import bench_fold, bench_reading
from tests.benchmarks.floors import light_curves_by_operations, peak_flops
from tests.benchmarks.harness import Options, Part, in_turns, rate_of, rows_of
from tests.benchmarks.models import paper_bundle
from varstar_batch.light_curves import Limits, Preprocessing, fold
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.engines.open import open_engine
from varstar_batch.model.keras_runtime import load_keras
from varstar_batch.model.networks import from_keras_file
from varstar_batch.survey.open import open_survey
from varstar_batch.survey.read import read_batches

OBSERVATIONS = 230


def measure_fold(options: Options) -> Part:
    """Measure the fold kernel on one core and on several, beside a generic argsort and a loop in NumPy."""
    n = 2_000 if options.quick else 20_000
    curves, period = bench_fold.make_light_curves(n, OBSERVATIONS)
    rules, limits = Preprocessing(n_phase=bench_fold.N_PHASE), Limits()
    generic = np.empty((n, bench_fold.N_PHASE), np.float32)
    columns = curves.offsets, curves.time, curves.mag, curves.mag_err, period, generic
    few = curves.slice(0, n // 20)
    calls = {
        "NumPy, a loop over objects, 1 core": rate_of(
            lambda: bench_fold.fold_by_numpy(few, period[: len(few)]), len(few)
        ),
        "Numba with np.argsort, 1 core": rate_of(lambda: bench_fold.fold_by_argsort(*columns), n),
        "fold, 1 core": rate_of(lambda: fold(curves, period, rules, limits, n_threads=1), n),
        f"fold, {options.workers} threads": rate_of(
            lambda: fold(curves, period, rules, limits, n_threads=options.workers), n
        ),
    }
    return Part(
        f"Cleaning and folding: {n:,} light curves of {OBSERVATIONS} observations to {bench_fold.N_PHASE} phases",
        rows_of(in_turns(calls, options.rounds)),
    )


def measure_engines(options: Options) -> Part:
    """Measure the engines on all cores, beside Keras's own predict."""
    n = 512 if options.quick else 8_192
    bundle = read_bundle(str(paper_bundle(options.scratch)))
    curves = np.random.default_rng(0).random((n, 512), dtype=np.float32)
    load_keras(options.workers)
    model = from_keras_file(bundle.keras_file)
    calls = {"keras predict": rate_of(lambda: model.predict(curves[:, :, None], batch_size=256, verbose=0), n)}
    floors = {}
    for name, precision in (("keras", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")):
        engine = open_engine(bundle, name, precision, options.workers)
        label = f"{name} engine, {engine.precision}"
        calls[label] = rate_of(lambda engine=engine: engine.logits(curves), n)
        floors[label] = light_curves_by_operations(peak_flops(engine.precision, options.workers))
    rows = [
        type(row)(**{**vars(row), "floor": floors.get(row.name)}) for row in rows_of(in_turns(calls, options.rounds))
    ]
    part = Part(f"The CNN: {n:,} folded light curves on {options.workers} threads", rows)
    part.notes.append("Floor: the peak of the cores' arithmetic, measured in registers, over 15.2 MFLOP a light curve.")
    return part


def measure_reading(options: Options) -> Part:
    """Measure reading a partition from the page cache, beside pandas, on one core."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)  # for pandas, which decodes on all cores; `read_batches` has one, as in a worker
    n = 2_000 if options.quick else 20_000
    table = bench_reading.make_table(n)
    options.scratch.mkdir(parents=True, exist_ok=True)
    variants = {
        "as this project writes surveys": bench_reading.survey_write_options(table.schema),
        "with pyarrow's defaults": {},
    }
    calls = {}
    for number, (name, settings) in enumerate(variants.items()):
        file = options.scratch / f"reading-{number}.parquet"
        pq.write_table(table, file, row_group_size=4_500, **settings)
        survey = open_survey(file)

        def read(survey=survey) -> None:
            for _ in read_batches(survey.source, survey.partitions[0], None, 2**20):
                pass

        calls[f"read_batches, file written {name}"] = rate_of(read, n)
        calls[f"pandas.read_parquet, file written {name}"] = rate_of(lambda file=file: pd.read_parquet(file), n)
    values = in_turns(dict(reversed(calls.items())), options.rounds)
    return Part(f"Reading, one core: {n:,} light curves of {OBSERVATIONS} observations, page cache", rows_of(values))
