"""How a cluster is spoken to: TLS, and no other machine without it."""

from __future__ import annotations

import datetime
import ipaddress
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.makers.clusters import QUIET, ROOT, Cluster, free_port
from tests.makers.runbook import check_said
from tests.makers.surveys import write_survey
from varstar_batch.api import ClassifyRequest, classify_survey
from varstar_batch.cluster.client import open_client, unlike_versions
from varstar_batch.errors import InputError
from varstar_batch.requests import ClusterOptions
from varstar_batch.runs.stages import RunObserver

if TYPE_CHECKING:
    from distributed import Client


def refused(scheduler: str, *words: str, options: ClusterOptions | None = None) -> None:
    with pytest.raises(InputError) as error, open_client(None, scheduler, options):
        pass
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("address", ["tcp://10.77.0.10:8786", "scheduler.example:8786", "ws://192.0.2.1:8786"])
def test_another_machine_is_not_spoken_to_in_the_clear(address: str) -> None:
    refused(address, "behind TLS", "--insecure-scheduler")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "localhost:9", "tcp://[::1]:9"])
def test_this_machine_is(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("varstar_batch.cluster.client.CONNECT_SECONDS", 0.2)
    refused(address, "a Dask scheduler that answers")


def test_a_scheduler_behind_tls_wants_certificates() -> None:
    with pytest.raises(InputError) as error, open_client(None, "tls://127.0.0.1:9"):
        pass
    check_said("TLS without certificates", str(error.value))


def test_certificates_come_in_threes_and_ask_for_tls(tmp_path: Path) -> None:
    options = certificate(tmp_path)
    refused(
        "tls://127.0.0.1:9", "no --tls-key", options=ClusterOptions(tls_ca=options.tls_ca, tls_cert=options.tls_cert)
    )
    lost = ClusterOptions(tls_ca=options.tls_ca, tls_cert=options.tls_cert, tls_key=str(tmp_path / "gone.pem"))
    refused("tls://127.0.0.1:9", "no file", "gone.pem", options=lost)
    refused("tcp://127.0.0.1:9", "tls://", options=options)
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other")
    mixed = ClusterOptions(tls_ca=options.tls_ca, tls_cert=options.tls_cert, tls_key=other.tls_key)
    refused("tls://127.0.0.1:9", "belong together", options=mixed)


def test_workers_that_do_not_start_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    def fail(**_: object) -> None:
        raise RuntimeError("Nanny failed to start.") from MemoryError("no memory")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    with (
        pytest.raises(InputError, match=r"worker processes that start, got no memory.*--workers"),
        open_client(2, None),
    ):
        pass


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_work_is_done_behind_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = certificate(tmp_path)
    tls = ["--tls-ca-file", options.tls_ca, "--tls-cert", options.tls_cert, "--tls-key", options.tls_key]
    address = f"tls://127.0.0.1:{free_port()}"
    environment = os.environ | QUIET
    common = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    words = [sys.executable, "-m", "dask"]
    here = ["--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    with ExitStack() as stack:
        for command in (
            [*words, "scheduler", "--protocol", "tls", *here, "--no-dashboard", *tls],
            [*words, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", *tls],
        ):
            process = subprocess.Popen(command, **common)
            stack.callback(process.wait)
            stack.callback(process.kill)
        with open_client(None, address, options) as client:
            assert client is not None
            assert client.submit(sum, [1, 2]).result(timeout=90) == 3
        monkeypatch.setattr("varstar_batch.cluster.client.CONNECT_SECONDS", 2)
        refused(address, "a Dask scheduler that answers")


def certificate(folder: Path) -> ClusterOptions:
    """Make a certificate that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "varstar test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    cert, pem = str(folder / "cert.pem"), str(folder / "key.pem")
    return ClusterOptions(tls_ca=cert, tls_cert=cert, tls_key=pem)


def test_a_scheduler_without_workers_is_told_at_once(tmp_path: Path) -> None:
    """A worker that comes later does the work; how long it is waited for is nobody's guess."""
    survey = write_survey(tmp_path / "survey", (30,))
    told: list[str] = []

    class Told(RunObserver):
        def warn(self, message: str) -> None:
            told.append(message)
            site.start_worker("late")

    site = Cluster()
    try:
        request = ClassifyRequest(survey=str(survey), catalog=str(tmp_path / "catalog"), scheduler=site.address)
        record = classify_survey(request, Told()).record
    finally:
        site.stop()
    assert record["rows"] == 30
    [line] = told
    assert line.startswith(f"the scheduler at {site.address} has no workers")


def test_a_scheduler_of_other_versions_is_told() -> None:
    class Old:
        def get_versions(self) -> dict[str, object]:
            mine = {"python": "3.11.7", "dask": "2026.8.0", "distributed": "2026.8.0"}
            return {"client": {"packages": mine}, "scheduler": {"packages": mine | {"distributed": "2024.1.0"}}}

    assert "distributed 2024.1.0 instead of 2026.8.0" in unlike_versions(cast("Client", Old()))
