"""Light curves per second of `read_batches`, and size of a survey, by the settings it was written with.

    python tests/benchmarks/bench_reading.py [--objects 20000] [--rounds 5]

The settings take turns, so that other work on the machine slows all of them alike. Rates are per second of processor
time, on one core, from the page cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.survey.open import open_survey
from varstar_batch.survey.read import read_batches
from varstar_batch.survey.write import nested_light_curves, survey_write_options

OBSERVATIONS = 230


def main() -> None:
    parser = argparse.ArgumentParser(description="Light curves per second of reading")
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    table = make_table(options.objects)
    ours = survey_write_options(table.schema)
    variants: dict[str, dict[str, Any]] = {
        "ours": ours,
        "ours, without checksums": ours | {"write_page_checksum": False},
        "ours, zstd level 3": ours | {"compression_level": 3},
        "ours, lz4": ours | {"compression": "lz4", "compression_level": None},
        "pyarrow's defaults": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(table, variants, Path(folder), options.rounds)
        print("| written with | bytes an observation | light curves/s, median | lowest - highest |")
        print("|---|---|---|---|")
        for name, values in rates.items():
            size = file_of(Path(folder), name).stat().st_size / (options.objects * OBSERVATIONS)
            print(
                f"| {name} | {size:.2f} | {statistics.median(values):,.0f} | {min(values):,.0f} - {max(values):,.0f} |"
            )


def make_table(n: int) -> pa.Table:
    """Light curves with magnitudes of three decimals, as surveys give them."""
    rng = np.random.default_rng(0)
    m = n * OBSERVATIONS
    columns = {
        "time": np.sort(2457000 + rng.random((n, OBSERVATIONS)) * 2000, axis=1).ravel(),
        "mag": (14 + rng.standard_normal(m, dtype=np.float32) * 0.2).round(3),
        "mag_err": (rng.random(m, dtype=np.float32) * 0.05).round(3),
    }
    curves = nested_light_curves(np.arange(n + 1) * OBSERVATIONS, columns)
    return pa.table({"object_id": np.arange(n), "period": np.ones(n), "lightcurve": curves})


def file_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.parquet"


def measure(table: pa.Table, variants: dict[str, dict[str, Any]], folder: Path, rounds: int) -> dict[str, list[float]]:
    for name, settings in variants.items():
        pq.write_table(table, file_of(folder, name), row_group_size=4_500, **settings)
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in variants:
            survey = open_survey(file_of(folder, name))
            start = time.process_time()
            n = sum(len(batch.period) for batch in read_batches(survey.source, survey.partitions[0], None, 2**20))
            rates[name].append(n / (time.process_time() - start))
    return rates


if __name__ == "__main__":
    main()
