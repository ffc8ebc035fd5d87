"""What `varstar doctor` does: each check of the set-up says what it found, and what to do where that is not right."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from packaging.requirements import Requirement

from varstar_batch.errors import VarstarError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

State = Literal["ok", "warning", "failed"]

CLOCK_SECONDS = 5.0
"""By which clocks may differ before schedules, leases and the times of events go wrong."""

CAPPED = ("prefect", "fastapi", "sqlalchemy")
"""Packages with which nothing seems wrong at first when they are too new."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check: what was looked at, how it is, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    fix: str = ""


def examine(pool: str, model: str | None, places: dict[str, str]) -> Iterator[Check]:
    """Yield the outcome of every check, in order; none of them raises.

    Parameters
    ----------
    pool : str
        Name of the work pool.
    model : str or None
        Bundle; None for the shipped one.
    places : dict of str to str
        Folders and URLs that must be writable, by what they are.
    """
    yield _guarded("versions", check_versions)
    yield from check_server(pool)
    for name, url in places.items():
        yield _guarded(name, lambda name=name, url=url: check_place(name, url))  # type: ignore[misc]
    yield _guarded("model", lambda: check_model(model))
    yield _guarded("gpu", check_gpu)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except VarstarError as error:
        return Check(name, "failed", f"{error.where}: expected {error.expected}, got {error.got}", error.fix)


def check_versions() -> Check:
    """Check the packages that matter against the caps of this package's own metadata."""
    found, wrong = [], []
    for text in importlib.metadata.requires("varstar-batch") or []:
        requirement = Requirement(text)
        if requirement.name not in CAPPED:
            continue
        version = importlib.metadata.version(requirement.name)
        found.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"'{requirement.name}{requirement.specifier}'")
    fix = f"pip install {' '.join(wrong)}: with others schedules may silently never fire" if wrong else ""
    return Check("versions", "failed" if wrong else "ok", ", ".join(found), fix)


def check_server(pool: str) -> Iterator[Check]:
    """Check that the server answers, its version, its clock, the pool and its workers."""
    from varstar_batch.cli.prefect_server import prefect_client

    try:
        with prefect_client() as client:
            yield _version(client)
            yield _clock(client)
            yield from _pool(client, pool)
    except VarstarError as error:
        yield Check("server", "failed", f"{error.where}: expected {error.expected}, got {error.got}", error.fix)


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


def _pool(client: SyncPrefectClient, name: str) -> Iterator[Check]:
    from prefect.exceptions import ObjectNotFound

    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        there = ", ".join(pool.name for pool in client.read_work_pools()) or "none"
        yield Check("pool", "failed", f"no pool {name}; there are: {there}", "make it with `varstar deploy`, or --pool")
        return
    workers = [worker for worker in client.read_workers_for_work_pool(name) if str(worker.status).endswith("ONLINE")]
    found = f"{name} ({pool.type}), {len(workers)} workers online"
    if pool.is_paused:
        yield Check("pool", "failed", f"{found}, paused", f"prefect work-pool resume {name}")
    elif not workers:
        yield Check("pool", "failed", found, f"start one: prefect worker start --pool {name}, or `varstar serve`")
    else:
        yield Check("pool", "ok", found)
    try:
        limit = client.read_work_queue_by_name("catalog", work_pool_name=name).concurrency_limit
    except ObjectNotFound:
        limit = None
    fix = "" if limit == 1 else "`varstar deploy` sets it; without it two runs of one catalog do the same work"
    yield Check("queue", "ok" if limit == 1 else "failed", f"catalog: {limit or 'any number of'} run at a time", fix)


def check_place(name: str, url: str) -> Check:
    """Check that a folder or URL can be written: a small file is created, read and removed."""
    from varstar_batch.files.location import locate, writable

    probe = locate(url, what=name) / f".varstar-doctor-{uuid4().hex}"

    def write() -> bool:
        probe.create(b"varstar doctor")
        try:
            return probe.read_bytes() == b"varstar doctor"
        finally:
            probe.remove()

    same = writable(url, name, write)
    return Check(name, "ok" if same else "failed", f"{url} can be written", "" if same else "look at the storage")


def check_model(model: str | None) -> Check:
    """Check that the bundle is sound, and that an engine takes it."""
    from varstar_batch.model.bundle_files import read_bundle
    from varstar_batch.model.engines.open import open_engine

    bundle = read_bundle(model)
    open_engine(bundle)
    contract = bundle.contract
    return Check("model", "ok", f"{contract.name} {contract.model_version}, {len(contract.classes)} classes")


def check_gpu() -> Check:
    """Check that TensorFlow sees the graphics cards that the driver sees; none at all is fine."""
    if shutil.which("nvidia-smi") is None:
        return Check("gpu", "ok", "none: OpenVINO classifies on the CPU")
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    cards = [line for line in listed.stdout.splitlines() if line.strip()]
    if listed.returncode or not cards:
        return Check("gpu", "warning", "nvidia-smi lists none", "look at the driver: nvidia-smi")
    from varstar_batch.model.keras_runtime import keras_sees_gpu

    if keras_sees_gpu():
        return Check("gpu", "ok", f"{len(cards)}, seen by TensorFlow: {cards[0]}")
    return Check("gpu", "warning", f"{len(cards)}, not seen by TensorFlow", "pip install 'varstar-batch[gpu]'")
