"""The operator's guide: its commands and options exist, and its runbook knows every failure."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.makers.options import options_of
from varstar_batch.cli.app import COMMANDS
from varstar_batch.cluster.future_loop import LOST_SECONDS

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "deploy/README.md").read_text()


def test_the_runbook_knows_every_kind_of_failure() -> None:
    rooms = ("files", "survey", "runs", "cluster")
    code = "\n".join(file.read_text() for room in rooms for file in (ROOT / "varstar_batch" / room).rglob("*.py"))
    # Not of partitions: how NumPy sorts.
    kinds = set(re.findall(r'kind="([a-z_]+)"', code)) - {"stable"}
    kinds |= {"storage", "disk_full", "credentials", "forbidden", "killed_worker", "memory", "error"}
    assert len(kinds) > 10
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in GUIDE] == []


FAULTS = {
    "test_workers_are_killed_again_and_again": "a worker is gone",
    "test_a_chunk_that_kills_its_workers_is_quarantined": "`killed_worker`",
    "test_a_scheduler_that_is_killed_ends_the_run_and_the_next_one_goes_on": "the scheduler is gone",
    "test_a_scheduler_that_comes_back_is_worked_with_again": "the scheduler is gone",
    "test_a_command_that_is_killed_at_a_stage_goes_on": "the command, or a flow's process, is gone",
    "test_a_store_that_answers_503_or_429_to_three_of_ten": "the store answers 503 or 429, or is gone for a while",
    "test_a_store_that_is_gone_for_20_seconds": "the store answers 503 or 429, or is gone for a while",
    "test_a_task_that_asks_for_more_memory_than_there_is": "`memory`",
    "test_a_worker_that_is_drained_hands_its_work_on": "a drain that waits",
    "test_a_store_that_is_gone_for_good_ends_the_run_and_the_next_one_goes_on": "`storage`",
    "test_credentials_that_expire_midway": "`credentials`",
    "test_a_disk_that_fills": "`disk_full`",
    "test_failures_of_different_kinds_are_told_apart": "`unreadable`",
    "test_a_network_that_is_cut_between_hosts": "a machine is cut off",
}
"""Each fault of the matrix, and the line of the runbook that is about it."""


def test_the_runbook_knows_every_fault_of_the_matrix() -> None:
    tests = set(re.findall(r"^def (test_\w+)", (ROOT / "tests/cluster/test_faults.py").read_text(), re.MULTILINE))
    assert tests == set(FAULTS)
    rows = [line.split("|")[1].strip() for line in GUIDE.splitlines() if line.startswith("|")]
    assert set(FAULTS.values()) <= set(rows)
    assert "the last GPU worker is gone" in rows
    lost = LOST_SECONDS
    assert f"| the scheduler is gone | waited for, {lost:.0f} s;" in GUIDE


def test_the_guides_commands_and_files_exist() -> None:
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", GUIDE, flags=re.DOTALL)).splitlines()
    assert len(lines) > 10
    for line in lines:
        for word in shlex.split(line):
            if word.startswith(("deploy/", "k8s/")):
                assert (ROOT / word).exists(), word
    said = set(re.findall(r"`varstar ([a-z]+)", GUIDE)) | {
        line.split()[1] for line in lines if line.startswith("varstar")
    }
    assert said <= COMMANDS.keys()


def guide_commands() -> list[list[str]]:
    """Return the commands of `varstar` in the guide and beside it, in code blocks and in the text, as words."""
    found = []
    for file in (ROOT / "deploy/README.md", ROOT / "deploy/SECURITY.md", ROOT / "deploy/RUNBOOK.md"):
        text = file.read_text()
        blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).splitlines()
        inline = re.findall(r"`(varstar [^`]+)`", re.sub(r"\s+", " ", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
        found += [shlex.split(line) for line in [*blocks, *inline] if line.startswith("varstar ")]
    return found


def wrong_options(commands: list[list[str]]) -> list[str]:
    """Return the options that the commands do not know."""
    known = {name: options_of("varstar", name) for name in {words[1] for words in commands}}
    return [
        f"{words[1]} {word}" for words in commands for word in words if word[:2] == "--" and word not in known[words[1]]
    ]


def test_the_options_in_the_guide_exist() -> None:
    commands = guide_commands()
    assert len(commands) > 12
    assert wrong_options(commands) == []
    assert wrong_options([["varstar", "classify", "SURVEY", "CATALOG", "--fresher"]]) == ["classify --fresher"]
