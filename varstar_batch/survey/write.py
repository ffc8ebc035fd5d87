"""Files of a survey as we write them: nested light curves in row groups of a bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varstar_batch.files.digests import HashingSink
from varstar_batch.files.location import Location
from varstar_batch.survey.decode import bounded_runs

ROW_GROUP_OBSERVATIONS = 2**20
"""Observations in a row group of a survey: about 7 MB on storage and 16 MiB in memory."""

ROW_GROUP_ROWS = 2**17
"""Objects in a row group of a survey, however few observations they have."""


def survey_write_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the keyword arguments of `pyarrow.parquet.ParquetWriter` for a survey.

    Notes
    -----
    Measured on crts-south, ogle-lmc and 3-decimal magnitudes, one core: float64 (times) split by bytes, for which a
    dictionary is useless; a dictionary for everything else, which pays for magnitudes of few decimals and gives itself
    up elsewhere; zstd level 1, since level 3 saves 3 % and costs a third of the writing speed. 6.6 bytes an observation
    for crts-south, 2.5 for ogle-lmc (snappy with dictionaries, the default: 9.2 and 3.6). Page checksums cost 7 %
    of the reading speed, and turn a flipped bit into an error instead of a magnitude. Elements that cannot be null
    (`list_type`) are read a third faster. Altogether 200,000 light curves/s of 230 observations on one core.
    """
    leaves = {path: kind for field in schema for path, kind in _leaves(field.name, field.type)}
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [path for path, kind in leaves.items() if not pa.types.is_float64(kind)],
        "column_encoding": {path: "BYTE_STREAM_SPLIT" for path, kind in leaves.items() if pa.types.is_float64(kind)},
        "write_page_checksum": True,
    }


def list_type(value: pa.DataType) -> pa.DataType:
    """Return the type of a light curve's field: lists whose elements are never null, which decode a third faster."""
    return pa.list_(pa.field("element", value, nullable=False))


def nested_light_curves(offsets: npt.NDArray[np.integer[Any]], columns: Mapping[str, Any]) -> pa.StructArray:
    """Build the canonical column ``lightcurve: struct<time: list<double>, mag: list<float>, ...>``.

    Parameters
    ----------
    offsets : integer array (n + 1,)
        Of n objects, from 0 to m; m < 2^31.
    columns : mapping of str to array (m,)
        NumPy or Arrow, by field name in their order. Nulls of numbers become NaN; other types keep theirs.

    Returns
    -------
    StructArray of n structs, without nulls.

    Raises
    ------
    ValueError
        Too many observations for 32-bit offsets.
    """
    if offsets[-1] >= 2**31:
        raise ValueError(f"light curves of one table: expected fewer than 2^31 observations, got {offsets[-1]}")
    offsets32 = pa.array(np.asarray(offsets).astype(np.int32, copy=False))
    lists = []
    for values in columns.values():
        flat = pa.array(values) if isinstance(values, np.ndarray) else values
        if pa.types.is_floating(flat.type):
            flat = flat.fill_null(float("nan")) if flat.null_count else flat
            lists.append(pa.ListArray.from_arrays(offsets32, flat, type=list_type(flat.type)))
        else:
            lists.append(pa.ListArray.from_arrays(offsets32, flat))
    fields = [pa.field(name, array.type, nullable=False) for name, array in zip(columns, lists, strict=True)]
    return pa.StructArray.from_arrays(lists, fields=fields)


def write_survey_file(target: Location, schema: pa.Schema, tables: Iterable[pa.Table]) -> str:
    """Write one partition of a survey atomically, cut into row groups of bounded size, and return its SHA-256.

    Parameters
    ----------
    target : Location
        The file.
    schema : pa.Schema
        Of all tables, with its metadata (`TIME_SYSTEM_KEY`).
    tables : iterable of pa.Table
        Consecutive rows. No row group spans two tables.
    """
    with (
        target.atomic_output() as stream,
        pq.ParquetWriter(sink := HashingSink(stream.write), schema, **survey_write_options(schema)) as writer,
    ):
        for table in tables:
            # The first list of the light curves tells how many observations an object has.
            lengths = pc.list_value_length(pc.struct_field(table["lightcurve"], [0])).fill_null(0).to_numpy()
            offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
            for start, stop in bounded_runs(offsets, ROW_GROUP_OBSERVATIONS, ROW_GROUP_ROWS):
                writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)
    return sink.hexdigest()


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind
