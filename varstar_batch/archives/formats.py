"""All formats by name, and which one a file has."""

from __future__ import annotations

import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.any_table import NAME as TABLE
from varstar_batch.archives.content import FileContent, Format, UnreadableFileError, stem_of
from varstar_batch.archives.fits_votable import kind_of, read_with_astropy
from varstar_batch.archives.parquet import read_parquet
from varstar_batch.archives.recognise import (
    content_of,
    find_format,
    of_table,
    units_in_names,
    unknown_format,
    wanted_columns,
)
from varstar_batch.archives.surveys import asas3, asassn, atlas, gaia, kepler, microlensing, ogle, ztf
from varstar_batch.archives.tally import Rejected
from varstar_batch.archives.text import as_utf8, read_text
from varstar_batch.archives.text_head import Head, find_head
from varstar_batch.files.parquet_guard import GuardedParquetFile, OversizedError

FORMATS: Mapping[str, Format] = {
    form.name: form
    for module in (asassn, ztf, gaia, asas3, atlas, kepler, ogle, microlensing)
    for form in module.FORMATS
}
"""Formats of archives by the name that the command line has for them."""

MAX_BYTES = 2**29
"""Largest file but of Parquet, once decompressed, that is read: what is larger is no light curve, perhaps a bomb."""

_GZIP = b"\x1f\x8b"
_SAME_SEPARATORS = {";": (",",), "|": (",",), "\t": (",", " ")}
_PARQUET = b"PAR1"
_BAND_FOLDER = re.compile(
    r"(?:(?i:phot|band|filter|sdss|johnson|cousins|bessell?|gaia|ps1|panstarrs|ztf|2mass|wise|atlas|lsst)[-_ =]?)?"
    r"([UBVRIGJHKugrizyvco]|BP|RP|Ks|W[1-4]|z[gri])(?:[-_ ]?(?i:band|filter))?"
)


@dataclass(frozen=True)
class Reading:
    """What one or several files hold."""

    keys: tuple[str, ...]
    form: Format
    content: FileContent


def read_file(content: bytes, key: str, formats: Sequence[Format]) -> tuple[Format, FileContent]:
    """Read a file of an archive.

    Parameters
    ----------
    content : bytes
        Of the file; gzip is undone.
    key : str
        Its name, which names the object where nothing in it does.
    formats : sequence of Format
        Those it may have; the first that fits is taken.

    Raises
    ------
    UnreadableFileError
        It has none of the formats, or is damaged.
    """
    if content.startswith(_GZIP):
        content = _gunzip(content)
    if len(content) > MAX_BYTES:
        raise UnreadableFileError(f"a file of at most {MAX_BYTES} bytes", f"{len(content)}")
    kind = kind_of(content, key)
    name = stem_of(key)
    try:
        if content.startswith(_PARQUET):
            return _of_parquet(content, key, formats)
        if kind is not None:
            return of_table(read_with_astropy(content, kind), formats, name)
        _, form, table = _of_text(as_utf8(content), formats)
        return form, content_of(form, table, name)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UnreadableFileError("numbers and texts where they belong", str(error)) from error


def read_files(files: Sequence[tuple[str, bytes]], formats: Sequence[Format]) -> Iterator[Reading | Rejected]:
    """Read files of an archive, those that look alike in one go, which is three times faster for small ones.

    Every file is in exactly one of the results.
    """
    for group in _alike(files, formats):
        together = _read_together(group, formats) if len(group) > 1 else None
        if together is not None:
            yield _in_band(together)
            continue
        for key, content in group:
            try:
                yield _in_band(Reading((key,), *read_file(content, key, formats)))
            except UnreadableFileError as error:
                yield Rejected.make(key, error)


def _in_band(reading: Reading) -> Reading:
    """Return a reading of files of one folder in the band that the folder says, where nothing in them does."""
    table = reading.content.observations
    band = _band_folder(reading.keys[0], are_bands=reading.form.band_folders)
    if band is None or table["band"].null_count < table.num_rows:
        return reading
    place = table.schema.get_field_index("band")
    table = table.set_column(
        place, table.schema.field(place), pa.repeat(pa.scalar(band, pa.large_string()), len(table))
    )
    return replace(reading, content=replace(reading.content, observations=table))


def _band_folder(key: str, *, are_bands: bool) -> str | None:
    """Return the band that the innermost folder of a file is called as, such as V, band_g or I-filter."""
    found = (_BAND_FOLDER.fullmatch(name) for name in reversed(key.split("/")[:-1])) if are_bands else ()
    return next((each[1] for each in found if each is not None), None)


def _alike(files: Sequence[tuple[str, bytes]], formats: Sequence[Format]) -> Iterator[list[tuple[str, bytes]]]:
    """Yield runs of files of a band with the same names in their first line, and each other file by itself."""
    ask = any(form.band_folders for form in formats)
    for (line, _), group in groupby(files, lambda file: (_first_line(file[1]), _band_folder(file[0], are_bands=ask))):
        if line:
            yield list(group)
        else:
            yield from ([file] for file in group)


def _first_line(content: bytes) -> bytes:
    """Return the line with the names of the columns; nothing where it takes a closer look to find it."""
    line = content[: content.find(b"\n") + 1]
    # Quotes may hide the end of a line, comments stand above the names.
    return line if b"," in line and not line.startswith((b"#", _GZIP)) and b'"' not in content else b""


