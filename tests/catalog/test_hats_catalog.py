"""A HATS survey gives a HATS catalog: hats accepts it, LSDB opens, searches and cross-matches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from tests.makers.catalogs import RunSpec, in_pixels, run_name, sky_rows, write_run
from tests.makers.static_server import static_server
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


def test_lsdb_finds_an_identifier_by_the_index(made: CatalogReader) -> None:
    wanted = ROWS["object_id"].to_pylist()[40:43]
    found = made.to_lsdb().id_search({"object_id": wanted}).compute(progress_bar=False)
    assert sorted(found["object_id"].tolist()) == sorted(wanted)
    (only,) = made.to_lsdb().id_search({"object_id": wanted[0]}).get_healpix_pixels()
    assert f"Norder={only.order}/Dir=0/Npix={only.pixel}.parquet" in made.files_of(wanted[:1])[wanted[0]]
    assert not len(made.to_lsdb().id_search({"object_id": [-1]}).compute(progress_bar=False))


def test_the_index_is_sorted_and_whole_with_texts_too(tmp_path: Path) -> None:
    names = pa.array([f"star {k % 700:04d}/{k}" for k in range(ROWS.num_rows)])
    rows = ROWS.set_column(ROWS.column_names.index("object_id"), "object_id", names)
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_pixels(rows, order=0), layout="hats"))
    index = pq.read_table(Path(str(open_catalog(tmp_path).run)) / "id_index/dataset/index/part.0.parquet")
    assert index["object_id"].to_pylist() == sorted(rows["object_id"].to_pylist())
    assert verify_catalog(open_catalog(tmp_path)) == []


def test_the_statistics_are_those_that_hats_makes_of_the_footers(made: CatalogReader) -> None:
    from hats import read_hats
    from hats.io.parquet_metadata import per_partition_statistics

    columns = ["object_id", "class_prob", "ra"]
    expected = per_partition_statistics(Path(str(made.run)) / "dataset/_metadata", include_columns=columns)
    found = read_hats(str(made.run)).per_partition_statistics(include_columns=columns)
    assert len(found) == len(made.files)
    for name in expected.columns:
        assert found[name].tolist() == expected[name].tolist(), name


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, pa.Table]]:
    """A survey that LSDB can open and its catalog, in a folder and at the address of a static web server."""
    import lsdb

    root = tmp_path_factory.mktemp("served")
    stars = ROWS.select(["object_id", "ra", "dec"]).slice(0, 300)
    lsdb.from_dataframe(
        stars.to_pandas(), ra_column="ra", dec_column="dec", catalog_name="stars", lowest_order=0
    ).write_catalog(root / "survey", as_collection=False, progress_bar=False)
    rows = ROWS.slice(0, 299)
    spec = RunSpec(partitions=in_pixels(rows, order=0), layout="hats", survey=str(root / "survey"))
    write_run(root / "catalog", run_name(1), spec)
    with static_server(root) as address:
        yield root, address, rows


@pytest.mark.parametrize("place", ["folder", "web"])
def test_a_run_is_an_extension_of_its_survey(served: tuple[Path, str, pa.Table], place: str) -> None:
    import lsdb

    root, address, rows = served
    base = str(root) if place == "folder" else address
    run = f"{base}/catalog/runs/{run_name(1)}"
    joined = lsdb.open_catalog(f"{base}/survey").load_extension(f"{run}/variability.properties")
    found = joined.compute(progress_bar=False).set_index("object_id")
    # The star that is in no catalog stays.
    assert len(found) == 300
    assert {"ra", "dec", "class", "class_prob", "prob_RR"} <= set(found.columns)
    assert not [name for name in found.columns if name.endswith("_variability")]
    for row in rows.slice(0, 50).to_pylist():
        assert found.loc[row["object_id"], "status"] == row["status"]
    assert found["status"].isna().sum() == 1
    wanted = rows["object_id"][7].as_py()
    searched = lsdb.open_catalog(f"{run}/collection").id_search({"object_id": wanted})
    assert searched.compute(progress_bar=False)["object_id"].tolist() == [wanted]


def test_the_snippet_for_readers_runs(served: tuple[Path, str, pa.Table], capfd: pytest.CaptureFixture[str]) -> None:
    root, _, rows = served
    page = (Path(__file__).resolve().parents[2] / "docs/readers.md").read_text()
    text = page.split("## LSDB")[1].split("```python\n")[1].split("```")[0]
    wanted = rows["object_id"][0].as_py()
    for word, stand_in in (("CATALOG", root / "catalog"), ("SURVEY", root / "survey"), ("OBJECT_ID", wanted)):
        text = text.replace(word, str(stand_in))
    exec(text, {})
    assert str(wanted) in capfd.readouterr().out


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
    extended = lsdb.open_catalog(tmp_path / "survey").load_extension(str(reader.run / "variability.properties"))
    joined = extended.compute(progress_bar=False)
    assert len(joined) == 120
    assert joined["status"].notna().all()
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
