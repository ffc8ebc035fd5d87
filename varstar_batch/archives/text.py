"""Delimited texts as Arrow tables: read by Arrow, of which only the columns that are wanted become values."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pv

from varstar_batch.archives.content import UnreadableFileError

# Within so many lines the values begin, and none of them is longer.
_HEAD_LINES = 1000
_HEAD_BYTES = 2**16

# Lines with so many are values without names.
_LONG_LINE = 30

_SEPARATORS = (",", "\t", ";", "|")

# What is left out of texts with blanks, so that one of them stands between two fields.
_COMMENTS = re.compile(rb"(?m)^[ \t]*#[^\n]*\n?")
_BLANKS = re.compile(rb"[ \t\r]+")
_EDGES = re.compile(rb"(?m)^ | $")
_EMPTY_LINES = re.compile(rb"\n{2,}")

# Where one of these is, blanks may stand beside separators or at the ends of lines; what is in quotes stays.
_PADDED = (b", ", b" ,", b"\t", b" \n", b" \r", b"\n ")
_PADDING = {
    each: re.compile(rb'(?m)("[^"]*")|[ \t]+(?=S|\r?$)|(?<=S)[ \t]+|^[ \t]+'.replace(b"S", re.escape(each.encode())))
    for each in (",", ";", "|")
} | {"\t": re.compile(rb'("[^"]*")|(?m: +(?=\t|\r?$)|(?<=\t) +|^ +)')}


@dataclass(frozen=True)
class Head:
    """What stands above the values of a text."""

    names: tuple[str, ...]
    """Of the columns; empty where the text names none."""
    separator: str
    """{",", " "}, and ";" in long lines without names; of a table of objects also a tab, ";" or "|"."""
    start: int
    """Where the values begin."""
    width: int
    """Fields of the first line of values; 0 where there is no such line."""


def find_head(content: bytes) -> Head:
    """Find the names of the columns and where the values begin.

    Texts with commas have names in the first line that is no comment, if that does not begin with a number; texts with
    blanks have them, if at all, in the last line above the numbers. Names may stand in a comment.

    Raises
    ------
    UnreadableFileError
        It is no text, or empty.
    """
    above = ""
    for place, end, line in _lines(content):
        is_comment = line.startswith("#")
        separator = "," if "," in line else " "
        fields = _fields(line, separator)
        if not is_comment and line.count(";") >= _LONG_LINE:
            return Head((), ";", place, len(_fields(line, ";")))
        if not is_comment and fields and _is_number(fields[0]):
            return Head(_names_above(above, separator, fields), separator, place, len(fields))
        if not is_comment and separator == ",":
            return Head(fields, separator, end, len(fields))
        above = line if fields else above
    names = _fields(above, " ")
    if not names:
        raise UnreadableFileError("a table", "an empty file" if not content.strip() else "no line of values")
    return Head(names, " ", len(content), 0)


def find_table_head(content: bytes) -> Head:
    """Find what `find_head` does in a table of objects, whose identifiers may be texts; also with tabs, ; and |.

    The names are in the first line that is no comment, or in the comment above it where that line has numbers.

    Raises
    ------
    UnreadableFileError
        As `find_head`.
    """
    above = ""
    for place, end, line in _lines(content):
        if line and not line.startswith("#"):
            separator = next((each for each in _SEPARATORS if each in line), " ")
            fields = _fields(line, separator)
            if any(_is_number(each) for each in fields):
                return Head(_names_above(above, separator, fields), separator, place, len(fields))
            return Head(fields, separator, end, len(fields))
        above = line or above
    raise UnreadableFileError("a table of objects", "an empty file" if not content.strip() else "no line of values")


def _lines(content: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield where the first lines of a text begin and end, and what they say."""
    if b"\0" in content[:_HEAD_BYTES]:
        raise UnreadableFileError("a text or a table in a known format", "binary content")
    place = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    for _ in range(_HEAD_LINES):
        if place >= len(content):
            return
        end = content.find(b"\n", place, place + _HEAD_BYTES)
        if end < 0 and len(content) - place > _HEAD_BYTES:
            raise UnreadableFileError("lines of a table", f"a line of more than {_HEAD_BYTES} bytes")
        end = len(content) if end < 0 else end
        yield place, end + 1, _decoded(content[place:end].strip())
        place = end + 1


def _fields(line: str, separator: str) -> tuple[str, ...]:
    line = line.lstrip("# ") if line.startswith("#") else line
    if separator == " ":
        return tuple(line.split())
    return tuple(field.strip().strip('"') for field in line.split(separator))


def _names_above(line: str, separator: str, fields: Sequence[str]) -> tuple[str, ...]:
    """Return the names in the line above the values; none where it has another number of fields, with commas."""
    names = _fields(line, separator)
    return names if separator == " " or len(names) == len(fields) else ()


def read_text(content: bytes, head: Head, names: tuple[str, ...], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Read the columns in `types` of a text whose columns are `names`.

    Raises
    ------
    UnreadableFileError
        A line of another number of fields, a value that is no number, bytes that are no UTF-8.
    """
    body = _body(content, head)
    if not bytes(body[:_HEAD_BYTES]).strip():
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})
    return _read_csv(body, head.separator, names, types, list(types))


def read_table_text(content: bytes, texts: Container[str]) -> pa.Table:
    """Read a table of objects of a text with names; the columns in `texts`, in any case, are texts.

    Raises
    ------
    UnreadableFileError
        As `find_table_head` and `read_text`, or no names.
    """
    head = find_table_head(content)
    if not head.names:
        raise UnreadableFileError("a table of objects with names in its first line", "numbers in it")
    types = {name: pa.large_string() for name in head.names if name.casefold() in texts}
    return _read_csv(_body(content, head), head.separator, head.names, types, None)


def _body(content: bytes, head: Head) -> memoryview:
    """Return the values of a text without what makes them hard to read: comments, and blanks beside separators."""
    body = memoryview(content)[head.start :]
    if head.separator == " ":
        tidy = _BLANKS.sub(b" ", _COMMENTS.sub(b"", body))
        return memoryview(_EMPTY_LINES.sub(b"\n", _EDGES.sub(b"", tidy)))
    # A single byte is looked for ten times faster than two, and most files have no blank at all.
    has_blanks = content.find(b" ", head.start) >= 0 or content.find(b"\t", head.start) >= 0
    if head.separator != "," or (has_blanks and any(each in content for each in _PADDED)):
        return memoryview(_PADDING[head.separator].sub(rb"\1", bytes(body)))
    return body


def _read_csv(
    body: memoryview,
    separator: str,
    names: Sequence[str],
    types: Mapping[str, pa.DataType],
    columns: Sequence[str] | None,
) -> pa.Table:
    try:
        return pv.read_csv(
            pa.BufferReader(body),
            pv.ReadOptions(column_names=list(names), use_threads=False, block_size=min(len(body) + 1, 2**30)),
            pv.ParseOptions(delimiter=separator),
            pv.ConvertOptions(column_types=types, include_columns=columns, strings_can_be_null=True),
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
