"""Answers in every format say the same, read by the field's own readers."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse, parse_single_table

from tests.makers.catalogs import sky_rows
from varstar_batch.errors import InputError
from varstar_batch.tap.votable import FORMATS, Answered, error_document, format_of, plain_schema, write

ODD = pa.record_batch(
    {
        "i": pa.array([1, None, 2**53 + 1], pa.int64()),
        "s": pa.array(["a<&b>\x01", None, "ünï🌟"]),
        "f": pa.array([1.5, float("inf"), None]),
        "h": pa.array([0.1, None, -1e-30], pa.float32()),
        "b": pa.array([True, None, False]),
        "u": pa.array([0, 2**64 - 1, None], pa.uint64()),
        "n": pa.nulls(3, pa.int16()),
    }
)
ROWS = sky_rows(300).combine_chunks().to_batches()[0]


def written(form: str, batch: pa.RecordBatch, maxrec: int = 10**6) -> bytes:
    halves = [batch.slice(0, 2), batch.slice(2)]
    schema = plain_schema(batch.schema, {"f": {b"unit": b"d", b"ucd": b"time.period"}})
    return b"".join(write(form, Answered(halves, schema, maxrec), "SELECT 'a' < \x02 & \"b\""))


@pytest.mark.parametrize("form", ["binary2", "tabledata"])
@pytest.mark.parametrize("batch", [ODD, ROWS], ids=["odd", "rows"])
def test_astropy_reads_the_votable(form: str, batch: pa.RecordBatch) -> None:
    table = parse_single_table(io.BytesIO(written(form, batch)), verify="exception").to_table()
    for name in batch.schema.names:
        expected = batch.column(name).to_pylist()
        if name == "u":
            expected = [None if value is None else str(value) for value in expected]
        if name == "s":
            expected = ["a<&b>?" if form == "tabledata" else "a<&b>\x01", None, "ünï🌟"]
        got = table[name].tolist()
        for found, wanted in zip(got, expected, strict=True):
            # Texts have no null but the empty one.
            assert found == wanted or (wanted is None and str(found) in {"None", "", "nan"}), name
    if batch is ODD:
        assert str(table["f"].unit) == "d"


@pytest.mark.parametrize("form", ["binary2", "tabledata"])
def test_more_than_maxrec_is_told(form: str) -> None:
    document = written(form, ROWS, 10)
    assert len(parse_single_table(io.BytesIO(document)).array) == 10
    assert b'value="OVERFLOW"' in document
    assert b"OVERFLOW" not in written(form, ROWS, 300)
    nothing = written(form, ROWS, 0)
    assert b'value="OVERFLOW"' in nothing
    assert len(parse_single_table(io.BytesIO(nothing)).array) == 0


def test_csv_and_parquet() -> None:
    table = pa_csv.read_csv(io.BytesIO(written("csv", ROWS)))
    assert table["object_id"].to_pylist() == ROWS.column("object_id").to_pylist()
    parquet = pq.read_table(io.BytesIO(written("parquet", ROWS, 20)))
    assert parquet.num_rows == 20
    assert parquet["class"].to_pylist() == ROWS.column("class").to_pylist()[:20]
    assert b"IVOA.VOTable-Parquet.content" in parquet.schema.metadata


def test_lists_are_refused() -> None:
    with pytest.raises(InputError, match="single values"):
        written("csv", pa.record_batch({"x": [[1], [2], [3]]}))


def test_names_of_formats() -> None:
    assert {format_of(alias) for _, aliases in FORMATS.values() for alias in aliases} == set(FORMATS)
    assert format_of("application/x-votable+xml; serialization=TableData") == "tabledata"
    with pytest.raises(InputError, match="votable"):
        format_of("fits")


def test_an_error_is_a_votable_that_says_so() -> None:
    (info,) = parse(io.BytesIO(error_document("a < b & c"))).resources[0].infos
    assert (info.name, info.value, info.content) == ("QUERY_STATUS", "ERROR", "a < b & c")
