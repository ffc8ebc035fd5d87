"""Small surveys in every form, written by hand for tests, and what reading them must give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varstar_batch.errors import PartitionError
from varstar_batch.light_curves.light_curves import LightCurves
from varstar_batch.survey.open import Survey
from varstar_batch.survey.read import SurveyBatch, read_batches

FORMS = ("nested", "lists", "structs", "long")


@dataclass(frozen=True)
class Objects:
    """What a test writes and expects to read again: `observations[i]` is a list of (time, mag, mag_err)."""

    object_id: list[Any]
    period: list[float | None]
    observations: list[list[tuple[float, float, float]]]

    def field(self, k: int) -> list[list[float]]:
        """Return one list per object of times (0), magnitudes (1) or errors (2)."""
        return [[observation[k] for observation in one] for one in self.observations]


def make_objects(lengths: Sequence[int], seed: int = 0) -> Objects:
    """Make objects with these numbers of observations."""
    rng = np.random.default_rng(seed)
    observations = [
        [(float(time), float(np.float32(mag)), 0.0625) for time, mag in zip(times, rng.normal(14, 1, n), strict=True)]
        for n in lengths
        for times in [2457000 + np.sort(rng.random(n)) * 1000]
    ]
    return Objects([f"star-{i:04d}" for i in range(len(lengths))], list(rng.random(len(lengths)) + 0.25), observations)


def make_table(objects: Objects, form: str, **scalars: pa.Array) -> pa.Table:
    """Return the objects in one of the forms; `scalars` are further columns with one value an object."""
    time, mag, mag_err = (objects.field(k) for k in range(3))
    columns = {"object_id": pa.array(objects.object_id), "period": pa.array(objects.period, pa.float64()), **scalars}
    if form == "long":
        rows = pa.array(np.repeat(np.arange(len(time)), [len(one) for one in time]))
        columns = {name: column.take(rows) for name, column in columns.items()}
        for name, kind, lists in _observed(time, mag, mag_err):
            columns[name] = pa.array([value for one in lists for value in one], kind)
        return pa.table(columns)
    lists_by_name = {name: pa.array(lists, pa.list_(kind)) for name, kind, lists in _observed(time, mag, mag_err)}
    if form == "lists":
        return pa.table(columns | lists_by_name)
    if form == "nested":
        columns["lightcurve"] = pa.StructArray.from_arrays(list(lists_by_name.values()), list(lists_by_name))
        return pa.table(columns)
    struct = pa.struct([("time", pa.float64()), ("mag", pa.float32()), ("mag_err", pa.float32())])
    structs = [[{"time": t, "mag": m, "mag_err": e} for t, m, e in one] for one in objects.observations]
    columns["lightcurve"] = pa.array(structs, pa.list_(struct))
    return pa.table(columns)


def write(path: Path, table: pa.Table, row_group_size: int | None = None) -> Path:
    """Write a Parquet file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def _observed(time: list[Any], mag: list[Any], mag_err: list[Any]) -> list[tuple[str, pa.DataType, list[Any]]]:
    return [("time", pa.float64(), time), ("mag", pa.float32(), mag), ("mag_err", pa.float32(), mag_err)]


def read_all(survey: Survey, max_observations: int = 10**6, number: int = 0) -> list[SurveyBatch]:
    return list(read_batches(survey.source, survey.partitions[number], None, max_observations))


def assert_equal(batches: list[SurveyBatch], objects: Objects) -> None:
    """Batches in order hold exactly these objects, whatever the cuts."""
    assert [name for batch in batches for name in batch.objects["object_id"].to_pylist()] == objects.object_id
    periods = np.concatenate([batch.period for batch in batches])
    np.testing.assert_array_equal(periods, np.array(objects.period, np.float64))
    curves = LightCurves.concat([batch.light_curves for batch in batches])
    assert curves.mag_err is not None
    assert curves.n_obs.tolist() == [len(one) for one in objects.observations]
    for k, values in enumerate((curves.time, curves.mag, curves.mag_err)):
        np.testing.assert_array_equal(values, [value for one in objects.field(k) for value in one])
    for batch in batches:
        assert batch.objects.num_rows == len(batch.period) == len(batch.light_curves)


def fault(survey: Survey, number: int = 0, max_observations: int = 1000) -> PartitionError:
    """Return the error of reading a partition: one line that names it."""
    with pytest.raises(PartitionError) as caught:
        read_all(survey, max_observations, number)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{survey.source.location}/{survey.partitions[number].key}: expected ")
    assert caught.value.fix
    return caught.value
