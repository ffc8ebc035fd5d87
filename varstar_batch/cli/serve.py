"""What `varstar serve` does: server, worker and deployments of a small site, on loopback, with a key of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import httpx

from varstar_batch.cli.console import note, say, warning_line
from varstar_batch.cli.prefect_server import prefect_client
from varstar_batch.cli.site_server import ENTRANCE, HOST
from varstar_batch.errors import InputError

if TYPE_CHECKING:
    from varstar_batch.flows.deploy import OneCatalog, SeveralCatalogs

KEY_FILE = "prefect-key"
"""In the site's folder: the user and the password that the server asks for, for its owner's eyes only."""

SERVER_SECONDS = 180
"""In which the server answers; with a new database it takes ten on an idle machine."""

STOP_SECONDS = 30
"""In which a worker lets its runs end, after a first signal."""

POLL_SECONDS = 0.2


class StoppedError(Exception):
    """SIGTERM or SIGINT."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A site on this machine."""

    folder: Path
    """Where the database and the logs stand."""
    port: int
    """Of the server and its UI."""
    deployed: OneCatalog | SeveralCatalogs
    """What the site is for."""
    limit: int
    """Runs at once, of all deployments together."""

    @property
    def address(self) -> str:
        """Of the server and its UI."""
        return f"http://{HOST}:{self.port}"

    def environment(self, key: str) -> dict[str, str]:
        """Return what server, worker and flows are told; an environment that says otherwise wins where that is safe."""
        tunable = {
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            # Runs start within seconds; on one machine asking costs nothing.
            "PREFECT_WORKER_QUERY_SECONDS": "3",
            # A run that was not started yet can be cancelled, too.
            "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
        }
        fixed = {
            "PREFECT_HOME": str(self.folder.resolve() / "prefect"),
            "PREFECT_API_URL": f"{self.address}/api",
            "PREFECT_UI_API_URL": f"{self.address}/api",
            "PREFECT_API_AUTH_STRING": key,
            "PREFECT_SERVER_API_AUTH_STRING": key,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{self.address},http://localhost:{self.port}",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        }
        others = {name: value for name, value in os.environ.items() if name not in OTHER_SERVERS}
        return tunable | others | fixed


OTHER_SERVERS = {"PREFECT_PROFILE", "PREFECT_API_KEY", "PREFECT_API_DATABASE_CONNECTION_URL"}
"""Variables that would lead to another server, or to its database."""


def serve_site(service: Service) -> None:
    """Start everything, say where it is, and stay until a signal comes or a part of it ends.

    Raises
    ------
    InputError
        The port is taken, the folder cannot be written, or a part did not start.
    """
    from prefect.context import refresh_global_settings_context

    _check_port(service.port)
    logs = service.folder / "logs"
    try:
        for folder in (logs, service.folder / "prefect"):
            folder.mkdir(parents=True, exist_ok=True)
            # The database and the logs of runs are nobody else's business.
            folder.chmod(0o700)
        key = site_key(service.folder / KEY_FILE)
    except OSError as error:
        raise InputError(
            expected="a folder that can be written",
            got=os.strerror(error.errno or 0),
            where=str(service.folder),
            fix="give another --folder",
        ) from None
    environment = service.environment(key)
    os.environ.update({name: value for name, value in environment.items() if name.startswith("PREFECT_")})
    for name in OTHER_SERVERS:
        os.environ.pop(name, None)
    # Prefect may have read its settings by now: a schedule of sites.toml is checked by it.
    refresh_global_settings_context()
    server_words = ["server", str(service.port)]
    worker_words = ["prefect", "worker", "start", "--pool", "varstar-local", "--limit", str(service.limit)]
    try:
        with (
            _signals_raise(),
            _running("server", server_words, environment, logs) as server,
        ):
            _wait_for_server(server, service, logs)
            _deploy(service)
            with _running("worker", worker_words, environment, logs) as worker:
                _tell(service, logs)
                _stay({"server": server, "worker": worker}, logs)
    except StoppedError:
        note("Stopped; what runs had finished stays, and `varstar serve` goes on from there.")


def site_key(file: Path) -> str:
    """Return a site's key, made where there is none.

    Raises
    ------
    InputError
        Others may read it.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        mode = stat.S_IMODE(file.stat().st_mode)
        key = file.read_text().strip()
        if mode & 0o077 or ":" not in key:
            raise InputError(
                expected="a file USER:PASSWORD that nobody but its owner can read",
                got=f"mode {mode:o}" if mode & 0o077 else "something else",
                where=str(file),
                fix="remove it: the next start makes a new one",
            ) from None
        return key
    key = f"varstar:{secrets.token_urlsafe(32)}"
    with os.fdopen(descriptor, "w") as stream:
        stream.write(key + "\n")
    return key


def _deploy(service: Service) -> None:
    with prefect_client() as client:
        done = service.deployed.apply(client, "local")
    if done.left_out:
        warning_line(
            f"no notifications ({len(done.left_out)} automations left out): there is no block {done.notify};"
            " make it in the UI and start again, or see deploy/automations.yaml"
        )


def _tell(service: Service, logs: Path) -> None:
    file = service.folder / KEY_FILE
    # The link has the key in it, so it is for a person's terminal, not for a log.
    if sys.stdout.isatty():
        say(f"UI       {service.address}{ENTRANCE}#{file.read_text().strip()}")
    else:
        say(f"UI       {service.address}    (it asks for what is in {file})")
    say(f"API      {service.address}/api")
    say(f'Commands export PREFECT_API_URL={service.address}/api PREFECT_API_AUTH_STRING="$(cat {file})"')
    for name, survey, catalog in service.deployed.catalogs():
        say(f"Survey   {survey}")
        say(f"Catalog  {catalog}" + (f"    ({name})" if name else ""))
    say(f"Logs     {logs}")
    first = next(name for name, _, _ in service.deployed.catalogs())
    nightly = f"nightly-{first}" if first else "nightly"
    say(f"Start a run with `prefect deployment run reclassify/{nightly}`, or `varstar release SURVEY --name NAME`")
    say("Ctrl-C stops server and worker.")
    sys.stdout.flush()


def _stay(processes: Mapping[str, subprocess.Popen[bytes]], logs: Path) -> None:
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                raise _ended(name, process, logs)
        time.sleep(POLL_SECONDS)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(
                expected="a port that is free",
                got=os.strerror(error.errno or 0),
                where=f"--port {port}",
                fix="give another, or stop what runs there (another `varstar serve`?)",
            ) from None


def _wait_for_server(server: subprocess.Popen[bytes], service: Service, logs: Path) -> None:
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise _ended("server", server, logs)
        try:
            if httpx.get(f"{service.address}/api/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_SECONDS)
    raise InputError(
        expected=f"a server that answers within {SERVER_SECONDS} s",
        got="none",
        where=f"--port {service.port}",
        fix=f"see {logs / 'server.log'}",
    )


def _ended(name: str, process: subprocess.Popen[bytes], logs: Path) -> InputError:
    log = logs / f"{name}.log"
    last = next((line for line in reversed(log.read_text(errors="replace").splitlines()) if line.strip()), "nothing")
    return InputError(
        expected=f"a {name} that goes on running",
        got=f"exit code {process.returncode}, and as its last words: {last}",
        where="varstar serve",
        fix=f"see {log}",
    )


@contextmanager
def _running(
    name: str, words: list[str], environment: Mapping[str, str], logs: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a part in a session of its own while the context is open; nothing of it is left afterwards."""
    with (logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "varstar_batch.cli.site_server", *words],
            env=dict(environment),
            stdout=log,
            stderr=log,
            # It ends when nobody holds the other end any more, however this process ends.
            stdin=subprocess.PIPE,
            # A Ctrl-C in the terminal goes to the whole group: it must not reach the parts before their turn.
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


@contextmanager
def _signals_raise() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        # One is enough: a second must not break the stopping.
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise StoppedError

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
