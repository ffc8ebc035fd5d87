"""Dockerfile, compose file and units: what they promise, and that the commands in them are ones that work."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dask.config import collect_env, get

from tests.makers.manifests import LITERALS, SECRET_NAME
from tests.makers.options import options_of

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, with lines that go on joined."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    return [(word.upper(), " ".join(rest.split())) for word, _, rest in (x.partition(" ") for x in joined.splitlines())]


def instruction_problems(word: str, rest: str) -> list[str]:
    """Return what is wrong with an instruction by itself."""
    copied = rest.split(maxsplit=1)[0] if word == "COPY" else ""
    said = {
        "ADD, which may fetch: use COPY": word == "ADD",
        "the whole folder is copied, with whatever lies in it": copied == ".",
        "a secret in the environment": word == "ENV"
        and re.search(r"(PASSWORD|SECRET|TOKEN|AUTH_STRING|ACCESS_KEY)\w*=", rest),
    }
    if word == "RUN":
        installs = "pip install" in rest and "--no-deps" not in rest
        said |= {
            "pip without the constraints file": installs and "--constraint constraints.txt" not in rest,
            "apt-get with recommended packages": re.search(r"apt-get install(?!.*--no-install-recommends)", rest),
            f"not in an image: {rest[:40]}": re.search(r"curl|wget|sudo|chmod (-R )?777", rest),
        }
    return [what for what, wrong in said.items() if wrong]


def image_problems(text: str) -> list[str]:
    """Return what is wrong with a Dockerfile, by this project's rules."""
    found, stages = [], {}
    arguments = set()
    for word, rest in instructions(text):
        if word == "ARG":
            arguments.add(rest.partition("=")[0])
            if SECRET_NAME.search(rest):
                found.append(f"a secret as build argument: {rest}")
        elif word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = stage = {"base": base, "user": None, "health": False, "root_after": False}
            if base not in stages and base.strip("${}") not in arguments:
                found.append(f"base {base} is neither a build argument nor a stage")
            if base in stages:
                stage.update(user=stages[base]["user"], health=stages[base]["health"])
        elif word == "USER":
            stage["user"] = rest
        elif word == "HEALTHCHECK":
            stage["health"] = rest != "NONE"
        found += instruction_problems(word, rest)
    if LITERALS.search(text) or re.search(r"https?://", text):
        found.append("an address or a literal secret")
    for target in ("cpu", "gpu"):
        user = (stages.get(target) or {"user": None})["user"]
        if not user or user.split(":")[0] in {"root", "0"}:
            found.append(f"target {target} runs as root")
        if not (stages.get(target) or {"health": False})["health"]:
            found.append(f"target {target} has no health check")
    return found


DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def test_nothing_is_wrong_with_the_dockerfile() -> None:
    assert image_problems(DOCKERFILE) == []
    sources = [word for word, _ in instructions(DOCKERFILE) if word == "FROM"]
    assert len(sources) >= 5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("USER 10001:10001", "USER root", "runs as root"),
        ("USER 10001:10001\n", "", "runs as root"),
        ("FROM ${BASE} AS base", "FROM debian:bookworm AS base", "neither"),
        ("--constraint constraints.txt ", "", "without the constraints"),
        ("--no-install-recommends", "", "recommended"),
        ("ARG BASE", "ARG API_TOKEN\nARG BASE", "build argument"),
        ("HOME=/tmp", "AWS_SECRET_ACCESS_KEY=abc HOME=/tmp", "in the environment"),
        ("HEALTHCHECK", "HEALTHCHECK NONE\n#", "health check"),
        ("COPY flows flows", "COPY . .", "whole folder"),
        ("COPY flows flows", "ADD flows flows", "ADD"),
        ("RUN python3 -m venv", "RUN curl x | sh && python3 -m venv", "not in an image"),
    ],
)
def test_what_is_broken_in_the_dockerfile_is_noticed(old: str, new: str, said: str) -> None:
    assert old in DOCKERFILE
    assert any(said in line for line in image_problems(DOCKERFILE.replace(old, new)))


def test_all_that_the_dockerfile_copies_is_there() -> None:
    for word, rest in instructions(DOCKERFILE):
        if word == "COPY" and not rest.startswith("--from"):
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists(), name


