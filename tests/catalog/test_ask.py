"""The stars to label: doubtful ones, unlike each other, never one that has a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from varstar_batch.catalog.ask import stars_to_label
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.errors import InputError
from varstar_batch.light_curves.classes import CLASSES

ROWS = sky_rows(300, seed=6)


def with_probabilities(rows: pa.Table, probabilities: np.ndarray) -> pa.Table:
    """The same rows with other probabilities, (n, n_classes)."""
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(axis=1)
    columns = {f"prob_{name}": probabilities[:, k] for k, name in enumerate(CLASSES)} | {"entropy": entropy}
    for name, values in columns.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values.astype(np.float32)))
    return rows


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> CatalogReader:
    root = tmp_path_factory.mktemp("ask") / "catalog"
    write_run(root, run_name(1), RunSpec(partitions=in_slices(ROWS)))
    return open_catalog(root)


def test_stars_are_classified_different_and_the_same_every_time(reader: CatalogReader) -> None:
    stars = stars_to_label(reader, 40)
    names = stars["object_id"].to_pylist()
    assert len(set(names)) == 40
    assert stars["class"].null_count == 40
    answers = dict(zip(ROWS["object_id"].to_pylist(), ROWS["class"].to_pylist(), strict=True))
    assert stars["answer"].to_pylist() == [answers[name] for name in names]
    assert None not in stars["answer"].to_pylist()
    assert stars_to_label(reader, 40).equals(stars)
    assert stars_to_label(reader, 1000).num_rows == sum(answer is not None for answer in answers.values())


def test_who_has_a_label_is_not_asked_for_again(reader: CatalogReader) -> None:
    first = [str(name) for name in stars_to_label(reader, 30)["object_id"].to_pylist()]
    again = stars_to_label(reader, 30, first)
    assert again.num_rows == 30
    assert not set(first) & {str(name) for name in again["object_id"].to_pylist()}
    with pytest.raises(InputError, match="classified stars without a label"):
        stars_to_label(reader, 30, [str(name) for name in ROWS["object_id"].to_pylist()])


def test_doubt_comes_before_certainty_and_no_kind_of_doubt_is_left_out(tmp_path: Path) -> None:
    rows = ROWS.filter(pa.compute.equal(ROWS["status"], "ok")).slice(0, 200)
    sure, half = np.full(6, 0.002), np.full(6, 0.004)
    sure[0] = 0.99
    probabilities = np.tile(sure, (200, 1))
    # 30 stars between RR and ECL, and two, among 200, between M and SR.
    probabilities[:32] = half
    probabilities[:30, [2, 4]] = probabilities[30:32, [3, 5]] = 0.492
    for name in ("period", "amplitude"):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(np.ones(200), rows.schema.field(place).type))
    rows = with_probabilities(rows, probabilities)
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(rows)))
    names = rows["object_id"].to_pylist()
    asked = stars_to_label(open_catalog(tmp_path), 4)["object_id"].to_pylist()
    assert set(asked[:2]) & set(names[:30])
    assert set(asked[:2]) & set(names[30:32])
