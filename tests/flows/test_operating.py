"""What an operator reads when the server is not there, does not know them, or is not set up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from tests.makers.clusters import free_port
from tests.makers.flow_site import ROOT, until
from tests.makers.surveys import write_survey

pytestmark = pytest.mark.slow  # each starts a process that imports Prefect


def varstar(words: list[object], home: Path, url: str | None, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: Prefect reads its settings once."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(home)} | ({"PREFECT_API_URL": url} if url else {}) | settings
    command = [sys.executable, "-m", "varstar_batch", *map(str, words)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def answering(code: int) -> Iterator[str]:
    """An HTTP server that answers everything with one status."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(code)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep the tests' output quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It ended with 2 and exactly one line, which has all the words."""
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_survey(tmp_path_factory.mktemp("operating") / "survey", (5,))


def test_no_server_is_named(survey: Path, tmp_path: Path) -> None:
    refused(varstar(["release", survey, "--name", "DR2"], tmp_path, None), "PREFECT_API_URL", "varstar serve")


def test_the_server_is_down(survey: Path, tmp_path: Path) -> None:
    done = varstar(["release", survey, "--name", "DR2"], tmp_path, "http://127.0.0.1:9/api")
    refused(done, "http://127.0.0.1:9/api", "refused", "varstar serve")


def test_the_server_does_not_accept_the_key(survey: Path, tmp_path: Path) -> None:
    with answering(401) as url:
        done = varstar(["deploy", "--survey", survey, "--catalog", tmp_path / "catalog"], tmp_path, url)
    refused(done, url, "401", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")


@contextmanager
def guarded(home: Path, credentials: str) -> Iterator[str]:
    """A real Prefect server that asks for credentials."""
    url = f"http://127.0.0.1:{free_port()}/api"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_AUTH_STRING": credentials,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | settings
    host, port = url.removeprefix("http://").removesuffix("/api").split(":")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", port]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def answers() -> bool:
        assert server.poll() is None, (home / "server.log").read_text()
        try:
            return httpx.get(f"{url}/health", timeout=5).is_success
        except httpx.TransportError:
            return False

    try:
        until("the server", answers)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def test_a_server_that_asks_for_credentials(survey: Path, tmp_path: Path) -> None:
    words: list[object] = ["release", survey, "--name", "DR2"]
    with guarded(tmp_path, "operator:r1ght") as url:
        # Somebody has to wait for the release.
        site: list[object] = ["deploy", "--survey", survey, "--catalog", tmp_path / "catalog"]
        assert varstar(site, tmp_path, url, PREFECT_API_AUTH_STRING="operator:r1ght").returncode == 0
        known = varstar(words, tmp_path, url, PREFECT_API_AUTH_STRING="operator:r1ght")
        assert (known.returncode, known.stderr) == (0, "")
        assert "Announced release DR2" in known.stdout
        unknown = varstar(words, tmp_path, url, PREFECT_API_AUTH_STRING="operator:wr0ng")
        refused(unknown, url, "401", "PREFECT_API_AUTH_STRING")
        assert "wr0ng" not in unknown.stderr + unknown.stdout
        examined = varstar(["doctor"], tmp_path, url)
        assert examined.returncode == 1
        assert "failed  server" in examined.stdout
        assert "set PREFECT_API_AUTH_STRING" in examined.stdout


def test_a_release_of_nothing_is_not_announced(tmp_path: Path) -> None:
    refused(varstar(["release", tmp_path / "nowhere", "--name", "DR2"], tmp_path, None), "nowhere", "check the path")


def test_a_pool_that_varstar_does_not_know(survey: Path, tmp_path: Path) -> None:
    words = ["deploy", "--survey", survey, "--catalog", tmp_path / "catalog", "--pool", "nomad"]
    refused(varstar(words, tmp_path, None), "'local', 'kubernetes'", "nomad")


def test_a_port_that_is_taken(survey: Path, tmp_path: Path) -> None:
    with answering(200) as url:
        port = url.split(":")[2].partition("/")[0]
        words = ["serve", "--survey", survey, "--catalog", tmp_path / "catalog", "--folder", tmp_path, "--port", port]
        refused(varstar(words, tmp_path, None), f"--port {port}", "another")


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = varstar(["doctor", "--catalog", file, "--model", tmp_path / "nowhere"], tmp_path, "http://127.0.0.1:9/api")
    assert (done.returncode, done.stderr) == (1, "")
    for words in ("failed  server", "failed  catalog", "failed  model", "ok  versions", "-> start one with"):
        assert words in done.stdout
