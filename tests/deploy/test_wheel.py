"""The package as users install it: a wheel, in an environment of its own, used in a folder far from the checkout."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.makers.clusters import free_port
from tests.makers.flow_site import ROOT, SECONDS_TO_ANSWER, Site, running_site, until
from tests.makers.surveys import write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.cli.install import HIDDEN

pytestmark = pytest.mark.slow  # builds, installs, and starts a Prefect server

SOURCES = ("varstar_batch", "flows", "deploy", "pyproject.toml", "README.md", "LICENSE")


def build(sources: Path, kind: str, out: Path) -> Path:
    """Build a wheel or an sdist of `sources` with the setuptools that is installed, which needs no download."""
    out.mkdir()
    code = f"import sys; from setuptools.build_meta import build_{kind} as build; build(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, out], cwd=sources, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [built] = out.iterdir()
    return built


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fresh checkout has; links stay links."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(sources, "wheel", tmp_path_factory.mktemp("wheel") / "out")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_wheel_takes_no_name_but_its_own_and_has_what_it_needs(wheel: Path) -> None:
    names = contents(wheel).keys()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"varstar_batch"}
    for needed in ("flows/reclassify.py", "deploy/prefect.yaml", "deploy/automations.yaml", "report/style.css"):
        assert f"varstar_batch/{needed}" in names


def test_the_sdist_builds_the_same_wheel(sources: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build(sources, "sdist", tmp_path / "sdist")) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    assert contents(build(unpacked, "wheel", tmp_path / "wheel")) == contents(wheel)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that has the wheel; its requirements are those of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin/python"
    install = ["-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # Looked through after the new environment's own packages, and without what is installed for editing there.
    (own / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def deployed(site: Site) -> str:
    """What `varstar deploy` says once it is done: the server may answer 503 first, where its database is busy."""

    def deploy() -> str | None:
        done = site.varstar("deploy", "--survey", site.survey, "--catalog", site.catalog)
        assert done.returncode == 0 or "503" in done.stderr, done.stderr
        return done.stdout if done.returncode == 0 else None

    return until("the deployments", deploy)


@pytest.mark.timeout(900)
def test_the_commands_work_in_an_empty_folder(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [python.parent / "varstar", "demo", tmp_path / "demo", "--objects", "300", "--partitions", "2"]
    done = subprocess.run(words, cwd=empty, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "300 objects in, 300 rows out" in done.stdout
    shutil.move(tmp_path / "demo/survey", tmp_path / "survey")
    with running_site(tmp_path, str(python), empty) as site:
        where = site.command(python, "-c", "import varstar_batch.flows.deploy as module; print(module.__file__)")
        assert Path(where.stdout.strip()).is_relative_to(python.parents[1]), where
        assert "deployment  nightly" in deployed(site)
        site.ended(site.start("reclassify/nightly"), "COMPLETED", 300)
        doctor = site.varstar("doctor", "--catalog", site.catalog)
        assert doctor.returncode == 0, doctor.stdout
    assert open_catalog(site.catalog).record["rows"] == 300
    assert list(empty.iterdir()) == []


class Systemd:
    """A real systemd over this machine's files, in namespaces of its own; what it writes is gone with it."""

    SCRIPT = ROOT / "tests/makers/systemd.sh"

    def __init__(self, log: Path) -> None:
        with log.open("w") as stream:
            self.process = subprocess.Popen([self.SCRIPT, "boot"], stdout=stream, stderr=stream)

    def run(self, *words: object, content: bytes = b"", check: bool = True) -> str:
        command = [self.SCRIPT, "in", self.process.pid, *words]
        done = subprocess.run([*map(str, command)], input=content, capture_output=True, check=False, timeout=300)
        assert not check or done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
        return done.stdout.decode(errors="replace") if done.returncode == 0 else ""

    def runs(self) -> bool:
        assert self.process.poll() is None
        return "running" in self.run("systemctl", "is-system-running", check=False)

    def stop(self) -> None:
        """End it, and with it everything that it started."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    if os.geteuid() != 0 or not shutil.which("unshare") or not Path("/lib/systemd/systemd").exists():
        pytest.skip("needs root, unshare and systemd, to boot one in namespaces of its own")
    if any(REQUIREMENTS.is_relative_to(folder) for folder in HIDDEN):
        pytest.skip(f"needs these tests' packages where services see them, not in {REQUIREMENTS}")
    it = Systemd(tmp_path / "systemd.log")
    try:
        until("systemd to run", it.runs, 240, 1.0)
        yield it
    finally:
        it.stop()


REQUIREMENTS = Path(sysconfig.get_path("purelib")).resolve()


def installed_there(systemd: Systemd, wheel: Path, survey: Path) -> None:
    """Install the wheel in /opt/varstar, and a survey in /srv/varstar, where services see them."""
    # Python itself may lie in somebody's home, which services do not see: a copy, without its tests and packages.
    library = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
    leave = [f"--exclude=./{library}/{name}" for name in ("test", "site-packages", "config-*", "idlelib", "tkinter")]
    pack = ["tar", "-c", "-C", sys.base_prefix, *leave, "./bin", "./lib"]
    systemd.run("sh", "-c", f"mkdir /opt/python && {shlex.join(pack)} | tar -x -C /opt/python")
    systemd.run("sh", "-c", "echo /opt/python/lib > /etc/ld.so.conf.d/000-python.conf && /sbin/ldconfig")
    systemd.run(f"/opt/python/bin/{Path(library).name}", "-m", "venv", "/opt/varstar")
    systemd.run("tee", f"/opt/{wheel.name}", content=wheel.read_bytes())
    systemd.run("/opt/varstar/bin/pip", "install", "--no-deps", "--no-index", f"/opt/{wheel.name}")
    packages = systemd.run("/opt/varstar/bin/python", "-c", "import site; print(site.getsitepackages()[0])").strip()
    systemd.run("tee", f"{packages}/requirements.pth", content=str(REQUIREMENTS).encode() + b"\n")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(survey, "varstar/survey")
    systemd.run("tar", "-x", "-C", "/srv", content=packed.getvalue())


@pytest.mark.timeout(1200)
def test_a_site_of_the_whole_machine_under_a_real_systemd(
    wheel: Path, systemd: Systemd, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    installed_there(systemd, wheel, write_survey(tmp_path / "survey", (60,)))
    port = free_port()
    words = ["/opt/varstar/bin/varstar", "site", "install", "--survey", "/srv/varstar/survey"]
    words += ["--catalog", "/srv/varstar/catalog", "--port", str(port)]
    said = systemd.run(*words)
    assert "It runs: systemctl status varstar.service" in said
    assert systemd.run("stat", "-c", "%a %U", "/etc/varstar/varstar.env").split() == ["600", "root"]
    lines = systemd.run("cat", "/etc/varstar/varstar.env").splitlines()
    settings = dict(line.split("=", 1) for line in (shlex.split(each)[0] for each in lines))
    user, password = settings["PREFECT_API_AUTH_STRING"].split(":")
    server = httpx.Client(base_url=f"http://127.0.0.1:{port}/api", auth=(user, password), timeout=SECONDS_TO_ANSWER)
    request.addfinalizer(server.close)

    def deployed() -> dict[str, str]:
        try:
            answer = server.post("/deployments/filter", json={})
        except httpx.TransportError:
            return {}
        found = {each["name"]: each["id"] for each in answer.json()} if answer.is_success else {}
        return found if "maintenance" in found else {}

    def journal() -> str:
        return systemd.run("journalctl", "--no-pager", "-u", "varstar", check=False)[-3000:]

    def property_of(name: str) -> str:
        return systemd.run("systemctl", "show", "varstar", "-p", name, "--value").strip()

    deployments = until("the site's deployments", deployed, 400)
    assert systemd.run("ps", "-o", "user=", "-p", property_of("MainPID")).strip() == "varstar"

    def well() -> str:
        command = "set -a; . /etc/varstar/varstar.env; set +a; HOME=/tmp exec /opt/varstar/bin/varstar doctor"
        return systemd.run("sh", "-c", command, check=False)

    found = until("the site to be well", well, 300, 2.0)
    assert "ok  key" in found
    assert "ok  deployed" in found

    def classified() -> None:
        def begun() -> str | None:
            """The server may be busy: its deployments are applied anew when it comes back."""
            answer = server.post(f"/deployments/{deployments['nightly']}/create_flow_run", json={})
            return answer.json()["id"] if answer.is_success else None

        run = until("a run to be taken", begun, 240, 1.0)

        def ended() -> str | None:
            state = server.get(f"/flow_runs/{run}").json()["state"]
            return state["type"] if state["type"] in {"COMPLETED", "FAILED", "CRASHED"} else None

        assert until("the run to end", ended, 400, 1.0) == "COMPLETED", journal()

    classified()
    assert "current" in systemd.run("/opt/varstar/bin/varstar", "runs", "/srv/varstar/catalog")

    # Whatever ends it, it comes back.
    main = property_of("MainPID")
    systemd.run("kill", "-9", main)
    until("it to be started again", lambda: property_of("MainPID") not in {"0", main}, 120, 1.0)
    until("its deployments", deployed, 400, 1.0)
    assert int(property_of("NRestarts")) >= 1
    classified()

    assert "removed" in systemd.run("/opt/varstar/bin/varstar", "site", "remove")
    assert systemd.run("systemctl", "is-active", "varstar", check=False) == ""
    assert systemd.run("pgrep", "-u", "varstar", check=False) == ""
    assert systemd.run("ls", "/srv/varstar/catalog/current").strip()
