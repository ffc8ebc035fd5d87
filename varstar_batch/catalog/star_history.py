"""What became of one star from run to run of a catalog."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.reader import CatalogReader, parse_object_id
from varstar_batch.catalog.run_files.history import published_runs
from varstar_batch.catalog.run_files.index import READERS
from varstar_batch.catalog.run_files.root import Catalog
from varstar_batch.catalog.sql.session import open_duckdb, paths_for
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location
from varstar_batch.parallel import in_order


def _files_with(object_id: int | str, reader: CatalogReader) -> tuple[pa.DataType, list[Location]]:
    """Return the type of a run's identifiers, and its files that may hold an object."""
    kind = reader.index.table.schema.field("object_id_min").type
    groups = reader.index.with_object(parse_object_id(object_id, kind))
    return kind, [reader.run / key for key in dict.fromkeys(group.file for group in groups)]


def _rows_in(owners: Sequence[tuple[Location, CatalogReader]], value: int | str) -> dict[str, dict[str, Any]]:
    """Return the row of an object in each run that has it, by run, out of files and the runs that they are of."""
    if not owners:
        return {}
    with open_duckdb() as connection:
        # Runs of another model have other columns. In a view, every footer would be read once more.
        options = "filename = true, union_by_name = true, hive_partitioning = false"
        found = connection.execute(
            f"SELECT * FROM read_parquet(?, {options}) WHERE object_id = ?",
            [paths_for(connection, [file for file, _ in owners]), value],
        )
        names = [column[0] for column in found.description]
        rows = {row[names.index("filename")]: dict(zip(names, row, strict=True)) for row in found.fetchall()}
    held = [(file, reader) for file, reader in owners if str(file) in rows]
    columns = in_order(lambda pair: _columns(pair[0]), held, READERS)
    return {
        reader.run_id: {name: rows[str(file)][name] for name in mine}
        for (file, reader), mine in zip(held, columns, strict=True)
    }


def _columns(file: Location) -> list[str]:
    with file.open_input() as stream:
        return list(pq.read_schema(stream).names)


def star_history(catalog: Catalog, object_id: int | str) -> list[tuple[str, dict[str, Any] | None]]:
    """Return each published run, oldest first, and its row of an object; None where it has no such object.

    Raises
    ------
    InputError
        No run has it, or it cannot be an identifier of this catalog.
    """
    readers = [CatalogReader(catalog, run) for run in published_runs(catalog)]
    rows: dict[str, dict[str, Any]] = {}
    by_type: dict[pa.DataType, list[tuple[Location, CatalogReader]]] = defaultdict(list)
    for reader, (kind, files) in zip(readers, in_order(partial(_files_with, object_id), readers, READERS), strict=True):
        by_type[kind] += [(file, reader) for file in files]
    # One question to the files of all runs: a connection for each run took most of the time.
    for kind, owners in by_type.items():
        rows |= _rows_in(owners, parse_object_id(object_id, kind))
    found = [(reader.run_id, rows.get(reader.run_id)) for reader in readers]
    if all(row is None for _, row in found):
        raise InputError(
            expected="an object of the catalog",
            got=f"object_id {object_id}, which is in none of its {len(found)} runs",
            where=str(catalog),
            fix="look for it by position: varstar cone CATALOG --ra DEG --dec DEG --radius DEG",
        )
    return found


def history_table(catalog: Catalog, found: Sequence[tuple[str, Mapping[str, Any] | None]]) -> pa.Table:
    """Return what `star_history` found as a table, a row for each run that has the object; ``run`` is the first column.

    Runs of other models have other columns, which are null where a run has none.
    """
    fields = {"run": pa.field("run", pa.string(), metadata={"ucd": "meta.id", "description": "Run of the catalog"})}
    rows = [{"run": run, **row} for run, row in found if row is not None]
    for row in reversed(rows):
        for field in CatalogReader(catalog, row["run"]).schema:
            fields.setdefault(field.name, field)
    return pa.Table.from_pylist(rows, schema=pa.schema(list(fields.values())))
