"""The command line `varstar`: thin; every command calls one function of the layers below."""

from varstar_batch.cli.app import main

__all__ = ["main"]
