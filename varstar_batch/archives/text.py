"""Delimited texts as Arrow tables: read by Arrow, of which only the columns that are wanted become values."""

from __future__ import annotations

import codecs
import re
from collections.abc import Container, Mapping, Sequence

import pyarrow as pa
import pyarrow.csv as pv

from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.archives.text_head import HEAD_BYTES, Head, find_table_head
from varstar_batch.survey.declared_units import unit_metadata

# What is left out of texts with blanks, so that one of them stands between two fields.
_COMMENTS = re.compile(rb"(?m)^[ \t]*(?:[#%!;\\]|//)[^\n]*\n?")
_BLANKS = re.compile(rb"[ \t\r]+")
_EDGES = re.compile(rb"(?m)^ | $")
_EMPTY_LINES = re.compile(rb"\n{2,}")

# Where one of these is, blanks may stand beside separators or at the ends of lines; what is in quotes stays.
_PADDED = (b", ", b" ,", b"\t", b" \n", b" \r", b"\n ")
_PADDING = {
    each: re.compile(rb'(?m)("[^"]*")|[ \t]+(?=S|\r?$)|(?<=S)[ \t]+|^[ \t]+'.replace(b"S", re.escape(each.encode())))
    for each in (",", ";", "|")
} | {"\t": re.compile(rb'("[^"]*")|(?m: +(?=\t|\r?$)|(?<=\t) +|^ +)')}

# What is mended in a text that cannot be read as it is: comments behind values, exponents of Fortran.
_COMMENTS_BEHIND = re.compile(rb"(?m)[ \t]+[#%!][^\n\"]*$")
_EXPONENTS = re.compile(rb"(?<![\w.])([+-]?\d*\.\d*)[dD]([+-]?\d{1,3})(?!\w)")

_NULLS = [
    *("", "nan", "NaN", "-nan", "-NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "Null", "None"),
    *("none", "-", "--", "---", "INDEF", "undefined", "masked"),
]

_MARKS_OF_ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def as_utf8(content: bytes) -> bytes:
    """Return a text in UTF-8 with lines that end as usual, where its first bytes say that it is in UTF-16.

    Raises
    ------
    UnreadableFileError
        It says so and is not.
    """
    encoding = _MARKS_OF_ENCODINGS.get(content[:2])
    if encoding is not None and not content.startswith(codecs.BOM_UTF32_LE):
        try:
            content = content.decode(encoding).encode()
        except UnicodeDecodeError as error:
            raise UnreadableFileError("a text in UTF-16, as its first bytes say", str(error)) from None
    if content.find(b"\n", 0, HEAD_BYTES) < 0 <= content.find(b"\r", 0, HEAD_BYTES):
        content = content.replace(b"\r", b"\n")
    return content


def read_text(content: bytes, head: Head, names: tuple[str, ...], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Read the columns in `types` of a text whose columns are `names`.

    Raises
    ------
    UnreadableFileError
        A line of another number of fields, a value that is no number, bytes that are no UTF-8.
    """
    body = _body(content, head)
    if not bytes(body[:HEAD_BYTES]).strip():
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})
    return _with_units(_read_csv(body, head, names, types, list(types)), head, names)


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
    # Where types are found out, a comment would make texts of numbers.
    body = _mended(bytes(_body(content, head)), head, len(head.names))
    return _with_units(_read_csv(memoryview(body), head, head.names, types, None), head, head.names)


def _with_units(table: pa.Table, head: Head, names: Sequence[str]) -> pa.Table:
    """Return a table that says the units of its columns, where the text does."""
    if not head.units:
        return table
    units = {name: unit for name, unit in zip(names, head.units, strict=False) if unit and name in table.column_names}
    return table.replace_schema_metadata(unit_metadata(units))


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
    body: memoryview, head: Head, names: Sequence[str], types: Mapping[str, pa.DataType], columns: Sequence[str] | None
) -> pa.Table:
    try:
        return _parse(body, head, names, types, columns)
    except pa.ArrowException as error:
        # Texts without anything of the kind, which are most of them, are not searched for it.
        mended = _mended(bytes(body), head, len(names))
        if mended != body:
            try:
                return _parse(memoryview(mended), head, names, types, columns)
            except pa.ArrowException:
                pass
        raise UnreadableFileError("lines of a table, all alike", str(error)) from error


def _parse(
    body: memoryview, head: Head, names: Sequence[str], types: Mapping[str, pa.DataType], columns: Sequence[str] | None
) -> pa.Table:
    table = pv.read_csv(
        pa.BufferReader(body),
        pv.ReadOptions(column_names=list(names), use_threads=False, block_size=min(len(body) + 1, 2**30)),
        pv.ParseOptions(delimiter=head.separator),
        pv.ConvertOptions(
            column_types=types,
            include_columns=columns,
            strings_can_be_null=True,
            null_values=_NULLS,
            decimal_point=head.decimal,
        ),
    )
    return table


def _mended(body: bytes, head: Head, width: int) -> bytes:
    """Return values without comments among them, or a separator behind each line."""
    mended = body
    if head.separator != ";":
        mended = _COMMENTS.sub(b"", mended)
    mended = _EXPONENTS.sub(rb"\1e\2", _COMMENTS_BEHIND.sub(b"", mended))
    separator = head.separator.encode()
    first = mended[: mended.find(b"\n")].rstrip()
    if separator.strip() and first.endswith(separator) and first.count(separator) == width:
        mended = re.sub(rb"(?m)" + re.escape(separator) + rb"\r?$", b"", mended)
    return mended
