"""The command `varstar` as a whole: its sub-commands, and how errors reach a person."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from varstar_batch._version import __version__
from varstar_batch.cli.commands import NAMES_OF_HELP, usage_of, with_commands
from varstar_batch.cli.console import error_line
from varstar_batch.errors import ExitCode, VarstarError, one_line

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
    said = usage_of(words)
    return f"{said}: {message}; see `{said} --help`"
