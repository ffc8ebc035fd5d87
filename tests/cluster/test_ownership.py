"""A published run is never harmed: same commands at once, processes that sleep and wake, kills; on a disk and on S3.

A few rounds by default; ``VARSTAR_FAULTS=full`` runs as many as docs/reliability.md tells.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.compute as pc
import pytest
import s3fs

from tests.cluster.test_faults import FULL, classify
from tests.makers import s3_server
from tests.makers.clusters import family
from tests.makers.runs import read_rows, run, without_run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.errors import InputError

ROUNDS = 20 if FULL else 2
KILLS = 30 if FULL else 3
ROWS = (60,) * 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 600)]

Place = Callable[[str], str]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("owned") / "survey", ROWS)


@pytest.fixture(scope="module")
def undisturbed(survey: Path, tmp_path_factory: pytest.TempPathFactory):
    catalog = tmp_path_factory.mktemp("undisturbed")
    run(survey, catalog)
    return without_run(read_rows(catalog))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server.moto_server() as url:
        yield url


@pytest.fixture(params=["disk", "s3"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """Where catalogs go: a function of their names."""
    if request.param == "disk":
        yield lambda name: str(tmp_path / name)
        return
    with s3_server.bucket_of(request.node.name, server, monkeypatch) as bucket:
        yield lambda name: f"{bucket}/{name}"


def check(catalog: str, undisturbed) -> None:
    """Nothing is off, nothing lost, nothing doubled."""
    s3fs.S3FileSystem.clear_instance_cache()
    assert verify_catalog(open_catalog(catalog)) == []
    rows = read_rows(catalog)
    assert pc.count_distinct(rows["object_id"]).as_py() == rows.num_rows == undisturbed.num_rows
    assert without_run(rows).equals(undisturbed)


def begin(survey: Path, catalog: str) -> subprocess.Popen[str]:
    command = classify(survey, catalog, "--workers", "0")
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen[str], *codes: int) -> None:
    _, err = process.communicate(timeout=300)
    assert process.returncode in codes, err
    assert "Traceback" not in err, err


def cut_short(survey: Path, catalog: str) -> None:
    """Begin a run and kill it once it can be resumed, so that those who come next share it."""
    first = begin(survey, catalog)
    while first.poll() is None:
        with suppress(InputError):  # no catalog yet
            root = open_catalog_root(catalog)
            if any(root.read_json(run_id, "plan.json") for run_id in root.run_ids()):
                break
        time.sleep(0.01)
    family(first.pid, kill=True)
    first.communicate()


def test_two_same_commands_at_once(survey: Path, undisturbed, place: Place) -> None:
    draw = random.Random(5)
    for number in range(ROUNDS):
        catalog = place(f"twice-{number}")
        if number % 2:  # both resume the same run; else each begins its own
            cut_short(survey, catalog)
        one = begin(survey, catalog)
        time.sleep(draw.choice([0.0, 0.05, 0.3]))
        other = begin(survey, catalog)
        ended(one, 0, 3)
        ended(other, 0, 3)
        check(catalog, undisturbed)


def test_a_process_that_sleeps_while_another_publishes(survey: Path, undisturbed, place: Place) -> None:
    draw = random.Random(6)
    asleep = 0
    for number in range(ROUNDS):
        catalog = place(f"asleep-{number}")
        cut_short(survey, catalog)
        sleeper = begin(survey, catalog)
        time.sleep(draw.uniform(0.5, 2.5))
        if in_flight := sleeper.poll() is None:
            os.killpg(sleeper.pid, signal.SIGSTOP)
        asleep += in_flight
        ended(begin(survey, catalog), 0)
        check(catalog, undisturbed)
        if in_flight:
            os.killpg(sleeper.pid, signal.SIGCONT)
        ended(sleeper, 0, 1, 3)
        check(catalog, undisturbed)
    print(f"{asleep} of {ROUNDS} were asleep before they had ended")


def test_a_group_that_is_killed_at_random(survey: Path, undisturbed, tmp_path: Path) -> None:
    draw = random.Random(7)
    catalog = str(tmp_path / "catalog")
    run(survey, catalog)
    killed = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            classify(survey, catalog, "--workers", "1", "--fresh"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(draw.uniform(0.5, 8.0))
        killed += process.poll() is None
        family(process.pid, kill=True)
        process.wait()
        check(catalog, undisturbed)
    print(f"{killed} of {KILLS} were killed before they had ended")
    run(survey, catalog)
    check(catalog, undisturbed)
