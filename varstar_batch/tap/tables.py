"""What a service publishes: a table for each catalog, and TAP_SCHEMA, which describes them all.

Source: TAP 1.1 (IVOA REC-TAP), section 4.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.cone import Cone
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location, locate
from varstar_batch.tap.votable import TEXT, datatype_of, plain_schema

SCHEMA = "varstar"

LOOKED_AT = 30.0
"""Seconds after which it is looked whether a later run was published."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

_INDEXED = {"object_id", "ra", "dec"}
_PRINCIPAL = {"object_id", "ra", "dec", "period", "class", "class_prob", "status"}

_TEXT, _INT = pa.string(), pa.int32()
_TAP_SCHEMA: Mapping[str, tuple[str, Mapping[str, tuple[pa.DataType, str]]]] = {
    "schemas": (
        "Schemas of this service",
        {
            "schema_name": (_TEXT, "Name of the schema"),
            "utype": (_TEXT, "Utype of the schema"),
            "description": (_TEXT, "What it is"),
            "schema_index": (_INT, "Order in which schemas are told"),
        },
    ),
    "tables": (
        "Tables of this service",
        {
            "schema_name": (_TEXT, "Name of the schema"),
            "table_name": (_TEXT, "Name as a query has it"),
            "table_type": (_TEXT, "table or view"),
            "utype": (_TEXT, "Utype of the table"),
            "description": (_TEXT, "What it is"),
            "table_index": (_INT, "Order in which tables are told"),
        },
    ),
    "columns": (
        "Columns of these tables",
        {
            "table_name": (_TEXT, "Name of the table"),
            "column_name": (_TEXT, "Name as a query has it"),
            "datatype": (_TEXT, "Type as in VOTable"),
            "arraysize": (_TEXT, "Length as in VOTable"),
            "xtype": (_TEXT, "Extended type as in DALI"),
            '"size"': (_INT, "Length, of those that have one"),
            "description": (_TEXT, "What it says"),
            "utype": (_TEXT, "Utype of the column"),
            "unit": (_TEXT, "Unit as in VOUnits"),
            "ucd": (_TEXT, "Unified Content Descriptor"),
            "indexed": (_INT, "1 where a condition on it is fast"),
            "principal": (_INT, "1 of the columns that matter most"),
            "std": (_INT, "1 of those that a standard defines"),
            "column_index": (_INT, "Order in which columns are told"),
        },
    ),
    "keys": (
        "Foreign keys between these tables",
        {
            "key_id": (_TEXT, "Name of the key"),
            "from_table": (_TEXT, "Table that refers"),
            "target_table": (_TEXT, "Table that is referred to"),
            "utype": (_TEXT, "Utype of the key"),
            "description": (_TEXT, "What it is"),
        },
    ),
    "key_columns": (
        "Columns of these keys",
        {
            "key_id": (_TEXT, "Name of the key"),
            "from_column": (_TEXT, "Column of the table that refers"),
            "target_column": (_TEXT, "Column of the table that is referred to"),
        },
    ),
}

KEYS = (
    ("tables", "schema_name", "schemas", "schema_name"),
    ("columns", "table_name", "tables", "table_name"),
    ("keys", "from_table", "tables", "table_name"),
    ("keys", "target_table", "tables", "table_name"),
    ("key_columns", "key_id", "keys", "key_id"),
)
"""Table of TAP_SCHEMA that refers to another, by which column, and the other's table and column."""


@dataclass(frozen=True)
class TapTable:
    """A table of the service."""

    key: str
    """As the sandbox has it."""
    schema_name: str
    name: str
    """As a query has it, with its schema."""
    description: str
    schema: pa.Schema
    """Types, units and UCDs as answers have them."""
    files: tuple[Location, ...]
    reader: CatalogReader | None = None

    def files_within(self, cone: Cone | None) -> tuple[Location, ...]:
        """Return the files that can hold something of a cone, one at least."""
        if cone is None or self.reader is None:
            return self.files
        groups = self.reader.index.within(cone.ra, cone.dec, cone.radius)
        found = dict.fromkeys(group.file for group in groups)
        return tuple(self.reader.run / key for key in found) or self.files[:1]


