"""Small surveys for tests, written as the project writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from varstar_batch.files.location import locate
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.simulation.objects import simulate_objects
from varstar_batch.survey.write import nested_light_curves, write_survey_file


def simulated_table(first: int, count: int, seed: int = 5) -> pa.Table:
    """Simulated objects in the canonical columns."""
    objects = simulate_objects(first, count, seed)
    curves = objects.light_curves
    columns = {"time": curves.time, "mag": curves.mag, "mag_err": curves.mag_err}
    table = pa.table(
        {
            "object_id": objects.object_id,
            "ra": objects.ra,
            "dec": objects.dec,
            "period": pa.array(objects.period, from_pandas=True),
            "class": pa.array(np.array(CLASSES)[objects.class_code]),
            "lightcurve": nested_light_curves(curves.offsets, columns),
        }
    )
    return table.replace_schema_metadata({"varstar.time_system": "HJD"})


def write_partition(path: Path, table: pa.Table, *, row_group_rows: int | None = None) -> None:
    """Write one file of a survey, cut into row groups of `row_group_rows` objects."""
    step = row_group_rows or max(1, table.num_rows)
    pieces = [table.slice(start, step) for start in range(0, max(1, table.num_rows), step)]
    write_survey_file(locate(path, what="survey"), table.schema, pieces)


def write_survey(folder: Path, counts: tuple[int, ...] = (40, 40, 40), seed: int = 5) -> Path:
    """Write a survey of one file for each entry of `counts`."""
    first = 0
    for number, count in enumerate(counts):
        write_partition(folder / f"part-{number:05d}.parquet", simulated_table(first, count, seed))
        first += count
    return folder


def simulated_batch(first: int, count: int, seed: int = 5) -> tuple[LightCurves, np.ndarray]:
    """Light curves of simulated objects and their periods, NaN where missing."""
    objects = simulate_objects(first, count, seed)
    return objects.light_curves, np.asarray(objects.period, np.float64)
