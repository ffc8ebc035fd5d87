"""Units as files declare them: in the metadata of fields, in VOParquet's VOTable, in the YAML that astropy writes.

What astropy reads from FITS, VOTable and ECSV comes with the metadata of fields, too.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping

import pyarrow as pa

UNIT_KEY = b"unit"
"""Of a field's metadata: the unit of its values."""

OURS_KEY = b"varstar.units"
"""Of a schema's metadata: a survey of ours, in canonical units."""

GIVEN_KEY = b"unit_as_given"
"""Of a field's metadata: the unit that its values came in, where that was another one."""

YAML_KEY = b"table_meta_yaml"
"""Of a schema's metadata: how astropy describes the columns of a Parquet file."""

_NOT_SAID = {"", "-", "--", "---", "none", "null", "n/a", "unknown", "dimensionless", "unitless"}
# Of a table's metadata, which outlives its fields' when they are cut, spread and renamed.
_PREFIX = b"unit of "
_ENDINGS = re.compile(r"_(h|hrs?|hours?|minutes|seconds|days|deg|rad|mmag)$", re.IGNORECASE)
_BRACKETS = re.compile(r"\s*[\[(]([^\[\]()]+)[\])]\s*$")
_VOTABLE_KEY = b"IVOA.VOTable-Parquet.content"


def with_units(table: pa.Table) -> pa.Table:
    """Return a table whose fields carry their declared units in their metadata; the table itself carries none."""
    declared = declared_units(table.schema)
    fields = [
        field.with_metadata({UNIT_KEY: declared[field.name].encode()}) if field.name in declared else field
        for field in table.schema
    ]
    return pa.table(table.columns, schema=pa.schema(fields))


def plain_name(name: str) -> str:
    """Return the name of a column without capitals, and without what stands in brackets behind it."""
    return _BRACKETS.sub("", name).strip().casefold()


def bracketed(name: str) -> str | None:
    """Return what stands in brackets behind the name of a column, as in ``period [h]``, or the h of ``period_h``."""
    found = _BRACKETS.search(name) or _ENDINGS.search(name)
    return found[1].strip() if found else None


def unit_metadata(units: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of a table's metadata that declare the units of its columns, of fields by their own name."""
    return {f"{_PREFIX.decode()}{name.rpartition('.')[2]}": text for name, text in units.items()}


def declared_units(schema: pa.Schema) -> dict[str, str]:
    """Return the units that a schema declares, by column; of a field of a column ``column.field``."""
    metadata = schema.metadata or {}
    of_tables = {key.decode(errors="replace"): value for key, value in metadata.items() if key.startswith(_PREFIX)}
    units = {key.removeprefix(_PREFIX.decode()): value.decode(errors="replace") for key, value in of_tables.items()}
    units |= {**_of_yaml(metadata.get(YAML_KEY)), **_of_votable(metadata.get(_VOTABLE_KEY))}
    for name, field in _fields(schema):
        said = {key.decode(errors="replace").lower(): value for key, value in (field.metadata or {}).items()}
        text = said.get("unit") or said.get("units") or said.get("tunit")
        if text is not None:
            units[name] = text.decode(errors="replace")
    return {name: text.strip() for name, text in units.items() if text.strip().lower() not in _NOT_SAID}


def _fields(schema: pa.Schema) -> Iterator[tuple[str, pa.Field]]:
    for field in schema:
        yield field.name, field
        kind = field.type.value_type if hasattr(field.type, "value_type") else field.type
        if pa.types.is_struct(kind):
            for one in kind:
                yield f"{field.name}.{one.name}", one


def _of_votable(content: bytes | None) -> dict[str, str]:
    # A declaration of entities can grow a small text to gigabytes.
    if content is None or b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        return {}
    try:
        elements = ET.fromstring(content.decode(errors="replace")).iter()
    except ET.ParseError:
        return {}
    fields = [one.attrib for one in elements if one.tag.rpartition("}")[2] == "FIELD"]
    return {one["name"]: one["unit"] for one in fields if "name" in one and "unit" in one}


def _of_yaml(content: bytes | None) -> dict[str, str]:
    if content is None:
        return {}
    from astropy.table.meta import YamlParseError, get_header_from_yaml

    try:
        said = get_header_from_yaml(content.decode(errors="replace").splitlines())
    except YamlParseError:
        return {}
    columns = said.get("datatype", []) if isinstance(said, dict) else []
    return {one["name"]: str(one["unit"]) for one in columns if isinstance(one, dict) and one.get("unit")}
