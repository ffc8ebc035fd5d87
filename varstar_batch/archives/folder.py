"""A folder of an archive's files, read in parallel into one table of observations."""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.archives.content import OBSERVATIONS, Format, UnreadableFileError, stem_of
from varstar_batch.archives.formats import MAX_BYTES, Reading, read_files
from varstar_batch.archives.parquet import read_parquet
from varstar_batch.archives.tally import Rejected, Tally
from varstar_batch.errors import InputError, PartitionError, one_line
from varstar_batch.files.digests import HashingSink, digest_of, read_sealed, write_sealed
from varstar_batch.files.local_write import TEMPORARY_PREFIX
from varstar_batch.files.location import Location
from varstar_batch.files.parquet import opened_parquet
from varstar_batch.parallel import Crew
from varstar_batch.survey.bands import FUSE

TIME_SYSTEM = "time_system"
"""Column of the system of an observation's times, beside `OBSERVATIONS`, while an archive is being read."""

_STAGED = OBSERVATIONS.append(pa.field(TIME_SYSTEM, pa.dictionary(pa.int32(), pa.string())))

ALL_BANDS = (FUSE, "all")
"""Instead of a band: all of them, each observation with its own, which are to be chosen or fused later."""

# Files whose names end like this are read in slices, so that they may be of any size.
_STREAMED = ".parquet"

# Files that are read into one, so many in the usual case, and so many of those that may be large; and how many of the
# first, or bytes of them, are in memory at once.
_UNIT_FILES = 1024
_UNIT_STREAMED = 16
_BATCH_FILES = 64
_BATCH_BYTES = 2**23

# Of a HATS catalog, whose folder holds more than light curves.
_HATS = ("hats.properties", "properties")


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
    if place.is_local:
        root = Path(place.path).resolve()
        paths = (Path(folder) / name for folder, _, names in os.walk(root) for name in names)
        found = {path.relative_to(root).as_posix(): path for path in paths}
        problems = {key: _problem(path, root) for key, path in found.items() if not _is_hidden(key)}
    else:
        problems = {info.key: _too_large(info.key, info.size) for info in place.files() if not _is_hidden(info.key)}
    keys = [key for key, problem in problems.items() if problem is None]
    refused = [Rejected.make(key, problem) for key, problem in problems.items() if problem is not None]
    return sorted(keys), sorted(refused, key=lambda one: one.file)


def _is_hidden(key: str) -> bool:
    return any(part[0] in "._" for part in key.split("/"))


def _problem(path: Path, root: Path) -> UnreadableFileError | None:
    """Return why a file is not to be opened: opening a pipe would wait for ever, a link may lead anywhere."""
    try:
        target = path.resolve(strict=True)
        status = target.stat()
    except (OSError, RuntimeError) as error:
        return UnreadableFileError("a file", f"a link that leads nowhere ({one_line(error)})")
    if not target.is_relative_to(root):
        return UnreadableFileError("a file of the folder", "a link that leads out of it")
    if not stat.S_ISREG(status.st_mode):
        return UnreadableFileError("a file", "something else (a pipe, a device or a socket)")
    return _too_large(path.name, status.st_size)


def _too_large(key: str, size: int) -> UnreadableFileError | None:
    if size > MAX_BYTES and not key.endswith(_STREAMED):
        return UnreadableFileError(f"at most {MAX_BYTES} bytes, or a name in {_STREAMED}", str(size))
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
        Folder for the files that are written, with the columns of `OBSERVATIONS` and `TIME_SYSTEM`, and the tally of
        each. What an
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
    reader = _Reader(place, units, formats, band, target)
    for part in crew.in_order(reader, range(len(units)), target):
        tally.add(part)
        if progress is not None:
            progress(part.files)
    return tally


def _units(keys: Sequence[str]) -> Iterator[list[str]]:
    """Yield runs of files to read in one go: fewer of those that may be large."""
    for is_streamed, run in groupby(keys, lambda key: key.endswith(_STREAMED)):
        yield from _split(list(run), _UNIT_STREAMED if is_streamed else _UNIT_FILES)


def _split(keys: list[str], step: int) -> Iterator[list[str]]:
    return (keys[start : start + step] for start in range(0, len(keys), step))