class Published:
    """The tables of a service as they are now; threads may ask at the same time."""

    def __init__(self, catalogs: Sequence[str], folder: Path) -> None:
        self._places = _named(catalogs)
        self._folder = folder
        self._lock = threading.Lock()
        self._looked = 0.0
        self._readers: dict[str, CatalogReader] = {}
        self._tables: dict[str, TapTable] = {}
        self.tables()

    def tables(self) -> dict[str, TapTable]:
        """Return the tables by key, of the runs that are current; TAP_SCHEMA comes last."""
        with self._lock:
            if not self._tables or time.monotonic() - self._looked > LOOKED_AT:
                readers = {name: open_catalog(place) for name, place in self._places.items()}
                if {n: r.run_id for n, r in readers.items()} != {n: r.run_id for n, r in self._readers.items()}:
                    self._tables = self._described(readers)
                    self._readers = readers
                self._looked = time.monotonic()
            return self._tables

    def names(self) -> dict[str, str]:
        """Return key by name, in lower case and with its schema."""
        return {table.name.lower(): table.key for table in self.tables().values()}

    def _described(self, readers: Mapping[str, CatalogReader]) -> dict[str, TapTable]:
        tables = [_catalog_table(name, reader) for name, reader in readers.items()]
        kinds = {
            name: (said, pa.schema([pa.field(column.strip('"'), *_as_field(what)) for column, what in columns.items()]))
            for name, (said, columns) in _TAP_SCHEMA.items()
        }
        own = [
            TapTable(f"tap_schema_{name}", "TAP_SCHEMA", f"TAP_SCHEMA.{name}", said, schema, ())
            for name, (said, schema) in kinds.items()
        ]
        place = Path(tempfile.mkdtemp(dir=self._folder))
        content = {
            "schemas": [
                {"schema_name": SCHEMA, "description": "Catalogs of variable stars", "schema_index": 1},
                {"schema_name": "TAP_SCHEMA", "description": "What this service has", "schema_index": 2},
            ],
            "tables": [
                {
                    "schema_name": table.schema_name,
                    "table_name": table.name,
                    "table_type": "table",
                    "description": table.description,
                    "table_index": number,
                }
                for number, table in enumerate([*tables, *own], 1)
            ],
            "keys": [
                {"key_id": str(number), "from_table": f"TAP_SCHEMA.{a}", "target_table": f"TAP_SCHEMA.{b}"}
                for number, (a, _, b, _) in enumerate(KEYS, 1)
            ],
            "key_columns": [
                {"key_id": str(number), "from_column": a, "target_column": b}
                for number, (_, a, _, b) in enumerate(KEYS, 1)
            ],
            "columns": [row for table in [*tables, *own] for row in column_rows(table)],
        }
        found = {table.key: table for table in tables}
        for table in own:
            file = place / f"{table.key}.parquet"
            rows = content[table.key.removeprefix("tap_schema_")]
            pq.write_table(pa.Table.from_pylist(rows, schema=table.schema.remove_metadata()), file)
            files = (locate(file, what="TAP_SCHEMA"),)
            found[table.key] = TapTable(
                table.key, table.schema_name, table.name, table.description, table.schema, files
            )
        return found


def column_rows(table: TapTable) -> Iterator[dict[str, Any]]:
    """Yield what TAP_SCHEMA.columns says of a table."""
    for number, field in enumerate(table.schema, 1):
        said = {key.decode(): value.decode() or None for key, value in (field.metadata or {}).items()}
        datatype = datatype_of(field.type)
        is_own = table.schema_name == "TAP_SCHEMA"
        yield {
            "table_name": table.name,
            "column_name": quoted_name(field.name),
            "datatype": datatype,
            "arraysize": "*" if datatype == TEXT else None,
            "description": said.get("description"),
            "unit": said.get("unit"),
            "ucd": said.get("ucd"),
            "indexed": int(not is_own and field.name in _INDEXED),
            "principal": int(is_own or field.name in _PRINCIPAL),
            "std": int(is_own),
            "column_index": number,
        }


def quoted_name(name: str) -> str:
    """Return a name as a query must have it."""
    return name if _NAME.fullmatch(name) and name.lower() != "size" else f'"{name}"'


def _as_field(what: tuple[pa.DataType, str]) -> tuple[pa.DataType, bool, dict[str, str]]:
    kind, description = what
    return kind, True, {"description": description}


def _catalog_table(name: str, reader: CatalogReader) -> TapTable:
    schema = plain_schema(reader.schema, {field.name.lower(): field.metadata or {} for field in reader.schema})
    record = reader.record
    model = record["model"]
    said = (
        f"Class probabilities of {record['rows']:,} variable stars, run {reader.run_id},"
        f" by the model {model['name']} {model['version']}"
    )
    return TapTable(name, SCHEMA, f"{SCHEMA}.{name}", said, schema, reader.locations, reader)


def _named(catalogs: Sequence[str]) -> dict[str, str]:
    """Return the catalogs by the name of their table."""
    places: dict[str, str] = {}
    for each in catalogs:
        name, sign, place = each.partition("=")
        if not sign or not _NAME.fullmatch(name):
            place = each
            name = re.sub(r"\W", "_", each.rstrip("/").rsplit("/", 1)[-1], flags=re.ASCII).lower()
            name = name if _NAME.fullmatch(name) else f"catalog_{name}"
        if name.lower() in {known.lower() for known in places} or name.lower().startswith("tap_schema"):
            raise InputError(
                expected="a name for each table",
                got=f"{name} twice",
                where=each,
                fix="say what it is to be called: NAME=CATALOG",
            )
        places[name] = place
    return places
