"""What `varstar serve` does: server, worker and deployments of a small site, on loopback, with a key of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import httpx

from varstar_batch.cli.console import note, say, warning_line
from varstar_batch.cli.parts import POLL_SECONDS, Part, keep_running, running
from varstar_batch.cli.prefect_server import prefect_client
from varstar_batch.cli.site_server import ENTRANCE, HOST, REPORTS
from varstar_batch.errors import InputError

if TYPE_CHECKING:
    from varstar_batch.flows.deploy import OneCatalog, SeveralCatalogs

KEY_FILE = "prefect-key"
"""In the site's folder: the user and the password that the server asks for, for its owner's eyes only."""

SERVER_SECONDS = 180
"""In which the server answers; with a new database it takes ten on an idle machine."""

KEY_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
"""Where a site's key may stand instead, USER:PASSWORD: in the environment file of its unit."""

DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""PostgreSQL instead of SQLite, as postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE. Only the server sees it."""

REPORTS_VARIABLE = "VARSTAR_REPORTS"
"""By which flows know the page that shows reports (`flows/artifacts.py`)."""

DATABASES = ("postgresql+asyncpg", "sqlite+aiosqlite")


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
            REPORTS_VARIABLE: f"{self.address}{REPORTS}",
        }
        others = {name: value for name, value in os.environ.items() if name not in OTHER_SERVERS}
        return tunable | others | fixed

    def of_worker(self, key: str) -> dict[str, str]:
        """Return what the worker and its runs are told: the database is none of their business."""
        return {
            name: value
            for name, value in self.environment(key).items()
            if not name.startswith("PREFECT_SERVER_DATABASE_")
        }


OTHER_SERVERS = {"PREFECT_PROFILE", "PREFECT_API_KEY", "PREFECT_API_DATABASE_CONNECTION_URL"}
"""Variables that would lead to another server, or to its database."""


def serve_site(service: Service) -> None:
    """Start everything, say where it is, and stay until a signal comes; a part that ends is started again.

    Raises
    ------
    InputError
        The port is taken, the folder cannot be written, the database is none, or the server did not start at first.
    """
    from prefect.context import refresh_global_settings_context

    _check_port(service.port)
    database = database_of(os.environ)
    logs = service.folder / "logs"
    try:
        for folder in (logs, service.folder / "prefect"):
            folder.mkdir(parents=True, exist_ok=True)
            # The database and the logs of runs are nobody else's business.
            folder.chmod(0o700)
        key = site_key(service.folder / KEY_FILE, os.environ.get(KEY_VARIABLE, ""))
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
    server = Part("server", ["server", str(service.port)], environment, logs)
    worker_words = ["prefect", "worker", "start", "--pool", "varstar-local", "--limit", str(service.limit)]
    worker = Part("worker", worker_words, service.of_worker(key), logs)
    try:
        with _signals_raise(), running(server):
            _wait_for_server(server, service, logs)
            _deploy(service)
            with running(worker):
                _tell(service, logs, database)
                keep_running(server, worker)
    except StoppedError:
        note("Stopped; what runs had finished stays, and `varstar serve` goes on from there.")


def database_of(environment: Mapping[str, str]) -> str:
    """Return what a person may read of the server's database: no password.

    Raises
    ------
    InputError
        The environment names one that Prefect cannot use.
    """
    url = environment.get(DATABASE_VARIABLE, "")
    if not url:
        return "SQLite in the site's folder"
    scheme, _, rest = url.partition("://")
    if scheme not in DATABASES:
        # Nothing of it is shown but its beginning: a password may stand in the rest.
        raise InputError(
            expected="postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE",
            got=f"{scheme}://..." if rest else "something else",
            where=DATABASE_VARIABLE,
            fix="correct it, or leave it out: the database is SQLite then, in the site's folder",
        )
    return f"{scheme.partition('+')[0]} at {rest.rpartition('@')[2].partition('?')[0]}"


def new_key() -> str:
    """Return a user and a password that nobody has had before."""
    return f"varstar:{secrets.token_urlsafe(32)}"


def site_key(file: Path, given: str = "") -> str:
    """Return a site's key: the one that is given, which is left in the file, or the file's, made where there is none.

    Raises
    ------
    InputError
        Others may read it, or it is none.
    """
    if given:
        if not all(given.partition(":")[::2]):
            raise InputError(
                expected="USER:PASSWORD", got="something else", where=KEY_VARIABLE, fix="correct it, or leave it out"
            )
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(given + "\n")
        beside.replace(file)
        return given
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
    key = new_key()
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


def _tell(service: Service, logs: Path, database: str) -> None:
    file = service.folder / KEY_FILE
    # The link has the key in it, so it is for a person's terminal, not for a log.
    if sys.stdout.isatty():
        say(f"UI       {service.address}{ENTRANCE}#{file.read_text().strip()}")
    else:
        say(f"UI       {service.address}    (it asks for what is in {file})")
    say(f"API      {service.address}/api")
    say(f"Database {database}")
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


def _wait_for_server(server: Part, service: Service, logs: Path) -> None:
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline:
        server.check()
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
