"""Delimited texts as Arrow tables: read by Arrow, of which only the columns that are wanted become values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pv

from varstar_batch.archives.content import UnreadableFileError

# Within so many lines the values begin, and none of them is longer.
_HEAD_LINES = 1000
_HEAD_BYTES = 2**16

# What is left out of texts with blanks, so that one of them stands between two fields.
_COMMENTS = re.compile(rb"(?m)^[ \t]*#[^\n]*\n?")
_BLANKS = re.compile(rb"[ \t\r]+")
_EDGES = re.compile(rb"(?m)^ | $")
_EMPTY_LINES = re.compile(rb"\n{2,}")


@dataclass(frozen=True)
class Head:
    """What stands above the values of a text."""

    names: tuple[str, ...]
    """Of the columns; empty where the text names none."""
    separator: str
    """{",", " "}."""
    start: int
    """Where the values begin."""
    width: int
    """Fields of the first line of values; 0 where there is no such line."""


def find_head(content: bytes) -> Head:
    """Find the names of the columns and where the values begin.

    Texts with commas have names in the first line that is no comment; texts with blanks have them, if at all, in the
    last line above the numbers, which may be a comment.

    Raises
    ------
    UnreadableFileError
        It is no text, or empty.
    """
    if b"\0" in content[:_HEAD_BYTES]:
        raise UnreadableFileError("a text or a table in a known format", "binary content")
    place = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    above: tuple[str, ...] = ()
    for _ in range(_HEAD_LINES):
        if place >= len(content):
            break
        end = content.find(b"\n", place, place + _HEAD_BYTES)
        if end < 0 and len(content) - place > _HEAD_BYTES:
            raise UnreadableFileError("lines of a table", f"a line of more than {_HEAD_BYTES} bytes")
        end = len(content) if end < 0 else end
        line = _decoded(content[place:end].strip())
        is_comment = line.startswith("#")
        if "," in line and not is_comment:
            names = tuple(name.strip().strip('"') for name in line.split(","))
            return Head(names, ",", end + 1, len(names))
        fields = tuple(line.lstrip("# ").split())
        if fields and not is_comment and _is_number(fields[0]):
            return Head(above, " ", place, len(fields))
        above = fields or above
        place = end + 1
    if not above:
        raise UnreadableFileError("a table", "an empty file" if not content.strip() else "no line of values")
    return Head(above, " ", len(content), 0)


def read_text(content: bytes, head: Head, names: tuple[str, ...], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Read the columns in `types` of a text whose columns are `names`.

    Raises
    ------
    UnreadableFileError
        A line of another number of fields, a value that is no number, bytes that are no UTF-8.
    """
    body = memoryview(content)[head.start :]
    if head.separator == " ":
        tidy = _BLANKS.sub(b" ", _COMMENTS.sub(b"", body))
        body = memoryview(_EMPTY_LINES.sub(b"\n", _EDGES.sub(b"", tidy)))
    if not bytes(body[:_HEAD_BYTES]).strip():
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})
    try:
        return pv.read_csv(
            pa.BufferReader(body),
            pv.ReadOptions(column_names=list(names), use_threads=False, block_size=len(body) + 1),
            pv.ParseOptions(delimiter=head.separator),
            pv.ConvertOptions(column_types=types, include_columns=list(types), strings_can_be_null=True),
        )
    except pa.ArrowException as error:
        raise UnreadableFileError("lines of a table, all alike", str(error)) from error


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise UnreadableFileError("a text in UTF-8", "other bytes above its values") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
