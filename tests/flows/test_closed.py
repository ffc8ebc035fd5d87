"""What a web page, or another user of the machine, can do to `varstar serve`: nothing, and its own pages work."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.makers.clusters import free_port
from tests.makers.flow_site import ROOT, Site, processes_with, running_site, until
from tests.makers.surveys import write_survey
from varstar_batch.cli.serve import site_key
from varstar_batch.cli.site_server import ENTRANCE
from varstar_batch.errors import InputError

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("closed")
    write_survey(folder / "survey")
    with running_site(folder) as running:
        yield running


def attack(site: Site, headers: dict[str, str], path: str = "/flow_runs/filter") -> httpx.Response:
    """Send what a page can send without asking first: a form's POST, whose body happens to be JSON."""
    said = {"content-type": "text/plain"} | headers
    return httpx.post(f"{site.url}/api{path}", content="{}", headers=said, timeout=60)


def own(site: Site) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(site.key.encode()).decode()}


def test_nobody_gets_in_without_the_key(site: Site) -> None:
    assert attack(site, own(site)).status_code == 200
    assert attack(site, {}).status_code == 401
    wrong = base64.b64encode(b"varstar:wrong").decode()
    assert attack(site, {"authorization": f"Basic {wrong}"}).status_code == 401
    for path in (
        "/work_pools/filter",
        "/deployments/filter",
        "/block_documents/filter",
        "/admin/settings",
        "/variables/",
    ):
        assert httpx.get(f"{site.url}/api{path}", timeout=60).status_code in {401, 405}
        assert attack(site, {}, path).status_code == 401


@pytest.mark.parametrize("path", ["/health", "/ready", "/flow_runs/filter", "/csrf-token"])
@pytest.mark.parametrize(
    "origin", ["http://evil.test", "http://127.0.0.1:1", "http://localhost", "null", "https://127.0.0.1"]
)
def test_no_other_page_may_ask_even_with_the_key(site: Site, origin: str, path: str) -> None:
    for headers in ({}, own(site)):
        answer = attack(site, headers | {"origin": origin}, path)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_no_page_is_told_that_it_may(site: Site) -> None:
    asking = {"origin": "http://evil.test", "access-control-request-method": "POST"}
    answer = httpx.options(f"{site.url}/api/flow_runs/filter", headers=asking, timeout=60)
    assert answer.status_code == 403
    asking["origin"] = site.url
    answer = httpx.options(f"{site.url}/api/flow_runs/filter", headers=asking, timeout=60)
    assert answer.headers["access-control-allow-origin"] == site.url


