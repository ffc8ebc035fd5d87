"""The checks of `varstar doctor` that ask Prefect's server."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from varstar_batch.cli.check import Check, check_of_error
from varstar_batch.cli.prefect_server import UNAUTHORISED
from varstar_batch.errors import VarstarError, one_line

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from varstar_batch.flows.deploy import OneCatalog, SeveralCatalogs

CLOCK_SECONDS = 5.0
"""By which clocks may differ before schedules, leases and the times of events go wrong."""


@dataclass(frozen=True)
class ServerQuestions:
    """What Prefect's server is asked."""

    pool: str
    """Name of the work pool that should have a worker."""
    deployed: OneCatalog | SeveralCatalogs | None = None
    """What should be deployed; None for what the server itself says that it is for."""


def check_server(questions: ServerQuestions) -> Iterator[Check]:
    """Check that the server answers, its version, key and clock, the pool and its workers, and the deployments."""
    from varstar_batch.cli.prefect_server import prefect_client

    try:
        with prefect_client() as client:
            yield _version(client)
            yield _key(client)
            yield _clock(client)
            there = yield from _pool(client, questions.pool)
            if there:
                yield _deployments(client, questions)
    except VarstarError as error:
        yield check_of_error("server", error)


def _key(client: SyncPrefectClient) -> Check:
    import httpx

    try:
        answer = httpx.post(f"{str(client.api_url).rstrip('/')}/deployments/filter", json={"limit": 1}, timeout=30)
    except httpx.TransportError as error:
        return Check("key", "warning", f"asked without one, the server says {one_line(error)}", "see the server's log")
    if answer.status_code in UNAUTHORISED:
        return Check("key", "ok", "asked for, and accepted")
    fix = "give the server PREFECT_SERVER_API_AUTH_STRING, as `varstar serve` does"
    return Check("key", "warning", "none: whoever reaches the server can run code through it", fix)


def _deployments(client: SyncPrefectClient, questions: ServerQuestions) -> Check:
    from varstar_batch.flows.applied import site_of, unlike
    from varstar_batch.flows.deploy import POOLS

    kind = next((kind for kind, name in POOLS.items() if name == questions.pool), None)
    if kind is None:
        return Check("deployed", "ok", f"{questions.pool} is a pool of your own: not compared")
    wanted = questions.deployed or site_of(client, kind)
    if wanted is None:
        fix = "tell what is meant: --survey and --catalog, or --sites"
        return Check("deployed", "warning", "nothing, or several catalogs: not compared", fix)
    lines = unlike(client, wanted, kind)
    if lines:
        return Check("deployed", "failed", "; ".join(lines), "`varstar deploy` applies them again")
    return Check("deployed", "ok", "as this version has them")


def _version(client: SyncPrefectClient) -> Check:
    theirs, ours = client.api_version(), importlib.metadata.version("prefect")
    same = theirs.split(".")[:2] == ours.split(".")[:2]
    fix = "" if same else "install the same prefect on the server and here"
    return Check("server", "ok" if same else "failed", f"{client.api_url}, version {theirs} (here {ours})", fix)


def _clock(client: SyncPrefectClient) -> Check:
    before = time.time()
    answer = client.hello()
    here = datetime.fromtimestamp((before + time.time()) / 2, UTC)
    stated = answer.headers.get("date")
    if stated is None:
        return Check("clock", "warning", "the server does not say what time it is", "compare `date -u` on both")
    # The header has whole seconds, cut off: half a second is the fairest guess.
    seconds = (here - parsedate_to_datetime(stated)).total_seconds() - 0.5
    good = abs(seconds) <= CLOCK_SECONDS
    fix = "" if good else "let both machines keep time (chrony, systemd-timesyncd)"
    return Check("clock", "ok" if good else "failed", f"{seconds:+.1f} s from the server's", fix)


def _pool(client: SyncPrefectClient, name: str) -> Generator[Check, None, bool]:
    from prefect.exceptions import ObjectNotFound

    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        there = ", ".join(pool.name for pool in client.read_work_pools()) or "none"
        yield Check("pool", "failed", f"no pool {name}; there are: {there}", "make it with `varstar deploy`, or --pool")
        return False
    workers = [worker for worker in client.read_workers_for_work_pool(name) if str(worker.status).endswith("ONLINE")]
    found = f"{name} ({pool.type}), {len(workers)} workers online"
    if pool.is_paused:
        yield Check("pool", "failed", f"{found}, paused", f"prefect work-pool resume {name}")
    elif not workers:
        yield Check("pool", "failed", found, f"start one: prefect worker start --pool {name}, or `varstar serve`")
    else:
        yield Check("pool", "ok", found)
    limits = {
        queue.name: queue.concurrency_limit
        for queue in client.read_work_queues(work_pool_name=name)
        if queue.name == "catalog" or queue.name.startswith("catalog-")
    }
    several = sorted(queue for queue, limit in limits.items() if limit != 1)
    if several or not limits:
        found = f"{', '.join(several) or 'catalog'}: any number of runs at a time"
        yield Check("queue", "failed", found, "`varstar deploy` sets it; two runs of one catalog do the same work")
    else:
        yield Check("queue", "ok", f"{', '.join(sorted(limits))}: 1 run at a time")
    return True
