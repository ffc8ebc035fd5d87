"""Publishing: of many at once exactly one wins, and a crash at any step leaves the old catalog whole."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.makers.catalogs import RunSpec, in_pixels, run_name, sky_rows, write_run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.root import make_catalog_root, open_catalog_root
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.errors import RefusedError
from varstar_batch.files.location import Location

PUBLISHERS = 16
ROUNDS = 10


def outcome(root: str, number: int, based_on: int) -> str | None:
    """Publish, and return the run that did, or None for a refusal."""
    try:
        return open_catalog_root(root).publish(run_name(number), based_on=based_on).run_id
    except RefusedError as error:
        return None if "published meanwhile" in str(error) else "refused for another reason"


def _in_process(root: str, number: int, based_on: int, gate: Any, answers: Any) -> None:
    gate.wait()
    answers.put((number, outcome(root, number, based_on)))


def check_one_winner(root: Path | str, based_on: int, outcomes: list[str | None]) -> None:
    winners = [run for run in outcomes if run is not None]
    assert len(outcomes) == PUBLISHERS
    assert len(winners) == 1, winners
    catalog = open_catalog_root(root)
    assert (catalog.current().run_id, catalog.current().number) == (winners[0], based_on + 1)


def test_a_catalog_made_by_several_at_once_is_no_ones_something_else(tmp_path: Path) -> None:
    """Of 3,000 rounds, 387 failed while the marker was asked for first and the rest of the folder after."""
    together = threading.Barrier(6)

    def make(root: Path) -> str:
        together.wait()
        return str(make_catalog_root(root))

    with ThreadPoolExecutor(6) as pool:
        for number in range(100):
            root = tmp_path / str(number)
            assert set(pool.map(make, [root] * 6)) == {str(root)}


def test_of_sixteen_threads_one_wins_every_round(tmp_path: Path) -> None:
    make_catalog_root(tmp_path)
    with ThreadPoolExecutor(PUBLISHERS) as pool:
        for based_on in range(ROUNDS):
            numbers = range(based_on * 100, based_on * 100 + PUBLISHERS)
            found = list(pool.map(lambda number, base: outcome(str(tmp_path), number, base), numbers, [based_on] * 16))
            check_one_winner(tmp_path, based_on, found)
    assert len(open_catalog_root(tmp_path).history()) == ROUNDS


def test_of_sixteen_processes_one_wins_every_round(tmp_path: Path) -> None:
    make_catalog_root(tmp_path)
    # Forked: sixteen fresh interpreters would spend their seconds on imports and never meet.
    context = multiprocessing.get_context("fork")
    for based_on in range(3):
        gate, answers = context.Barrier(PUBLISHERS), context.Queue()
        processes = [
            context.Process(target=_in_process, args=(str(tmp_path), number, based_on, gate, answers))
            for number in range(based_on * 100, based_on * 100 + PUBLISHERS)
        ]
        for process in processes:
            process.start()
        found = [answers.get(timeout=60)[1] for _ in processes]
        for process in processes:
            process.join(timeout=60)
            assert process.exitcode == 0
        check_one_winner(tmp_path, based_on, found)


def test_a_later_publisher_that_began_earlier_is_refused(tmp_path: Path) -> None:
    catalog = make_catalog_root(tmp_path)
    catalog.publish(run_name(1), based_on=0)
    with pytest.raises(RefusedError, match=run_name(1)):
        catalog.publish(run_name(2), based_on=0)
    assert catalog.publish(run_name(2), based_on=1).number == 2
    assert [pointer.run_id for pointer in catalog.history()] == [run_name(1), run_name(2)]


class Crash(BaseException):
    """What nobody catches: the process is gone."""


STEPS = ("atomic_output", "write_bytes", "create", "remove", "link_or_copy")


class Cutter:
    """Ends the process, as it were, at the n-th writing operation on storage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int | None) -> None:
        self.count = 0
        self.at = at
        for name in STEPS:
            monkeypatch.setattr(Location, name, self._counted(name, getattr(Location, name)))

    def _counted(self, name: str, original: Any) -> Any:
        def wrapped(location: Location, *args: Any, **options: Any) -> Any:
            # write_bytes of a local file goes through atomic_output: one step, not two.
            if not (name == "write_bytes" and location.is_local):
                self.count += 1
                if self.at is not None and self.count > self.at:
                    raise Crash
            return original(location, *args, **options)

        return wrapped