def _read_together(group: Sequence[tuple[str, bytes]], formats: Sequence[Format]) -> Reading | None:
    """Return what files with the same first line hold; None where one of them needs a closer look."""
    start = group[0][1].find(b"\n") + 1
    bodies = [content[start:] if content.endswith(b"\n") else content[start:] + b"\n" for _, content in group]
    lines = [body.count(b"\n") for body in bodies]
    try:
        head, form, table = _of_text(group[0][1][:start] + b"".join(bodies), formats)
        if head.start != start or table.num_rows != sum(lines):
            return None
        names = pa.array([stem_of(key) for key, _ in group], pa.large_string())
        files = pa.array(np.repeat(np.arange(len(group)), lines))
        content = content_of(form, table, names.take(files))
        if form.object_id in table.column_names:
            repeated = _in_several(table[form.object_id], files)
        else:
            repeated = tuple(name for name, count in Counter(names.to_pylist()).items() if count > 1)
            # A file without any observation is an object all the same.
            empty = tuple(name for name, rows in zip(names.to_pylist(), lines, strict=True) if not rows)
            content = replace(content, empty_objects=(*content.empty_objects, *empty))
        content = replace(content, repeated=repeated)
    except (UnreadableFileError, pa.ArrowException):
        return None
    return Reading(tuple(key for key, _ in group), form, content)


def _in_several(ids: pa.ChunkedArray | pa.Array, files: pa.Array) -> tuple[str, ...]:
    """Return the identifiers of observations that are in several files."""
    pairs = pa.table({"id": ids, "file": files}).group_by(["id", "file"], use_threads=False).aggregate([])
    counts = pc.value_counts(pairs["id"])
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    return tuple(several.cast(pa.large_string()).drop_null().to_pylist())


def _of_text(content: bytes, formats: Sequence[Format]) -> tuple[Head, Format, pa.Table]:
    head = find_head(content)
    form, names = _find_text_format(head, formats)
    named = units_in_names(head.names, names) if len(head.names) == len(names) else {}
    if named and not head.units:
        head = replace(head, units=tuple(named.get(name, "") for name in names))
    return head, form, read_text(content, head, names, wanted_columns(form, names))


def _find_text_format(head: Head, formats: Sequence[Format]) -> tuple[Format, tuple[str, ...]]:
    # What is asked for is commas or blanks; semicolons and bars are commas, tabs are either.
    kinds = {None, head.separator, *_SAME_SEPARATORS.get(head.separator, ())}
    alike = [form for form in formats if form.separator in kinds]
    if len(formats) == 1 or not set(head.names) & _known_names():
        for form in alike:
            if form.headerless and head.width == len(form.headerless):
                return form, form.headerless
    named = [form for form in alike if not form.headerless or form.name == TABLE]
    if not head.names or head.width not in (0, len(head.names)):
        hint = " (say --columns time,mag,err)" if [form.name for form in formats] == [TABLE] else ""
        raise unknown_format((f"{head.width} columns without names{hint}",), formats)
    if not named:
        raise unknown_format(head.names, formats)
    form, names = find_format(head.names, named)
    if len(set(names)) < len(names):
        raise UnreadableFileError("columns of different names", ", ".join(names))
    return form, names


def _known_names() -> set[str]:
    return {name for form in FORMATS.values() if not form.headerless for name in form.columns}


def _of_parquet(content: bytes, key: str, formats: Sequence[Format]) -> tuple[Format, FileContent]:
    try:
        with GuardedParquetFile(io.BytesIO(content), page_checksum_verification=True) as parquet:
            if sum(parquet.decoded_sizes()) > MAX_BYTES:
                raise UnreadableFileError(f"at most {MAX_BYTES} bytes once decoded, or a name in .parquet", "more")
            forms, contents = zip(*read_parquet(parquet, key, formats), strict=True)
    except OversizedError as error:
        raise UnreadableFileError(error.expected, error.got) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError("a whole Parquet file", str(error)) from error
    left_out = sum((Counter(one.left_out) for one in contents), Counter[str]())
    notes = sum((Counter(one.notes) for one in contents), Counter[str]())
    positions = dict(chain.from_iterable(one.positions.items() for one in reversed(contents)))
    empty = tuple(chain.from_iterable(one.empty_objects for one in contents))
    observations = pa.concat_tables([one.observations for one in contents])
    of_objects: dict[str, dict[str, Any]] = {}
    for one in contents:
        for role, said in one.of_objects.items():
            of_objects[role] = {**said, **of_objects.get(role, {})}
    return forms[0], FileContent(observations, left_out, positions, of_objects, empty, notes=notes)


def _gunzip(content: bytes) -> bytes:
    pieces, size = [], 0
    while content:
        stream = zlib.decompressobj(31)
        try:
            piece = stream.decompress(content, MAX_BYTES + 1 - size)
        except zlib.error as error:
            raise UnreadableFileError("a whole gzip file", str(error)) from error
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BYTES:
            raise UnreadableFileError(f"at most {MAX_BYTES} bytes once decompressed", "more: a bomb?")
        if not stream.eof:
            raise UnreadableFileError("a whole gzip file", "one that was cut short")
        content = stream.unused_data.lstrip(b"\0")
    return b"".join(pieces)
