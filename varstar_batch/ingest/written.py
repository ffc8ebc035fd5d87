"""What stands in a survey once it is written, for its report: read back, so that nothing depends on who wrote it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.files.location import Location
from varstar_batch.files.parquet import opened_parquet
from varstar_batch.survey.columns import PERIOD_ORIGIN
from varstar_batch.survey.declared_units import GIVEN_KEY, UNIT_KEY

_TIMES = "lightcurve.time.list.element"


@dataclass(frozen=True)
class Written:
    """Counts of a survey's files."""

    period_origins: dict[str, int]
    """Objects by `PERIOD_ORIGIN`; ``"none"`` of those without a period."""
    times: tuple[float, float] | None
    """First and last time [d, in the survey's system], impossible ones included; None without any."""


def look_at(folder: Location, keys: Sequence[str]) -> Written:
    """Read the origins of the periods, and from the footers the range of times, of all partitions."""
    origins: Counter[str] = Counter()
    ends: list[float] = []
    for key in keys:
        with opened_parquet(folder / key) as file:
            # Not read whole: a word that all objects share takes so little that it would look like a bomb.
            for record in file.iter_batches(columns=[PERIOD_ORIGIN]):
                for one in pc.value_counts(record[PERIOD_ORIGIN]).to_pylist():
                    origins[one["values"] or "none"] += one["counts"]
            paths = {file.schema.column(k).path: k for k in range(len(file.schema.names))}
            for group in range(file.num_row_groups):
                told = file.column_chunks(group, {_TIMES: paths[_TIMES]})[_TIMES].statistics
                ends += [float(told.min), float(told.max)] if told is not None and told.has_min_max else []
    finite = [end for end in ends if math.isfinite(end)]
    return Written(dict(origins), (min(finite), max(finite)) if finite else None)


def converted(objects: pa.Table) -> dict[str, int]:
    """Return how many values of each column of the objects came in another unit, by column and units."""
    counts = {}
    for field in objects.schema:
        said = field.metadata or {}
        if GIVEN_KEY in said:
            change = f"{field.name} from {said[GIVEN_KEY].decode()} to {said[UNIT_KEY].decode()}"
            counts[change] = len(objects) - objects[field.name].null_count
    return counts
