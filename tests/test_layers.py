"""The layers of the design hold: imports only go downwards, no modules run in circles, heavy libraries stay at home."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. Packages of one line know nothing of each other; an import goes to a line above its own.
LEVELS = (
    ("errors", "_version"),
    ("sky", "progress", "parallel", "requests"),
    ("light_curves",),
    ("files",),
    ("model", "survey"),
    ("archives",),
    ("catalog", "simulation", "training"),
    ("ingest", "report", "runs", "tap"),
    ("cluster",),
    ("api",),
    ("flows", "notebook"),
    ("cli",),
    ("__main__",),
)
LEVEL = {package: number for number, packages in enumerate(LEVELS) for package in packages}
MAY_IMPORT_AT_ALL = {
    "prefect": {"flows", "cli"},
    "typer": {"cli"},
    # In the catalog it is what a reader asked for: open_catalog(...).to_dask().
    "dask": {"catalog", "cluster", "cli"},
    "distributed": {"cluster", "cli"},
    "tensorflow": {"model", "training"},
    "keras": {"model", "training"},
    "openvino": {"model"},
    "fsspec": {"files"},
    "s3fs": {"files"},
    "duckdb": {"catalog"},
    "sqlglot": {"tap"},
    "starlette": {"tap"},
    "hats": {"files"},
    "lsdb": {"catalog"},
}
ONLY_INSIDE_FUNCTIONS = {"tensorflow", "keras", "openvino", "dask", "distributed", "lsdb"}
Sources = Mapping[str, str]


def sources_of_the_project() -> dict[str, str]:
    """Text by dotted name of every module of the package and the flows."""
    paths = [*(ROOT / "varstar_batch").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    # The folder at the top is the package's: varstar_batch/flows is a link to it.
    return {
        f"varstar_batch.{name.removeprefix('varstar_batch.')}".replace(
            "varstar_batch.varstar_batch", "varstar_batch"
        ): path.read_text()
        for name, path in names.items()
    }


SOURCES = sources_of_the_project()


@dataclass(frozen=True)
class Import:
    module: str
    imported: str
    at_import: bool


def package_of(module: str) -> str | None:
    """First name below `varstar_batch`, or None for the package itself and what is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "varstar_batch" and len(parts) > 1 else None


def imports(sources: Sources) -> list[Import]:
    """What every module imports, by the most exact name that there is, and whether it does so when it is imported."""
    found: list[Import] = []

    def visit(module: str, node: ast.AST, at_import: bool) -> None:
        inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            inside = False
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            exact = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in sources else node.module for name in exact]
        found.extend(Import(module, name, at_import) for name in dict.fromkeys(names) if name != module)
        for child in ast.iter_child_nodes(node):
            visit(module, child, inside)

    for module, text in sources.items():
        visit(module, ast.parse(text), True)
    return found


def not_downwards(sources: Sources) -> list[str]:
    """Imports that go up, or sideways to another package of the same level."""
    return [
        f"{each.module} imports {each.imported}"
        for each in imports(sources)
        # The package itself only re-exports, on first use.
        if (mine := package_of(each.module)) and (theirs := package_of(each.imported))
        if mine != theirs and LEVEL[theirs] >= LEVEL[mine]
    ]


def room_of(module: str) -> str:
    """The folder within a package that the module lies in; a module that lies in the package itself is its own."""
    return ".".join(module.split(".")[:3])


def circles(sources: Sources, part: Callable[[str], str] = str) -> list[list[str]]:
    """Sets of modules, or of parts, that import each other in a circle, inside functions and for types counted too."""
    edges: dict[str, set[str]] = {part(module): set() for module in sources}
    for each in imports(sources):
        if each.imported in sources and part(each.module) != part(each.imported):
            edges[part(each.module)].add(part(each.imported))
    found = []
    left = dict(edges)
    while left:
        # What nothing that is left imports, or what imports nothing that is left, is on no circle.
        imported = {name for names in left.values() for name in names}
        free = [name for name, names in left.items() if name not in imported or not names & left.keys()]
        if not free:
            found.append(sorted(left))
            break
        left = {name: names - set(free) for name, names in left.items() if name not in free}
    return found


