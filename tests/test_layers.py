"""The layers of the design hold: imports only go downwards, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {
    "errors": 0,
    "_version": 0,
    "arithmetic": 1,
    "model": 2,
    "storage": 3,
    "cluster": 4,
    "report": 4,
    "cli": 5,
    "flows": 5,
    "__main__": 6,
}
MAY_IMPORT_AT_ALL = {
    "prefect": {"flows", "cli"},
    "typer": {"cli"},
    # In storage it is what a reader of a catalog asked for: open_catalog(...).to_dask().
    "dask": {"cluster", "cli", "storage"},
    "distributed": {"cluster", "cli"},
    "tensorflow": {"model"},
    "keras": {"model"},
    "openvino": {"model"},
    "fsspec": {"storage"},
    "s3fs": {"storage"},
    "duckdb": {"storage"},
    "hats": {"storage"},
    "lsdb": {"storage"},
}
ONLY_INSIDE_FUNCTIONS = {"tensorflow", "keras", "openvino", "dask", "distributed", "lsdb"}
MODULES = sorted([*(ROOT / "varstar_batch").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "flows":
        return "flows"
    return parts[1] if parts[0] == "varstar_batch" and len(parts) > 1 else None


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, with whether that happens when the file itself is imported."""
    tree = ast.parse(path.read_text())
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, at_import: bool) -> None:
        inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            inside = False
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_import) for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, at_import))
            found.extend((f"{node.module}.{alias.name}", at_import) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree, True)
    return found


def test_there_are_modules_of_every_layer() -> None:
    layers = {layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in MODULES}
    assert layers >= {"arithmetic", "model", "storage", "cluster", "cli", "flows"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards_only(path: Path) -> None:
    mine = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if mine is None or mine == "__init__":
        return  # the package itself only re-exports
    for module, _ in imports(path):
        theirs = layer_of(module)
        if theirs is not None and theirs in LAYERS:
            assert LAYERS[theirs] <= LAYERS[mine], f"{mine} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_stay_in_their_layers(path: Path) -> None:
    mine = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module, at_import in imports(path):
        library = module.split(".")[0]
        if library in MAY_IMPORT_AT_ALL:
            assert mine in MAY_IMPORT_AT_ALL[library], f"{library} in layer {mine}"
        if library in ONLY_INSIDE_FUNCTIONS:
            assert not at_import, f"{library} at import time"


@pytest.mark.parametrize("package", ["varstar_batch", "varstar_batch.cli.app"])
def test_importing_loads_nothing_heavy(package: str) -> None:
    heavy = {"tensorflow", "keras", "dask", "distributed", "prefect", "openvino", "matplotlib", "lsdb"}
    code = f"import sys, {package}; print(*sorted({heavy!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
