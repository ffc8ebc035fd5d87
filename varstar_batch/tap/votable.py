"""Answers as VOTable (BINARY2 or TABLEDATA), CSV and Parquet, written batch by batch as they come.

Source: VOTable 1.4 (IVOA REC-VOTable); DALI 1.1, section 4.4 (INFO of status and overflow). astropy writes whole tables
only; here an answer may be larger than memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from varstar_batch.catalog.columns.voparquet import voparquet_metadata
from varstar_batch.errors import InputError, VarstarError, one_line

VOTABLE = "application/x-votable+xml"

FORMATS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "binary2": (f"{VOTABLE};serialization=BINARY2", ("votable", VOTABLE, "text/xml", "votable/b2")),
    "tabledata": (f"{VOTABLE};serialization=TABLEDATA", ("votable/td",)),
    "csv": ("text/csv;header=present", ("csv", "text/csv")),
    "parquet": ("application/vnd.apache.parquet", ("parquet", "application/parquet")),
}
"""What an answer can be: its type, and what else it is called."""

TEXT = "unicodeChar"
"""Type of texts in VOTables: a char beyond ASCII stops astropy."""

_PIECE = 2**16

_TYPES: dict[pa.DataType, tuple[str, str]] = {
    pa.float64(): ("double", ">f8"),
    pa.float32(): ("float", ">f4"),
    pa.int64(): ("long", ">i8"),
    pa.int32(): ("int", ">i4"),
    pa.int16(): ("short", ">i2"),
    pa.uint8(): ("unsignedByte", "u1"),
    pa.bool_(): ("boolean", "S1"),
}
"""Types of VOTable, and how BINARY2 writes them; everything else is text."""


def format_of(asked: str) -> str:
    """Return the name of a format that somebody asks for. Raises InputError."""
    wanted = asked.strip().lower().replace(" ", "")
    for name, (kind, aliases) in FORMATS.items():
        if wanted in {name, kind.lower(), *aliases}:
            return name
    known = ", ".join(aliases[0] for _, aliases in FORMATS.values())
    raise InputError(expected=known, got=one_line(asked)[:60], where="RESPONSEFORMAT", fix="leave it out for VOTable")


def plain_schema(schema: pa.Schema, meanings: Mapping[str, Mapping[bytes, bytes]]) -> pa.Schema:
    """Return the types in which an answer leaves: those that every format has, with units and UCDs by column."""
    fields = [pa.field(field.name, _plain(field.type), metadata=meanings.get(field.name.lower())) for field in schema]
    return pa.schema(fields)


def datatype_of(kind: pa.DataType) -> str:
    """Return VOTable's name of a type."""
    return _TYPES[kind][0] if kind in _TYPES else TEXT


def _plain(kind: pa.DataType) -> pa.DataType:
    if kind in _TYPES:
        return kind
    if pa.types.is_decimal(kind):
        return pa.float64()
    # VOTable has no unsigned integers of these sizes; a larger signed one holds all but the largest.
    for narrow, wide in ((pa.int8(), pa.int16()), (pa.uint16(), pa.int32()), (pa.uint32(), pa.int64())):
        if kind == narrow:
            return wide
    return pa.string()


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch in the types of `plain_schema`. Raises InputError where a column is of lists."""
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        try:
            columns.append(column if column.type == field.type else pc.cast(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise InputError(
                expected="columns of single values", got=str(column.type), where=field.name, fix="leave it out"
            ) from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@dataclass
class Answered:
    """Batches that are cut after the most rows that anybody may have."""

    batches: Iterable[pa.RecordBatch]
    schema: pa.Schema
    maxrec: int
    overflown: bool = False
    """Whether there was more; known when all batches are taken."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        left = self.maxrec
        for batch in self.batches:
            if batch.num_rows > left:
                self.overflown = True
            if left and batch.num_rows:
                yield plain_batch(batch.slice(0, left), self.schema)
            left -= min(left, batch.num_rows)
            if self.overflown:
                return