def misplaced(sources: Sources) -> list[str]:
    """Imports of heavy libraries where they do not belong, or where merely importing us would load them."""
    found = []
    for each in imports(sources):
        library = each.imported.split(".")[0]
        if library in MAY_IMPORT_AT_ALL and package_of(each.module) not in MAY_IMPORT_AT_ALL[library]:
            found.append(f"{each.module} imports {library}")
        if library in ONLY_INSIDE_FUNCTIONS and each.at_import:
            found.append(f"{each.module} imports {library} when it is imported")
    return found


def planted(module: str, line: str) -> dict[str, str]:
    """The project's sources with one more import."""
    return {**SOURCES, module: f"{SOURCES[module]}\n\ndef planted() -> None:\n    {line}\n"}


def test_every_package_has_a_level() -> None:
    packages: Iterable[str | None] = {package_of(name) for name in SOURCES}
    assert set(packages) - {None} == LEVEL.keys()


def test_imports_go_downwards_only() -> None:
    assert not_downwards(SOURCES) == []


def test_no_modules_run_in_circles() -> None:
    assert circles(SOURCES) == []


def test_no_rooms_run_in_circles() -> None:
    assert circles(SOURCES, room_of) == []


def test_heavy_libraries_stay_in_their_packages() -> None:
    assert misplaced(SOURCES) == []


@pytest.mark.parametrize(
    ("module", "line", "told"),
    [
        ("varstar_batch.survey.read", "from varstar_batch.runs.plan import Chunk", "imports varstar_batch.runs.plan"),
        (
            "varstar_batch.flows.reclassify",
            "from varstar_batch.cli import console",
            "imports varstar_batch.cli.console",
        ),
        ("varstar_batch.catalog.reader", "import varstar_batch.training.train", "imports varstar_batch.training.train"),
    ],
    ids=["upwards", "from the flows upwards", "sideways"],
)
def test_an_import_that_goes_up_or_sideways_is_refused(module: str, line: str, told: str) -> None:
    assert not_downwards(planted(module, line)) == [f"{module} {told}"]


def test_a_circle_is_refused() -> None:
    [found] = circles(planted("varstar_batch.files.location", "from varstar_batch.files.parquet import write_table"))
    assert {"varstar_batch.files.location", "varstar_batch.files.parquet"} <= set(found)


def test_a_circle_of_rooms_is_refused() -> None:
    sources = planted("varstar_batch.training.stars.folds", "import varstar_batch.training.fitting.recipes")
    assert circles(sources) == []
    [found] = circles(sources, room_of)
    assert {"varstar_batch.training.stars", "varstar_batch.training.fitting"} <= set(found)


@pytest.mark.parametrize(
    ("line", "told"),
    [("import tensorflow", "imports tensorflow"), ("from distributed import Client", "imports distributed")],
)
def test_a_heavy_library_elsewhere_is_refused(line: str, told: str) -> None:
    assert misplaced(planted("varstar_batch.catalog.reader", line)) == [f"varstar_batch.catalog.reader {told}"]


def test_a_heavy_library_at_import_is_refused() -> None:
    module = "varstar_batch.cluster.client"
    found = misplaced({**SOURCES, module: f"import distributed\n{SOURCES[module]}"})
    assert found == [f"{module} imports distributed when it is imported"]


@pytest.mark.parametrize("package", ["varstar_batch", "varstar_batch.cli.app"])
def test_importing_loads_nothing_heavy(package: str) -> None:
    heavy = {
        "tensorflow",
        "keras",
        "numba",
        "scipy",
        "dask",
        "distributed",
        "prefect",
        "openvino",
        "matplotlib",
        "lsdb",
    }
    code = f"import sys, {package}; print(*sorted({heavy!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
