"""Ingest: a table of observations in the long form and a table of objects become a partitioned survey.

The observations are read twice, in bounded memory. The first pass reads identifiers only and counts; from the counts
every object gets its partition and its place in it. The second pass hands each row to its partition, which is written
as soon as its last row has come. Rows that come sorted by object pass through; rows in any other order wait in memory,
and beyond `IngestOptions.memory` in a scratch folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.errors import InputError
from varstar_batch.storage.columns import HEALPIX_COLUMN, TIME_SYSTEM_KEY, SurveyConfig
from varstar_batch.storage.files import Location, locate, writable
from varstar_batch.storage.hats_output import finish_hats_survey, plan_pixels, with_cells
from varstar_batch.storage.ingest_plan import IngestPlan, IntArray, make_plan
from varstar_batch.storage.ingest_positions import Positions
from varstar_batch.storage.ingest_sorting import PartitionSorter
from varstar_batch.storage.ingest_tables import Observations, read_objects
from varstar_batch.storage.parquet import nested_light_curves, one_chunk, write_survey_file
from varstar_batch.storage.period_search import PeriodSearch, with_found
from varstar_batch.storage.staging import check_vacant, new_folder
from varstar_batch.storage.time_correction import TimeCorrection

REPORT = "_ingest.json"
"""The report, left in the survey; its name keeps it out of listings."""


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """How to ingest.

    Attributes
    ----------
    config : SurveyConfig
        Column names of the two tables; the survey has the canonical ones.
    time_system : str or None
        Declared system of the times; None takes it from the objects' column `time_system`.
    partitions : int or None
        Files to write, at least 1 (fewer where there are fewer objects); None for about 4 million observations in each.
    memory : int
        Bytes of observations that may wait in memory, at least 1 MiB. A partition is sorted in memory on top of it.
    scratch : str or None
        Local folder for what has to wait on disk; None for the system's.
    correct_to : str or None
        Time system to bring the times to, for example ``"BJD"`` from ``"JD"``; None leaves them as they are.
    hats : bool
        Write a HATS catalog: partitions are HEALPix pixels. Every object needs a position.
    find_periods : int
        Processes that search periods for the objects that have none; 0 for no search. With a search the survey has the
        columns of `varstar_batch.storage.period_search`, which tell found periods from those of the catalog.
    """

    config: SurveyConfig = field(default_factory=SurveyConfig)
    time_system: str | None = None
    partitions: int | None = None
    memory: int = 512 * 2**20
    scratch: str | None = None
    correct_to: str | None = None
    hats: bool = False
    find_periods: int = 0


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What went in and what came out; every object and every observation is in one of the counts.

    Attributes
    ----------
    objects, observations : int
        Read.
    objects_written, observations_written : int
        Written; all objects, with or without observations.
    objects_without_observations : int
        Of the objects written.
    orphans : int
        Observations left out, since no object has their object_id: observations - observations_written.
    orphan_ids : tuple of str
        A few of their identifiers.
    partitions : int
        Files written.
    time_system : str
        As stored.
    has_mag_err : bool
        Whether the observations have magnitude errors.
    """

    objects: int
    objects_written: int
    objects_without_observations: int
    observations: int
    observations_written: int
    orphans: int
    orphan_ids: tuple[str, ...]
    partitions: int
    time_system: str
    has_mag_err: bool


