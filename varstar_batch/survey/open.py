"""Surveys: what a folder of light curves holds, found out once from listings and one footer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.hats_read import find_hats_catalog, list_pixel_files
from varstar_batch.files.location import FileInfo, Location, check_reachable, locate
from varstar_batch.files.parquet import check_finished, opened_parquet, parquet_files
from varstar_batch.files.parquet_guard import GuardedParquetFile
from varstar_batch.light_curves.rules import Limits
from varstar_batch.light_curves.times import is_same_system
from varstar_batch.survey.column_types import SchemaMismatchError, object_id_type
from varstar_batch.survey.columns import GOOD_KEY, TIME_SYSTEM_GIVEN_KEY, TIME_SYSTEM_KEY, SurveyConfig
from varstar_batch.survey.schema import (
    Columns,
    Form,
    find_columns,
    is_leaf_of,
)
from varstar_batch.survey.units import CANONICAL, Conversion, conversions_of, impossible_times

Layout = Literal["hats", "directory"]

# Footers that are compared before anything is read; the others are, when their turn comes.
_COMPARED = 16

CENTURY = 36_525.0
"""Days; no survey's light curves are longer."""


@dataclass(frozen=True)
class Partition(FileInfo):
    """One Parquet file of a survey: the unit of resuming and of publishing.

    Its key is relative to the survey's folder, for example ``dataset/Norder=1/Dir=0/Npix=17.parquet``; a catalog's
    partitions carry the same keys. A pixel that a HATS catalog promises and that is not there has size 0 and an empty
    version.
    """


