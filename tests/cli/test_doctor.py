"""What `varstar doctor` asks of storage, surveys and clusters; tests/flows/ has what it asks of Prefect's server."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.makers.clusters import Cluster, cluster, free_port
from tests.makers.command_line import Result
from tests.makers.runbook import check_said
from tests.makers.runs import run
from tests.makers.surveys import write_survey
from varstar_batch.cli import doctor
from varstar_batch.cli.doctor import BYTES_OF_A_ROW, check_cluster, check_place, check_survey
from varstar_batch.cluster import examine
from varstar_batch.cluster.examine import examine_cluster
from varstar_batch.files.location import Location
from varstar_batch.requests import ClusterOptions

Usage = namedtuple("Usage", ["total", "used", "free"])


def test_a_place_is_written_and_left_as_it_was(tmp_path: Path) -> None:
    check = check_place("catalog", str(tmp_path))
    assert (check.state, check.found) == ("ok", f"{tmp_path} can be written, conditionally, too")
    assert not list(tmp_path.iterdir())


def test_a_store_that_ignores_conditions_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Location, "create", Location.write_bytes)
    check = check_place("catalog", str(tmp_path))
    assert check.state == "failed"
    check_said("store without conditions", check.found)
    assert not list(tmp_path.iterdir())


def test_a_survey_fits_on_the_disk_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (30, 20)), tmp_path / "not" / "there"
    monkeypatch.setattr(
        shutil, "disk_usage", lambda place: Usage(0, 0, 50 * BYTES_OF_A_ROW if place == tmp_path else 0)
    )
    check = check_survey(str(survey), None, str(catalog))
    assert check.state == "ok", check
    assert "2 partitions, 50 objects" in check.found
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 50 * BYTES_OF_A_ROW - 1))
    check = check_survey(str(survey), None, str(catalog))
    assert check.state == "failed"
    check_said("disk too small", check.found)
    assert f"varstar prune {catalog}" in check.fix
    assert "free" not in check_survey(str(survey), None, "s3://bucket/catalog").found


def test_what_a_run_writes_is_what_is_foretold(tmp_path: Path) -> None:
    """The chunks, and the files that they become, are there at once."""
    survey = write_survey(tmp_path / "survey", (2000,))
    catalog = tmp_path / "catalog"
    run(survey, catalog)
    rows = sum(file.stat().st_size for file in catalog.glob("runs/*/dataset/*.parquet"))
    assert rows < 2 * rows < 2000 * BYTES_OF_A_ROW < 4 * rows


def test_no_scheduler_answers() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    (check,) = check_cluster(address, ClusterOptions())
    assert (check.name, check.state) == ("cluster", "failed")
    assert address in check.found
    assert "dask scheduler" in check.fix


@pytest.mark.slow
def test_a_cluster_is_of_these_versions_and_its_cards_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(plain=(), gpu=("--resources", "GPU=1")) as processes:
        said = {check.name: check for check in check_cluster(processes.address, ClusterOptions())}
        assert said["cluster"].state == "ok", said
        assert "2 workers, versions and code as here" in said["cluster"].found
        # It declares a card that this machine does not have.
        assert said["gpus"].state == "failed"
        check_said("no GPU where one is declared", said["gpus"].found)
        monkeypatch.setattr(examine, "code_digests", lambda: {"flows": "of another day"})  # of this process only
        (check, _) = check_cluster(processes.address, ClusterOptions())
        assert check.state == "failed"
    empty = Cluster()
    try:
        (check,) = check_cluster(empty.address, ClusterOptions())
        assert (check.state, "0 workers" in check.found) == ("failed", True)
    finally:
        empty.stop()


class Answers:
    """A client of a cluster, as far as it is asked."""

    def get_versions(self) -> dict[str, object]:
        mine = {"packages": {"dask": "2", "numpy": "3"}}
        return {"client": mine, "scheduler": mine, "workers": {"tcp://w": {"packages": {"dask": "1", "numpy": "3"}}}}

    def run(self, *_: object, **__: object) -> dict[str, object]:
        return {"tcp://w": ModuleNotFoundError("No module named 'varstar_batch'")}

    def scheduler_info(self, **_: object) -> dict[str, object]:
        return {"workers": {"tcp://w": {"resources": {}}}}


def test_other_versions_and_code_are_named() -> None:
    found = examine_cluster(Answers())  # type: ignore[arg-type]
    check_said("cluster of other versions", "; ".join(found.unlike))
    assert found.workers == 1
    assert found.unlike == (
        "tcp://w has dask 1 instead of 2",
        "tcp://w cannot load varstar-batch: No module named 'varstar_batch'",
    )


def test_each_check_is_one_line_and_json_has_them_all(
    varstar: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from varstar_batch.cli.check import Check

    monkeypatch.setattr(doctor, "check_server", lambda _: iter([Check("server", "failed", "none", "start one")]))
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    survey = write_survey(tmp_path / "survey", (10,))
    words = ["doctor", "--survey", survey, "--catalog", tmp_path / "catalog"]
    plain = varstar(*words)
    assert plain.code == 1
    as_json = varstar(*words, "--json")
    assert as_json.code == 1
    checks = json.loads(as_json.out)
    assert [check["name"] for check in checks] == ["versions", "server", "catalog", "survey", "model", "gpu"]
    assert len(plain.out.splitlines()) == len(checks)
    assert "  failed  server    none -> start one" in plain.out.splitlines()
