"""The command line `varstar`: thin; every command calls one function of the layers below."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see `varstar_batch.cli.app.main`."""
    # Here and not above: processes that a command starts import the script that was called, too, but run no command.
    from varstar_batch.cli.app import main as run

    run(arguments)


__all__ = ["main"]