@pytest.mark.parametrize("host", ["evil.test", "evil.test:{port}", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}", ""])
def test_no_other_name_leads_here(site: Site, host: str) -> None:
    port = site.url.rsplit(":", 1)[1]
    for path in ("/api/health", "/", ENTRANCE, "/ui-settings"):
        answer = httpx.get(site.url + path, headers={"host": host.format(port=port)}, timeout=60)
        assert answer.status_code in {400, 403}


def test_two_names_at_once_are_none(site: Site) -> None:
    port = int(site.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(f"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.test\r\n\r\n".encode())
        assert wire.recv(100).split()[1] in {b"400", b"403"}


@pytest.mark.parametrize(
    "path", ["/api/events/in", "/api/events/out", "/api/logs/out", "/api/work_pools/x/workers/connect"]
)
@pytest.mark.parametrize("origin", ["http://evil.test", ""])
def test_no_socket_opens_for_a_stranger(site: Site, path: str, origin: str) -> None:
    """What a page sends to open a websocket; without an origin it is refused for want of the key."""
    port = int(site.url.rsplit(":", 1)[1])
    words = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: Upgrade", "Upgrade: websocket"]
    words += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    words += [f"Origin: {origin}"] if origin else []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(("\r\n".join(words) + "\r\n\r\n").encode())
        said = wire.recv(1000)
        if said.startswith(b"HTTP/1.1 101"):
            # Opened for those who have the key, which they say first; an event is no key.
            assert not origin
            wire.sendall(b"\x81\x82\0\0\0\0{}")
            said = wire.recv(1000)
            assert said == b"" or said[0] == 0x88
        else:
            assert said.split()[1] == b"403"


def test_the_key_is_its_owners_alone(site: Site, tmp_path: Path) -> None:
    file = site.folder / "site/prefect-key"
    assert file.stat().st_mode & 0o777 == 0o600
    for folder in ("prefect", "logs"):
        assert (site.folder / "site" / folder).stat().st_mode & 0o777 == 0o700
    password = site.key.split(":")[1]
    assert len(password) >= 40
    told = [site.folder / "serve.log", *(site.folder / "site/logs").iterdir()]
    assert not [path for path in told if password in path.read_text()]
    for pid in processes_with(str(site.folder)):
        assert password.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    ours = tmp_path / "key"
    assert site_key(ours) == site_key(ours)
    ours.chmod(0o640)
    with pytest.raises(InputError, match="mode 640"):
        site_key(ours)


def test_a_run_may_not_bring_a_command(site: Site, tmp_path: Path) -> None:
    """Even who has the key of runs: a run's job is what the pool says."""
    deployment = site.deployment("reclassify/full")
    mark = tmp_path / "mark"
    for variables in (
        {"command": f"touch {mark}"},
        {"env": {"LD_PRELOAD": "/tmp/evil.so"}},
        {"working_dir": "/"},
        {"entrypoint": "evil.py:flow"},
        {"stream_output": False},
    ):
        answer = site.http.post(f"/deployments/{deployment['id']}/create_flow_run", json={"job_variables": variables})
        assert answer.status_code in {409, 422}, (variables, answer.text)
    assert not mark.exists()


def test_commands_of_the_site_work_with_the_key(site: Site) -> None:
    said = site.varstar("doctor")
    assert "ok  server" in said.stdout
    site.environment.pop("PREFECT_API_AUTH_STRING")
    said = site.varstar("release", site.survey, "--name", "DR2")
    assert said.returncode == 2
    assert "prefect-key" in said.stderr
    site.take_key()


ATTACK = """<!doctype html><script>
const said = [];
const plain = {method: "POST", body: "{}", headers: {"content-type": "text/plain"}};
const json = {method: "POST", body: "{}", headers: {"content-type": "application/json"}};
async function attempt(name, action) {
  try { said.push(name + " " + await action()); } catch (error) { said.push(name + " refused"); }
}
const asked = (options) => async () => (await fetch(TARGET + "/api/flow_runs/filter", options)).status;
(async () => {
  await attempt("plain", asked(plain));
  await attempt("json", asked(json));
  await attempt("opaque", async () => (await fetch(TARGET + "/api/flows/", {...plain, mode: "no-cors",
    body: '{"name": "planted"}'})).type);
  await attempt("get", asked({}));
  await attempt("settings", async () => (await fetch(TARGET + "/ui-settings")).status);
  await attempt("socket", () => new Promise((done, failed) => {
    const socket = new WebSocket(TARGET.replace("http", "ws") + "/api/events/in");
    socket.onopen = () => done("open"); socket.onerror = failed;
  }));
  await fetch("/", {method: "POST", body: said.join("; ")});
})();
</script>"""


@contextmanager
def page(content: str) -> Iterator[tuple[str, list[str]]]:
    """Somebody else's page, on this machine, so that no browser keeps it from loopback; and what it reports."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the tests' output quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://evil.test:{server.server_port}/", told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def browser(profile: Path) -> list[str]:
    """Return the command of a real browser."""
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    # As a name server of the page's owner could say.
    return [*words, f"--user-data-dir={profile}", "--host-resolver-rules=MAP evil.test 127.0.0.1"]


def browsed(url: str, profile: Path, seconds: int = 20) -> str:
    """Return what a real browser has made of a page after so many seconds of its own time."""
    words = [*browser(profile), "--dump-dom", f"--virtual-time-budget={seconds * 1000}", url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_page_in_a_real_browser_gets_nothing(site: Site, tmp_path: Path) -> None:
    words = [*browser(tmp_path / "profile"), "--remote-debugging-port=0"]
    with page(ATTACK.replace("TARGET", json.dumps(site.url))) as (url, told):
        process = subprocess.Popen([*words, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            (said,) = until("the page to report", lambda: told)
        finally:
            process.terminate()
            process.wait(60)
    for name in ("plain", "json", "get", "settings", "socket"):
        assert f"{name} refused" in said, said
    assert site.post("/flows/filter", {"flows": {"name": {"any_": ["planted"]}}}) == []


def test_a_name_that_is_made_to_lead_here_shows_nothing(site: Site, tmp_path: Path) -> None:
    made = browsed(site.url.replace("127.0.0.1", "evil.test") + "/", tmp_path / "profile", 5)
    assert "its own address only" in made


def test_its_own_pages_work_with_the_key_in_their_link(site: Site, tmp_path: Path) -> None:
    without = browsed(f"{site.url}/", tmp_path / "stranger")
    assert "reclassify" not in without
    with_key = browsed(f"{site.url}{ENTRANCE}#{site.key}", tmp_path / "owner")
    assert "prefect-password" not in with_key  # it went on to the UI
    deployments = browsed(f"{site.url}/deployments", tmp_path / "owner")
    assert "nightly" in deployments
    assert "reclassify" in deployments


def test_what_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGKILL of `varstar serve`: server and worker end by themselves, and the port is free."""
    write_survey(tmp_path / "survey", (5,))
    port = free_port()
    words: list[Any] = [sys.executable, "-m", "varstar_batch", "serve", "--survey", tmp_path / "survey"]
    words += ["--catalog", tmp_path / "catalog", "--folder", tmp_path / "site", "--port", port]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with (tmp_path / "serve.log").open("w") as log:
        process = subprocess.Popen([*map(str, words)], env=environment, stdout=log, stderr=log, cwd=ROOT)
    until("it is ready", lambda: "Ctrl-C stops" in (tmp_path / "serve.log").read_text(), 240)
    assert len(processes_with(str(tmp_path))) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = time.monotonic()
    until("server and worker to end", lambda: not processes_with(str(tmp_path)), 30)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    print(f"gone {time.monotonic() - killed:.1f} s after the kill")
