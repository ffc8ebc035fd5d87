"""Tables of objects and of periods in every form, by identifier and by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.archive_files import ZTF, write_archive
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.options import ArchiveOptions
from varstar_batch.sky import match_positions
from varstar_batch.survey.columns import SurveyConfig


@pytest.mark.parametrize("kind", ["csv", "ascii.ecsv", "fits", "votable", "parquet"])
def test_periods_of_another_table(tmp_path: Path, kind: str) -> None:
    from astropy.table import Table

    objects = tmp_path / "objects.csv"
    objects.write_text("object_id,period,ra,dec\n686103400067717,9.5,187.25,-2.5\nb,2.5,10,10\nc,,11,10\nd,7.5,12,10\n")
    table = Table({"object_id": ["c", "b", "e"], "period": [0.25, np.nan, 5.0]})
    table["ra"], table["dec"] = [187.2501, 12.0, 12.0], [-2.5, 10.0001, 10.0002]
    path = tmp_path / f"periods.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({name: np.asarray(table[name]).tolist() for name in table.colnames}), path)
    else:
        table.write(path, format=kind)
    folder = write_archive(tmp_path / "in", x=ZTF)

    def periods_of(name: str, radius: float | None) -> tuple[Any, Any]:
        options = ArchiveOptions(periods=str(path), periods_radius=radius)
        report = ingest_archive(folder, objects, tmp_path / name, options)
        return pq.read_table(tmp_path / name / "part-00000.parquet")["period"].to_pylist(), report.ingest.periods

    assert periods_of("by_id", None) == ([9.5, 2.5, 0.25, 7.5], {"matched": 2, "taken": 1, "ambiguous": 0, "shared": 0})
    by_position, counts = periods_of("by_position", 1.0)
    # The nearest to d has no period, so that its own stays.
    assert by_position == [0.25, 2.5, None, 7.5]
    assert counts == {"matched": 2, "taken": 1, "ambiguous": 1, "shared": 0}


@pytest.mark.parametrize("kind", ["csv", "ascii.ecsv", "fits", "votable", "parquet"])
def test_tables_of_objects_in_every_form_matched_by_position(tmp_path: Path, kind: str) -> None:
    from astropy import units
    from astropy.table import MaskedColumn, Table

    table = Table({"name": ["V1", "V2", "V3"], "P": MaskedColumn([12.0, 24.0, 1.0], mask=[False, False, True])})
    table["P"].unit = units.h if kind in ("ascii.ecsv", "fits", "votable") else None
    # 1", 3" and 3600" away.
    table["ra"], table["dec"] = [187.25, 187.25, 187.25], [-2.5 + 1 / 3600, -2.5 - 3 / 3600, -1.5]
    path = tmp_path / f"objects.{kind}"
    if kind == "parquet":
        pq.write_table(
            pa.table(
                {
                    name: pa.array(list(table[name].filled(np.nan) if name == "P" else table[name]))
                    for name in table.colnames
                }
            ),
            path,
        )
    else:
        table.rename_column("P", "period") if kind != "csv" else None
        table.write(path, format=kind)
    config = SurveyConfig(object_id="name", period="P" if kind in ("csv", "parquet") else "period")
    options = ArchiveOptions(radius=5, columns=config)
    report = ingest_archive(write_archive(tmp_path / "in", x=ZTF), path, tmp_path / "out", options)
    assert (report.ambiguous, report.unmatched, report.shared) == (1, 0, 0)
    written = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert written["object_id"].to_pylist() == ["V1", "V2", "V3"]
    hours = kind in ("ascii.ecsv", "fits", "votable")
    np.testing.assert_allclose(written["period"].to_numpy()[:2], [0.5, 1.0] if hours else [12, 24])
    assert [len(one["time"]) for one in written["lightcurve"].to_pylist()] == [3, 0, 0]


def test_matching_by_position() -> None:
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    dec[:2], ra[2] = [90.0, -90.0], np.nan
    shifted = ra + 0.5 / 3600
    match = match_positions(ra, dec, shifted[::-1], dec[::-1], 1 / 3600)
    expected = np.arange(300)[::-1].copy()
    expected[2] = -1
    np.testing.assert_array_equal(match.row, expected)
    assert not match.ambiguous.any()
    assert (match_positions(ra[:5], dec[:5], [], [], 0.1).row == -1).all()
    two = match_positions([0.0, 0.0001], [0.0, 0.0], [359.9999], [0.0], 0.001)
    assert two.shared == 1
    with pytest.raises(ValueError, match="radius"):
        match_positions(ra, dec, ra, dec, 2.0)