@dataclass(frozen=True)
class _Reader:
    """Reads files of an archive, unit by unit; the fields are as `read_archive` has them."""

    place: Location
    units: Sequence[list[str]]
    formats: Sequence[Format]
    band: str | None
    target: Path

    def __call__(self, number: int) -> Tally:
        """Read a unit into Parquet files, unless it has been, and return its tally."""
        stem = f"part-{number:06d}"
        done = self.target / f"{stem}.json"
        if (whole := self._read_done(done)) is not None:
            return whole
        tally = Tally(files=len(self.units[number]))
        digests: dict[str, str] = {}
        with self._writer(f"{stem}.parquet", digests) as writer:
            plain = [key for key in self.units[number] if not self._name(key).endswith(_STREAMED)]
            for keys in _split(plain, _BATCH_FILES):
                tables = [self._count(reading, tally) for reading in self._read_batch(keys)]
                rows = [table for table in tables if table.num_rows]
                if rows:
                    writer.write_table(pa.concat_tables(rows))
            for place, key in enumerate(self.units[number][len(plain) :]):
                tally.add(self._read_streamed(key, writer, f"{stem}-{place:04d}.parquet", digests))
        # The tally comes last: with it the unit is complete. What a power cut takes of the files, their digests tell.
        write_sealed(done, json.dumps([digests, tally.to_json()]).encode())
        return tally

    def _read_done(self, done: Path) -> Tally | None:
        """Return the tally of a unit that is done, and whole."""
        content = read_sealed(done)
        if content is None:
            return None
        digests, tally = json.loads(content)
        whole = all(digest_of(self.target / name) == digest for name, digest in digests.items())
        return Tally.from_json(tally) if whole else None

    @contextmanager
    def _writer(self, name: str, digests: dict[str, str]) -> Iterator[pq.ParquetWriter]:
        """Open a file for observations; when it is complete its digest is in `digests`."""
        # Names of its own: a worker that is taken for dead may still be writing when another one does the same.
        temporary = self.target / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{name}"
        try:
            with (
                temporary.open("wb") as file,
                pq.ParquetWriter(
                    hashing := HashingSink(file.write), _STAGED, compression="lz4", write_statistics=False
                ) as writer,
            ):
                yield writer
            temporary.replace(self.target / name)
            digests[name] = hashing.hexdigest()
        finally:
            temporary.unlink(missing_ok=True)

    def _name(self, key: str) -> str:
        return key or self.place.name

    def _file(self, key: str) -> Location:
        return self.place / key if key else self.place

    def _read_batch(self, keys: Sequence[str]) -> Iterator[Reading | Rejected]:
        files: list[tuple[str, bytes]] = []
        for key in keys:
            try:
                files.append((self._name(key), self._file(key).read_bytes()))
            except OSError as error:
                yield Rejected.make(key, UnreadableFileError("a file that can be read", one_line(error)))
            if sum(len(content) for _, content in files) > _BATCH_BYTES:
                yield from read_files(files, self.formats)
                files = []
        yield from read_files(files, self.formats)

    def _read_streamed(self, key: str, writer: pq.ParquetWriter, name: str, digests: dict[str, str]) -> Tally:
        """Read a Parquet file in slices: a small one is written with the others, a large one to a file of its own.

        A file that turns out to be damaged leaves nothing, whatever was good in it.
        """
        tally = Tally()
        tables = self._stream(key, tally)
        try:
            first, second = next(tables), next(tables, None)
            if second is None:
                writer.write_table(first)
                return tally
            with self._writer(name, digests) as apart:
                for table in chain((first, second), tables):
                    apart.write_table(table)
        except UnreadableFileError as error:
            return Tally(rejected=[Rejected.make(self._name(key), error)])
        return tally

    def _stream(self, key: str, tally: Tally) -> Iterator[pa.Table]:
        """Yield the observations of a Parquet file that go on, in slices, and count them."""
        name = self._name(key)
        try:
            with opened_parquet(self._file(key)) as parquet:
                for form, content in read_parquet(parquet, name, self.formats):
                    new = {name: spot for name, spot in content.positions.items() if name not in tally.positions}
                    tally.formats[form.name] = 1
                    yield self._count(Reading((), form, replace(content, positions=new)), tally)
        except PartitionError as error:
            raise UnreadableFileError(error.expected, error.got) from error
        except OSError as error:
            raise UnreadableFileError("a file that can be read", one_line(error)) from error
        # Slices of one file.
        tally.repeated.clear()
        if not tally.object_ids:
            tally.object_ids[stem_of(name)] = None

    def _count(self, reading: Reading | Rejected, tally: Tally) -> pa.Table:
        """Add a reading to the tally, and return those of its observations that go on."""
        if isinstance(reading, Rejected):
            tally.rejected.append(reading)
            return _STAGED.empty_table()
        content, form, band = reading.content, reading.form, self.band
        tally.formats[form.name] += len(reading.keys)
        tally.time_systems.add(form.time_system)
        tally.observations += content.rows
        tally.left_out.update(content.left_out)
        tally.positions.update(content.positions)
        tally.add_values(content.of_objects)
        tally.notes.update(content.notes)
        tally.nameless += content.nameless
        table = content.observations
        found = [*content.empty_objects, *pc.unique(table["object_id"]).to_pylist()]
        found = found if content.rows or found else [stem_of(key) for key in reading.keys]
        tally.repeated |= {*content.repeated, *(tally.object_ids.keys() & set(found))}
        tally.object_ids.update(dict.fromkeys(found))
        tally.has_cameras |= table["camera"].null_count < table.num_rows
        bands = _count_values(table["band"])
        tally.bands.update({name or "unknown": count for name, count in bands.items()})
        if None in bands:
            tally.unknown_cameras.update(_count_values(table.filter(pc.is_null(table["band"]))["camera"].drop_null()))
        if band not in (None, *ALL_BANDS):
            tally.left_out.update({f"band {name or 'unknown'}": count for name, count in bands.items() if name != band})
            table = table.filter(pc.equal(table["band"], band))
        tally.kept += table.num_rows
        system = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), len(table)), [form.time_system])
        return table.append_column(_STAGED.field(TIME_SYSTEM), system)


def _count_values(values: pa.ChunkedArray) -> dict[Any, int]:
    return {one["values"]: one["counts"] for one in pc.value_counts(values).to_pylist()}
