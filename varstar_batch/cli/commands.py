"""The commands of `varstar`: what a list of them tells without importing any, and how one is loaded when it is called.

A command's module brings Arrow, DuckDB or pydantic's models with it; `varstar --help` needs none of them.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

SURVEYS, MODELS, RUNS, CATALOGS, SERVICES = "Surveys", "Models", "Runs", "Catalogs", "Services"
"""Under which heading a command stands."""

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ingest": (SURVEYS, "ingest"),
        "inspect": (SURVEYS, "surveys"),
        "plot": (SURVEYS, "surveys"),
        "fold": (SURVEYS, "surveys"),
        "simulate": (SURVEYS, "surveys"),
        "train": (MODELS, "models"),
        "evaluate": (MODELS, "models"),
        "demo": (RUNS, "demo"),
        "classify": (RUNS, "classify"),
        "estimate": (RUNS, "estimate"),
        "runs": (RUNS, "runs"),
        "verify": (RUNS, "runs"),
        "report": (RUNS, "runs"),
        "publish": (RUNS, "runs"),
        "rollback": (RUNS, "runs"),
        "prune": (RUNS, "runs"),
        "query": (CATALOGS, "queries"),
        "cone": (CATALOGS, "queries"),
        "show": (CATALOGS, "queries"),
        "validate": (CATALOGS, "known"),
        "ask": (CATALOGS, "known"),
        "path": (CATALOGS, "runs"),
        "diff": (CATALOGS, "queries"),
        "tap": (SERVICES, "tap"),
        "serve": (SERVICES, "site"),
        "site": (SERVICES, "site"),
        "deploy": (SERVICES, "site"),
        "release": (SERVICES, "site"),
        "doctor": (SERVICES, "site"),
    }
)
"""By name: heading, and module of this package that has a function of that name."""

NAMES_OF_HELP = {"help_option_names": ["--help", "-h"]}


class LazyCommand(TyperCommand):
    """A command that is known by its name and its docstring until it is called."""

    def __init__(self, name: str, panel: str, module: str) -> None:
        self.module = f"varstar_batch.cli.{module}"
        super().__init__(name, help=_docstrings(self.module)[name], rich_help_panel=panel)

    def load(self) -> TyperCommand:
        """Return the command with its options."""
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown", context_settings=NAMES_OF_HELP)
        app.command(self.name)(getattr(import_module(self.module), str(self.name)))
        command: Any = typer.main.get_command(app)
        for each in command.params:
            if isinstance(each, TyperOption) and each.is_flag:
                each.metavar = ""  # Typer would say <bool>
        return command  # type: ignore[no-any-return]

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return a context of the command itself, in which it is called, helped or completed."""
        return self.load().make_context(info_name, args, parent=parent, **extra)


@cache
def _docstrings(module: str) -> dict[str, str]:
    """Return the docstrings of a module's functions, read but not run."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    tree = ast.parse(Path(spec.origin).read_bytes())
    return {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)}


def with_commands(app: typer.Typer) -> TyperGroup:
    """Return the command line of an app that has options only, with every command in it."""
    group: Any = typer.main.get_command(app)
    for name, (panel, module) in COMMANDS.items():
        group.add_command(LazyCommand(name, panel, module))
    return group  # type: ignore[no-any-return]


def load_command(name: str) -> TyperCommand:
    """Return a command with its options."""
    return LazyCommand(name, *COMMANDS[name]).load()


def usage_of(words: Sequence[str]) -> str:
    """Return what a command line is of: `varstar`, with the command where there is one."""
    return " ".join(["varstar", *(word for word in words[:1] if word in COMMANDS)])
