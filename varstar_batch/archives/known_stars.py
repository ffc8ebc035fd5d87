"""Tables of stars whose labels are known, from anywhere: identifiers or positions, labels, magnitudes, periods."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.archives.input_tables import list_files, opened, read_whole, refused
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.declared_units import with_units
from varstar_batch.survey.units import conversions_of

Floats = npt.NDArray[np.float64]

SPELLINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "object_id": ("object_id", "id", "source_id", "objectid", "star_id", "oid", "name"),
        "class": ("class", "type", "var_type", "vartype", "variability_type", "label", "class_original"),
        "ra": ("ra", "raj2000", "ra_icrs", "_raj2000", "ra_deg", "radeg"),
        "dec": ("dec", "dej2000", "decj2000", "de_icrs", "_dej2000", "dec_deg", "dedeg", "decl"),
        "mag": ("mag", "mean_mag", "vmag", "mean_vmag", "gmag", "phot_g_mean_mag"),
        "period": ("period", "per", "p_1", "pf"),
    }
)
"""What columns are called, by what they hold; capitals do not count, and of several the first that is there."""


@dataclass(frozen=True, eq=False, kw_only=True)
class KnownStars:
    """n stars and what is known of them."""

    where: str
    """The table."""
    label: pa.Array
    """Texts (n,), without nulls."""
    object_id: pa.Array | None
    """Of whatever type (n,), without nulls; None where the table names none."""
    ra: Floats
    dec: Floats
    """Float64 (n,). Position [deg]; NaN where unknown."""
    mag: Floats
    """Float64 (n,). Magnitude; NaN where unknown."""
    period: Floats
    """Float64 (n,). Days; NaN where unknown."""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def has_positions(self) -> bool:
        """Whether the place of any star is known."""
        return bool((np.isfinite(self.ra) & np.isfinite(self.dec)).any())


def read_known_stars(
    url: str | os.PathLike[str], columns: Sequence[str] = (), *, what: str = "table of known stars"
) -> KnownStars:
    """Read a table of known stars: Parquet, CSV, ECSV, FITS or VOTable.

    Parameters
    ----------
    url : str or path
        A file, or a folder of Parquet files.
    columns : sequence of str
        Columns that are called otherwise than `SPELLINGS` says, such as ``class=OGLE_type``.
    what : str
        What the reader of an error calls the table.

    Raises
    ------
    InputError
        It is not there or no table, has no labels, neither identifiers nor positions, or values that cannot be read.
    """
    names = _chosen(columns)
    texts = [name for role in ("object_id", "class") for name in (names.get(role), *SPELLINGS[role]) if name]
    tables = [_read(file, names, texts, what) for file in list_files(url, what)]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(
            expected="files with the same columns and types", got=str(error), where=str(url), fix="write them alike"
        ) from error
    return known_stars(table, str(url))


def known_stars(table: pa.Table, where: str) -> KnownStars:
    """Return the stars of a table with the names of `SPELLINGS`; those without a label, or without a name, are none.

    Raises
    ------
    InputError
        There is no such star, or positions that are none.
    """
    label = pc.utf8_trim_whitespace(table["class"].cast(pa.string()))
    kept = pc.and_(pc.is_valid(label), pc.not_equal(label, ""))
    if "object_id" in table.column_names:
        kept = pc.and_(kept, pc.is_valid(table["object_id"]))
    kept = pc.fill_null(kept, fill_value=False)
    table, label = table.filter(kept), label.filter(kept)
    if not len(table):
        raise InputError(
            expected="stars with a label", got="none", where=where, fix="give a table with labels in column class"
        )
    numbers = {role: _numbers(table, role) for role in ("ra", "dec", "mag", "period")}
    beyond = np.abs(numbers["dec"]) > 90
    if beyond.any():
        raise InputError(
            expected="declinations from -90 to 90 degrees",
            got=f"{numbers['dec'][beyond][0]:g}",
            where=where,
            fix="give degrees, or say the unit in the table",
        )
    ids = table["object_id"].combine_chunks() if "object_id" in table.column_names else None
    return KnownStars(where=where, label=label.combine_chunks(), object_id=ids, **numbers)


def _chosen(columns: Sequence[str]) -> dict[str, str]:
    """Return the name of a column by what it holds, out of texts such as ``class=OGLE_type``."""
    names = {}
    for text in columns:
        role, equals, name = (part.strip() for part in text.partition("="))
        if not equals or not name or role not in SPELLINGS:
            raise InputError(
                expected=f"NAME=COLUMN, with a name of {', '.join(SPELLINGS)}",
                got=repr(text),
                where="--columns",
                fix="write for example --columns class=OGLE_type,ra=RAJ2000,dec=DEJ2000",
            )
        names[role] = name
    return names


def _read(file: Location, names: Mapping[str, str], texts: Sequence[str], what: str) -> pa.Table:
    """Return the columns that a file has of `SPELLINGS`, with those names; of Parquet no others are read."""
    try:
        with file.open_input() as stream:
            is_parquet = stream.read(4) == b"PAR1"
    except FileNotFoundError:
        is_parquet = False
    if is_parquet:
        with opened(file) as parquet:
            found = _find(parquet.schema_arrow.names, names, str(file), what)
            table = with_units(parquet.read(columns=list(found.values())))
    else:
        table = read_whole(file, texts)
        found = _find(table.column_names, names, str(file), what)
    columns = {role: table[name] for role, name in found.items()}
    with refused(file):
        conversions = conversions_of(table.schema, found, SurveyConfig())
        for role in columns.keys() & {"ra", "dec", "mag", "period"}:
            values = _to_float64(columns[role], role, found[role])
            values = conversions[role].apply(values) if role in conversions else values
            columns[role] = pa.array(values, from_pandas=True)
    return pa.table(columns)


def _find(there: Sequence[str], names: Mapping[str, str], where: str, what: str) -> dict[str, str]:
    """Return the column of each role that a table has."""
    lower = {name.casefold(): name for name in reversed(there)}
    found = {}
    for role, spellings in SPELLINGS.items():
        named = names.get(role)
        tried = [each.casefold() for each in ((named,) if named else spellings)]
        column = next((lower[each] for each in tried if each in lower), None)
        if column is None and named:
            raise InputError(
                expected=f"a column {named!r}",
                got=", ".join(there[:12]) + (", ..." if len(there) > 12 else ""),
                where=where,
                fix="correct --columns",
            )
        if column is not None:
            found[role] = column
    missing = [] if "class" in found else ["class"]
    if "object_id" not in found and not {"ra", "dec"} <= found.keys():
        missing.append("object_id (or ra and dec)")
    if missing:
        raise InputError(
            expected=f"a {what} with a column {' and a column '.join(missing)}",
            got=", ".join(there[:12]) + (", ..." if len(there) > 12 else ""),
            where=where,
            fix=f"say which it is: --columns {missing[0].split()[0]}=COLUMN",
        )
    return found


def _to_float64(column: pa.ChunkedArray, role: str, name: str) -> Floats:
    """Return numbers; texts such as 12:34:56.7 are hours of a right ascension, or degrees of a declination."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    try:
        if not is_text:
            return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
        plain = pc.utf8_trim_whitespace(column.cast(pa.string()))
        plain = pc.if_else(pc.equal(plain, ""), pa.scalar(None, pa.string()), plain)
        if role in ("ra", "dec") and pc.any(pc.match_substring_regex(plain, r"^[+-]?\d+[:hd ]")).as_py():
            return _angles(plain, "hourangle" if role == "ra" else "deg")
        return np.asarray(plain.cast(pa.float64()).to_numpy(), np.float64)
    except (pa.ArrowException, ValueError) as error:
        raise UnreadableFileError(f"numbers in column {name!r}", str(error)) from error


def _angles(texts: pa.ChunkedArray, unit: str) -> Floats:
    from astropy.coordinates import Angle

    known = pc.is_valid(texts).to_numpy()
    angles = np.full(len(texts), np.nan)
    angles[known] = Angle(texts.drop_null().to_pylist(), unit).deg
    return angles


def _numbers(table: pa.Table, role: str) -> Floats:
    there = role in table.column_names
    return table[role].to_numpy().astype(np.float64) if there else np.full(len(table), np.nan)
