"""Where the work goes: this process, a local cluster that ends with the run, or a scheduler that is there already."""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from varstar_batch.cluster.forking import METHOD, load_ahead_of_workers
from varstar_batch.errors import InputError, WorkersLostError, one_line
from varstar_batch.requests import ClusterOptions

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

CONNECT_SECONDS = 15
"""How long a scheduler may take to answer; below 11 s Dask gives up on hosts that are merely slow."""

DEATHS = 2
"""Workers that may die under a task before Dask gives it up; it is then tried once more on its own."""

SETTINGS = {
    "distributed.scheduler.allowed-failures": DEATHS,
    # Seconds and messages for which schedulers and workers keep what only Dask's developers look at: every worker keeps
    # a profile of each second, some 80 kB, for this many of them.
    "distributed.admin.low-level-log-length": 100,
    # What Dask does by the clock, idle or not, takes 6 % of two cores as it comes: a hundred samples a second for the
    # profile of the dashboard, fifty looks at each event loop for being late, the counters of /proc.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}
"""Dask's settings on every cluster: a local one here, others in deploy/ and k8s/ by variables of the environment."""


def default_workers() -> int:
    """Return the number of cores that this process may use, as affinity and the container's quota have it."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


@contextmanager
def open_client(
    workers: int | None,
    scheduler: str | None,
    options: ClusterOptions | None = None,
    *,
    dashboard: bool = False,
) -> Iterator[Client | None]:
    """Yield a Dask client, or None where the work is to be done in this process.

    Parameters
    ----------
    workers : int or None
        Processes of a local cluster; 0 for no cluster at all; None for one per core.
    scheduler : str or None
        Address of a running scheduler, for example ``tcp://127.0.0.1:8786``; excludes `workers`. Where neither is
        given, Dask's own configuration counts (``DASK_SCHEDULER_ADDRESS``), by which a site names its cluster.
    options : ClusterOptions, optional
        TLS and memory.
    dashboard : bool
        Whether a local cluster serves Dask's dashboard, on loopback at a free port (`Client.dashboard_link`).

    Raises
    ------
    InputError
        Both were given, the address does not fit, is on another machine without TLS, or nobody answers there.
    """
    options = options or ClusterOptions()
    security = _security(options)
    if scheduler is None and workers is None:
        scheduler = _configured_scheduler()
    if scheduler is not None:
        if workers is not None:
            raise InputError(
                expected="--workers or --scheduler", got="both", where="cluster", fix="leave one of them out"
            )
        _check_address(scheduler, options, security)
        opened = _connected(scheduler, security)
    else:
        count = default_workers() if workers is None else workers
        if count < 0:
            raise InputError(
                expected="a number of workers >= 0", got=str(count), where="--workers", fix="give 0 for none"
            )
        if count == 0:
            yield None
            return
        opened = _local(count, options.worker_memory, security, dashboard)
    logger = logging.getLogger("distributed.client")
    level = logger.level
    try:
        with opened as client:
            try:
                yield client
            except WorkersLostError:
                # It would complain, while it is closed, of what the error says.
                logger.setLevel(logging.CRITICAL)
                raise
    finally:
        logger.setLevel(level)


def unlike_versions(client: Client) -> str:
    """Return a line about a scheduler of other versions than this process has, or nothing."""
    found = client.get_versions()
    mine, theirs = (
        {name: found[who]["packages"].get(name) for name in ("python", "dask", "distributed")}
        for who in ("client", "scheduler")
    )
    unlike = [f"{name} {theirs[name]} instead of {mine[name]}" for name in mine if theirs[name] != mine[name]]
    if not unlike:
        return ""
    return f"the scheduler has {', '.join(unlike)}: what goes wrong may come of that; install the same versions there"


def _configured_scheduler() -> str | None:
    import dask

    address: str | None = dask.config.get("scheduler-address", None)
    return address


def _security(options: ClusterOptions) -> Security | None:
    given = {"--tls-ca": options.tls_ca, "--tls-cert": options.tls_cert, "--tls-key": options.tls_key}
    if not any(given.values()):
        return None
    for name, path in given.items():
        if path is None or not Path(path).is_file():
            raise InputError(
                expected="the three PEM files --tls-ca, --tls-cert and --tls-key",
                got=f"no {name}" if path is None else f"no file {path}",
                where=name,
                fix="give all three, or none",
            )
    from distributed.security import Security

    security = Security(
        tls_ca_file=options.tls_ca,
        tls_client_cert=options.tls_cert,
        tls_client_key=options.tls_key,
        tls_scheduler_cert=options.tls_cert,
        tls_scheduler_key=options.tls_key,
        tls_worker_cert=options.tls_cert,
        tls_worker_key=options.tls_key,
        require_encryption=True,
    )
    try:
        security.get_connection_args("client")
    except ssl.SSLError as error:
        raise InputError(
            expected="a certificate, its key, and the authority that signed it, in PEM",
            got=one_line(error),
            where="--tls-cert, --tls-key, --tls-ca",
            fix="check that they belong together",
        ) from None
    return security


def _check_address(address: str, options: ClusterOptions, security: Security | None) -> None:
    """Refuse to speak in the clear to another machine, where anybody may listen or answer."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme == "tls":
        if security is None and not _has_certificates():
            raise InputError(
                expected="--tls-ca, --tls-cert and --tls-key for a scheduler behind TLS",
                got="none of them, nor certificates in Dask's own configuration",
                where=f"--scheduler {address}",
                fix="give the three files that the scheduler was started with (deploy/certificates.py makes them)",
            )
        return
    where = f"--scheduler {address}"
    if security is not None:
        raise InputError(
            expected="an address that begins with tls://, since certificates are given",
            got=f"{parts.scheme}://",
            where=where,
            fix="write tls://, and start scheduler and workers with certificates too",
        )
    if options.insecure or _is_loopback(parts.hostname or ""):
        return
    raise InputError(
        expected="a scheduler on this machine, or one behind TLS (tls://...)",
        got="an address of another machine without TLS, which anybody on the way can read and forge",
        where=where,
        fix="give --tls-ca, --tls-cert and --tls-key, or --insecure-scheduler where the network can be trusted",
    )


def _has_certificates() -> bool:
    import dask

    return bool(dask.config.get("distributed.comm.tls.ca-file", None))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


@contextmanager
def _connected(address: str, security: Security | None) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False, security=security)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            expected="a Dask scheduler that answers",
            got=one_line(error) or type(error).__name__,
            where=f"--scheduler {address}",
            fix="look whether it runs there, with certificates of the same authority"
            if address.startswith("tls:")
            else "start one with `dask scheduler`, or leave the option out for a local cluster",
        ) from None
    with client:
        yield client


