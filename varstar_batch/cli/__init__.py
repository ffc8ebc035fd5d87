"""The command line `varstar`: thin; every command calls one function of the layers below."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from varstar_batch.cli.streams import guard_streams
from varstar_batch.errors import ExitCode, VarstarError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see `varstar_batch.cli.app.main`."""
    # Here and not above: processes that a command starts import the script that was called, too, but run no command.
    from varstar_batch.cli.app import main as run

    run(arguments)


def program() -> None:
    """Run the command line as a process of its own: `main`, and out, without taking Python's world down by pieces.

    That takes 0.7 s after a run, all of it for memory that the process gives back anyway. Whatever asked to be called
    at exit is called first.
    """
    code = 1  # of an exception that is no exit

    def leave() -> None:
        # Nobody is left to be told of an output that is lost.
        with suppress(OSError, VarstarError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)  # the first registered is the last called
    try:
        guard_streams()
        main()
        code = 0
    except KeyboardInterrupt:  # before the command began, or a second time
        code = ExitCode.INTERRUPTED
        sys.stderr.write("error: interrupted\n")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


__all__ = ["main", "program"]
