"""Ray Data as its users write it: read_parquet, map_batches by actors that hold the model, write_parquet.

python -m tests.benchmarks.rivals.ray_data SURVEY MODEL.keras OUT [WORKERS]

Ray is no dependency of this project: install `ray[data]` beside it to measure it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.rivals.naive_functions import load_naive

BATCH = 1000
"""Light curves of one batch; the other rivals take a file of some thousands at a time."""


class Classifier:
    """An actor: `naive.py` and the model, loaded once."""

    def __init__(self, model_path: str, ready: str) -> None:
        self.naive = load_naive()
        self.model = self.naive.keras.saving.load_model(model_path)
        self.model.predict(np.zeros((32, 512, 1), "float32"), verbose=0)
        (Path(ready) / str(os.getpid())).write_text(str(time.time()))

    def __call__(self, frame: Any) -> Any:
        """Return the probabilities of a batch."""
        naive, ids, curves = self.naive, [], []
        for row in frame.itertuples():
            columns = (np.asarray(row.lightcurve[name], np.float64) for name in ("time", "mag", "mag_err"))
            curve = naive.fold(*columns, row.period)
            if curve is not None:
                ids.append(row.object_id)
                curves.append(curve)
        stacked = np.asarray(curves, "float32").reshape(-1, 512, 1)
        probability = self.model.predict(stacked, batch_size=256, verbose=0) if curves else np.empty((0, 6), "float32")
        catalog = naive.pd.DataFrame(probability, columns=[f"prob_{name}" for name in naive.CLASSES])
        catalog.insert(0, "object_id", naive.pd.array(ids, dtype=frame["object_id"].dtype))
        return catalog


def main(survey: str, model: str, out: str, workers: int = 2) -> None:
    """Classify a survey."""
    import pyarrow.parquet as pq
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    files = [str(path) for path in sorted(Path(survey).rglob("*.parquet")) if not path.name.startswith("_")]

    rows = ray.data.read_parquet(files, columns=["object_id", "period", "lightcurve"])
    with tempfile.TemporaryDirectory() as ready:
        # Half a core for an actor, as half is left for what reads and writes; with whole ones nobody could read.
        done = rows.map_batches(
            Classifier,
            fn_constructor_args=(model, ready),
            batch_format="pandas",
            batch_size=BATCH,
            num_cpus=0.5,
            concurrency=workers,
        )
        done.write_parquet(out)
        # From the last actor that had its model, as the other rivals leave out imports and loading: what Ray has read
        # until then counts for it.
        seconds = time.time() - max(float(path.read_text()) for path in Path(ready).iterdir())
    total = sum(pq.read_metadata(path).num_rows for path in Path(out).glob("*.parquet"))
    ray.shutdown()
    print(f"ray {total} objects {seconds:.2f} seconds {total / seconds:.0f} objects/s")


if __name__ == "__main__":
    main(*sys.argv[1:4], *(int(text) for text in sys.argv[4:5]))
