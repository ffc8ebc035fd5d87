"""The index of a HATS catalog by identifier: which pixel has which object, sorted, as LSDB's ``id_search`` asks it.

Identifiers come file by file and are sorted by DuckDB, which spills what does not fit into its memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.catalog.sql.session import BATCH_ROWS, open_duckdb, scan
from varstar_batch.files.hats_relations import index_properties
from varstar_batch.files.hats_write import common_metadata, joined_metadata, pixel_of
from varstar_batch.files.location import Location, locate, write_once

ID_INDEX = "id_index"
"""Folder of a run."""

_COLUMN = "object_id"
_PART = "index/part.0.parquet"


class Identifiers:
    """The identifiers of a catalog, collected on the local disk. Use `gather_identifiers`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._writer: pq.ParquetWriter | None = None

    def take(self, key: str, values: pa.ChunkedArray) -> None:
        """Take the identifiers of the next file of the catalog, which is given by key."""
        order, pixel = pixel_of(key)
        columns = [values, pa.repeat(pa.scalar(order, pa.uint8()), len(values)), pa.repeat(pixel, len(values))]
        table = pa.table(columns, schema=_schema(values.type))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema, compression="lz4")
        self._writer.write_table(table)

    def write(self, run: Location, properties: Mapping[str, Any]) -> list[str]:
        """Write the index into a run's folder, each file once, and return its keys there.

        `properties` are those of the catalog.
        """
        assert self._writer is not None, "a HATS catalog has a file"
        self.close()
        schema = self._writer.schema
        folder = run / ID_INDEX
        with suppress(FileExistsError), open_duckdb() as connection:
            scan(connection, "rows", [locate(self._file, what="index")])
            rows = connection.sql("SELECT * FROM rows ORDER BY ALL").to_arrow_reader(BATCH_ROWS)
            with (
                (folder / f"dataset/{_PART}").atomic_output(exclusive=True) as sink,
                pq.ParquetWriter(sink, schema, compression="zstd", **_encodings(schema)) as writer,
            ):
                for batch in rows:
                    writer.write_batch(batch.cast(schema))
        # Of what is there: another process may have been first.
        with (folder / f"dataset/{_PART}").open_input() as stream:
            footer = pq.read_metadata(stream)
        footer.set_file_path(_PART)
        common = common_metadata(schema)
        made = {"dataset/_common_metadata": common, "dataset/_metadata": joined_metadata(common, [footer])}
        made |= index_properties(run, properties, _COLUMN)
        for key, content in made.items():
            write_once(folder / key, content)
        return [f"{ID_INDEX}/{key}" for key in (*made, f"dataset/{_PART}")]

    def close(self) -> None:
        """End what was begun."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def gather_identifiers() -> Iterator[Identifiers]:
    """Yield what collects identifiers; nothing of it is left on the local disk afterwards."""
    with tempfile.TemporaryDirectory() as place:
        identifiers = Identifiers(Path(place) / "identifiers.parquet")
        try:
            yield identifiers
        finally:
            identifiers.close()


def _schema(kind: pa.DataType) -> pa.Schema:
    return pa.schema([(_COLUMN, kind), ("Norder", pa.uint8()), ("Npix", pa.int64())])


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    is_number = pa.types.is_integer(schema.field(_COLUMN).type)
    encodings = {"column_encoding": {_COLUMN: "DELTA_BINARY_PACKED" if is_number else "DELTA_BYTE_ARRAY"}}
    return {"use_dictionary": ["Norder", "Npix"], **encodings}