def write(form: str, answered: Answered, described: str) -> Iterator[bytes]:
    """Yield an answer in a format of `FORMATS`; `described` is the query. Raises InputError midway, but in VOTables."""
    if form == "csv":
        yield from _through(answered, pa_csv.CSVWriter, answered.schema)
    elif form == "parquet":
        metadata = voparquet_metadata(answered.schema, table="answer", description=one_line(described)[:200])
        yield from _through(answered, pq.ParquetWriter, answered.schema.with_metadata(metadata))
    else:
        yield from _votable(answered, described, binary=form == "binary2")


def _through(answered: Answered, make: type, schema: pa.Schema) -> Iterator[bytes]:
    sink = io.BytesIO()
    writer = make(sink, schema)
    for batch in answered:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        if sink.tell() >= _PIECE and make is pa_csv.CSVWriter:
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    # A Parquet file is whole in memory, which the bound of rows bounds: its footer has every position.
    writer.close()
    yield sink.getvalue()


def error_document(message: str) -> bytes:
    """Return what DALI has instead of an answer."""
    return (_head() + f'<INFO name="QUERY_STATUS" value="ERROR">{_text(message)}</INFO>\n' + _END).encode()


def _votable(answered: Answered, described: str, *, binary: bool) -> Iterator[bytes]:
    head = _head() + '<INFO name="QUERY_STATUS" value="OK"/>\n'
    head += f'<INFO name="QUERY" value={quoteattr(_printable(described))}/>\n<TABLE name="answer">\n'
    head += "\n".join(map(_field, answered.schema))
    yield (head + ("\n<DATA><BINARY2><STREAM encoding='base64'>\n" if binary else "\n<DATA><TABLEDATA>\n")).encode()
    failed = ""
    encode = _Base64() if binary else None
    try:
        for batch in answered:
            yield encode.take(binary2_rows(batch)) if encode else tabledata_rows(batch)
    except VarstarError as error:
        failed = str(error)
    if encode:
        yield encode.rest()
    yield b"</STREAM></BINARY2></DATA>\n</TABLE>\n" if binary else b"</TABLEDATA></DATA>\n</TABLE>\n"
    if failed:
        yield f'<INFO name="QUERY_STATUS" value="ERROR">{_text(failed)}</INFO>\n'.encode()
    elif answered.overflown:
        yield b'<INFO name="QUERY_STATUS" value="OVERFLOW"/>\n'
    yield _END.encode()


_END = "</RESOURCE>\n</VOTABLE>\n"


def _head() -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
        '<RESOURCE type="results">\n'
    )


def _field(field: pa.Field) -> str:
    said = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    attributes = {"name": field.name, "datatype": datatype_of(field.type)}
    if attributes["datatype"] == TEXT:
        attributes["arraysize"] = "*"
    attributes |= {key: said[key] for key in ("unit", "ucd") if said.get(key)}
    text = " ".join(f"{key}={quoteattr(_printable(value))}" for key, value in attributes.items())
    return f"<FIELD {text}><DESCRIPTION>{_text(said.get('description', ''))}</DESCRIPTION></FIELD>"


def _printable(text: str) -> str:
    """Return a text without the characters that XML forbids."""
    return "".join(
        each if each in "\t\n\r" or (ord(each) >= 32 and not 0xD800 <= ord(each) <= 0xDFFF) else "?" for each in text
    )


def _text(text: str) -> str:
    return escape(_printable(text))


class _Base64:
    """Base64 over the pieces of a stream."""

    def __init__(self) -> None:
        self._left = b""

    def take(self, content: bytes) -> bytes:
        """Return what is known of the text after one more piece."""
        from base64 import b64encode

        content = self._left + content
        whole = len(content) - len(content) % 3
        self._left = content[whole:]
        return b64encode(content[:whole]) + b"\n"

    def rest(self) -> bytes:
        """Return the end of the text."""
        from base64 import b64encode

        return b64encode(self._left)


