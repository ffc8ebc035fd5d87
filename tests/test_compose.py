"""The site of deploy/compose.yaml comes up and reclassifies a survey: in containers, and on this machine.

Containers need podman, podman-compose and the images that `python -m tests.images.build` makes; VARSTAR_TEST_IMAGES=1
says that those are of this code.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.clusters import free_port
from tests.flow_site import until
from tests.images.build import DATABASE, IMAGE, PLANTED, STORE
from tests.s3_server import moto_server

ROOT = Path(__file__).resolve().parents[1]
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
            timeout=240,
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


def answers(port: int, auth: str | None) -> int:
    """Return the status of Prefect's server to who asks for deployments, 0 as long as there is none."""
    user = tuple(auth.split(":")) if auth else None
    try:
        url = f"http://127.0.0.1:{port}/api/deployments/filter"
        return httpx.post(url, json={}, auth=user, timeout=10).status_code  # type: ignore[arg-type]
    except httpx.TransportError:
        return 0


def check_the_password(port: int) -> None:
    until("Prefect's server", lambda: answers(port, SECRETS["VARSTAR_PREFECT_AUTH"]) == 200)
    assert answers(port, None) == 401
    assert answers(port, "operator:wrong") == 401


def check_the_pages(port: int) -> None:
    """Check that the server has its pages, too, which it writes when it starts: the root file system is read-only."""
    page = httpx.get(f"http://127.0.0.1:{port}/", timeout=30, follow_redirects=True)
    assert page.status_code == 200
    assert "<html" in page.text


def check_what_was_said(said: str) -> None:
    """Check the output of the smoke run."""
    assert "Completed" in said or "COMPLETED" in said, said
    assert re.search(rf"{OBJECTS}\b", said), said


@pytest.mark.slow
def test_the_site_of_the_compose_file_on_this_machine(tmp_path: Path) -> None:
    with moto_server() as store, contextlib.ExitStack() as up:
        here = Here(tmp_path, store)
        assert "good for" in here.once("certificates")
        here.once("bucket")
        for name in ("prefect-server", "scheduler", "cpu-worker"):
            up.enter_context(here.running(name))
        check_the_password(here.prefect)
        here.once("deployments")
        up.enter_context(here.running("prefect-worker"))
        check_what_was_said(here.once("smoke"))
    for file in tmp_path.glob("*.log"):
        assert not [secret for secret in SECRETS.values() if secret.encode() in file.read_bytes()], file.name


def engine() -> None:
    """Skip, with what is missing, where containers cannot be run here."""
    for program in ("podman", "podman-compose"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}, which this machine does not have")
    if os.environ.get("VARSTAR_TEST_IMAGES") != "1":
        pytest.skip("needs VARSTAR_TEST_IMAGES=1 and the images that `python -m tests.images.build` makes")
    for image in (IMAGE, DATABASE, STORE):
        if subprocess.run(["podman", "image", "exists", image], check=False).returncode:
            pytest.skip(f"needs the image {image}: python -m tests.images.build")


class Containers:
    """The compose file's project, brought up by podman-compose."""

    def __init__(self) -> None:
        self.prefect = free_port()
        self.environment = {
            **os.environ,
            **SECRETS,
            "VARSTAR_IMAGE": IMAGE,
            "VARSTAR_DATABASE_IMAGE": DATABASE,
            "VARSTAR_S3_IMAGE": STORE,
            "VARSTAR_PREFECT_PORT": str(self.prefect),
            "VARSTAR_DASHBOARD_PORT": str(free_port()),
            "VARSTAR_SMOKE_OBJECTS": str(OBJECTS),
        }

    def compose(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman-compose", "--project-name", "varstar-test", "--file", str(FILE), *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=280,
        )

    def podman(self, *words: str) -> str:
        done = subprocess.run(
            ["podman", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.stdout

    def names(self) -> list[str]:
        return self.podman(
            "ps", "--all", "--format={{.Names}}", "--filter=label=io.podman.compose.project=varstar-test"
        ).split()


@pytest.fixture(scope="module")
def site() -> Iterator[Containers]:
    engine()
    site = Containers()
    try:
        done = site.compose("up", "--detach", "--no-build")
        assert done.returncode == 0, done.stdout
        yield site
    finally:
        site.compose("--profile", "smoke", "down", "--volumes", "--timeout", "5")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_site_in_containers(site: Containers) -> None:
    check_the_password(site.prefect)
    check_the_pages(site.prefect)
    done = site.compose("--profile", "smoke", "run", "-T", "--rm", "smoke")
    assert done.returncode == 0, done.stdout[-3000:] + site.podman("logs", "varstar-test_prefect-worker_1")[-3000:]
    check_what_was_said(done.stdout)


@pytest.mark.slow
def test_containers_can_write_nowhere_and_are_nobody_special(site: Containers) -> None:
    ours = [name for name in site.names() if re.search("scheduler|prefect|cpu-worker", name)]
    assert len(ours) >= 5
    for name in ours:
        assert site.podman("exec", name, "id", "-u").strip() == "10001"
        said = site.podman("exec", name, "touch", "/x", "/opt/varstar/x", "/etc/varstar/x")
        assert said.count("Read-only file system") == 3, said
        (status,) = json.loads(site.podman("inspect", "--format={{json .EffectiveCaps}}", name)) or [[]]
        assert status == []


@pytest.mark.slow
def test_no_container_logs_a_credential(site: Containers) -> None:
    assert len(site.names()) >= 8
    for name in site.names():
        said = site.podman("logs", name)
        assert not [secret for secret in SECRETS.values() if secret in said], name


def holders(archive: Path, text: bytes) -> list[str]:
    """Return where in an image, saved by `podman save`, a text stands: its configuration, or files of any layer."""
    found = []
    with tarfile.open(archive) as image:
        for member in image:
            file = image.extractfile(member) if member.isreg() else None
            if file is None:
                continue
            content = file.read()
            if member.name.endswith(".tar"):
                with tarfile.open(fileobj=io.BytesIO(content)) as layer:
                    for each in layer:
                        # Links may lead to what another layer holds, or nowhere: their names are all they have.
                        inner = layer.extractfile(each) if each.isreg() else None
                        names = f"{each.name} {each.linkname}".encode()
                        if text in names or (inner is not None and text in inner.read()):
                            found.append(f"{member.name}:{each.name}")
            elif text in content:
                found.append(member.name)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_layer_of_the_image_holds_what_was_planted(tmp_path: Path) -> None:
    engine()
    saved = tmp_path / "image.tar"
    subprocess.run(["podman", "save", "--quiet", "--output", str(saved), IMAGE], check=True)
    assert holders(saved, PLANTED.encode()) == []
    # The search finds what a later layer has removed, and what stands in the configuration only.
    (tmp_path / "Dockerfile").write_text(
        f"FROM {IMAGE}\nENV SOMETHING={PLANTED}-1\nUSER 0\nRUN echo {PLANTED}-2 | rev | rev > /leak\nRUN rm /leak\n"
    )
    words = ["podman", "build", "--quiet", "--format=docker", "--tag=localhost/varstar-leak:test", str(tmp_path)]
    subprocess.run(words, check=True, capture_output=True)
    try:
        saved.unlink()
        subprocess.run(["podman", "save", "--quiet", "--output", str(saved), "localhost/varstar-leak:test"], check=True)
        found = holders(saved, PLANTED.encode())
        assert any(name.endswith(":leak") for name in found), found
        assert any(name.endswith(".json") for name in found), found
    finally:
        subprocess.run(["podman", "rmi", "--force", "localhost/varstar-leak:test"], check=False, capture_output=True)
