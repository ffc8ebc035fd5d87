"""What columns mean, told to others: VOParquet (a VOTable without data in a Parquet footer) and astropy's tables.

Source: VOParquet convention, IVOA Note "Parquet in the VO" (metadata keys ``IVOA.VOTable-Parquet.version`` and
``IVOA.VOTable-Parquet.content``); astropy reads it as ``Table.read(..., format="parquet.votable")``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from astropy.table import Table

VERSION_KEY = b"IVOA.VOTable-Parquet.version"
CONTENT_KEY = b"IVOA.VOTable-Parquet.content"

_DATATYPES = {
    pa.float64(): "double",
    pa.float32(): "float",
    pa.int64(): "long",
    pa.int32(): "int",
    pa.bool_(): "boolean",
    pa.string(): "char",
    pa.large_string(): "char",
}

_STRING_LENGTH = "32"
"""Declared of every text column; readers widen it where the data are longer, but astropy wants a number there."""


def voparquet_metadata(schema: pa.Schema, *, table: str, description: str) -> dict[bytes, bytes]:
    """Return the entries of Parquet metadata that describe `schema` to programs of the Virtual Observatory.

    Its fields may carry ``unit``, ``ucd`` and ``description`` in their metadata.
    """
    return {VERSION_KEY: b"1.0", CONTENT_KEY: votable_header(schema, table=table, description=description).encode()}


def string_lengths(lengths: Mapping[str, int]) -> dict[bytes, bytes]:
    """Return what tells astropy the longest text of a column: without it astropy measures, and stumbles over nulls."""
    return {f"table::len::{name}".encode(): str(length).encode() for name, length in lengths.items()}


def votable_header(schema: pa.Schema, *, table: str, description: str) -> str:
    """Return a VOTable document with a FIELD for each column of `schema` and no data.

    A column of unsigned 64-bit integers gets none: VOTable has no such type, and a reader that joins a signed column
    with it, as astropy does, turns identifiers into floating-point numbers.
    """
    fields = "\n".join(_field(field) for field in schema if field.type in _DATATYPES)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
        ' <RESOURCE type="results">\n'
        f"  <TABLE name={quoteattr(table)}>\n"
        f"   <DESCRIPTION>{escape(description)}</DESCRIPTION>\n"
        f"{fields}\n"
        "  </TABLE>\n </RESOURCE>\n</VOTABLE>\n"
    )


def astropy_table(table: pa.Table) -> Table:
    """Return an Arrow table as an astropy Table: nulls masked, units and UCDs from the metadata of the fields."""
    from astropy.table import MaskedColumn, Table

    columns = []
    for field in table.schema:
        values, said = table[field.name], _meaning(field)
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            data = values.fill_null(0).to_numpy()
        elif pa.types.is_boolean(field.type):
            data = values.fill_null(False).to_numpy()
        else:
            data = np.asarray(values.fill_null("").to_pylist(), dtype=str)
        columns.append(
            MaskedColumn(
                data,
                name=field.name,
                mask=values.is_null().to_numpy(),
                unit=said.get("unit") or None,
                description=said.get("description"),
                meta={"ucd": said["ucd"]} if said.get("ucd") else None,
            )
        )
    return Table(columns, copy=False)


def _meaning(field: pa.Field) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}


def _field(field: pa.Field) -> str:
    said = _meaning(field)
    attributes = {"name": field.name, "ID": field.name, "datatype": _DATATYPES[field.type]}
    if attributes["datatype"] == "char":
        attributes["arraysize"] = _STRING_LENGTH
    attributes |= {key: said[key] for key in ("unit", "ucd") if said.get(key)}
    text = " ".join(f"{key}={quoteattr(value)}" for key, value in attributes.items())
    return f"   <FIELD {text}><DESCRIPTION>{escape(said.get('description', ''))}</DESCRIPTION></FIELD>"
