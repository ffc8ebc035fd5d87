"""What two processes do at once, in the one order that would go wrong."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from varstar_batch.catalog.run_files.root import MARKER, check_catalog_root
from varstar_batch.cluster.dask_runner import DaskRunner
from varstar_batch.errors import InputError, WorkersLostError
from varstar_batch.files.location import Location, locate
from varstar_batch.ingest import workspace as ingest_workspace
from varstar_batch.ingest.workspace import open_workspace
from varstar_batch.runs.config import RunConfig
from varstar_batch.runs.execute import Task
from varstar_batch.runs.tasks import classify_chunk


def test_an_ingest_that_ends_while_another_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = locate(tmp_path / "survey", what="survey")
    lock = fcntl.flock
    ended: list[Path] = []

    def one_ends_first(descriptor: int, how: int) -> None:
        if not ended:
            (path,) = tmp_path.glob("*.lock")
            path.unlink()  # as that one does in the end, after this one has opened the file
            ended.append(path)
        lock(descriptor, how)

    monkeypatch.setattr(ingest_workspace.fcntl, "flock", one_ends_first)
    with (
        open_workspace(out, None, {}, "mine") as workspace,
        pytest.raises(InputError, match="another one that is going on"),
        open_workspace(out, None, {}, "theirs"),
    ):
        pytest.fail("two ingests into one place at once")
    assert ended
    assert not workspace.folder.exists()
    assert not list(tmp_path.iterdir())


def test_a_catalog_that_is_made_while_its_folder_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MARKER).write_text("{}")
    monkeypatch.setattr(Location, "children", lambda _: ["runs"])  # the marker came when its turn was over
    assert check_catalog_root(tmp_path).root.path == str(tmp_path)


def test_a_client_that_gives_its_scheduler_up_between_two_looks() -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):

        def tasks() -> Iterator[Task]:
            client.close()
            yield Task("a", "a", classify_chunk, (SimpleNamespace(run_id="run"), None))

        with pytest.raises(WorkersLostError, match="start the scheduler"):
            next(DaskRunner(client, RunConfig()).run(tasks()))
