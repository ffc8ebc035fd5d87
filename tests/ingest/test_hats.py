"""Surveys written as HATS: opened by lsdb, balanced, and with everything that went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.archive_files import ERRORS, GOLDEN, HJD, MAGS, ZTF, write_archive
from varstar_batch.errors import InputError
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import ArchiveOptions, IngestOptions
from varstar_batch.ingest.plan import IngestPlan, Widths, plan_pixels
from varstar_batch.sky import cells_of
from varstar_batch.survey.open import open_survey
from varstar_batch.survey.read import read_batches

N, PER = 600, 20
OPTIONS = IngestOptions(time_system="HJD", hats=True, partitions=20)


def write_tables(folder: Path) -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(11)
    # Half of them crowded around one spot.
    ra = np.where(np.arange(N) % 2, rng.uniform(0, 360, N), rng.normal(80, 1, N))
    dec = np.where(np.arange(N) % 2, np.degrees(np.arcsin(rng.uniform(-1, 1, N))), rng.normal(-69, 1, N))
    objects = pa.table({"object_id": [f"s{i}" for i in range(N)], "period": rng.random(N) + 0.1, "ra": ra, "dec": dec})
    index = rng.permutation(np.repeat(np.arange(N), PER))
    observations = pa.table(
        {
            "object_id": objects["object_id"].take(pa.array(index)),
            "time": 2457000 + rng.random(N * PER) * 1000,
            "mag": rng.normal(15, 1, N * PER).astype(np.float32),
            "mag_err": np.full(N * PER, 0.1, np.float32),
        }
    )
    pq.write_table(objects, folder / "objects.parquet")
    pq.write_table(observations, folder / "observations.parquet")
    return objects, observations


# What dask and lsdb warn about is not ours.
@pytest.mark.filterwarnings("ignore")
def test_a_survey_that_lsdb_opens(tmp_path: Path) -> None:
    import lsdb

    objects, observations = write_tables(tmp_path)
    out = tmp_path / "survey"
    report = ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", out, OPTIONS)
    assert report.objects_written == N
    assert report.observations_written == N * PER
    survey = open_survey(out)
    assert survey.source.layout == "hats"
    assert survey.source.time_system == "HJD"
    assert report.partitions == len(survey.partitions) > 15
    opened = lsdb.open_catalog(out)
    frame = opened.compute()
    assert len(frame) == N
    assert frame.index.name == "_healpix_29"
    by_name = frame.set_index("object_id")
    expected = observations.filter(pa.compute.equal(observations["object_id"], "s7")).sort_by("time")
    nested = by_name.loc["s7", "lightcurve"]
    np.testing.assert_array_equal(nested["time"], expected["time"])
    np.testing.assert_array_equal(nested["mag"], expected["mag"])
    assert by_name.loc["s7", "period"] == objects["period"][7].as_py()
    cone = opened.cone_search(ra=80, dec=-69, radius_arcsec=1800).compute()
    assert 0 < len(cone) < N


@pytest.mark.filterwarnings("ignore")
def test_files_of_an_archive_through_hats(tmp_path: Path) -> None:
    import lsdb

    folder = write_archive(tmp_path / "in", a=ZTF)
    options = ArchiveOptions(hats=True)
    ingest_archive(folder, None, tmp_path / "survey", options)
    row = lsdb.open_catalog(tmp_path / "survey").compute().iloc[0]
    assert (row["object_id"], row["ra"], row["dec"], row["band"]) == ("686103400067717", 187.25, -2.5, "g")
    np.testing.assert_array_equal(row["lightcurve"]["time"], HJD)
    np.testing.assert_array_equal(row["lightcurve"]["mag"], np.float32(MAGS))
    np.testing.assert_array_equal(row["lightcurve"]["mag_err"], np.float32(ERRORS))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GOLDEN)
def test_every_format_comes_back_through_hats_and_lsdb(tmp_path: Path, name: str) -> None:
    import lsdb

    content, _, band, object_id, zero, _ = GOLDEN[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "star.dat").write_bytes(content() if callable(content) else content)
    (tmp_path / "objects.csv").write_text(f"object_id,period,ra,dec\n{object_id},0.5,187.25,-2.5\n")
    options = ArchiveOptions(band=band, hats=True)
    ingest_archive(tmp_path / "in", tmp_path / "objects.csv", tmp_path / "survey", options)
    row = lsdb.open_catalog(tmp_path / "survey").compute().iloc[0]
    assert (row["object_id"], row["period"]) == (object_id, 0.5)
    curve = row["lightcurve"]
    good = curve[curve["mag_err"] < 99]
    np.testing.assert_allclose(good["time"] + zero, HJD, rtol=0, atol=2e-9)
    np.testing.assert_allclose(good["mag"], MAGS, rtol=0, atol=2e-6)
    np.testing.assert_allclose(good["mag_err"], ERRORS, rtol=1e-6)


def test_every_object_is_in_its_pixel(tmp_path: Path) -> None:
    objects, _ = write_tables(tmp_path)
    ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", tmp_path / "survey", OPTIONS)
    survey = open_survey(tmp_path / "survey")
    names = []
    for partition in survey.partitions:
        table = pq.read_table(tmp_path / "survey" / partition.key, partitioning=None)
        parts = dict(part.split("=") for part in partition.key.removesuffix(".parquet").split("/")[1:])
        order, pixel = int(parts["Norder"]), int(parts["Npix"])
        cells = table["_healpix_29"].to_numpy()
        assert (np.diff(cells) >= 0).all()
        assert (cells >> (2 * (29 - order)) == pixel).all()
        np.testing.assert_array_equal(cells, cells_of(table["ra"].to_numpy(), table["dec"].to_numpy(), 29))
        rows = sum(len(batch.period) for batch in read_batches(survey.source, partition, None, 10**6))
        assert rows == table.num_rows
        names += table["object_id"].to_pylist()
    assert sorted(names) == sorted(objects["object_id"].to_pylist())


def test_pixels_are_balanced_by_observations() -> None:
    rng = np.random.default_rng(2)
    cells = rng.integers(0, 12 << 58, 5000)
    counts = np.where(np.arange(5000) < 50, 10_000, 10)
    plan = IngestPlan(counts, np.arange(5000), np.array([0, 5000]), int(counts.sum()), ())
    placed, keys = plan_pixels(plan, cells, 40, Widths(observation=1, object=1))
    assert len(keys) == placed.partitions
    assert len(set(keys)) == len(keys)
    weights = [int((counts[placed.members(i)] + 1).sum()) for i in range(placed.partitions)]
    assert sum(weights) == counts.sum() + 5000
    assert max(weights) <= -(-sum(weights) // 40)
    assert sorted(placed.order.tolist()) == list(range(5000))


def test_pixels_are_balanced_by_bytes() -> None:
    cells = np.random.default_rng(3).integers(0, 12 << 58, 4000)
    plan = IngestPlan(np.full(4000, 1), np.arange(4000), np.array([0, 4000]), 4000, ())
    narrow, _ = plan_pixels(plan, cells, None, Widths(observation=16, object=16))
    wide, _ = plan_pixels(plan, cells, None, Widths(observation=16, object=2**20))
    assert narrow.partitions == 12
    assert max(len(wide.members(i)) for i in range(wide.partitions)) <= 64


def test_stars_at_one_place_stay_together() -> None:
    plan = IngestPlan(np.full(9, 100), np.arange(9), np.array([0, 9]), 900, ())
    placed, keys = plan_pixels(plan, np.full(9, 5 << 50), 9, Widths())
    assert len(keys) == placed.partitions == 1
    assert "Norder=11" in keys[0]


def test_hats_needs_positions(tmp_path: Path) -> None:
    objects, _ = write_tables(tmp_path)
    ra = objects["ra"].to_pylist()
    ra[3] = None
    pq.write_table(objects.set_column(2, "ra", pa.array(ra)), tmp_path / "objects.parquet")
    with pytest.raises(InputError, match="1 of 600 without, the first 's3'"):
        ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", tmp_path / "survey", OPTIONS)
    assert not (tmp_path / "survey").exists()