def tabledata_rows(batch: pa.RecordBatch) -> bytes:
    """Return the rows of a batch as elements."""
    if not batch.num_rows:
        return b""
    cells: list[pa.Array] = []
    for column in batch.columns:
        text = pc.cast(column, pa.string())
        if pa.types.is_string(column.type):
            for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
                text = pc.replace_substring(text, sign, entity)
            text = pc.replace_substring_regex(text, r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?")
        elif pa.types.is_floating(column.type):
            text = pc.if_else(pc.is_inf(column), pc.replace_substring(text, "inf", "Inf"), text)
            text = pc.if_else(pc.is_nan(column), "NaN", text)
        cells.append(pc.fill_null(text, ""))
    rows = pc.binary_join_element_wise("<TR><TD>", cells[0], "")
    for cell in cells[1:]:
        rows = pc.binary_join_element_wise(rows, cell, "</TD><TD>")
    whole = pc.binary_join_element_wise(rows, "</TD></TR>\n", "")
    content = whole.cast(pa.large_string()).buffers()[2]
    return bytes(content.to_pybytes())


def binary2_rows(batch: pa.RecordBatch) -> bytes:
    """Return the rows of a batch as BINARY2 has them: a mask of nulls, then every value with the highest byte first."""
    rows = batch.num_rows
    if not rows:
        return b""
    nulls = np.zeros((rows, -(-batch.num_columns // 8) * 8), bool)
    for number, column in enumerate(batch.columns):
        nulls[:, number] = pc.is_null(column).to_numpy(zero_copy_only=False)
    cells: list[_Cells] = [_fixed(np.packbits(nulls, axis=1))]
    for column in batch.columns:
        cells += _encoded(column)
    begins = np.zeros((len(cells) + 1, rows), np.int64)
    np.cumsum([cell.lengths for cell in cells], axis=0, out=begins[1:])
    starts = np.concatenate([[0], np.cumsum(begins[-1])])
    out = np.empty(starts[-1], np.uint8)
    for cell, begin in zip(cells, begins, strict=False):
        # Where the bytes of this column go: those of a row behind one another, from its place in the row.
        ends = np.cumsum(cell.lengths)
        within = np.arange(len(cell.content)) - np.repeat(ends - cell.lengths, cell.lengths)
        out[np.repeat(starts[:-1] + begin, cell.lengths) + within] = cell.content
    return out.tobytes()


@dataclass(frozen=True, eq=False)
class _Cells:
    content: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]


def _fixed(values: npt.NDArray[np.uint8]) -> _Cells:
    return _Cells(values.reshape(-1), np.full(len(values), values.shape[1], np.int64))


def _encoded(column: pa.Array) -> list[_Cells]:
    if column.type not in _TYPES:
        text = pc.fill_null(column, "").cast(pa.large_string())
        offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
        content = text.buffers()[2]
        data = np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]] if content else np.empty(0, np.uint8)
        # Units of UTF-16: one for a character, and one more for those that take four bytes of UTF-8.
        long = np.concatenate([[0], np.cumsum(data >= 0xF0)])[offsets - offsets[0]]
        units = pc.utf8_length(text).to_numpy(zero_copy_only=False).astype(np.int64) + np.diff(long)
        wide = np.frombuffer(data.tobytes().decode().encode("utf-16-be"), np.uint8)
        return [_fixed(units.astype(">u4").view(np.uint8).reshape(-1, 4)), _Cells(wide, 2 * units)]
    if pa.types.is_boolean(column.type):
        values = np.where(pc.fill_null(column, False).to_numpy(zero_copy_only=False), b"T", b"F")
    else:
        filled = pc.fill_null(column, float("nan") if pa.types.is_floating(column.type) else 0)
        values = filled.to_numpy(zero_copy_only=False).astype(_TYPES[column.type][1])
    return [_fixed(values.view(np.uint8).reshape(len(column), -1))]
