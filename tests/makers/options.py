"""What the commands of `varstar` and of `dask` know."""

from __future__ import annotations


def options_of(program: str, command: str) -> set[str]:
    """Return the options that a command of `varstar` or `dask` knows."""
    import click

    if program == "dask":
        from distributed.cli.dask_scheduler import main as scheduler
        from distributed.cli.dask_worker import main as worker

        it: click.Command = {"scheduler": scheduler, "worker": worker}[command]
        return {name for each in it.params for name in [*each.opts, *each.secondary_opts]}
    from varstar_batch.cli.app import load_command

    return {name for each in load_command(command).params for name in [*each.opts, *each.secondary_opts]}
