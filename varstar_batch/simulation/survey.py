"""A simulated survey on storage: real Parquet in the canonical columns, the same for the same seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from varstar_batch.errors import InputError
from varstar_batch.files.location import Location, locate, writable
from varstar_batch.files.new_folder import check_vacant, new_folder
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.simulation.objects import MAX_SEED, TIME_SYSTEM, SimulationOptions, simulate_objects
from varstar_batch.survey.columns import TIME_SYSTEM_KEY
from varstar_batch.survey.write import list_type, nested_light_curves, write_survey_file

BATCH_OBJECTS = 4_000
"""Objects simulated at once, about 16 MB: a row group of the survey."""

SCHEMA = pa.schema(
    [
        ("object_id", pa.int64()),
        ("ra", pa.float64()),
        ("dec", pa.float64()),
        ("period", pa.float64()),
        ("class", pa.string()),
        pa.field(
            "lightcurve",
            pa.struct(
                [
                    pa.field("time", list_type(pa.float64()), nullable=False),
                    pa.field("mag", list_type(pa.float32()), nullable=False),
                    pa.field("mag_err", list_type(pa.float32()), nullable=False),
                ]
            ),
        ),
    ],
    metadata={TIME_SYSTEM_KEY: TIME_SYSTEM},
)


def write_simulated_survey(
    out_url: str | os.PathLike[str],
    *,
    objects: int,
    partitions: int,
    seed: int,
    options: SimulationOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Simulate a survey and write it, streamed, so that it appears whole or not at all.

    Object i is the same whatever the number of partitions; the same seed gives the same bytes.

    Parameters
    ----------
    out_url : str or path
        Where nothing is yet.
    objects : int
        Light curves, at least 1.
    partitions : int
        Files, at least 1 and at most `objects`; their sizes differ by one object at the most.
    seed : int
        0 to 2**63 - 1.
    options : SimulationOptions, optional
        Fractions of the classes, cadence, noise.
    progress : callable, optional
        Called with the number of objects written since its last call.

    Raises
    ------
    InputError
        A number out of its range, an output that holds something or cannot be written.
    """
    _check("objects", objects, 1, 10**12)
    _check("partitions", partitions, 1, objects)
    _check("seed", seed, 0, MAX_SEED)
    out = locate(out_url, what="survey")
    check_vacant(out)
    chosen = options or SimulationOptions()
    bounds = [number * objects // partitions for number in range(partitions + 1)]

    def write_partition(folder: Location, number: int) -> None:
        batches = _batches(bounds[number], bounds[number + 1], seed, chosen, progress)
        write_survey_file(folder / f"part-{number:05d}.parquet", SCHEMA, batches)

    def write() -> None:
        # The kernels release the GIL; more threads than two would only wait for the disk.
        with new_folder(out, "survey") as folder, ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(write_partition, folder, number) for number in range(partitions)]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                # Or the pool would write all other partitions before the error is seen.
                pool.shutdown(cancel_futures=True)
                raise

    writable(str(out), "survey", write)


def _batches(
    first: int, last: int, seed: int, options: SimulationOptions, progress: Callable[[int], None] | None
) -> Iterator[pa.Table]:
    for start in range(first, last, BATCH_OBJECTS):
        count = min(BATCH_OBJECTS, last - start)
        yield _table(start, count, seed, options)
        if progress is not None:
            progress(count)


def _table(first: int, count: int, seed: int, options: SimulationOptions) -> pa.Table:
    simulated = simulate_objects(first, count, seed, options)
    curves = simulated.light_curves
    columns = {"time": curves.time, "mag": curves.mag, "mag_err": curves.mag_err}
    return pa.table(
        [
            simulated.object_id,
            simulated.ra,
            simulated.dec,
            pa.array(simulated.period, from_pandas=True),
            pa.array(np.array(CLASSES)[simulated.class_code], pa.string()),
            nested_light_curves(curves.offsets, columns),
        ],
        schema=SCHEMA,
    )


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InputError(
            expected=f"{least} to {most} {name}", got=str(value), where=f"--{name}", fix="choose another number"
        )
