"""Removing runs and going back to one: whatever is interrupted, nothing that can be read is broken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.catalog.run_files.test_root import Crash, Cutter
from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files import root as catalog_root
from varstar_batch.catalog.run_files.history import list_runs, prunable, prune, published_runs, rollback
from varstar_batch.catalog.run_files.root import Catalog, new_run_id, open_catalog_root
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.errors import RefusedError
from varstar_batch.files.location import Location

OLD, NEW = run_name(1), run_name(2)


def make_catalog(root: Path) -> Catalog:
    for run_id in (OLD, NEW):
        write_run(root, run_id, RunSpec(partitions=in_slices(sky_rows(40))))
    return open_catalog_root(root)


def each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[Catalog], Any]) -> list[Catalog]:
    """Return catalogs, in each of which the action was cut at another of its steps on storage."""

    def done(catalog: Catalog, at: int | None) -> int:
        with monkeypatch.context() as patch:
            # A folder is removed file by file; each of them is a step.
            patch.setattr(Location, "remove", _remove_by_files)
            cutter = Cutter(patch, at=at)
            if at is None:
                action(catalog)
            else:
                with pytest.raises(Crash):
                    action(catalog)
            return cutter.count

    steps = done(make_catalog(tmp_path / "count"), None)
    cut = [make_catalog(tmp_path / f"cut-{step}") for step in range(steps)]
    for step, catalog in enumerate(cut):
        done(catalog, step)
    return cut


_remove = Location.remove


def _remove_by_files(location: Location) -> None:
    for info in location.files() if not location.is_file() else ():
        (location / info.key).remove()
    _remove(location)


def test_a_prune_that_is_killed_at_any_step_leaves_no_half_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = each_step(tmp_path, monkeypatch, lambda catalog: prune(catalog, prunable(catalog, 1)))
    assert len(cut) > 10
    for catalog in cut:
        assert verify_catalog(open_catalog(catalog.root.path)) == []
        if OLD in published_runs(catalog):
            assert verify_catalog(open_catalog(catalog.root.path, OLD)) == []
        else:
            with pytest.raises(Exception, match="expected a published run"):
                rollback(catalog, OLD)
        prune(catalog, prunable(catalog, 1))
        assert [run.run_id for run in list_runs(catalog)] == [NEW]
        assert not list(Path(catalog.root.path).glob(f"**/{OLD}*"))


def test_a_rollback_that_is_killed_at_any_step_is_done_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = each_step(tmp_path, monkeypatch, lambda catalog: rollback(catalog, OLD))
    assert cut
    for catalog in cut:
        assert catalog.current().run_id == NEW
        assert verify_catalog(open_catalog(catalog.root.path)) == []
        rollback(catalog, OLD)
        assert verify_catalog(open_catalog(catalog.root.path)) == []


@pytest.mark.parametrize("victim", ["dataset/part-00001.parquet", "run.json", "row_groups.parquet", "manifest.json"])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_no_way_back_to_a_run_that_is_not_whole(tmp_path: Path, victim: str, harm: Callable[[Path], Any]) -> None:
    catalog = make_catalog(tmp_path)
    harm(tmp_path / "runs" / OLD / victim)
    with pytest.raises(RefusedError, match="lost or cut short"):
        rollback(catalog, OLD)
    assert catalog.current().run_id == NEW


def test_a_run_is_published_while_it_is_being_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = make_catalog(tmp_path)
    create, left = Location.create, ["once"]

    def removed_meanwhile(location: Location, content: bytes) -> None:
        if left and "current/" in str(location):
            left.pop()
            prune(catalog, [OLD])
        create(location, content)

    monkeypatch.setattr(Location, "create", removed_meanwhile)
    # The run went between the look at its mark and the pointer's step; here its mark is gone, too.
    monkeypatch.setattr(Catalog, "removing", lambda _: [OLD] if not left else [])
    with pytest.raises(RefusedError, match="has begun to remove"):
        rollback(catalog, OLD)
    monkeypatch.undo()
    assert catalog.current().run_id == NEW
    assert verify_catalog(open_catalog(str(tmp_path))) == []


def test_the_current_run_is_never_removed(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path)
    with pytest.raises(RefusedError, match="other than the current one"):
        prune(catalog, [NEW])
    assert not catalog.removing()
    assert catalog.run_ids() == [OLD, NEW]


def test_a_clock_that_goes_back_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2020, 1, 1, tzinfo=UTC)

    assert new_run_id("a" * 64) > run_name(1)
    monkeypatch.setattr(catalog_root, "datetime", Earlier)
    assert new_run_id("a" * 64) == "20200101T000000Z-aaaaaaaa"
    later = new_run_id("a" * 64, after=NEW)
    assert later > NEW
    # One that begins now, and is at work, is no old one.
    catalog = make_catalog(tmp_path)
    write_run(tmp_path, later, RunSpec(partitions=in_slices(sky_rows(40))), publish=False)
    assert later not in prunable(catalog, 1)
