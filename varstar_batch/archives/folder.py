"""A folder of an archive's files, read in parallel into one table of observations."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.archives.content import OBSERVATIONS, Format, UnreadableFileError, stem_of
from varstar_batch.archives.formats import MAX_BYTES, Reading, read_files
from varstar_batch.archives.parquet import read_parquet
from varstar_batch.archives.tally import Rejected, Tally, line_of
from varstar_batch.errors import InputError, PartitionError, one_line
from varstar_batch.files.location import TEMPORARY_PREFIX, Location
from varstar_batch.files.parquet import opened_parquet
from varstar_batch.parallel import Crew

ALL_BANDS = "all"
"""Instead of a band: all of them in one light curve."""

_BATCH_FILES = 64
_BATCH_BYTES = 2**23
_UNIT_FILES = 1024
_STREAMED = ".parquet"
_UNIT_STREAMED = 16
_HATS = ("hats.properties", "properties")
# Of a HATS catalog, whose folder holds more than light curves.


def list_archive(place: Location) -> tuple[list[str], list[Rejected]]:
    """List the files of a folder by key, and those that may not be read: links out of the folder, devices, pipes.

    Raises
    ------
    InputError
        Nothing there.
    """
    if place.is_file():
        return [""], []
    if not place.exists():
        raise InputError(
            expected="a folder of light curves", got="nothing there", where=str(place), fix="check the path"
        )
    if any((place / name).is_file() for name in _HATS):
        keys = [info.key for info in (place / "dataset").files(".parquet") if not _is_hidden(info.key)]
        return [f"dataset/{key}" for key in keys], []
    if not place.is_local:
        infos = [info for info in place.files() if not _is_hidden(info.key)]
        too_large = {info.key: line for info in infos if (line := _too_large(info.key, info.size)) is not None}
        keys = [info.key for info in infos if info.key not in too_large]
        return keys, [Rejected(key, line) for key, line in too_large.items()]
    root = Path(place.path).resolve()
    keys, refused = [], []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            key = path.relative_to(root).as_posix()
            if _is_hidden(key):
                continue
            problem = _problem(path, root)
            if problem is None:
                keys.append(key)
            else:
                refused.append(Rejected(key, problem))
    return sorted(keys), sorted(refused, key=lambda one: one.file)


def _is_hidden(key: str) -> bool:
    return any(part[0] in "._" for part in key.split("/"))


def _problem(path: Path, root: Path) -> str | None:
    """Return why a file is not to be opened: opening a pipe would wait for ever, a link may lead anywhere."""
    try:
        target = path.resolve(strict=True)
        status = target.stat()
    except (OSError, RuntimeError) as error:
        return line_of("a file", f"a link that leads nowhere ({one_line(error)})")
    if not target.is_relative_to(root):
        return line_of("a file of the folder", "a link that leads out of it")
    if not stat.S_ISREG(status.st_mode):
        return line_of("a file", "something else (a pipe, a device or a socket)")
    return _too_large(path.name, status.st_size)


def _too_large(key: str, size: int) -> str | None:
    if size > MAX_BYTES and not key.endswith(_STREAMED):
        return line_of(f"at most {MAX_BYTES} bytes, or a name in {_STREAMED}", str(size))
    return None


def read_archive(
    place: Location,
    formats: Sequence[Format],
    band: str | None,
    target: Path,
    crew: Crew,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Read all files of a folder and write their observations to Parquet files, but those that are there already.

    Parameters
    ----------
    place : Location
        Folder, or a single file.
    formats : sequence of Format
        Those the files may have.
    band : str or None
        Observations of other bands are left out, and counted; `ALL_BANDS` or None keep all.
    target : Path
        Folder for the files that are written, with the columns of `OBSERVATIONS`, and the tally of each. What an
        earlier reading of the same files has left there is not read again.
    crew : Crew
        Who reads; a few batches of files for each are in memory at once.
    progress : callable, optional
        Takes the number of files that were read since its last call.

    Raises
    ------
    InputError
        Nothing there.
    """
    keys, refused = list_archive(place)
    tally = Tally(files=len(refused), rejected=refused)
    target.mkdir(exist_ok=True)
    units = list(_units(keys))

    def read(number: int) -> Tally:
        done = target / f"part-{number:06d}.json"
        if not done.exists():
            _read_unit(place, units[number], formats, band, done)
        return Tally.from_json(done.read_text())

    for part in crew.in_order(read, range(len(units)), target):
        tally.add(part)
        if progress is not None:
            progress(part.files)
    return tally


def _units(keys: Sequence[str]) -> Iterator[list[str]]:
    """Yield runs of files to read in one go: fewer of those that may be large."""
    for is_streamed, run in groupby(keys, lambda key: key.endswith(_STREAMED)):
        files = list(run)
        step = _UNIT_STREAMED if is_streamed else _UNIT_FILES
        yield from (files[start : start + step] for start in range(0, len(files), step))


