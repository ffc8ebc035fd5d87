"""Where the work goes: this process, a local cluster that ends with the run, or a scheduler that is there already."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from varstar_batch.errors import InputError, one_line

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 15
"""How long a scheduler may take to answer; below 11 s Dask gives up on hosts that are merely slow."""


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def open_client(workers: int | None, scheduler: str | None, *, dashboard: bool = False) -> Iterator[Client | None]:
    """Yield a Dask client, or None where the work is to be done in this process.

    Parameters
    ----------
    workers : int or None
        Processes of a local cluster; 0 for no cluster at all; None for one per core.
    scheduler : str or None
        Address of a running scheduler, for example ``tcp://127.0.0.1:8786``; excludes `workers`.
    dashboard : bool
        Whether a local cluster serves Dask's dashboard, on loopback at a free port (`Client.dashboard_link`).

    Raises
    ------
    InputError
        Both were given, the address does not fit, or nobody answers there.
    """
    if scheduler is not None:
        if workers is not None:
            raise InputError(
                expected="--workers or --scheduler", got="both", where="classify", fix="leave one of them out"
            )
        with _connected(scheduler) as client:
            yield client
        return
    count = default_workers() if workers is None else workers
    if count < 0:
        raise InputError(expected="a number of workers >= 0", got=str(count), where="--workers", fix="give 0 for none")
    if count == 0:
        yield None
        return
    with _local(count, dashboard) as client:
        yield client


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            expected="a Dask scheduler that answers",
            got=one_line(error) or type(error).__name__,
            where=f"--scheduler {address}",
            fix="start one with `dask scheduler`, or leave the option out for a local cluster",
        ) from None
    with client:
        yield client


@contextmanager
def _local(workers: int, dashboard: bool) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    # Loopback only: whoever reaches a Dask scheduler can run code on it. One thread each: the kernels and the engine
    # hold a core for long, and processes survive each other.
    settings = {
        "distributed.worker.memory.terminate": 0.95,
        "distributed.admin.tick.limit": "30s",
        # What goes wrong in a worker comes back as a failure of its partition; it need not be told twice.
        "logging": {"distributed": "critical", "bokeh": "critical", "tornado": "critical"},
    }
    with (
        dask.config.set(settings),
        _quiet("distributed"),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0" if dashboard else None,
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    # Prefect shows what every library logs; a cluster of our own making has nothing to say that we would not.
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