@dataclass(frozen=True, kw_only=True)
class Source:
    """All that reading one partition needs to know of its survey: small, picklable, the same for every partition."""

    url: str
    """The folder that partition keys are relative to (of a HATS collection: its main catalog)."""
    layout: Layout
    """{"hats", "directory"}. Whether the files are the pixels of a HATS catalog."""
    form: Form
    """{"nested", "lists", "structs", "long"}. struct of lists; top-level lists; list of structs; one row per
    observation, sorted by object."""
    columns: Columns
    """Names as found."""
    object_id_type: str
    """{"int64", "uint64", "large_string"}. Arrow type that identifiers are read to."""
    time_system: str | None
    """As declared, free text included; None where nothing declares it."""
    limits: Limits
    """Of this survey's times [d, in its own system] and magnitudes."""
    bands: str | None = None
    """Of light curves in several bands the one to take, or `FUSE`; None where nobody chose."""
    good: str | None = None
    """Which observations to use, as `Good` has it."""
    declared_in: str = ""
    """Key of the partition whose columns, units and time system these are: every other one must have the same."""
    config: SurveyConfig = field(default_factory=SurveyConfig, compare=False)
    """What the files do not say."""
    conversions: Mapping[str, Conversion] = field(default_factory=dict)
    """How periods, positions, times and magnitudes become canonical, by role; none where no unit is known."""

    @property
    def location(self) -> Location:
        """The folder that partition keys are relative to."""
        return locate(self.url, what="survey")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A survey as it was listed once."""

    source: Source
    """What a worker needs: send this and one `Partition`, never the whole survey (10^5 partitions are megabytes)."""
    partitions: tuple[Partition, ...]
    """Sorted by key; corrupt ones included (reading them raises PartitionError)."""
    hats_properties: dict[str, str] | None = None
    """`hats.properties` of a HATS catalog, as text: what a catalog that mirrors it starts from."""


def open_survey(url: str | os.PathLike[str], config: SurveyConfig | None = None) -> Survey:
    """Find out what a survey holds, from listings and the first footer that can be read.

    Parameters
    ----------
    url : str or path
        A HATS catalog or collection, a folder with Parquet files anywhere below it (names that begin with ``_`` or
        ``.`` are left out), or one Parquet file.
    config : SurveyConfig, optional
        Its column names; canonical by default. In a HATS catalog without columns `ra` and `dec`, those that its
        properties name are taken.

    Raises
    ------
    InputError
        Nothing there, no Parquet in it, no partition that can be read, a missing or mistyped column, a time system that
        contradicts the one in the files.
    """
    config = config or SurveyConfig()
    place = check_reachable(locate(url, what="survey"), "survey")
    folder, files, properties = _list_partitions(place)
    first, schema = _first_schema(folder, files)
    source = replace(
        describe(schema, _with_hats_positions(config, properties, schema), str(folder / first.key)),
        url=str(folder),
        layout="directory" if properties is None else "hats",
        declared_in=first.key,
        config=config,
    )
    spans = {info.key: _compare(source, info) for info in files[:: max(1, len(files) // _COMPARED)]}
    _check_apart(source, spans)
    partitions = tuple(Partition(info.key, info.size, info.version) for info in files)
    return Survey(source=source, partitions=partitions, hats_properties=properties)


def describe(schema: pa.Schema, config: SurveyConfig, where: str) -> Source:
    """Return how light curves with this schema are read, wherever they are.

    Raises
    ------
    InputError
        A missing or mistyped column, a time system that contradicts the one that the schema declares.
    """
    kept = (schema.metadata or {}).get(GOOD_KEY.encode())
    if config.good is not None and kept == config.good.encode():
        # What is not good is left out already, with what said so.
        config = config.model_copy(update={"good": None})
    try:
        form, columns = find_columns(schema, config)
        id_type = object_id_type(schema, columns.object_id)
        conversions = find_conversions(schema, columns, config)
    except SchemaMismatchError as error:
        raise InputError(expected=error.expected, got=error.got, where=where, fix=error.fix) from error
    time_system = _time_system(config, schema, where)
    return Source(
        url="",
        layout="directory",
        form=form,
        columns=columns,
        object_id_type=id_type,
        time_system=time_system,
        limits=config.limits(time_system),
        bands=config.bands,
        good=config.good,
        config=config,
        conversions=conversions,
    )


def _list_partitions(place: Location) -> tuple[Location, list[FileInfo], dict[str, str] | None]:
    if place.is_file():
        _check_parquet(place)
        folder = Location(place.fs, place.path.rpartition("/")[0] or "/")
        return folder, [FileInfo.of(place.name, place.fs.info(place.path))], None
    if not place.exists():
        raise InputError(
            expected="a survey (a folder with Parquet files, or a HATS catalog)",
            got="nothing there",
            where=str(place),
            fix="check the path",
        )
    check_finished(place, "survey")
    hats = find_hats_catalog(place)
    folder, properties = hats or (place, None)
    files = parquet_files(folder) if properties is None else list_pixel_files(folder)
    if not files:
        names = [name for name in folder.children() if name[0] not in "_."]
        raise InputError(
            expected="Parquet files (*.parquet)" if properties is None else "dataset/Norder=*/Dir=*/Npix=*.parquet",
            got="none among " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "none",
            where=str(folder),
            fix=f"give the folder that holds the survey's Parquet files; {_ingest_first(place)}",
        )
    return folder, files, properties


def _check_parquet(place: Location) -> None:
    """Refuse a file of another kind, by its name and its first bytes."""
    if place.name.endswith(".parquet"):
        return
    with place.open_input() as file:
        start = file.read(4)
    if start != b"PAR1":
        raise InputError(
            expected="a survey: Parquet files, or one of them",
            got="a file of another kind",
            where=str(place),
            fix=_ingest_first(place),
        )


def _ingest_first(place: Location) -> str:
    """Return the command that makes a survey of files of another kind."""
    command = f"varstar ingest {place} SURVEY"
    return (
        f"other files go through `{command} --format auto`, or, with columns of your own, "
        f"`{command} --format table --time-system MJD`"
    )


def _first_schema(folder: Location, files: list[FileInfo]) -> tuple[FileInfo, pa.Schema]:
    """Return the first file whose footer can be read, and its schema."""
    problem: PartitionError | None = None
    for info in files:
        try:
            with opened_parquet(folder / info.key) as parquet:
                return info, parquet.schema_arrow
        except PartitionError as error:
            problem = problem or error
    raise InputError(
        expected="at least one Parquet file that can be read",
        got=f"none of {len(files)}" + (f"; {problem.where}: {problem.got}" if problem else ""),
        where=str(folder),
        fix="write the files again, and check that they are Parquet",
    )


def _compare(source: Source, info: FileInfo) -> tuple[float, float] | None:
    """Refuse a survey one of whose files contradicts another, or itself; damaged ones are the run's to tell.

    Returns
    -------
    tuple of float or None
        First and last time [d] in the file, as far as its footer tells them.
    """
    try:
        with opened_parquet(source.location / info.key) as parquet:
            check_declared(source, parquet.schema_arrow)
            return _check_times(source, parquet)
    except PartitionError:
        return None
    except SchemaMismatchError as error:
        expected = error.expected + ("" if info.key == source.declared_in else f", as in {source.declared_in}")
        where = str(source.location / info.key)
        raise InputError(expected=expected, got=error.got, where=where, fix=error.fix) from error


def _check_times(source: Source, parquet: GuardedParquetFile) -> tuple[float, float] | None:
    """Refuse a file none of whose times can be in the declared system, as far as its footer tells them."""
    paths = [parquet.schema.column(k).path for k in range(len(parquet.schema.names))]
    times = {path: k for k, path in enumerate(paths) if is_leaf_of(path, source.columns, source.columns.time)}
    ends: list[float] = []
    for group in range(parquet.num_row_groups):
        for chunk in parquet.column_chunks(group, times).values():
            told = chunk.statistics
            if told is None or not told.has_min_max:
                return None
            ends += [float(told.min), float(told.max)]
    if not ends:
        return None
    days = np.array([min(ends), max(ends)])
    if "time" in source.conversions:
        days = source.conversions["time"].apply(days)
    limits = source.limits
    if source.time_system is not None and (days[1] < limits.time_min or days[0] > limits.time_max):
        raise impossible_times(source.time_system, float(days[0]), float(days[1]))
    return float(days[0]), float(days[1])


def _check_apart(source: Source, spans: Mapping[str, tuple[float, float] | None]) -> None:
    """Refuse files more than a century apart where nothing says which system their times are in."""
    known = sorted((*span, key) for key, span in spans.items() if span is not None)
    if len(known) < 2 or not np.isinf(source.limits.time_min):
        return
    ends = np.maximum.accumulate([last for _, last, _ in known])
    gaps = np.array([first for first, _, _ in known[1:]]) - ends[:-1]
    if gaps.max() > CENTURY:
        one, other = known[int(gaps.argmax())], known[int(gaps.argmax()) + 1]
        raise InputError(
            expected=f"times of one system in all files, as in {one[2]} ({one[0]:.1f} to {one[1]:.1f})",
            got=f"{other[0]:.1f} to {other[1]:.1f}",
            where=str(source.location / other[2]),
            fix="make a survey of the partitions of each time system, and declare it (survey.time_system)",
        )


def check_declared(source: Source, schema: pa.Schema) -> None:
    """Check that a partition declares the time system and the units of its survey.

    Raises
    ------
    SchemaMismatchError
        It declares others, or none.
    """
    of_file, config = declared_time_system(schema), source.config
    if not is_same_system(of_file or config.time_system, source.time_system):
        raise SchemaMismatchError(
            expected=f"time system {source.time_system or 'undeclared'}",
            got=of_file or "none declared",
            fix="make a survey of the partitions of each time system"
            + ("" if of_file else f", or say --set survey.time_system={source.time_system} if they have it, too"),
        )
    found = find_conversions(schema, source.columns, config)
    for role in sorted({*found, *source.conversions}):
        mine, theirs = found.get(role), source.conversions.get(role)
        is_same = (mine and (mine.kind, mine.factor)) == (theirs and (theirs.kind, theirs.factor))
        # The canonical unit is what is taken where none is declared, too.
        if not is_same and any(one is not None and one.changes for one in (mine, theirs)):
            raise SchemaMismatchError(
                expected=f"{role} in {theirs.unit if theirs else 'no unit'}",
                got=mine.unit if mine else "none declared",
                fix="write all partitions with the same units",
            )


def find_conversions(schema: pa.Schema, columns: Columns, config: SurveyConfig) -> dict[str, Conversion]:
    """Return how the columns of a partition become canonical, by role. Raises as `conversions_of`."""
    named = {role: getattr(columns, role) for role in CANONICAL}
    return conversions_of(schema, named, config, columns.lightcurve, is_flux=columns.is_flux)


def declared_time_system(schema: pa.Schema) -> str | None:
    """Return the time system that a file declares."""
    stored = (schema.metadata or {}).get(TIME_SYSTEM_KEY.encode())
    return stored.decode(errors="replace") if stored else None


def _with_hats_positions(config: SurveyConfig, properties: dict[str, str] | None, schema: pa.Schema) -> SurveyConfig:
    if properties is None:
        return config
    changes = {
        axis: properties.get(f"hats_col_{axis}")
        for axis in ("ra", "dec")
        if getattr(config, axis) is not None and getattr(config, axis) not in schema.names
    }
    return config.model_copy(update=changes)


def _time_system(config: SurveyConfig, schema: pa.Schema, where: str) -> str | None:
    inside = declared_time_system(schema)
    # What a survey's times were in before an ingest turned them, a configuration may still say.
    given = (schema.metadata or {}).get(TIME_SYSTEM_GIVEN_KEY.encode(), b"").decode(errors="replace")
    is_given = bool(given) and is_same_system(given, config.time_system)
    if inside and config.time_system and not is_given and not is_same_system(inside, config.time_system):
        raise InputError(
            expected=f"one time system; the files say {inside!r}",
            got=f"{config.time_system!r} in the configuration",
            where=where,
            fix="leave time_system out of the configuration, or ingest again with the right one",
        )
    return inside or config.time_system


@dataclass(frozen=True)
class Failure:
    """A partition that could not be classified, with the machine-readable kind of cause and one line for people."""

    partition: str
    kind: str
    message: str