def test_a_crash_between_any_two_steps_leaves_the_old_catalog_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every writing step of making and publishing a run is cut once; then the same is done again, and succeeds."""
    rows = sky_rows(200)
    old = RunSpec(partitions={"a.parquet": rows.slice(0, 50)})
    new = RunSpec(partitions={"a.parquet": rows, "b.parquet": sky_rows(10, first_id=1)}, model_version="2")
    write_run(tmp_path / "count", run_name(1), old)
    with monkeypatch.context() as patch:
        counter = Cutter(patch, at=None)
        write_run(tmp_path / "count", run_name(2), new)
    steps = counter.count
    assert steps > 10
    for step in range(steps):
        root = tmp_path / f"cut-{step}"
        write_run(root, run_name(1), old)
        with monkeypatch.context() as patch:
            Cutter(patch, at=step)
            with pytest.raises(Crash):
                write_run(root, run_name(2), new)
        reader = open_catalog(root)
        assert reader.run_id == run_name(1), step
        assert verify_catalog(reader) == [], step
        assert reader.query("SELECT count(*) AS n FROM catalog")["n"].to_pylist() == [50]
        write_run(root, run_name(2), new)
        assert open_catalog(root).run_id == run_name(2)
        assert verify_catalog(open_catalog(root)) == [], step


def test_a_hats_run_that_was_cut_is_finished_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hats.io import skymap

    spec = RunSpec(partitions=in_pixels(sky_rows(100), order=0), layout="hats")
    for victim in ("write_skymap",):
        with monkeypatch.context() as patch:
            patch.setattr(skymap, victim, lambda *_, **__: (_ for _ in ()).throw(Crash()))
            with pytest.raises(Crash):
                write_run(tmp_path, run_name(1), spec)
        assert open_catalog_root(tmp_path).current().number == 0
    (tmp_path / "runs" / run_name(1) / "dataset" / "Norder=0" / ".tmp-0-dead").write_bytes(b"half")
    write_run(tmp_path, run_name(1), spec)
    assert verify_catalog(open_catalog(tmp_path)) == []


KILLED = """
import os, sys
from varstar_batch.runs.execute import InProcess
from varstar_batch.runs.prepare import plan_run, prepare
from varstar_batch.runs.stages import RunObserver, execute_run, publish, verify
from varstar_batch.runs.config import RunConfig
from varstar_batch.files.location import Location

step = int(sys.argv[3])
count = 0

def counted(name):
    original = getattr(Location, name)
    def wrapped(location, *args, **options):
        global count
        if publishing and not (name == "write_bytes" and location.is_local):
            count += 1
            if count > step:
                os._exit(77)
        return original(location, *args, **options)
    return wrapped

publishing = False
for name in ("atomic_output", "write_bytes", "create", "remove", "link_or_copy"):
    setattr(Location, name, counted(name))
plan, bundle = plan_run(sys.argv[1], None, RunConfig(precision="bfloat16"))
prepared = prepare(plan, bundle, sys.argv[2])
executed = execute_run(prepared, InProcess(), RunObserver())
verify(prepared, executed)
publishing = True
publish(prepared, executed)
print(count)
"""


@pytest.mark.slow
def test_a_real_process_that_dies_at_each_step_of_publishing(tmp_path: Path) -> None:
    """The whole way: classify, and die by os._exit at each writing step; the next try resumes and publishes."""
    survey = write_survey(tmp_path / "survey", (25, 25))
    root = tmp_path / "catalog"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    first = "from varstar_batch.cli import main; main()"
    command = [sys.executable, "-c", first, "classify", str(survey), str(root), "--workers", "0"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    old = open_catalog(root).run_id
    step = 0
    while True:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(survey), str(root), str(step)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode == 0:
            break
        assert done.returncode == 77, done.stderr
        assert open_catalog(root).run_id == old, step
        step += 1
    assert step >= 8
    assert int(done.stdout.split()[-1]) == step
    assert open_catalog(root).run_id != old
    assert verify_catalog(open_catalog(root)) == []
    assert verify_catalog(open_catalog(root, old)) == []
