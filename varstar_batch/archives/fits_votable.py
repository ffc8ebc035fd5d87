"""Tables in FITS, VOTable and ECSV as Arrow tables, read through astropy."""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Mapping
from typing import Any
from xml.parsers.expat import ExpatError

import numpy as np
import pyarrow as pa

from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.survey.declared_units import YAML_KEY, unit_metadata

# What astropy raises on damaged files: it does not check them, so that anything may break.
_DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, EOFError, MemoryError),
    *(RuntimeError, AssertionError, struct.error, zlib.error, ExpatError, Warning),
)

# Lines with the names and, below them, the types of columns between bars, perhaps below comments.
_IPAC = re.compile(rb"(\\[^\n]*\n)*\|[^\n]*\|\s*\n\|[^\n]*[a-z][^\n]*\|")

# Filters of warnings are the process's, and astropy is bound to the GIL anyway.
_LOCK = threading.Lock()


def kind_of(content: bytes, name: str) -> str | None:
    """Return the format of a file that astropy reads, by its first bytes; None where it is another one."""
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"SIMPLE  ="):
        return "fits"
    if head.startswith(b"<?xml") or head[:9].upper() == b"<VOTABLE>" or head[:8].upper() == b"<VOTABLE":
        return "votable"
    if head.startswith(b"# %ECSV") or name.endswith(".ecsv"):
        return "ascii.ecsv"
    if _IPAC.match(head):
        return "ascii.ipac"
    return None


def read_with_astropy(content: bytes, kind: str) -> pa.Table:
    """Return the first table of a file, with its headers in the metadata.

    Columns of arrays become lists; those of more than one dimension are left out. The metadata
    says their units, too (`declared_units`). Times become Julian dates, and the metadata
    says so under `time_system_key`; differences of times become days, coordinates ra and dec [deg] of ICRS.

    Raises
    ------
    UnreadableFileError
        It is damaged, cut short, or has no table.
    """
    with _LOCK, warnings.catch_warnings():
        from astropy.io.fits import VerifyError
        from astropy.utils.exceptions import AstropyUserWarning, AstropyWarning
        from yaml import YAMLError

        warnings.simplefilter("ignore")
        warnings.simplefilter("ignore", AstropyWarning)
        # That a FITS file may have been cut short is only a warning there.
        warnings.simplefilter("error", AstropyUserWarning)
        try:
            table = _read_fits(content) if kind == "fits" else _read_other(content, kind)
        except (*_DAMAGE, VerifyError, YAMLError) as error:
            raise UnreadableFileError(f"a whole {kind} table", f"{type(error).__name__}: {error}") from error
        if not table.column_names:
            raise UnreadableFileError(f"a {kind} table with columns", "none")
        return table


def _read_fits(content: bytes) -> pa.Table:
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=False) as file:
        number = next((i for i, hdu in enumerate(file) if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)), None)
        if number is None:
            raise ValueError("no table in it")
        hdu = file[number]
        if len(hdu.data) != hdu.header["NAXIS2"]:
            raise ValueError(f"{len(hdu.data)} of {hdu.header['NAXIS2']} rows")
        cards = [*file[0].header.items(), *hdu.header.items()]
        undefined = (None, fits.card.UNDEFINED)
        header = {key: "" if value in undefined else str(value) for key, value in cards if key}
        # Times of two numbers (jd1, jd2) are known by TCTYPn.
        has_times = any(key.startswith("TCTYP") for key in header)
        return _to_arrow(Table.read(hdu, astropy_native=has_times), _systems_of_header(header) | header)


def _read_other(content: bytes, kind: str) -> pa.Table:
    from astropy.table import Table

    if kind == "votable":
        # A declaration of entities can grow a small file to gigabytes, and no archive writes one.
        if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
            raise ValueError("a VOTable with a DTD")
        table = Table.read(io.BytesIO(content), format=kind, use_names_over_ids=True)
        return _to_arrow(table, _systems_of_votable(content) if b"<TIMESYS" in content else {})
    return _to_arrow(Table.read(content.decode(), format=kind), {})


def time_system_key(name: str) -> str:
    """Return the key of a table's metadata under which the system of a column stands that holds astropy's times."""
    return f"time_system of {name}"


def _systems_of_header(header: Mapping[str, str]) -> dict[str, str]:
    """Return the system of the columns called time that the headers of FITS say, by `time_system_key`.

    Source: Rots et al. 2015, A&A 574, A36 (MJDREF, JDREF, TIMESYS), and BJDREF of Kepler and TESS.
    """
    scale = header.get("TIMESYS", "").strip().upper()
    for reference, system in (("BJDREF", "BJD"), ("JDREF", "JD"), ("MJDREF", "MJD")):
        whole = header.get(f"{reference}I", header.get(reference, ""))
        try:
            zero = float(whole) + float(header.get(f"{reference}F") or 0)
        except ValueError:
            continue
        text = f"{system}-{zero!r}" + (f" ({scale})" if scale in ("UTC", "TAI", "TT", "TDB", "TCB") else "")
        return {time_system_key(name): text for name in ("time", "TIME", "Time")}
    return {}


