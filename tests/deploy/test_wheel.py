"""The package as users install it: a wheel, in an environment of its own, used in a folder far from the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.makers.flow_site import ROOT, Site, running_site, until
from varstar_batch.catalog.reader import open_catalog

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
