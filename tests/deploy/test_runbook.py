"""Each line of deploy/RUNBOOK.md is made and mended by a test, which holds what is said against it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.makers.runbook import RUNBOOK, faults

ROOT = RUNBOOK.parents[1]
FAULTS = faults()


def test_the_table_is_read() -> None:
    assert len(FAULTS) >= 25
    assert all(fault.made and fault.cure for fault in FAULTS.values())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_made_by_a_test_that_holds_its_words_against_the_table(name: str) -> None:
    file, _, test = FAULTS[name].test.partition("::")
    source = (ROOT / file).read_text()
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    body = ast.get_source_segment(source, functions[test])
    assert body is not None
    held = re.findall(r"check_said\(\s*\"([^\"]+)\"", body)
    assert (name in held) == bool(FAULTS[name].said)
