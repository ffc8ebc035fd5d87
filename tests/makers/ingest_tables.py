"""Tables to ingest, and what an ingest of them has to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.makers.survey_files import write
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import IngestOptions, IngestReport
from varstar_batch.survey.open import Survey, open_survey
from varstar_batch.survey.read import read_batches

MJD = IngestOptions(time_system="MJD")


def make_observations(ids: list[Any], seed: int = 0) -> pa.Table:
    """Return one observation for each identifier, at random times."""
    rng = np.random.default_rng(seed)
    n = len(ids)
    return pa.table(
        {
            "object_id": pa.array(ids),
            "time": 55000 + rng.random(n) * 1000,
            "mag": rng.normal(15, 1, n).astype(np.float32),
            "mag_err": np.full(n, 0.25, np.float32),
        }
    )


def make_objects(ids: list[Any], **more: Any) -> pa.Table:
    """Return a table of objects with these identifiers."""
    return pa.table({"object_id": pa.array(ids), "period": np.arange(len(ids)) + 0.5, **more})


def run(
    folder: Path, observations: pa.Table, objects: pa.Table, options: IngestOptions = MJD, row_group: int | None = None
) -> tuple[IngestReport, Survey]:
    """Ingest two tables and open the result."""
    report = ingest(
        write(folder / "observations.parquet", observations, row_group),
        write(folder / "objects.parquet", objects),
        folder / "survey",
        options,
    )
    return report, open_survey(folder / "survey")


def rows_of(survey: Survey) -> dict[Any, list[tuple[float, float, float]]]:
    """Return the observations by object, in the survey's order."""
    found: dict[Any, list[tuple[float, float, float]]] = {}
    for partition in survey.partitions:
        for batch in read_batches(survey.source, partition, None, 10**6):
            curves = batch.light_curves
            assert curves.mag_err is not None
            rows = list(zip(curves.time.tolist(), curves.mag.tolist(), curves.mag_err.tolist(), strict=True))
            for i, name in enumerate(batch.objects["object_id"].to_pylist()):
                assert name not in found
                found[name] = rows[curves.offsets[i] : curves.offsets[i + 1]]
    return found


def expected_rows(observations: pa.Table, objects: pa.Table) -> dict[Any, list[tuple[float, float, float]]]:
    """Return the same by the plainest of means."""
    found: dict[Any, list[tuple[float, float, float]]] = {name: [] for name in objects["object_id"].to_pylist()}
    for row in observations.to_pylist():
        if row["object_id"] in found:
            found[row["object_id"]].append((row["time"], row["mag"], row["mag_err"]))
    return {name: sorted(rows, key=lambda row: row[0]) for name, rows in found.items()}