def requirements(*extras: str) -> list[str]:
    words = [sys.executable, "deploy/requirements.py", *extras]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_requirements_are_those_of_pyproject() -> None:
    lines = requirements("kubernetes")
    assert "prefect>=3.8,<3.9" in lines
    assert any(line.startswith("prefect-kubernetes") for line in lines)
    assert not any(line.startswith(("pytest", "tensorflow", "keras")) for line in lines)
    with_gpu = requirements("kubernetes", "gpu")
    assert {"keras>=3.15.1", "tensorflow[and-cuda]>=2.18"} <= set(with_gpu)
    assert not any(line.startswith("varstar-batch") for line in with_gpu)
    pinned = {re.split("==", line)[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {re.split(r"[<>=\[]", line)[0].lower() for line in with_gpu} <= pinned


COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OWN = [name for name, service in COMPOSE["services"].items() if name not in {"postgres", "s3"}]


def compose_problems(compose: dict[str, Any]) -> list[str]:
    """Return what is wrong with a compose file, by this project's rules."""
    found = []
    services = compose["services"]
    for name, service in services.items():
        if name in OWN and service.get("read_only") is not True:
            found.append(f"{name}: can write to its root file system")
        if name in OWN and service.get("cap_drop") != ["ALL"]:
            found.append(f"{name}: keeps capabilities")
        if service.get("privileged") or service.get("user") in {"root", "0", "0:0"}:
            found.append(f"{name}: runs as root")
        if re.search(r"(:latest|^[^:$]+)$", service["image"]):
            found.append(f"{name}: image {service['image']} is not pinned")
        lasting = name in OWN and name not in {"certificates", "bucket", "smoke", "deployments"}
        if lasting and "VARSTAR_HEALTH" not in service["environment"]:
            found.append(f"{name}: nothing says how it is")
        found += [
            f"{name}: port {p} is open to all" for p in service.get("ports", []) if not p.startswith("127.0.0.1:")
        ]
        found += [f"{name}: depends on {each}" for each in service.get("depends_on", []) if each not in services]
        found += [
            f"{name}: no network {each}" for each in service.get("networks", []) if each not in compose["networks"]
        ]
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|ACCESS_KEY|AUTH", key) and not re.fullmatch(r"\$\{\w+:\?[^}]*\}", value):
                found.append(f"{name}: {key} is given by value")
        words = [*service.get("command", [])]
        if "dask" in words and not {"--protocol=tls", "tls://scheduler:8786"} & set(words):
            found.append(f"{name}: Dask without TLS")
    return found


def test_nothing_is_wrong_with_the_compose_file() -> None:
    assert compose_problems(COMPOSE) == []
    assert set(COMPOSE["services"]) >= {
        "postgres",
        "prefect-server",
        "prefect-worker",
        "scheduler",
        "cpu-worker",
        "gpu-worker",
        "s3",
        "smoke",
    }
    assert COMPOSE["services"]["gpu-worker"]["profiles"] == ["gpu"]
    assert "--resources=GPU=1" in COMPOSE["services"]["gpu-worker"]["command"]


COMPOSE_BREAKAGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda s: s["scheduler"].update(ports=["8787:8787"]), "open to all"),
    (lambda s: s["scheduler"].update(read_only=False), "can write"),
    (lambda s: s["scheduler"].update(command=["dask", "scheduler"]), "without TLS"),
    (lambda s: s["s3"].update(image="motoserver/moto:latest"), "not pinned"),
    (lambda s: s["postgres"]["environment"].update(POSTGRES_PASSWORD="abc"), "by value"),
    (lambda s: s["smoke"].update(user="root"), "as root"),
    (lambda s: s["cpu-worker"].update(cap_drop=[]), "capabilities"),
    (lambda s: s["cpu-worker"].update(depends_on={"nobody": {}}), "depends on"),
    (lambda s: s["cpu-worker"]["environment"].pop("VARSTAR_HEALTH"), "how it is"),
]


