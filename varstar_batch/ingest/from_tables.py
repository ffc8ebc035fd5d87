"""Ingest: a table of observations in the long form and a table of objects become a partitioned survey.

The observations are read twice, in bounded memory. The first pass reads identifiers only and counts; from the counts
every object gets its partition and its place in it. The second pass scatters each unit of rows by partition to disk;
then every partition is gathered, sorted and written. What is done stays when the process is killed, and the same ingest
goes on from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa

from varstar_batch.archives.input_tables import refused
from varstar_batch.errors import InputError, NothingMatchedError
from varstar_batch.files.hats_write import finish_hats
from varstar_batch.files.location import Location, locate, writable
from varstar_batch.files.new_folder import new_folder
from varstar_batch.ingest.object_lookup import Positions
from varstar_batch.ingest.objects import read_objects, with_cells, with_origins, with_periods
from varstar_batch.ingest.observations import Observations, check_times
from varstar_batch.ingest.options import IngestOptions, IngestReport
from varstar_batch.ingest.period_search import PeriodSearch
from varstar_batch.ingest.plan import IngestPlan, IntArray, Widths, make_plan, plan_pixels
from varstar_batch.ingest.shuffle import Shuffle
from varstar_batch.ingest.time_correction import TimeCorrection, time_system_of
from varstar_batch.ingest.workspace import Workspace, open_workspace
from varstar_batch.ingest.write_partitions import PartitionWriter, survey_schema
from varstar_batch.ingest.written import converted, look_at
from varstar_batch.parallel import Crew, Threads
from varstar_batch.sky import HEALPIX_COLUMN
from varstar_batch.survey.columns import GOOD_KEY, TIME_SYSTEM_GIVEN_KEY, TIME_SYSTEM_KEY

TWO_THREADS = Threads(2)

REPORT = "_ingest.json"
"""The report, left in the survey; its name keeps it out of listings."""


def ingest(
    observations_url: str | os.PathLike[str],
    objects_url: str | os.PathLike[str],
    out_url: str | os.PathLike[str],
    options: IngestOptions | None = None,
    progress: Callable[[int], None] | None = None,
    crew: Crew = TWO_THREADS,
) -> IngestReport:
    """Make a survey of observations and objects: every object is one row, its observations sorted by time.

    Parameters
    ----------
    observations_url : str or path
        Parquet file, or folder of them, with one row per observation, in any order; an object may be in several files.
        Columns other than object_id, time, mag and mag_err come along as fields of `lightcurve`, unless the objects
        have a column of that name; that of their bands always does.
    objects_url : str or path
        Parquet file, or folder of them, with one row per object; it is held in memory. All its columns come along.
    out_url : str or path
        Where nothing is yet. The survey appears there whole, or not at all.
    options : IngestOptions, optional
        Column names, time system, partitions.
    progress : callable, optional
        Takes the number of observations that were read since its last call; `count_observations` tells the sum.
    crew : Crew, optional
        Who does the work: they see the inputs, the survey's place and the scratch folder. What they read takes about
        100 MiB for each of them on top of the options' memory.

    Raises
    ------
    InputError
        A file that is missing or cannot be read, a missing or mistyped column, an object_id that is null or there
        twice, no time system or several, an output that holds something or cannot be written.
    """
    options = options or IngestOptions()
    options.check_scratch()
    out = locate(out_url, what="survey")
    inputs = {"observations": observations_url, "objects": objects_url, "periods": options.periods}
    with open_workspace(out, options.scratch, inputs, repr(options.lasting())) as work:
        observations = replace(Observations.open(observations_url, options.columns), band=options.band)
        objects = read_objects(objects_url, options.columns)
        time_system = time_system_of(options, objects, observations, str(objects_url))
        return write_survey(
            observations, objects, Target(out, work, time_system, str(observations_url)), options, progress, crew
        )


@dataclass(frozen=True)
class Target:
    """Where a survey is written, and in which time system its observations come."""

    out: Location
    work: Workspace
    """Keeps what is done."""
    time_system: str
    source: str
    """Of the observations, for an error."""
    finish: Callable[[Location, IngestReport], None] | None = None
    """Takes the folder while it is not published yet, and the report: adds what else belongs into it."""


def write_survey(
    observations: Observations,
    objects: pa.Table,
    target: Target,
    options: IngestOptions,
    progress: Callable[[int], None] | None = None,
    crew: Crew = TWO_THREADS,
) -> IngestReport:
    """Write a survey of observations and a table of objects with canonical names; as `ingest`, which opens them."""
    matched = None
    objects = with_origins(objects)
    if options.periods is not None:
        objects, matched = with_periods(objects, options.periods, options.columns_of_periods, options.periods_radius)
    observations = observations.beside(objects)
    check_times(observations, target.time_system, target.source)
    time_system, correct = target.time_system, None
    if options.correct_to is not None:
        correct = TimeCorrection.make(time_system, options.correct_to, objects).of_rows
        time_system = options.correct_to
    positions = Positions(objects["object_id"])
    with refused(observations.files[0]):
        observations.check_bands(positions)
    plan = _count(observations, positions, _widths(observations, objects), target.work, options, crew)
    _check_matched(plan, objects)
    keys = [f"part-{number:05d}.parquet" for number in range(plan.partitions)]
    if options.hats:
        objects = with_cells(objects)
        cells = objects[HEALPIX_COLUMN].to_numpy()
        plan, keys = plan_pixels(plan, cells, options.partitions, _widths(observations, objects))
    # Others have threads as they are: each does a partition in one.
    threads = crew.workers if isinstance(crew, Threads) else 1
    search = PeriodSearch(options.columns.limits(time_system), threads) if options.find_periods else None
    shuffle = Shuffle(observations, positions, plan, target.work.folder / "shuffle", correct)
    told = {TIME_SYSTEM_KEY: time_system} | ({} if correct is None else {TIME_SYSTEM_GIVEN_KEY: target.time_system})
    told |= {} if options.columns.good is None else {GOOD_KEY: options.columns.good}
    schema = survey_schema(objects, observations.nothing, told, options.find_periods)
    # Pieces, their sum, and what is sorted.
    largest = max(1, 3 * _widths(observations, objects).observation * int(plan.rows.max()))
    out = target.out

    def write() -> IngestReport:
        with new_folder(out, "survey", target.work.fingerprint) as folder:
            folder.remove_unfinished()
            for rows in crew.in_order(shuffle.scatter, range(len(observations.units)), target.work.folder):
                if progress is not None:
                    progress(rows)
            writer = PartitionWriter(
                folder=folder,
                objects=objects,
                shuffle=shuffle,
                pieces=shuffle.pieces(),
                plan=plan,
                keys=keys,
                schema=schema,
                search=search,
                duplicates=options.duplicates,
                done=target.work.folder / "done",
                band=observations.band_field,
                only_one_band=observations.band is None,
            )
            at_once = max(1, options.memory // largest)
            pairs = crew.in_order(writer, range(plan.partitions), target.work.folder, at_once)
            written = np.sum([(0, 0), *pairs], axis=0)
            _check_written(folder, keys)
            changed = converted(objects) | observations.converted
            report = _report(plan, observations.total, written, schema, matched)
            report = replace(report, converted=changed, **vars(look_at(folder, keys)))
            (folder / REPORT).write_bytes(json.dumps(asdict(report), indent=1).encode())
            if target.finish is not None:
                target.finish(folder, report)
            if options.hats:
                about = {"obs_collection": out.name, "obs_title": f"Light curves of {out.name}"}
                finish_hats(folder, keys, {**about, "hats_nrows": report.objects_written})
        return report

    return writable(str(out), "survey", write)


def count_observations(observations_url: str | os.PathLike[str], options: IngestOptions | None = None) -> int:
    """Return the number of observations by the footers alone.

    Raises
    ------
    InputError
        A file that is missing or cannot be read, a missing or mistyped column.
    """
    return Observations.open(observations_url, (options or IngestOptions()).columns).total


def _count(
    observations: Observations,
    positions: Positions,
    widths: Widths,
    work: Workspace,
    options: IngestOptions,
    crew: Crew,
) -> IngestPlan:
    """Return the plan; what an interrupted ingest has counted is not counted again."""
    plan = work.load_plan()
    if plan is None:
        counted = crew.in_order(partial(observations.positions, positions), observations.units, work.folder)
        plan = make_plan(chain.from_iterable(counted), len(positions), options.partitions, widths)
        work.save_plan(plan)
    return plan


def _check_matched(plan: IngestPlan, objects: pa.Table) -> None:
    """Refuse observations none of which belongs to an object."""
    if plan.observations and plan.orphans == plan.observations:
        ids = [str(each) for each in objects["object_id"].slice(0, 3).to_pylist()]
        raise NothingMatchedError(
            expected="observations of the table's objects (" + ", ".join(ids) + ", ...)",
            got=f"{plan.observations:,} observations of others ({', '.join(plan.orphan_ids[:3])}, ...)",
            where="object_id",
            fix="say which column holds the identifiers (--set survey.object_id=...), or, where objects have positions "
            "and other names, --radius ARCSECONDS",
        )


def _check_written(folder: Location, keys: Sequence[str]) -> None:
    """Leave nothing of workers that were killed, and refuse partitions that went somewhere else."""
    folder.remove_unfinished()
    missing = set(keys) - folder.sizes(keys).keys()
    if missing:
        raise InputError(
            expected=f"{len(keys)} partitions in the survey",
            got=f"{len(keys) - len(missing)}: {min(missing)} was written where this process does not see it",
            where=str(folder),
            fix="write to storage that this machine and all workers share",
        )


def _widths(observations: Observations, objects: pa.Table) -> Widths:
    """Return the bytes of rows; texts of observations, which are short names, count for eight."""
    kinds = observations.types.values()
    observation = sum(kind.bit_width // 8 if pa.types.is_primitive(kind) else 8 for kind in kinds)
    return Widths(observation=observation, object=max(1, objects.nbytes // len(objects)))


def _report(
    plan: IngestPlan, read: int, written: IntArray, schema: pa.Schema, periods: dict[str, int] | None
) -> IngestReport:
    return IngestReport(
        objects=len(plan.order),
        objects_written=int(written[0]),
        objects_without_observations=int((plan.counts == 0).sum()),
        observations=read,
        # Every partition's were checked against the plan before those that are there twice were left out.
        observations_written=int(written[1]),
        duplicates=int(plan.counts.sum() - written[1]),
        orphans=plan.orphans,
        orphan_ids=plan.orphan_ids,
        left_out=read - plan.observations,
        partitions=plan.partitions,
        time_system=schema.metadata[TIME_SYSTEM_KEY.encode()].decode(),
        has_mag_err="mag_err" in schema.field("lightcurve").type.names,
        periods=periods,
        converted={},
        period_origins={},
        times=None,
    )
