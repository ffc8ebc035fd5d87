"""The promises of deploy/SECURITY.md: who is listened to, who is refused, and that no credential is written."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import yaml
from pydantic import ValidationError

from tests.makers.certificates import certificates
from tests.makers.clusters import free_port
from tests.makers.surveys import write_survey
from varstar_batch.cli import main
from varstar_batch.cluster.client import open_client
from varstar_batch.errors import InputError
from varstar_batch.flows.reclassify import ReclassifyParameters
from varstar_batch.requests import ClusterOptions

ROOT = Path(__file__).resolve().parents[2]
PLANTED = "pl4nted-s3cret-0f-the-t3st"


def test_the_threat_model_names_tests_that_exist() -> None:
    text = (ROOT / "deploy/SECURITY.md").read_text()
    named = re.findall(r"`(tests/\w+/test_\w+\.py)(?:::(test_\w+))?`", text)
    assert len(named) >= 10
    for file, name in named:
        content = (ROOT / file).read_text()
        assert not name or f"def {name}(" in content, f"{file}::{name}"


def listening(pid: int) -> set[str]:
    """Return the addresses at which a process and its children listen."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    found = set()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {each.laddr.ip for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN}
    return found


@pytest.mark.parametrize("dashboard", [False, True])
def test_a_local_cluster_listens_on_loopback_only(dashboard: bool) -> None:
    before = listening(os.getpid())
    with open_client(1, None, dashboard=dashboard) as client:
        assert client is not None
        assert client.submit(sum, (1, 2)).result() == 3
        assert listening(os.getpid()) - before <= {"127.0.0.1"}
        assert "127.0.0.1" in listening(os.getpid())


def test_nobody_else_on_this_machine_joins_a_local_cluster() -> None:
    """Without the run's own certificates, which are in no file: neither in the clear nor with others of one's own."""
    from distributed import Client
    from distributed.security import Security

    with open_client(1, None) as client:
        assert client is not None
        addresses = [client.scheduler.address, *client.scheduler_info()["workers"]]
        assert len(addresses) == 2
        for address in addresses:
            assert address.startswith("tls://")
            for theirs, place in ((None, address.replace("tls://", "tcp://")), (Security.temporary(), address)):
                with (
                    pytest.raises((OSError, TypeError)),
                    Client(place, security=theirs, timeout=3, set_as_default=False),
                ):
                    pass
        assert client.submit(sum, (1, 2)).result() == 3


@pytest.mark.parametrize("address", ["tcp://192.0.2.7:8786", "192.0.2.7:8786", "tcp://scheduler.example:8786"])
def test_a_scheduler_elsewhere_without_tls_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="without TLS"), open_client(None, address):
        pass


