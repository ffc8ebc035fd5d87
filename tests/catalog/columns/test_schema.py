"""Columns of a catalog: their meaning for people and programs, and the order of the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from astropy.units import Unit

from tests.makers.catalogs import in_pixels, sky_rows
from varstar_batch.catalog.columns.schema import ROW_GROUP_ROWS, catalog_schema, sort_rows, write_options
from varstar_batch.catalog.columns.voparquet import votable_header
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.light_curves.status import STATUS_LABELS
from varstar_batch.sky import HEALPIX_COLUMN


def rows_of(id_type: pa.DataType, count: int = 300) -> pa.Table:
    schema = catalog_schema(id_type, CLASSES, healpix=False)
    rows = sky_rows(count, id_type=id_type, first_id=2**53 + 1)
    rows = rows.append_column("model_version", pa.repeat("1", count)).append_column("run_id", pa.repeat("r", count))
    rows = rows.append_column("carried", pa.repeat(False, count))
    return rows.select(schema.names).cast(schema)


@pytest.mark.parametrize("healpix", [True, False])
def test_every_column_has_a_meaning_that_the_virtual_observatory_knows(healpix: bool) -> None:
    for field in catalog_schema(pa.int64(), CLASSES, healpix=healpix):
        said = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert check_ucd(said["ucd"], check_controlled_vocabulary=True), field.name
        assert said["description"]
        Unit(said["unit"], format="vounit", parse_strict="raise")


def test_astropy_reads_units_ucds_and_descriptions_of_a_file(tmp_path: Path) -> None:
    rows = rows_of(pa.int64())
    path = tmp_path / "part.parquet"
    pq.write_table(rows, path, **write_options(rows.num_rows))
    table = Table.read(path, format="parquet.votable")
    assert len(table) == rows.num_rows
    assert (table["ra"].unit, table["dec"].unit, table["period"].unit) == (Unit("deg"), Unit("deg"), Unit("d"))
    assert table["amplitude"].unit == Unit("mag")
    assert table["ra"].meta["ucd"] == "pos.eq.ra;meta.main"
    assert table["prob_RR"].meta["ucd"] == "stat.probability"
    assert "eriod" in table["period"].description
    assert list(table["object_id"]) == rows["object_id"].to_pylist()
    assert table["prob_RR"].dtype == np.float32
    ok = rows["status"].to_numpy() == "ok"
    assert np.isfinite(table["class_prob"][ok]).all()
    assert list(np.asarray(table["class"])[ok]) == [name for name in rows["class"].to_pylist() if name]


def test_identifiers_keep_every_digit_whatever_their_type(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    for kind in (pa.uint64(), pa.large_string()):
        rows = rows_of(kind)
        if kind == pa.large_string():  # astropy warns where it has to measure texts, so it is told their length here
            rows = rows.replace_schema_metadata({**rows.schema.metadata, b"table::len::object_id": b"16"})
        pq.write_table(rows, path, **write_options(rows.num_rows))
        found = Table.read(path, format="parquet.votable")["object_id"]
        assert [str(value) for value in found] == [str(value) for value in rows["object_id"].to_pylist()]


def test_the_longest_status_fits_into_what_astropy_is_told() -> None:
    metadata = catalog_schema(pa.int64(), CLASSES, healpix=False).metadata
    assert int(metadata[b"table::len::status"]) >= max(map(len, STATUS_LABELS))
    assert int(metadata[b"table::len::class"]) >= max(map(len, CLASSES))


def test_a_description_cannot_break_the_votable() -> None:
    field = pa.field("a<b&c\"d'", pa.float64(), metadata={"description": "<&>", "unit": "", "ucd": 'x"y'})
    header = votable_header(pa.schema([field]), table="<t>", description="a & b")
    from xml.etree import ElementTree

    found = ElementTree.fromstring(header).find(".//{*}FIELD")
    assert found is not None
    assert found.get("name") == "a<b&c\"d'"
    assert "unit" not in found.attrib


def test_rows_are_sorted_by_sky_so_that_row_groups_are_compact() -> None:
    rows = rows_of(pa.int64(), 4000)
    by_sky = sort_rows(rows)
    assert sorted(by_sky["object_id"].to_pylist()) == sorted(rows["object_id"].to_pylist())

    def extent(table: pa.Table) -> float:
        return float(np.mean([np.ptp(table["dec"].slice(k, 100).to_numpy()) for k in range(0, 4000, 100)]))

    assert extent(by_sky) < 0.4 * extent(rows.sort_by("object_id"))
    assert by_sky.equals(sort_rows(by_sky))


def test_rows_without_positions_are_sorted_by_identifier_and_a_hats_survey_by_its_own_index() -> None:
    rows = rows_of(pa.int64())
    nowhere = rows.set_column(
        rows.schema.get_field_index("ra"), rows.schema.field("ra"), pa.nulls(rows.num_rows, pa.float64())
    )
    assert sort_rows(nowhere)["object_id"].to_pylist() == sorted(rows["object_id"].to_pylist())
    pixels = pa.concat_tables(in_pixels(sky_rows(200)).values())
    found = sort_rows(pixels.take(np.random.default_rng(1).permutation(200)))[HEALPIX_COLUMN].to_numpy()
    assert (np.diff(found) >= 0).all()


def test_a_small_file_gets_a_small_bloom_filter() -> None:
    def ndv(rows: int) -> int:
        return int(write_options(rows)["bloom_filter_options"]["object_id"]["ndv"])

    assert (ndv(0), ndv(10), ndv(10**9)) == (1, 10, ROW_GROUP_ROWS)