@pytest.mark.parametrize(("change", "said"), COMPOSE_BREAKAGES, ids=[said for _, said in COMPOSE_BREAKAGES])
def test_what_is_broken_in_the_compose_file_is_noticed(change: Callable[[dict[str, Any]], Any], said: str) -> None:
    broken = copy.deepcopy(COMPOSE)
    change(broken["services"])
    assert any(said in line for line in compose_problems(broken))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_valid(unit: Path, tmp_path: Path) -> None:
    # It asks for the programs, too, which stand elsewhere here.
    text = unit.read_text().replace("/opt/varstar/bin", str(Path(sys.executable).parent))
    (tmp_path / unit.name).write_text(text)
    words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "varstar" in line]
    assert not said
    assert done.returncode == 0
    (tmp_path / unit.name).write_text(text.replace("NoNewPrivileges=yes", "NoNewPrivilegez=yes"))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "NoNewPrivilegez" in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_run_as_nobody_special_and_hold_no_secret(unit: Path) -> None:
    text = unit.read_text()
    assert "User=varstar" in text
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "PrivateTmp=yes"):
        assert line in text
    assert not LITERALS.search(text)
    assert not re.search(r"^Environment=.*(SECRET|PASSWORD|TOKEN|ACCESS_KEY)", text, re.MULTILINE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_options_in_units_exist(unit: Path) -> None:
    command = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    words = shlex.split(command.removeprefix("ExecStart="))
    known = options_of(Path(words[0]).name, words[1])
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("name", ["scheduler", "cpu-worker", "gpu-worker"])
def test_the_options_in_compose_exist(name: str) -> None:
    words = COMPOSE["services"][name]["command"]
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options_of(words[0], words[1])


def dask_variables_of_units() -> dict[str, dict[str, str]]:
    """Return the variables of Dask in each unit that has any."""
    found = {}
    for unit in UNITS:
        lines = re.findall("^Environment=(.*)", unit.read_text(), re.MULTILINE)
        said = dict(word.split("=", 1) for line in lines for word in shlex.split(line))
        if "dask" in unit.name:
            found[unit.name] = said
    return found


def test_clusters_elsewhere_are_set_as_our_own() -> None:
    """Without these a scheduler grows, an idle worker is not idle, and one death of a worker more ends a task."""
    from varstar_batch.cluster.client import SETTINGS

    file = (ROOT / "k8s/base/environment.env").read_text()
    settings = dask_variables_of_units() | {
        "kubernetes": dict(line.split("=", 1) for line in file.splitlines()),
        **{name: COMPOSE["services"][name]["environment"] for name in ("scheduler", "cpu-worker", "gpu-worker")},
    }
    assert len(settings) == 6
    for place, said in settings.items():
        own = collect_env(said)
        assert {name: get(name, default=None, config=own) for name in SETTINGS} == SETTINGS, place
        assert get("distributed.comm.require-encryption", config=own) is True, place
        assert get("distributed.comm.timeouts.tcp", config=own) == "30s", place


def test_workers_everywhere_count_and_look_for_their_gpu_before_they_begin() -> None:
    manifests = [*yaml.safe_load_all((ROOT / "k8s/base/dask-cluster.yaml").read_text())]
    manifests += yaml.safe_load_all((ROOT / "k8s/components/gpu/worker-group.yaml").read_text())
    workers = [
        each["spec"]["worker"]["spec"]["containers"][0]["args"] for each in manifests if "worker" in each["spec"]
    ]
    workers += [COMPOSE["services"][name]["command"] for name in ("cpu-worker", "gpu-worker")]
    workers += [re.split("[ =]", unit.read_text()) for unit in UNITS if "dask-worker" in unit.name]
    assert len(workers) == 5
    for words in workers:
        said = " ".join(words).replace("--preload=", "--preload ")
        assert "--preload varstar_batch.cluster.preload" in said
    assert sum("--resources=GPU=1" in words for words in workers) == 2


def make_certificates(folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(DEPLOY / "certificates.py"), str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=True)


def test_certificates_belong_together_and_are_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    assert "good for" in make_certificates(folder).stdout
    key = folder / "tls.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert "are there" in make_certificates(folder).stdout
    assert key.read_bytes() == before
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to check what was made")
    words = ["openssl", "verify", "-CAfile", str(folder / "ca.crt"), str(folder / "tls.crt")]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_the_build_context_holds_what_the_dockerfile_copies() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    for word, rest in instructions(DOCKERFILE):
        if word == "COPY" and not rest.startswith("--from"):
            assert set(rest.split()[:-1]) <= sent