@contextmanager
def _local(workers: int, memory: int | None, security: Security | None, dashboard: bool) -> Iterator[Client]:
    load_ahead_of_workers()
    import dask
    from distributed import Client, LocalCluster

    # Loopback, and certificates that only this run has, in memory: other users of this machine could run code on a
    # scheduler in the clear. One thread each: the kernels and the engine hold a core for long, and processes survive
    # each other.
    settings = {
        "distributed.worker.multiprocessing-method": METHOD,
        # Set in this process for good, while the workers have it from what they are forked from.
        "distributed.nanny.pre-spawn-environ": {},
        "distributed.worker.memory.terminate": 0.95,
        "distributed.admin.tick.limit": "30s",
        **SETTINGS,
        "distributed.worker.profile.enabled": dashboard,
        # What goes wrong in a worker comes back as a failure of its partition; it need not be told twice.
        "logging": {"distributed": "critical", "bokeh": "critical", "tornado": "critical"},
    }
    with dask.config.set(settings), _quiet("distributed"):
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                memory_limit="auto" if memory is None else memory,
                # As it is now: what workers are forked from may be older.
                env=dict(os.environ),
                security=security or _temporary_security(),
                # A port of its own choice, also for the little that is served without a dashboard: 8787 may be taken.
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": dashboard},
                silence_logs=logging.ERROR,
            )
        except (RuntimeError, TimeoutError) as error:
            raise InputError(
                expected="worker processes that start",
                got=one_line(error.__cause__ or error) or type(error).__name__,
                where=f"{workers} workers on this machine",
                fix="see whether there is memory for so many; --workers takes fewer, and 0 does without any",
            ) from None
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


def _temporary_security() -> Security:
    from distributed.security import Security

    return Security.temporary()


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
