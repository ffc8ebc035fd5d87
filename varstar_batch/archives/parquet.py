"""Parquet files of archives, streamed: a partition of a data release may be larger than the memory."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import pyarrow as pa

from varstar_batch.archives.content import FileContent, Format, UnreadableFileError, stem_of
from varstar_batch.archives.recognise import find_format, is_nested, of_table, spread, wanted_columns
from varstar_batch.files.parquet_guard import GuardedParquetFile, OversizedError
from varstar_batch.survey.declared_units import declared_units, unit_metadata

SLICE_BYTES = 2**23
"""Of a Parquet file that are decoded at once; a single object with more goes above it."""


def read_parquet(
    parquet: GuardedParquetFile, key: str, formats: Sequence[Format]
) -> Iterator[tuple[Format, FileContent]]:
    """Stream a Parquet file of an archive, however large, in slices of some megabytes; as `read_file` a small one.

    Yields
    ------
    Format, FileContent
        At least once; the format is always the same.

    Raises
    ------
    UnreadableFileError
        It has none of the formats, or is damaged: what came before is not to be used then.
    """
    name = stem_of(key)
    try:
        schema = parquet.schema_arrow.remove_metadata()
        units = unit_metadata(declared_units(parquet.schema_arrow)) or None
        empty = spread(schema.empty_table())
        form, names = find_format(empty.column_names, formats)
        wanted = {
            there for there, name in zip(empty.column_names, names, strict=True) if name in wanted_columns(form, names)
        }
        met = 0
        for record in _slices(parquet, _paths_of(schema, wanted)):
            met += record.num_rows
            record.validate(full=True)  # Arrow does not look whether texts are UTF-8 before somebody reads them
            yield of_table(pa.Table.from_batches([record]).replace_schema_metadata(units), [form], name)
        if met != parquet.metadata.num_rows:
            raise UnreadableFileError(f"{parquet.metadata.num_rows} rows", str(met))
        if met == 0:
            yield of_table(empty, [form], name)
    except OversizedError as error:
        raise UnreadableFileError(error.expected, error.got) from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UnreadableFileError("numbers and texts where they belong", str(error)) from error


def _slices(parquet: GuardedParquetFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Stream some columns of a file, in pieces of about `SLICE_BYTES` once decoded: row groups, or parts of one."""
    groups: list[int] = []
    rows = held = 0
    for number, size in enumerate(parquet.decoded_sizes(columns)):
        if groups and held + size > SLICE_BYTES:
            yield from parquet.iter_batches(_rows_at_once(rows, held), groups, columns, use_threads=False)
            groups, rows, held = [], 0, 0
        groups.append(number)
        rows, held = rows + parquet.metadata.row_group(number).num_rows, held + size
    if groups:
        yield from parquet.iter_batches(_rows_at_once(rows, held), groups, columns, use_threads=False)


def _rows_at_once(rows: int, held: int) -> int:
    return max(1, rows if held <= SLICE_BYTES else rows * SLICE_BYTES // held)


def _paths_of(schema: pa.Schema, wanted: Container[str]) -> list[str]:
    """Return the columns to read of a file, and the fields of its structs of arrays, that are wanted."""
    paths = []
    for field in schema:
        if is_nested(field.type):
            paths += [f"{field.name}.{one.name}" for one in field.type if one.name in wanted]
        elif field.name in wanted:
            paths.append(field.name)
    return paths
