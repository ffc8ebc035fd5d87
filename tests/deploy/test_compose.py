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
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.images.build import DATABASE, IMAGE, PLANTED, STORE
from tests.makers.clusters import free_port
from tests.makers.compose_site import FILE, OBJECTS, ROOT, SECRETS, Here
from tests.makers.flow_site import until
from tests.makers.s3_server import moto_server


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
@pytest.mark.timeout(900)
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
            timeout=700,
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


def deployed(port: int) -> list[str]:
    """Return the names of the deployments that Prefect's server knows, none as long as it does not answer."""
    user = SECRETS["VARSTAR_PREFECT_AUTH"].split(":")
    try:
        url = f"http://127.0.0.1:{port}/api/deployments/filter"
        answer = httpx.post(url, json={}, auth=(user[0], user[1]), timeout=10)
    except httpx.TransportError:
        return []
    return sorted(each["name"] for each in answer.json()) if answer.is_success else []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_prefects_database_comes_back_from_its_backup(site: Containers, tmp_path: Path) -> None:
    until("the deployments", lambda: len(deployed(site.prefect)) >= 6)
    before = deployed(site.prefect)
    guide = (ROOT / "deploy/README.md").read_text()
    lines = re.findall(r"^docker compose .* (?:exec -T postgres|stop|start) .*$", guide, re.MULTILINE)
    assert len(lines) == 6
    project = f"podman-compose --project-name varstar-test --file {FILE}"
    for line in lines:
        words = line.replace("docker compose --file deploy/compose.yaml", project)
        done = subprocess.run(
            ["sh", "-c", words], env=site.environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        if "dropdb" in line:
            assert deployed(site.prefect) == []
    assert b"COPY public.deployment " in (tmp_path / "prefect.sql").read_bytes()
    until("what there was", lambda: deployed(site.prefect) == before)


@pytest.mark.slow
def test_containers_are_well_can_write_nowhere_and_are_nobody_special(site: Containers) -> None:
    ours = [name for name in site.names() if re.search("scheduler|prefect|cpu-worker", name)]
    assert len(ours) >= 5
    for name in ours:
        assert site.podman("exec", name, "id", "-u").strip() == "10001"
        said = site.podman("exec", name, "touch", "/x", "/opt/varstar/x", "/etc/varstar/x")
        assert said.count("Read-only file system") == 3, said
        (status,) = json.loads(site.podman("inspect", "--format={{json .EffectiveCaps}}", name)) or [[]]
        assert status == []
        # The image's own check, which engines ask time and again.
        assert subprocess.run(["podman", "healthcheck", "run", name], check=False, capture_output=True).returncode == 0


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