@pytest.mark.slow
def test_a_scheduler_of_ours_does_not_listen_in_the_clear() -> None:
    """As the compose file sets it, and by another test the units and Kubernetes, with TLS left out of its command."""
    service = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["scheduler"]
    settings = {name: text for name, text in service["environment"].items() if "REQUIRE_ENCRYPTION" in name}
    words = ["-m", "dask", "scheduler", "--protocol=tcp", "--host=0.0.0.0", "--port=0", "--no-dashboard"]
    done = subprocess.run(
        [sys.executable, *words], env=os.environ | settings, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "encryption required by Dask configuration" in done.stderr


def dask(*words: str, options: ClusterOptions, folder: Path) -> subprocess.Popen[bytes]:
    assert options.tls_ca
    assert options.tls_cert
    assert options.tls_key
    tls = ("--tls-ca-file", options.tls_ca, "--tls-cert", options.tls_cert, "--tls-key", options.tls_key)
    with (folder / f"{words[0]}-{len(list(folder.iterdir()))}.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "dask", *words, *tls], stdout=log, stderr=log, cwd=folder)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ClusterOptions, Path]]:
    """A scheduler and a worker behind TLS, what opens them, and a folder."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    ours = certificates(folder / "ours")
    address = f"tls://127.0.0.1:{free_port()}"
    port = address.rsplit(":", 1)[1]
    scheduler = ("scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
    worker = ("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    processes = [dask(*words, options=ours, folder=folder) for words in (scheduler, worker)]
    try:
        yield address, ours, folder
    finally:
        for process in processes:
            process.terminate()
            process.wait(30)


@pytest.mark.slow
def test_a_client_with_a_certificate_works(tls: tuple[str, ClusterOptions, Path]) -> None:
    address, ours, _ = tls
    with open_client(None, address, ours) as client:
        assert client is not None
        client.wait_for_workers(1, timeout=60)
        assert client.submit(sum, (1, 2)).result() == 3


@pytest.mark.slow
def test_a_client_or_worker_without_it_is_refused(
    tls: tuple[str, ClusterOptions, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, ours, folder = tls
    monkeypatch.setattr("varstar_batch.cluster.client.CONNECT_SECONDS", 3)
    with pytest.raises(InputError, match="Dask scheduler that answers"), open_client(None, address):
        pass
    plain = address.replace("tls://", "tcp://")
    with pytest.raises(InputError), open_client(None, plain):
        pass
    theirs = certificates(folder / "theirs")
    with pytest.raises(InputError, match="Dask scheduler that answers"), open_client(None, address, theirs):
        pass
    words = ("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "5")
    stranger = dask(*words, "--name", "stranger", options=theirs, folder=folder)
    try:
        assert stranger.wait(150) != 0
    finally:
        stranger.kill()
        stranger.wait()
    with open_client(None, address, ours) as client:
        assert client is not None
        workers = client.scheduler_info()["workers"].values()
        assert "stranger" not in {worker["name"] for worker in workers}


@pytest.mark.slow
def test_flows_find_the_certificates_in_the_environment(tls: tuple[str, ClusterOptions, Path]) -> None:
    address, ours, _ = tls
    prefix = "DASK_DISTRIBUTED__COMM__TLS__"
    names = {"CA_FILE": ours.tls_ca, "CLIENT__CERT": ours.tls_cert, "CLIENT__KEY": ours.tls_key}
    code = f"""
from varstar_batch.cli import main
from varstar_batch.cluster.client import open_client
with open_client(None, {address!r}) as client:
    client.wait_for_workers(1, timeout=60)
    print(client.submit(sum, (1, 2)).result())
"""
    environment = os.environ | {prefix + name: str(value) for name, value in names.items()}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["3"], done.stderr


@pytest.mark.parametrize("url", [f"s3://key:{PLANTED}@bucket/survey", f"s3://{PLANTED}@bucket/survey"])
def test_credentials_in_urls_are_refused_and_not_repeated(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["classify", url, str(tmp_path / "catalog"), "--workers", "0"])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "credentials" in said.err
    assert PLANTED not in said.out + said.err
    with pytest.raises(ValidationError, match="no passwords in URLs"):
        ReclassifyParameters(survey=url, catalog="catalog")


def varstar(*words: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "varstar_batch", *words],
        env=os.environ | {"COLUMNS": "2000"} | dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )


def found_in(folder: Path, text: str) -> list[str]:
    """Return the files below a folder that hold a text, also where Parquet has compressed it."""
    import pyarrow.parquet as pq

    found = []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        content = file.read_bytes()
        if file.suffix == ".parquet" and file.name != "bad.parquet":
            content += str(pq.read_table(file).to_pylist()).encode() + str(pq.read_schema(file).metadata).encode()
        if text.encode() in content:
            found.append(str(file))
    return found


@pytest.mark.slow
def test_a_planted_credential_is_written_nowhere(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (60, 60))
    (survey / "bad.parquet").write_bytes(b"PAR1 not really")
    catalog = tmp_path / "catalog"
    planted = {
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED000000000",
        "AWS_SECRET_ACCESS_KEY": PLANTED,
        "AWS_SESSION_TOKEN": PLANTED,
        "PREFECT_API_KEY": PLANTED,
        "PREFECT_API_AUTH_STRING": f"admin:{PLANTED}",
    }
    runs = [
        varstar("classify", str(survey), str(catalog), "--workers", "1", "--json", environment=planted),
        varstar("report", str(catalog), "--out", str(tmp_path / "report.html"), environment=planted),
        # Whatever goes wrong with a store that is not there is told without what was said to it.
        varstar(
            *("classify", str(survey), "s3://nobody/catalog", "--workers", "0"),
            environment=planted | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
        ),
    ]
    assert [run.returncode for run in runs[:2]] == [1, 0], runs[0].stderr + runs[1].stderr
    assert runs[2].returncode != 0
    for text in (PLANTED, "AKIAPLANTED"):
        for run in runs:
            assert text not in run.stdout + run.stderr
        assert found_in(tmp_path, text) == []
    assert len(list(catalog.rglob("*.parquet"))) >= 4
    # And the search finds what there is to find.
    (catalog / "leak.json").write_text(PLANTED)
    assert len(found_in(tmp_path, PLANTED)) == 1


@pytest.mark.slow
def test_a_planted_credential_is_in_no_artifact_of_a_flow(tmp_path: Path) -> None:
    """Prefect's database holds logs, parameters, states, artifacts and events."""
    survey = write_survey(tmp_path / "survey", (60, 60))
    home = tmp_path / "home"
    code = f"""
from varstar_batch.flows.reclassify import ReclassifyParameters, reclassify
if __name__ == "__main__":
    for catalog in ({str(tmp_path / "catalog")!r}, "s3://nobody/catalog"):
        try:
            reclassify(ReclassifyParameters(survey={str(survey)!r}, catalog=catalog, workers=0))
        except Exception as error:
            print("failed", type(error).__name__)
"""
    (tmp_path / "flow.py").write_text(code)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED000000000",
        "AWS_SECRET_ACCESS_KEY": PLANTED,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_MAX_ATTEMPTS": "1",
        "PYTHONPATH": str(ROOT),
    }
    words = [sys.executable, str(tmp_path / "flow.py")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "failed" in done.stdout, done.stderr
    assert (tmp_path / "catalog").is_dir(), done.stderr
    databases = list(home.rglob("prefect.db*"))
    assert databases
    for text in (PLANTED, "AKIAPLANTED"):
        assert text not in done.stdout + done.stderr
        assert found_in(tmp_path, text) == []


def test_no_secret_stands_in_the_repository() -> None:
    words = ["git", "-C", str(ROOT), "ls-files"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs the repository's list of files")
    pattern = re.compile(rb"AKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY|xox[bp]-\d|ghp_[0-9A-Za-z]{36}")
    allowed = {b"AKIAPLANTED000000000"}
    files = [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    assert len(files) > 100
    found = [str(file) for file in files if set(pattern.findall(file.read_bytes())) - allowed]
    assert found == []
    assert not [file.name for file in files if file.suffix in {".pem", ".key"} or file.name == ".env"]