def ingest(
    observations_url: str | os.PathLike[str],
    objects_url: str | os.PathLike[str],
    out_url: str | os.PathLike[str],
    options: IngestOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> IngestReport:
    """Make a survey of observations and objects: every object is one row, its observations sorted by time.

    Parameters
    ----------
    observations_url : str or path
        Parquet file, or folder of them, with one row per observation, in any order; an object may be in several files.
        Columns other than object_id, time, mag and mag_err come along as fields of `lightcurve`, unless the objects
        have a column of that name.
    objects_url : str or path
        Parquet file, or folder of them, with one row per object; it is held in memory. All its columns come along.
    out_url : str or path
        Where nothing is yet. The survey appears there whole, or not at all.
    options : IngestOptions, optional
        Column names, time system, partitions.
    progress : callable, optional
        Takes the number of observations that were read since its last call; `count_observations` tells the sum.

    Raises
    ------
    InputError
        A file that is missing or cannot be read, a missing or mistyped column, an object_id that is null or there
        twice, no time system or several, an output that holds something or cannot be written.
    """
    options = options or IngestOptions()
    check_options(options)
    out = locate(out_url, what="survey")
    check_vacant(out)
    observations = Observations.open(observations_url, options.config)
    objects = read_objects(objects_url, options.config)
    time_system = options.time_system or _declared_time_system(objects, str(objects_url))
    return write_survey(observations, objects, out, time_system, options, progress)


def write_survey(
    observations: Observations,
    objects: pa.Table,
    out: Location,
    time_system: str,
    options: IngestOptions,
    progress: Callable[[int], None] | None = None,
    finish: Callable[[Location, IngestReport], None] | None = None,
) -> IngestReport:
    """Write a survey of observations and a table of objects with canonical names; as `ingest`, which opens them.

    Parameters
    ----------
    finish : callable, optional
        Takes the folder while it is not published yet, and the report: adds what else belongs into it.
    """
    observations = observations.beside(objects)
    correction = None
    if options.correct_to is not None:
        correction = TimeCorrection.make(time_system, options.correct_to, objects, "table of objects")
        time_system = options.correct_to
    positions = Positions(objects["object_id"])
    plan = make_plan(observations.positions(positions), len(objects), options.partitions)
    keys = [f"part-{number:05d}.parquet" for number in range(plan.partitions)]
    if options.hats:
        objects = with_cells(objects, "table of objects")
        plan, keys = plan_pixels(plan, objects[HEALPIX_COLUMN].to_numpy(), options.partitions)

    def write() -> IngestReport:
        with new_folder(out, "survey") as folder:
            search, example = None, objects.slice(0, 0)
            if options.find_periods:
                search = PeriodSearch(options.find_periods, options.config.limits(time_system))
                example = with_found(example, np.zeros(0, np.bool_), [])
            schema = _survey_schema(example, observations.nothing, time_system)
            writer = _Writer(folder, objects, plan, keys, schema, search)
            with PartitionSorter(plan, observations.nothing, writer, options.memory, options.scratch) as sorter:
                for index, rows in observations.rows(positions):
                    sorter.add(index, rows if correction is None else _corrected(index, rows, correction))
                    if progress is not None:
                        progress(len(index))
                sorter.finish()
            report = writer.report(time_system)
            (folder / REPORT).write_bytes(json.dumps(asdict(report), indent=1).encode())
            if finish is not None:
                finish(folder, report)
            if options.hats:
                finish_hats_survey(folder, keys, out.name, report.objects_written)
        return report

    return writable(str(out), "survey", write)


def count_observations(observations_url: str | os.PathLike[str], options: IngestOptions | None = None) -> int:
    """Return the number of observations by the footers alone.

    Raises
    ------
    InputError
        A file that is missing or cannot be read, a missing or mistyped column.
    """
    return Observations.open(observations_url, (options or IngestOptions()).config).total


def check_options(options: IngestOptions) -> None:
    """Refuse options that make no sense.

    Raises
    ------
    InputError
        A number that is too small, a scratch folder that is not there.
    """
    for name, least in (("partitions", 1), ("memory", 2**20)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(
                expected=f"{name} of at least {least}", got=str(value), where="ingest", fix=f"give a larger {name}"
            )
    if options.scratch is not None and not locate(options.scratch, what="scratch folder").exists():
        raise InputError(
            expected="a local folder for scratch",
            got="nothing there",
            where=options.scratch,
            fix="make it, or leave it out",
        )


def _corrected(index: IntArray, rows: pa.Table, correction: TimeCorrection) -> pa.Table:
    times = correction.apply(index, rows["time"].fill_null(float("nan")).to_numpy())
    return rows.set_column(rows.column_names.index("time"), "time", pa.array(times))


def _declared_time_system(objects: pa.Table, where: str) -> str:
    values = []
    if "time_system" in objects.column_names:
        values = pc.unique(objects["time_system"].cast(pa.large_string())).drop_null().to_pylist()
    if len(values) == 1:
        return str(values[0])
    raise InputError(
        expected="one time system",
        got=", ".join(repr(value) for value in values[:5]) if values else "none: no column time_system with a value",
        where=where,
        fix="say which the times are in, as in --time-system HJD-2450000"
        + (", or ingest the objects of each system by themselves" if values else ""),
    )


def _survey_schema(objects: pa.Table, nothing: pa.Table, time_system: str) -> pa.Schema:
    light_curve = nested_light_curves(np.zeros(1, np.int64), _columns(nothing)).type
    schema = objects.schema.append(pa.field("lightcurve", light_curve, nullable=False))
    return schema.with_metadata({TIME_SYSTEM_KEY: time_system})


def _columns(rows: pa.Table) -> dict[str, pa.Array]:
    return {name: one_chunk(rows[name]) for name in rows.column_names}


class _Writer:
    """Writes partitions and counts what it has written."""

    def __init__(
        self,
        folder: Location,
        objects: pa.Table,
        plan: IngestPlan,
        keys: Sequence[str],
        schema: pa.Schema,
        search: PeriodSearch | None,
    ) -> None:
        self._search = search
        self._folder, self._objects, self._plan, self._keys, self._schema = folder, objects, plan, keys, schema
        self._written = self._observations_written = self._partitions = 0

    def __call__(self, number: int, rows: pa.Table) -> None:
        """Write the partition of this number, whose observations are `rows`, those of its first object first."""
        members = self._plan.members(number)
        offsets = np.concatenate([[0], np.cumsum(self._plan.counts[members])])
        objects = self._objects.take(pa.array(members))
        if self._search is not None:
            objects = self._search(objects, offsets, rows)
        light_curves = nested_light_curves(offsets, _columns(rows))
        table = pa.Table.from_arrays([*objects.columns, light_curves], schema=self._schema)
        write_survey_file(self._folder / self._keys[number], self._schema, [table])
        self._written += table.num_rows
        self._observations_written += rows.num_rows
        self._partitions += 1

    def report(self, time_system: str) -> IngestReport:
        """Return the balance, once all is written."""
        plan = self._plan
        return IngestReport(
            objects=len(plan.order),
            objects_written=self._written,
            objects_without_observations=int((plan.counts == 0).sum()),
            observations=plan.observations,
            observations_written=self._observations_written,
            orphans=plan.orphans,
            orphan_ids=plan.orphan_ids,
            partitions=self._partitions,
            time_system=time_system,
            has_mag_err="mag_err" in self._schema.field("lightcurve").type.names,
        )
