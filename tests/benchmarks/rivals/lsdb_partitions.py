"""LSDB as its users write it: map_partitions over a HATS survey, rows folded by the function of `naive.py`.

python -m tests.benchmarks.rivals.lsdb_partitions SURVEY MODEL.keras OUT [WORKERS]
"""

from __future__ import annotations

import sys
import time
from functools import lru_cache
from typing import Any

import numpy as np

from tests.benchmarks.rivals.naive_functions import load_naive
from varstar_batch.light_curves.classes import CLASSES


@lru_cache(maxsize=1)
def load(model_path: str) -> tuple[Any, Any]:
    """Return `naive.py` and the model, once in each worker."""
    naive = load_naive()
    model = naive.keras.saving.load_model(model_path)
    model.predict(np.zeros((32, 512, 1), "float32"), verbose=0)
    return naive, model


def classify(frame: Any, model_path: str) -> Any:
    """Return the probabilities of one partition."""
    naive, model = load(model_path)

    def fold(period: float, times: np.ndarray, mag: np.ndarray, mag_err: np.ndarray) -> dict[str, Any]:
        columns = (np.asarray(column, np.float64) for column in (times, mag, mag_err))
        return {"curve": naive.fold(*columns, period)}

    columns = ["period", "lightcurve.time", "lightcurve.mag", "lightcurve.mag_err"]
    curves = frame.map_rows(fold, columns=columns, row_container="args", infer_nesting=False)["curve"]
    good = curves.notna().to_numpy()
    names = [f"prob_{name}" for name in naive.CLASSES]
    rows = frame[["object_id", "ra", "dec"]][good]
    stacked = np.stack(curves[good].to_numpy()).astype("float32")
    probability = model.predict(stacked[:, :, None], batch_size=256, verbose=0)
    return rows.assign(**dict(zip(names, probability.T, strict=True)))


def empty(dtypes: Any) -> Any:
    """Return what `classify` gives for a partition of the survey without any object."""
    import nested_pandas as npd
    import pandas as pd

    kept = {name: pd.Series(dtype=dtypes[name]) for name in ("object_id", "ra", "dec")}
    probabilities = {f"prob_{name}": pd.Series(dtype="float32") for name in CLASSES}
    index = pd.Index([], dtype="int64[pyarrow]", name="_healpix_29")
    return npd.NestedFrame(kept | probabilities).set_index(index)


def main(survey: str, model: str, out: str, workers: int = 2) -> None:
    """Classify a survey."""
    import lsdb
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(_warm, model)
        begin = time.perf_counter()
        catalog = lsdb.open_catalog(survey, columns=["object_id", "ra", "dec", "period", "lightcurve"])
        result = catalog.map_partitions(classify, model, meta=empty(catalog.dtypes))
        result.write_catalog(out, catalog_name="probabilities", as_collection=False, progress_bar=False)
        seconds = time.perf_counter() - begin
        total = lsdb.open_catalog(out).hc_structure.catalog_info.total_rows
    print(f"lsdb {total} objects {seconds:.2f} seconds {total / seconds:.0f} objects/s")


def _warm(model: str) -> None:
    # What is sent to a worker that Dask pickles by reference must not carry the model back.
    load(model)


if __name__ == "__main__":
    main(*sys.argv[1:4], *(int(text) for text in sys.argv[4:5]))
