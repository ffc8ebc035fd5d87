"""A pool of processes, each with Keras and the functions of `naive.py`, one file at a time.

python -m tests.benchmarks.rivals.pool SURVEY MODEL.keras OUT [WORKERS]
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.rivals.naive_functions import load_naive

_worker: dict[str, Any] = {}


def start(model_path: str) -> None:
    """Load the model in a worker and run it once."""
    naive = load_naive()
    model = naive.keras.saving.load_model(model_path)
    model.predict(np.zeros((32, 512, 1), "float32"), verbose=0)
    _worker.update(naive=naive, model=model)


def ready(_: int) -> None:
    """Hold a worker that is ready for a moment, so that the other one has to take the next of these."""
    time.sleep(0.5)


def classify(task: tuple[str, str]) -> int:
    """Classify one file and return its number of objects."""
    path, out = Path(task[0]), Path(task[1])
    naive, model = _worker["naive"], _worker["model"]
    frame = naive.pd.read_parquet(path, columns=["object_id", "period", "lightcurve"])
    ids, curves = [], []
    for row in frame.itertuples():
        time_days, mag, mag_err = (np.asarray(row.lightcurve[name], np.float64) for name in ("time", "mag", "mag_err"))
        curve = naive.fold(time_days, mag, mag_err, row.period)
        if curve is not None:
            ids.append(row.object_id)
            curves.append(curve)
    if curves:
        probability = model.predict(np.asarray(curves, "float32")[:, :, None], batch_size=256, verbose=0)
        catalog = naive.pd.DataFrame(probability, columns=[f"prob_{name}" for name in naive.CLASSES])
        catalog.insert(0, "object_id", ids)
        catalog.to_parquet(out / path.name)
    return len(frame)


def main(survey: str, model: str, out: str, workers: int = 2) -> None:
    """Classify a survey."""
    Path(out).mkdir(parents=True, exist_ok=True)
    files = [path for path in sorted(Path(survey).rglob("*.parquet")) if not path.name.startswith("_")]
    with multiprocessing.get_context("spawn").Pool(workers, start, (model,)) as pool:
        pool.map(ready, range(workers), chunksize=1)
        begin = time.perf_counter()
        total = sum(pool.imap_unordered(classify, [(str(path), out) for path in files]))
        seconds = time.perf_counter() - begin
    print(f"pool {total} objects {seconds:.2f} seconds {total / seconds:.0f} objects/s")


if __name__ == "__main__":
    main(*sys.argv[1:4], *(int(text) for text in sys.argv[4:5]))
