"""A folder of an archive's files, read in parallel into one table of observations."""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.errors import InputError, one_line
from varstar_batch.storage.archives.content import OBSERVATIONS, Format, UnreadableFileError, stem_of
from varstar_batch.storage.archives.formats import MAX_BYTES, Reading, read_files
from varstar_batch.storage.files import Location

ALL_BANDS = "all"
"""Instead of a band: all of them in one light curve."""

_BATCH_FILES = 64
_BATCH_BYTES = 2**23
_WINDOW = 4
_SHOWN = 300


@dataclass(frozen=True)
class Rejected:
    """A file that was set aside, and why, in one line."""

    file: str
    error: str


@dataclass
class Tally:
    """Everything that was met: files = read + rejected, observations = kept + left out.

    Attributes
    ----------
    files, observations : int
        Met; observations only of the files that were read.
    rejected : list of Rejected
    kept : int
        Observations that go on.
    left_out : Counter
        Observations that do not, by the reason.
    bands : Counter
        Observations that are good by the archive's flags, by band ("unknown" where nothing says one).
    unknown_cameras : Counter
        Observations whose band nobody knows, by camera.
    formats : Counter
        Files by format.
    time_systems : set of str
    object_ids : set of str
        All that were met, also of files without observations.
    positions : dict
        Right ascension and declination [deg] by object_id.
    has_cameras : bool
        Whether any observation names its camera.
    """

    files: int = 0
    observations: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    bands: Counter[str] = field(default_factory=Counter)
    unknown_cameras: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    time_systems: set[str] = field(default_factory=set)
    object_ids: dict[str, None] = field(default_factory=dict)
    positions: dict[str, tuple[float, float]] = field(default_factory=dict)
    has_cameras: bool = False


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
    if not place.is_local:
        return [info.key for info in place.files() if not _is_hidden(info.key)], []
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
        return _line("a file", f"a link that leads nowhere ({one_line(error)})")
    if not target.is_relative_to(root):
        return _line("a file of the folder", "a link that leads out of it")
    if not stat.S_ISREG(status.st_mode):
        return _line("a file", "something else (a pipe, a device or a socket)")
    if status.st_size > MAX_BYTES:
        return _line(f"at most {MAX_BYTES} bytes", str(status.st_size))
    return None


def read_archive(
    place: Location,
    formats: Sequence[Format],
    band: str | None,
    target: Path,
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Read all files of a folder and write their observations to one Parquet file.

    Parameters
    ----------
    place : Location
        Folder, or a single file.
    formats : sequence of Format
        Those the files may have.
    band : str or None
        Observations of other bands are left out, and counted; `ALL_BANDS` or None keep all.
    target : Path
        Of the file that is written, with the columns of `OBSERVATIONS`.
    workers : int
        Threads, at least 1. A few batches of files for each are in memory at once.
    progress : callable, optional
        Takes the number of files that were read since its last call.

    Raises
    ------
    InputError
        Nothing there.
    """
    keys, refused = list_archive(place)
    tally = Tally(files=len(keys) + len(refused), rejected=refused)
    with pq.ParquetWriter(target, OBSERVATIONS, compression="lz4", write_statistics=False) as writer:
        for readings in _in_parallel(place, keys, formats, workers):
            for reading in readings:
                table = _count(reading, band, tally)
                if table is not None and table.num_rows:
                    writer.write_table(table)
            if progress is not None:
                progress(sum(len(reading.keys) for reading in readings))
    return tally


def _in_parallel(
    place: Location, keys: Sequence[str], formats: Sequence[Format], workers: int
) -> Iterator[list[Reading]]:
    waiting: deque[Future[list[Reading]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(keys), _BATCH_FILES):
            waiting.append(pool.submit(_read_batch, place, keys[start : start + _BATCH_FILES], formats))
            if len(waiting) >= _WINDOW * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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


def _count(reading: Reading, band: str | None, tally: Tally) -> pa.Table | None:
    """Add a reading to the tally, and return those of its observations that go on."""
    if reading.error is not None or reading.content is None or reading.form is None:
        error = reading.error or UnreadableFileError("a light curve", "nothing")
        tally.rejected += [Rejected(key, _line(error.expected, error.got)) for key in reading.keys]
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


def _line(expected: str, got: str) -> str:
    shown = got if len(got) <= _SHOWN else f"{got[:_SHOWN]}..."
    return one_line(f"expected {expected}, got {shown}")