def _read_unit(place: Location, keys: Sequence[str], formats: Sequence[Format], band: str | None, done: Path) -> None:
    """Read some files into one Parquet file; their tally comes last, and says that it is complete."""
    tally = Tally(files=len(keys))
    # Names of its own: a worker that is taken for dead may still be writing when another one does the same.
    temporary = done.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{done.name}")
    with pq.ParquetWriter(
        temporary.with_suffix(".parquet"), OBSERVATIONS, compression="lz4", write_statistics=False
    ) as writer:
        plain = [key for key in keys if not (key or place.name).endswith(_STREAMED)]
        for start in range(0, len(plain), _BATCH_FILES):
            tables = [
                _count(reading, band, tally)
                for reading in _read_batch(place, plain[start : start + _BATCH_FILES], formats)
            ]
            rows = [table for table in tables if table is not None and table.num_rows]
            if rows:
                writer.write_table(pa.concat_tables(rows))
        for number, key in enumerate(keys[len(plain) :]):
            file = place / key if key else place
            tally.add(_read_streamed(file, key or place.name, formats, band, (writer, done, number)))
    temporary.with_suffix(".parquet").replace(done.with_suffix(".parquet"))
    temporary.write_text(tally.to_json())
    temporary.replace(done)


def _read_batch(place: Location, keys: Sequence[str], formats: Sequence[Format]) -> list[Reading]:
    done: list[Reading] = []
    files: list[tuple[str, bytes]] = []
    for key in keys:
        file = place / key if key else place
        try:
            files.append((key or place.name, file.read_bytes()))
        except OSError as error:
            problem = UnreadableFileError("a file that can be read", one_line(error))
            done.append(Reading((key,), (0,), None, None, problem))
        if sum(len(content) for _, content in files) > _BATCH_BYTES:
            done += read_files(files, formats)
            files = []
    return done + list(read_files(files, formats))


def _read_streamed(
    file: Location, key: str, formats: Sequence[Format], band: str | None, target: tuple[pq.ParquetWriter, Path, int]
) -> Tally:
    """Read a Parquet file in slices: a small one is written with the others, a large one to a file of its own.

    A file that turns out to be damaged leaves nothing, whatever was good in it.
    """
    writer, done, number = target
    tally = Tally()
    tables = _stream(file, key, formats, band, tally)
    try:
        first, second = next(tables), next(tables, None)
        if second is None:
            writer.write_table(first)
        else:
            _write_apart(done.with_name(f"{done.stem}-{number:04d}.parquet"), chain((first, second), tables))
    except UnreadableFileError as error:
        return Tally(rejected=[Rejected(key, line_of(error.expected, error.got))])
    return tally


def _stream(file: Location, key: str, formats: Sequence[Format], band: str | None, tally: Tally) -> Iterator[pa.Table]:
    """Yield the observations of a Parquet file that go on, in slices, and count them."""
    try:
        with opened_parquet(file) as parquet:
            for form, content in read_parquet(parquet, key, formats):
                tally.formats[form.name] = 1
                new = {name: spot for name, spot in content.positions.items() if name not in tally.positions}
                rows = content.observations.num_rows + sum(content.left_out.values())
                table = _count(Reading((), (rows,), form, replace(content, positions=new), None), band, tally)
                if table is not None:
                    yield table
    except PartitionError as error:
        raise UnreadableFileError(error.expected, error.got) from error
    except OSError as error:
        raise UnreadableFileError("a file that can be read", one_line(error)) from error
    if not tally.observations:
        tally.object_ids[stem_of(key)] = None


def _write_apart(target: Path, tables: Iterable[pa.Table]) -> None:
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{target.name}")
    try:
        with pq.ParquetWriter(temporary, OBSERVATIONS, compression="lz4", write_statistics=False) as writer:
            for table in tables:
                writer.write_table(table)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _count(reading: Reading, band: str | None, tally: Tally) -> pa.Table | None:
    """Add a reading to the tally, and return those of its observations that go on."""
    if reading.error is not None or reading.content is None or reading.form is None:
        error = reading.error or UnreadableFileError("a light curve", "nothing")
        tally.rejected += [Rejected(key, line_of(error.expected, error.got)) for key in reading.keys]
        return None
    content, form = reading.content, reading.form
    tally.formats[form.name] += len(reading.keys)
    tally.time_systems.add(form.time_system)
    tally.observations += sum(reading.rows)
    tally.left_out.update(content.left_out)
    tally.positions.update(content.positions)
    table = content.observations
    tally.object_ids.update(dict.fromkeys(pc.unique(table["object_id"]).to_pylist()))
    if table.num_rows == 0 and not sum(reading.rows):
        tally.object_ids.update(dict.fromkeys(stem_of(key) for key in reading.keys))
    tally.has_cameras |= table["camera"].null_count < table.num_rows
    counts = pc.value_counts(table["band"])
    bands = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
    tally.bands.update({name or "unknown": count for name, count in bands.items()})
    if None in bands:
        cameras = pc.value_counts(table.filter(pc.is_null(table["band"]))["camera"].drop_null()).to_pylist()
        tally.unknown_cameras.update({one["values"]: one["counts"] for one in cameras})
    if band not in (None, ALL_BANDS):
        tally.left_out.update({f"band {name or 'unknown'}": count for name, count in bands.items() if name != band})
        table = table.filter(pc.equal(table["band"], band))
    tally.kept += table.num_rows
    return table