def _systems_of_votable(content: bytes) -> dict[str, str]:
    """Return the systems of columns that a VOTable's TIMESYS says, by `time_system_key`."""
    references = {"HELIOCENTER": "H", "BARYCENTER": "B"}
    origins = {"JD-origin": 0.0, "MJD-origin": 2400000.5}
    systems, found = {}, {}
    for element in ET.fromstring(content).iter():
        kind, said = element.tag.rpartition("}")[2], element.attrib
        if kind == "TIMESYS" and "timeorigin" in said:
            origin = said["timeorigin"]
            zero = origins[origin] if origin in origins else float(origin)
            scale = f" ({said['timescale']})" if said.get("timescale", "UNKNOWN") != "UNKNOWN" else ""
            systems[said.get("ID")] = f"{references.get(said.get('refposition', ''), '')}JD-{zero!r}{scale}"
        elif kind == "FIELD" and said.get("ref") in systems:
            found[time_system_key(said.get("name", ""))] = systems[said["ref"]]
    return found


def with_mixins_of_parquet(table: pa.Table, description: bytes) -> pa.Table:
    """Return a table of a Parquet file with astropy's times and coordinates as one column each, as of other files.

    Parameters
    ----------
    table : pa.Table
        With the columns as the file has them.
    description : bytes
        The YAML that astropy has left in the file's metadata.
    """
    from astropy.table import Column, MaskedColumn, Table
    from astropy.table.meta import get_header_from_yaml
    from astropy.table.serialize import _construct_mixins_from_columns

    said = get_header_from_yaml(description.decode().splitlines())
    units = {one["name"]: one.get("unit") for one in said["datatype"]}
    lists = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    made = Table(meta=said.get("meta", {}))
    for name in (each for each in table.column_names if each not in lists):
        values = table[name].to_numpy()
        hidden = np.asarray(table[name].is_null().to_numpy())
        made[name] = MaskedColumn(values, mask=hidden) if hidden.any() else Column(values)
        made[name].unit = units.get(name)
    plain = _to_arrow(_construct_mixins_from_columns(made), {})
    for name in lists:
        plain = plain.append_column(table.schema.field(name), table[name])
    return plain


def has_mixins(metadata: Mapping[bytes, bytes] | None) -> bool:
    """Whether a Parquet file's metadata tell of astropy's times or coordinates in several columns each."""
    return b"__serialized_columns__" in (metadata or {}).get(YAML_KEY, b"")


def _to_arrow(table: Any, header: dict[str, str]) -> pa.Table:
    plain, systems = _without_mixins(table)
    columns = {name: _column(column) for name, column in plain.items() if column.ndim <= 2}
    units = unit_metadata({name: str(plain[name].unit) for name in columns if plain[name].unit is not None})
    return pa.table(columns).replace_schema_metadata({**header, **systems, **units} or None)


def _without_mixins(table: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the columns of a table as arrays with units, and what the metadata says of those that hold times."""
    from astropy.coordinates import SkyCoord
    from astropy.table import Column, MaskedColumn
    from astropy.time import Time, TimeDelta
    from astropy.units import Quantity

    plain, systems = {}, {}
    for name in table.colnames:
        column = table[name]
        if isinstance(column, Time | TimeDelta):
            plain[name] = MaskedColumn(np.asarray(column.unmasked.jd), mask=np.asarray(column.mask), unit="d")
        if isinstance(column, Time):
            scale = "" if column.scale == "local" else f"_{column.scale.upper()}"
            systems[time_system_key(name)] = f"JD{scale}"
        elif isinstance(column, SkyCoord):
            spots, mask = column.unmasked.icrs, np.asarray(column.mask)
            alone = not {"ra", "dec"} & {each.lower() for each in table.colnames}
            for axis, values in (("ra", spots.ra.deg), ("dec", spots.dec.deg)):
                plain[axis if alone else f"{name}.{axis}"] = MaskedColumn(np.asarray(values), mask=mask, unit="deg")
        elif isinstance(column, Quantity) and column.dtype.names is None:
            mask = np.asarray(getattr(column, "mask", False), np.bool_)
            values = np.asarray(getattr(column, "unmasked", column).value)
            plain[name] = MaskedColumn(values, mask=np.broadcast_to(mask, values.shape), unit=column.unit)
        elif isinstance(column, Column) and column.dtype.names is None:
            plain[name] = column
    return plain, systems


def _column(column: Any) -> pa.Array:
    if column.ndim == 2 or (column.dtype.kind == "O" and any(isinstance(one, np.ndarray) for one in column)):
        rows = [np.ma.asarray(one).ravel() for one in column]
        offsets = pa.array(np.cumsum([0, *(len(one) for one in rows)]), pa.int64())
        flat = np.ma.concatenate(rows)  # type: ignore[no-untyped-call]
        return pa.LargeListArray.from_arrays(offsets, _plain(np.ma.getdata(flat), np.ma.getmaskarray(flat)))
    mask = np.broadcast_to(np.asarray(getattr(column, "mask", False), np.bool_), len(column))
    values = np.asarray(column.filled() if hasattr(column, "filled") else column)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    return _plain(values, mask)


def _plain(values: np.ndarray, mask: np.ndarray) -> pa.Array:
    """Return numbers, or anything else as texts; null where they are masked."""
    if values.dtype.kind in "biuf":
        return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=mask)
    texts = [None if hidden else str(value).strip() for value, hidden in zip(values.tolist(), mask, strict=True)]
    return pa.array(texts, pa.large_string())
