"""The command `varstar` as a whole: its commands, and how errors reach a person.

A command's module brings Arrow, DuckDB or pydantic's models with it; `varstar --help` needs none of them: what a list
of commands tells is read without importing any, and each is loaded when it is called.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.exceptions import Abort, TyperException

from varstar_batch._version import __version__
from varstar_batch.cli.console import error_line
from varstar_batch.errors import ExitCode, VarstarError, one_line

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

app = typer.Typer(
    name="varstar",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings=NAMES_OF_HELP,
    help="Reclassify the variable stars of whole sky surveys: Parquet light curves in, a published catalog out.",
    epilog="Exit codes: 0 done, 1 done with failed partitions, 2 bad usage or input, 3 refused or held.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"varstar-batch {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with a code of `ExitCode`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    code: Any
    try:
        code = with_commands(app).main(words, prog_name="varstar", standalone_mode=False) or 0
        if code == ExitCode.INTERRUPTED:  # Typer makes an exit code of a Ctrl-C, and says nothing
            raise KeyboardInterrupt
        sys.stdout.flush()
    except VarstarError as error:
        with suppress(OSError):  # standard error may be full as well
            error_line(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, Abort):
        error_line("interrupted; what is finished stays, and the same command goes on from there")
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader went away, as `head` does; nothing is wrong, but Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.FAILURES
    except TyperException as error:
        error_line(_usage(error, words))
        code = ExitCode.INPUT
    sys.exit(code)


def _usage(error: TyperException, words: list[str]) -> str:
    message = (
        one_line(error.format_message() if hasattr(error, "format_message") else error)
        .rstrip(".")
        .replace("Value error, ", "")
    )
    said = " ".join(["varstar", *(word for word in words[:1] if word in COMMANDS)])
    return f"{said}: {message}; see `{said} --help`"


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
