"""Parquet files of archives, streamed: a partition of a data release may be larger than the memory."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import pyarrow as pa

from varstar_batch.archives.content import FileContent, Format, UnreadableFileError, stem_of
from varstar_batch.archives.fits_votable import has_mixins, with_mixins_of_parquet
from varstar_batch.archives.recognise import find_format, is_nested, of_table, spread, wanted_columns
from varstar_batch.files.parquet_guard import GuardedParquetFile, OversizedError
from varstar_batch.survey.columns import TIME_SYSTEM_KEY
from varstar_batch.survey.declared_units import YAML_KEY, declared_units, unit_metadata

MIXINS_BYTES = 2**28
"""Of a file that astropy has written with times or coordinates of its own, which is read whole."""

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
        said = parquet.schema_arrow.metadata or {}
        units: dict[str, str] = unit_metadata(declared_units(parquet.schema_arrow))
        if TIME_SYSTEM_KEY.encode() in said:
            units[TIME_SYSTEM_KEY] = said[TIME_SYSTEM_KEY.encode()].decode(errors="replace")
        if has_mixins(said):
            yield from _with_mixins(parquet, name, formats)
            return
        empty = spread(schema.empty_table())
        form, names = find_format(empty.column_names, formats)
        wanted = {
            there for there, name in zip(empty.column_names, names, strict=True) if name in wanted_columns(form, names)
        }
        met = 0
        for record in _slices(parquet, _paths_of(schema, wanted)):
            met += record.num_rows
            record.validate(full=True)  # Arrow does not look whether texts are UTF-8 before somebody reads them
            yield of_table(pa.Table.from_batches([record]).replace_schema_metadata(units or None), [form], name)
        if met != parquet.metadata.num_rows:
            raise UnreadableFileError(f"{parquet.metadata.num_rows} rows", str(met))
        if met == 0:
            yield of_table(empty, [form], name)
    except OversizedError as error:
        raise UnreadableFileError(error.expected, error.got) from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UnreadableFileError("numbers and texts where they belong", str(error)) from error


def _with_mixins(
    parquet: GuardedParquetFile, name: str, formats: Sequence[Format]
) -> Iterator[tuple[Format, FileContent]]:
    """Yield what a file holds whose times or coordinates astropy has put into several columns each, as one slice."""
    if sum(parquet.decoded_sizes()) > MIXINS_BYTES:
        raise UnreadableFileError(f"at most {MIXINS_BYTES} bytes with astropy's times or coordinates", "more")
    records = list(parquet.iter_batches(use_threads=False))
    table = pa.Table.from_batches(records, parquet.schema_arrow.remove_metadata())
    table.validate(full=True)
    try:
        plain = with_mixins_of_parquet(table, parquet.schema_arrow.metadata[YAML_KEY])
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UnreadableFileError("times and coordinates as astropy writes them", str(error)) from error
    yield of_table(plain, formats, name)


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
        if is_nested(field.type) and not pa.types.is_struct(field.type):
            paths += [field.name] * any(one.name in wanted for one in field.type.value_type)
        elif is_nested(field.type):
            paths += [f"{field.name}.{one.name}" for one in field.type if one.name in wanted]
        elif field.name in wanted:
            paths.append(field.name)
    return paths
