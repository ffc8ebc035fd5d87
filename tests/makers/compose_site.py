"""The services of deploy/compose.yaml on this machine, without containers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.makers.clusters import free_port

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy/compose.yaml"
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
SECRETS = {
    "VARSTAR_DATABASE_PASSWORD": "pl4nted-database-password",
    "VARSTAR_PREFECT_AUTH": "operator:pl4nted-prefect-password",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED000000000",
    "AWS_SECRET_ACCESS_KEY": "pl4nted-key-of-the-store",
}
OBJECTS = 400


def interpolated(value: str, variables: Mapping[str, str]) -> str:
    """Fill in `${NAME:-default}` and `${NAME:?message}`, and `$$`, as compose does."""

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, kind, rest = match.groups()
        assert name in variables or kind == ":-", f"{name}: {rest}"
        return variables.get(name) or rest

    return re.sub(r"\$\$|\$\{(\w+)(:-|:\?)([^}]*)\}", fill, value)


class Here:
    """The services of the compose file on this machine: their own commands and variables, at other addresses."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder = folder
        self.prefect, self.dask, self.health = (free_port() for _ in range(3))
        self.variables = {**SECRETS, "VARSTAR_S3": store, "VARSTAR_SMOKE_OBJECTS": str(OBJECTS)}
        self.places = {
            "prefect-server:4200": f"127.0.0.1:{self.prefect}",
            "scheduler:8786": f"127.0.0.1:{self.dask}",
            "--port=8786": f"--port={self.dask}",
            "0.0.0.0": "127.0.0.1",
            "=:8787": "=127.0.0.1:0",
            "=:8788": "=127.0.0.1:0",
            "/certificates.py": str(ROOT / "deploy/certificates.py"),
            "/etc/varstar/tls": str(folder / "tls"),
            "/tmp/dask": str(folder / "dask"),
        }

    def at(self, value: str) -> str:
        value = interpolated(value, self.variables)
        for there, here in self.places.items():
            value = value.replace(there, here)
        return value

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of a service alone: the machine's own Prefect, Dask and store do not count."""
        own = {key: self.at(value) for key, value in SERVICES[name].get("environment", {}).items()}
        outside = {key: value for key, value in os.environ.items() if not re.match("PREFECT_|DASK_|AWS_", key)}
        return {
            **outside,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PREFECT_HOME": str(self.folder / f"prefect-{name}"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "DO_NOT_TRACK": "1",
            # SQLite instead of PostgreSQL.
            **{key: value for key, value in own.items() if not key.startswith("PREFECT_SERVER_DATABASE")},
            "PREFECT_WORKER_WEBSERVER_PORT": str(self.health),
        }

    def words(self, name: str) -> list[str]:
        words = [self.at(word) for word in SERVICES[name]["command"]]
        if name == "prefect-server":
            words[words.index("4200")] = str(self.prefect)
        program = shutil.which(words[0], path=self.environment(name)["PATH"])
        assert program, words[0]
        return [program, *words[1:]]

    def once(self, name: str) -> str:
        done = subprocess.run(
            self.words(name),
            env=self.environment(name),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert done.returncode == 0, f"{name}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.words(name), env=self.environment(name), cwd=self.folder, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                # Prefect's worker now and then waits for ever once told to end; engines kill it after 10 s, too.
                process.kill()
                process.wait()
