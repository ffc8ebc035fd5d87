"""Tables as files that every tool of astronomy reads: VOTable, FITS, ECSV, with units and UCDs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from varstar_batch.catalog.columns.voparquet import astropy_table
from varstar_batch.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

VoFormat = Literal["vot", "fits", "ecsv"]


def with_meanings(schema: pa.Schema, known: pa.Schema) -> pa.Schema:
    """Return a schema whose columns have unit, UCD and description of those of `known` with their name and type."""
    fields = [
        known.field(field.name) if field.name in known.names and known.field(field.name).type == field.type else field
        for field in schema
    ]
    return pa.schema(fields, metadata=schema.metadata)


def vo_content(table: pa.Table, form: VoFormat) -> bytes:
    """Return the content of a file.

    Parameters
    ----------
    table : pa.Table
        Unit, UCD and description of its columns are in the metadata of its fields; of columns of one name all but the
        first are numbered.
    form : {"vot", "fits", "ecsv"}
        Nulls are nulls in each: of texts the empty one.

    Raises
    ------
    InputError
        A column has lists or structs, or values or a name that the format has no way to write.
    """
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    if nested:
        raise InputError(
            expected="columns of single values",
            got=f"lists or structs in {', '.join(nested)}",
            where=f"--format {form}",
            fix="take json or parquet, or unnest() them",
        )
    plain = astropy_table(_writable(table))
    return {"vot": _votable, "ecsv": _ecsv, "fits": _fits}[form](plain)


def _votable(table: Table) -> bytes:
    from astropy.io.votable import from_table
    from astropy.io.votable.converters import Boolean

    document = from_table(table)
    for field in document.get_first_table().fields:
        if field.datatype == "bit":
            # So astropy writes truth values, and STILTS stumbles over it.
            field.datatype, field.arraysize = "boolean", None
            field.converter = Boolean(field)
    sink = io.BytesIO()
    document.to_xml(sink, tabledata_format="binary2")
    return sink.getvalue()


def _ecsv(table: Table) -> bytes:
    sink = io.StringIO()
    table.write(sink, format="ascii.ecsv")
    return sink.getvalue().encode()


def _fits(table: Table) -> bytes:
    from astropy.io.fits import HDUList, PrimaryHDU, table_to_hdu

    if unwritable := [name for name in table.colnames if not (name.isascii() and name.isprintable())]:
        raise InputError(
            expected="names of columns in ASCII, all that FITS has",
            got=", ".join(map(repr, unwritable)),
            where="--format fits",
            fix="name them with AS, or take vot or ecsv",
        )
    said = [(column.meta.get("ucd"), column.description) for column in table.columns.values()]
    for column in list(table.columns.values()):
        # Else astropy writes both as YAML in comments, which nothing but astropy reads.
        column.description, column.meta = None, {}
        if column.dtype.kind == "U":
            # FITS has ASCII only; what else a text has is written out, as \\xe9 is.
            column = column.filled("")  # noqa: PLW2901
            table[column.name] = np.char.encode(np.asarray(column), "ascii", "backslashreplace")
    hdu = table_to_hdu(table)
    for number, (ucd, description) in enumerate(said, start=1):
        # As TOPCAT and STILTS have them.
        for key, text in ((f"TUCD{number}", ucd), (f"TCOMM{number}", description)):
            if text:
                hdu.header[key] = text
    sink = io.BytesIO()
    HDUList([PrimaryHDU(), hdu]).writeto(sink)
    return sink.getvalue()


def _writable(table: pa.Table) -> pa.Table:
    """Return a table of types that all three formats have, with a name for each column."""
    columns, fields, names = [], [], set()
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = field.type
        if pa.types.is_uint64(kind):
            kind = pa.int64() if _fits_int64(column) else pa.string()
        elif pa.types.is_boolean(kind) and column.null_count:
            kind = pa.string()  # no format but VOTable has a truth value that is not known
        elif pa.types.is_float16(kind) or pa.types.is_decimal(kind):
            kind = pa.float64()
        elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            kind = pa.string()
        name, number = field.name, 1
        while name in names:
            number += 1
            name = f"{field.name}_{number}"
        names.add(name)
        try:
            columns.append(column.cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise InputError(
                expected="numbers, texts, times or truth values",
                got=f"{field.type} in {field.name}",
                where="the table's columns",
                fix=f"make a text or a number of it, such as {field.name}::VARCHAR",
            ) from None
        fields.append(pa.field(name, kind, metadata=field.metadata))
    return pa.table(columns, schema=pa.schema(fields))


def _fits_int64(column: pa.ChunkedArray) -> bool:
    try:
        column.cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    return True
