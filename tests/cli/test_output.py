"""What is printed is what is there, on any output: brackets, control characters, a full disk, a closed descriptor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from tests.makers.command_line import Result, refused
from varstar_batch.cli.console import visible
from varstar_batch.survey.labels import agreement

STARS = ["V1[ab]", "[/x]", "\x1b[31mred", "bell\x07 and\nline", "δ Sct", "[bold]fat[/bold]", "\u202ebackwards", "plain"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("output") / "catalog"
    rows = sky_rows(len(STARS), seed=3)
    named = rows.set_column(rows.column_names.index("object_id"), "object_id", pa.array(STARS, pa.large_string()))
    write_run(root, run_name(1), RunSpec(partitions=in_slices(named.sort_by("object_id"))))
    return root


def run(*words: object, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a shell does, with redirections."""
    command = [sys.executable, "-m", "varstar_batch", *map(str, words)]
    script = f'exec "$@" {shell}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *command],
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        env=os.environ | environment,
        check=False,
    )


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The only line of error."""
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_texts_keep_their_brackets_and_steer_no_terminal(root: Path) -> None:
    done = run("query", root, "SELECT object_id FROM catalog ORDER BY object_id")
    assert done.returncode == 0, done.stderr
    for shown in ("V1[ab]", "[/x]", r"\x1b[31mred", r"bell\x07 and\nline", "δ Sct", "[bold]fat[/bold]", r"\u202eback"):
        assert shown in done.stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout)


@pytest.mark.parametrize("star", ["V1[ab]", "[/x]", "[bold]fat[/bold]", "\x1b[31mred"])
def test_a_star_is_shown_by_the_name_that_it_has(varstar: Callable[..., Result], root: Path, star: str) -> None:
    done = varstar("show", root, star)
    assert done.code == 0, done
    assert f"object_id {visible(star)}" in done.out


def test_names_in_errors_are_written_out(varstar: Callable[..., Result], root: Path) -> None:
    refused(varstar("show", root, "no\x1b[2Jsuch[ab]"), 2, r"no\x1b[2Jsuch[ab]")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_any_encoding_will_do(root: Path, encoding: str, form: str) -> None:
    done = run("query", root, "SELECT object_id FROM catalog", "--format", form, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Sct" in done.stdout


@pytest.mark.parametrize(
    "words", ["query table", "query csv", "query json", "query parquet", "runs", "runs json", "help"]
)
def test_a_full_disk_behind_the_output_is_one_line(root: Path, words: str) -> None:
    command, _, form = words.partition(" ")
    calls: dict[str, list[object]] = {
        "query": ["query", root, "SELECT * FROM catalog", "--format", form],
        "runs": ["runs", root, *(["--json"] if form else [])],
        "help": ["--help"],
    }
    done = run(*calls[command], shell=">/dev/full")
    assert done.returncode == 1
    assert "No space left on device" in one_error(done)


def test_a_closed_output_is_one_line_and_hits_no_other_file(root: Path) -> None:
    done = run("query", root, "SELECT * FROM catalog", shell=">&-")
    assert done.returncode == 1
    assert "standard output" in one_error(done)


def test_a_closed_or_full_standard_error_changes_no_answer(root: Path) -> None:
    for shell in ("2>&-", "2>/dev/full"):
        done = run("query", root, "SELECT count(*) AS n FROM catalog", "--format", "csv", shell=shell)
        assert (done.returncode, done.stdout) == (0, f'"n"\n{len(STARS)}\n')
    assert run("query", root, "SELECT nothing", shell="2>/dev/full").returncode == 2


@pytest.mark.parametrize("module", ["typer.core", "varstar_batch.cli.options", "varstar_batch.simulation.survey"])
def test_an_interrupt_at_any_moment_is_one_line(tmp_path: Path, module: str) -> None:
    """While the libraries are loaded, while the commands are, and while one is at work."""
    words = [sys.executable, "-X", "importtime", "-m", "varstar_batch", "simulate", tmp_path / "survey"]
    # Whoever starts the tests in the background ignores the signal, and hands that on.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [*words, "--objects", "200000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listening) as process:  # noqa: PLW1509
        assert process.stderr is not None
        for line in process.stderr:
            if line.endswith(f"{module}\n"):
                process.send_signal(signal.SIGINT)
                break
        said = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
    assert process.returncode == 130
    [error] = [line for line in said if not line.startswith("Simulating")]
    assert error.startswith("error: interrupted")


def test_a_label_may_have_any_letter() -> None:
    assert agreement({"RR>RR": 3, "A>B>ECL": 1, "x>": 5}) == (3, 4)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_column_that_a_format_does_not_have_is_one_line(
    varstar: Callable[..., Result], root: Path, tmp_path: Path, form: str
) -> None:
    done = varstar("query", root, "SELECT INTERVAL 1 day AS gap FROM catalog", "--out", tmp_path / f"answer.{form}")
    refused(done, 2, f"expected columns that {form} has, got intervals in gap")
    assert list(tmp_path.iterdir()) == []
