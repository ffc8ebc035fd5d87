"""A HATS survey gives a HATS catalog: hats accepts it, LSDB opens, searches and cross-matches it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from tests.makers.catalogs import RunSpec, in_pixels, run_name, sky_rows, write_run
from tests.makers.surveys import simulated_table
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import InProcess
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.runs.stages import RunObserver, execute_run, publish, verify
from varstar_batch.sky import HEALPIX_COLUMN
from varstar_batch.survey.open import open_survey

# Of LSDB 0.11 and nested-pandas 0.7 with pandas 3, and of matches near the edge of a pixel, which have no margin here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The inplace keyword in NestedFrame:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The default suffix behavior will change:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Right catalog does not have a margin cache:RuntimeWarning"),
]

ROWS = sky_rows(1500, seed=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> CatalogReader:
    root = tmp_path_factory.mktemp("hats") / "catalog"
    write_run(root, run_name(1), RunSpec(partitions=in_pixels(ROWS, order=0), layout="hats"))
    return open_catalog(root)


def test_hats_accepts_it(made: CatalogReader) -> None:
    from hats import read_hats
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(str(made.run), strict=True)
    catalog = read_hats(str(made.run))
    info = catalog.catalog_info
    assert info.total_rows == ROWS.num_rows
    assert (info.ra_column, info.dec_column, info.healpix_column) == ("ra", "dec", HEALPIX_COLUMN)
    said = info.extra_dict()
    assert said["varstar_run_id"] == made.run_id
    assert said["varstar_model_hash"] == made.record["model"]["hash"]
    assert said["varstar_code_version"] == made.record["code_version"]
    assert "varstar-batch" in said["hats_builder"]
    assert len(catalog.get_healpix_pixels()) == len(made.files)


def test_the_map_of_the_sky_counts_every_object(made: CatalogReader) -> None:
    from hats import read_hats
    from hats.io.skymap import read_skymap

    counts = read_skymap(read_hats(str(made.run)), None)
    assert counts.sum() == ROWS.num_rows
    cells = pa.concat_tables(in_pixels(ROWS, order=0).values())[HEALPIX_COLUMN].to_numpy() >> (2 * (29 - 6))
    assert (counts == np.bincount(cells, minlength=len(counts))).all()


def test_the_metadata_files_speak_for_the_whole(made: CatalogReader) -> None:
    folder = Path(str(made.run)) / "dataset"
    assert pq.read_metadata(folder / "_metadata").num_rows == ROWS.num_rows
    common = pq.read_schema(folder / "_common_metadata")
    assert common.equals(made.schema)
    assert not any(key.startswith(b"varstar.") for key in common.metadata)
    assert b"IVOA.VOTable-Parquet.content" in common.metadata
    assert pq.read_table(Path(str(made.run)) / "data_thumbnail.parquet").num_rows == len(made.files)


def test_lsdb_opens_searches_and_crossmatches_it(made: CatalogReader) -> None:
    catalog = made.to_lsdb()
    assert len(catalog) == ROWS.num_rows
    near = catalog.cone_search(40.0, -20.0, 15 * 3600).compute(progress_bar=False)
    expected = made.cone(40.0, -20.0, 15.0)
    assert sorted(near["object_id"].tolist()) == sorted(expected["object_id"].to_pylist())
    assert 0 < len(near) < ROWS.num_rows
    matched = catalog.crossmatch(catalog, n_neighbors=1, radius_arcsec=1, suffixes=("_a", "_b"))
    found = matched.compute(progress_bar=False)
    assert len(found) == ROWS.num_rows
    assert (found["object_id_a"] == found["object_id_b"]).all()


@pytest.mark.slow
def test_a_survey_that_lsdb_wrote_becomes_a_catalog_that_lsdb_reads(tmp_path: Path) -> None:
    """The whole way: a HATS collection with nested light curves in, classified, a HATS catalog out."""
    import lsdb
    import nested_pandas

    pq.write_table(simulated_table(0, 120), tmp_path / "objects.parquet")
    frame = nested_pandas.read_parquet(tmp_path / "objects.parquet")
    stars = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec", catalog_name="stars", partition_rows=20)
    stars.write_catalog(tmp_path / "survey", progress_bar=False)
    survey = open_survey(tmp_path / "survey")
    assert survey.source.layout == "hats"
    plan, bundle = plan_run(str(tmp_path / "survey"), None, RunConfig())
    prepared = prepare(plan, bundle, str(tmp_path / "catalog"))
    executed = execute_run(prepared, InProcess(), RunObserver())
    verify(prepared, executed)
    publish(prepared, executed)

    reader = open_catalog(tmp_path / "catalog")
    assert len(reader.files) == len(survey.partitions) > 3
    assert verify_catalog(reader, survey) == []
    catalog = reader.to_lsdb()
    found = catalog.compute(progress_bar=False)
    assert sorted(found["object_id"].tolist()) == sorted(frame["object_id"].tolist())
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(str(reader.run), strict=True)
    matched = catalog.crossmatch(stars, n_neighbors=1, radius_arcsec=1, suffixes=("", "_survey"))
    pairs = matched.compute(progress_bar=False)
    assert len(pairs) == 120
    assert (pairs["object_id"] == pairs["object_id_survey"]).all()
    vo = Table.read(str(reader.run / reader.files[0]), format="parquet.votable")
    assert str(vo["period"].unit) == "d"
    assert vo["ra"].meta["ucd"] == "pos.eq.ra;meta.main"


def test_a_survey_without_an_index_of_the_sky(tmp_path: Path) -> None:
    """Older HATS surveys have no _healpix_29: their catalogs are HATS all the same."""
    from hats import read_hats
    from hats.io.skymap import read_skymap
    from hats.io.validation import is_valid_catalog

    bare = {key: rows.drop_columns([HEALPIX_COLUMN]) for key, rows in in_pixels(ROWS.slice(0, 200), order=0).items()}
    write_run(tmp_path, run_name(1), RunSpec(partitions=bare, layout="hats"))
    reader = open_catalog(tmp_path)
    assert is_valid_catalog(str(reader.run), strict=True)
    assert "hats_col_healpix" not in Path(str(reader.run / "hats.properties")).read_text()
    assert read_skymap(read_hats(str(reader.run)), None).sum() == 200
    assert reader.cone(0, 90, 60).num_rows > 0
