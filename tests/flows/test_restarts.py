"""A part of a site that ends comes back, and leaves nothing of its own behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.makers.flow_site import Site, processes_with, running_site, until
from tests.makers.runbook import check_said
from tests.makers.surveys import simulated_table, write_partition, write_survey
from varstar_batch.cli import parts
from varstar_batch.cli.parts import Part, running
from varstar_batch.errors import InputError


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(parts, "LONGEST_WAIT_SECONDS", 0.1)


def looked_at(part: Part, log: Path, text: str, times: int) -> None:
    def look() -> bool:
        part.look()
        return log.is_file() and log.read_text().count(text) >= times

    until(f"{times} starts", look, 60, 0.02)


def test_a_part_that_ends_is_started_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(monkeypatch)
    part = Part("server", ["this"], os.environ, tmp_path)
    with running(part):
        looked_at(part, tmp_path / "server.log", "Zen of Python", 3)
    said = capsys.readouterr().err
    assert said.count("warning: the server ended (exit code 0, see ") >= 2
    assert "starts again in" in said


def test_what_a_part_had_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, it cannot end them itself: one lets itself be asked to, the other does not."""
    quick(monkeypatch)
    monkeypatch.setattr(parts, "ORPHAN_SECONDS", 0.5)
    module = tmp_path / "starts_others.py"
    module.write_text(
        "import subprocess, sys, time\n"
        "sleep = 'import time; print(1, flush=True); time.sleep(600)'\n"
        "deaf = 'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); ' + sleep\n"
        "both = [subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE) for code in (sleep, deaf)]\n"
        "[each.stdout.readline() for each in both]\n"
        "print('began', flush=True)\n"
        "time.sleep(600)\n"
    )
    mark = f"VARSTAR_TEST_{os.getpid()}"
    environment = {**os.environ, mark: "1", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    part = Part("worker", ["starts_others"], environment, tmp_path)
    with running(part):
        until("it to begin", lambda: "began" in (tmp_path / "worker.log").read_text(), 60)
        first = set(processes_with(mark))
        assert len(first) == 3
        os.kill(min(first), signal.SIGKILL)
        looked_at(part, tmp_path / "worker.log", "began", 2)
        until("the first ones to end", lambda: not first & set(processes_with(mark)), 30)
    until("the others to end", lambda: not processes_with(mark), 30)


def test_a_part_that_never_began_is_told_with_its_last_words(tmp_path: Path) -> None:
    part = Part("server", ["no_such_module"], os.environ, tmp_path)
    with running(part):

        def ended() -> InputError | None:
            try:
                part.check()
            except InputError as error:
                return error
            return None

        error = until("its end", ended, 60)
    assert "exit code 1" in str(error)
    assert "No module named no_such_module" in str(error)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("restarts")
    write_survey(folder / "survey", (20,))
    with running_site(folder) as running:
        yield running


def healthy(site: Site) -> bool:
    try:
        return httpx.get(f"{site.url}/api/health", timeout=10).is_success
    except httpx.TransportError:
        return False


def came_back(site: Site, name: str, before: int) -> int:
    def look() -> int | None:
        there = site.part(name)
        return there if there is not None and there != before else None

    return until(f"the {name} to come back", look)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_comes_back_and_the_site_works_on(site: Site, how: signal.Signals) -> None:
    before = site.part("server")
    assert before is not None
    begun = time.monotonic()
    os.kill(before, how)
    came_back(site, "server", before)
    until("it to answer", lambda: healthy(site))
    print(f"answers again {time.monotonic() - begun:.1f} s after {how.name}")
    site.ended(site.start("reclassify/full"), "COMPLETED", 300)
    # The first of the two.
    check_said("server ends", (site.folder / "serve.log").read_text())


@pytest.mark.slow
def test_a_worker_that_is_killed_comes_back_and_its_run_is_told(site: Site, tmp_path: Path) -> None:
    survey = tmp_path / "endless"
    write_partition(survey / "part-00000.parquet", simulated_table(0, 1000))
    for number in range(1, 2000):
        os.link(survey / "part-00000.parquet", survey / f"part-{number:05d}.parquet")
    catalog = tmp_path / "catalog"
    parameters: dict[str, Any] = {"survey": str(survey), "catalog": str(catalog), "workers": 1}
    run = site.start("reclassify/nightly", **parameters)
    until("some partitions", lambda: len(list(catalog.glob("runs/*/dataset/part-*.parquet"))) > 1)
    at_work = set(processes_with(run))
    before = site.part("worker")
    assert before is not None
    os.kill(before, signal.SIGKILL)
    came_back(site, "worker", before)
    until("its processes to end", lambda: not at_work & set(processes_with(run)), 30)
    check_said("Prefect's worker ends", (site.folder / "serve.log").read_text())
    # It was told to end and could still say so: its place in the queue is free at once.
    site.ended(run, "CRASHED")
    site.ended(site.start("reclassify/full"), "COMPLETED", 300)
