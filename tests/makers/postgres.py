"""A real PostgreSQL on loopback, run by nobody special, with a password."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.makers.clusters import free_port

PASSWORD = "pl4nted-database-password"
SECONDS_TO_START = 60.0


def programs() -> Path:
    """Return the folder of PostgreSQL's programs; Debian keeps those of the server out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    program = shutil.which("initdb") or (found[-1] if found else None)
    if program is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    return Path(program).resolve().parent


@contextmanager
def running_postgres() -> Iterator[str]:
    """Yield the address of a new, empty database, as Prefect's server takes it; afterwards nothing of it is left."""
    there = programs()
    # The server refuses to be root; the folders of a test are closed to anybody else.
    somebody = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="varstar-postgres-"))
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if somebody:
            for place in (folder, secret):
                shutil.chown(place, "nobody", "nogroup")
        data, port = folder / "data", free_port()
        words = ["--pgdata", data, "--username", "prefect", "--pwfile", secret, "--auth", "scram-sha-256", "--no-sync"]
        made = subprocess.run(
            [there / "initdb", *words], cwd=folder, capture_output=True, text=True, check=False, **somebody
        )
        assert made.returncode == 0, made.stderr
        words = ["-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", folder]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen([there / "postgres", *words], cwd=folder, stdout=log, stderr=log, **somebody)
        try:
            deadline = time.monotonic() + SECONDS_TO_START
            while subprocess.run(
                [there / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], capture_output=True, check=False
            ).returncode:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
            yield f"postgresql+asyncpg://prefect:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            # Fast: whoever is connected is sent away.
            server.send_signal(signal.SIGINT)
            server.wait(60)
    finally:
        shutil.rmtree(folder)
