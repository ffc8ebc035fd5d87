"""A small site for tests: `varstar serve` as an operator starts it, talked to by HTTP as its UI does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.makers.clusters import free_port
from tests.makers.postgres import running_postgres
from varstar_batch.cli.serve import DATABASE_VARIABLE, KEY_FILE

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds for anything: machines that run tests are busy. What must be quick is measured where it is asked for."""

T = TypeVar("T")


DATABASE = os.environ.get("VARSTAR_TEST_DATABASE", "sqlite")
"""What sites keep their server's data in: ``postgresql`` runs the same tests on a real one."""

SECONDS_TO_ANSWER = 150
"""SQLite lets a writer wait for another for 60 s, twice in some of Prefect's requests, before the server says 503."""


class PatientTransport(httpx.HTTPTransport):
    """Tries again where the server says 503, as Prefect's own client does: SQLite was busy, and nothing was changed."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE
        while True:
            response = super().handle_request(request)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return response
            response.close()
            time.sleep(0.5)


def until(what: str, look: Callable[[], T | None], seconds: float = PATIENCE, every: float = 0.1) -> T:
    """Return what `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def processes_with(text: str) -> list[int]:
    """Identifiers of the processes that have `text` in their environment: what this test started, and what that did."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if text.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
    return found


class Site:
    """A running `varstar serve`."""

    def __init__(self, folder: Path, port: int, python: str, workplace: Path) -> None:
        self.folder = folder
        self.python = python
        self.workplace = workplace
        self.survey = folder / "survey"
        self.catalog = folder / "catalog"
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=f"{self.url}/api", timeout=SECONDS_TO_ANSWER, transport=PatientTransport())
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(folder / "client"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "DO_NOT_TRACK": "1",
        }

    @property
    def key(self) -> str:
        """What the server asks for, USER:PASSWORD."""
        return (self.folder / "site" / KEY_FILE).read_text().strip()

    def take_key(self) -> None:
        """From now on ask as somebody who knows the key."""
        self.http.auth = tuple(self.key.split(":"))
        self.environment["PREFECT_API_AUTH_STRING"] = self.key

    def part(self, name: str) -> int | None:
        """Identifier of the process that is a part of the site, the server or the worker."""
        words = {"server": b"site_server\0server", "worker": b"site_server\0prefect"}[name]
        for pid in processes_with(str(self.folder)):
            try:
                if words in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
            except OSError:
                continue
        return None

    def post(self, path: str, content: Any = None) -> Any:
        answer = self.http.post(path, json={} if content is None else content)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> dict[str, Any]:
        return self.get(f"/deployments/name/{name}")

    def start(self, name: str, **parameters: Any) -> str:
        """Start a run by the REST API and return its identifier."""
        deployment = self.deployment(name)
        content = {"parameters": {"parameters": parameters}} if parameters else {}
        return str(self.post(f"/deployments/{deployment['id']}/create_flow_run", content)["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        return self.get(f"/flow_runs/{run_id}")

    def runs_of(self, name: str) -> list[dict[str, Any]]:
        wanted = {"deployments": {"id": {"any_": [self.deployment(name)["id"]]}}}
        return self.post("/flow_runs/filter", wanted)

    def ended(self, run_id: str, state: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for the end of a run and insist on its state."""

        def look() -> dict[str, Any] | None:
            run = self.run(run_id)
            over = run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
            return run if over else None

        run = until(f"end of run {run_id}", look, seconds)
        assert run["state_type"] == state, (run["state"]["message"], self.log())
        return run

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        found = self.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
        return {artifact["key"].split("-")[0]: artifact for artifact in found if artifact["key"]}

    def events(self, name: str) -> list[dict[str, Any]]:
        wanted = {"filter": {"event": {"name": [name]}}, "limit": 50}
        return self.post("/events/filter", wanted)["events"]

    def logs_of(self, run_id: str) -> str:
        wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
        return "\n".join(line["message"] for line in self.post("/logs/filter", wanted))

    def log(self) -> str:
        return "\n".join((self.folder / f"site/logs/{name}.log").read_text()[-3000:] for name in ("server", "worker"))

    def varstar(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.command(self.python, "-m", "varstar_batch", *words)

    def prefect(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.command(self.python, "-m", "prefect", *words)

    def command(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in words],
            env=self.environment,
            cwd=self.workplace,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@contextmanager
def running_site(
    folder: Path,
    python: str = sys.executable,
    workplace: Path = ROOT,
    sites: Path | None = None,
    limit: int = 2,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Site]:
    """Start a site for the survey in `folder`/survey, or for those of a file; afterwards nothing of it runs.

    `python` is of the environment in which the package is installed, `workplace` the folder that all is started in,
    `limit` how many runs go on at once, `settings` further variables of `varstar serve`.
    """
    with ExitStack() as database:
        if DATABASE == "postgresql" and DATABASE_VARIABLE not in (settings or {}):
            settings = {**(settings or {}), DATABASE_VARIABLE: database.enter_context(running_postgres())}
        with _running_site(folder, python, workplace, sites, limit, settings or {}) as site:
            yield site


@contextmanager
def _running_site(
    folder: Path, python: str, workplace: Path, sites: Path | None, limit: int, settings: Mapping[str, str]
) -> Iterator[Site]:
    port = free_port()
    site = Site(folder, port, python, workplace)
    one: list[object] = ["--survey", site.survey, "--catalog", site.catalog, "--models", folder / "models"]
    words = ["serve", *(one if sites is None else ["--sites", sites])]
    words += ["--folder", folder / "site", "--port", port, "--limit", limit]
    environment = (
        site.environment
        | dict(settings)
        | {
            # Everything as it is for an operator, but sooner.
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
            "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "5",
            "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
        }
    )
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [python, "-m", "varstar_batch", *map(str, words)],
            env=environment,
            cwd=workplace,
            stdout=log,
            stderr=log,
        )
    try:

        def ready() -> bool:
            text = (folder / "serve.log").read_text()
            assert process.poll() is None, text
            return "Ctrl-C stops" in text

        until("`varstar serve` is ready", ready, 2 * PATIENCE)
        site.take_key()
        yield site
    finally:
        site.http.close()
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    assert process.returncode == 0, (folder / "serve.log").read_text()
    left = processes_with(str(folder))
    assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
