"""S3 for tests: moto's server on loopback, and a proxy before it that fails as real stores do."""

from __future__ import annotations

import http.client
import logging
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import unescape

import pytest
import s3fs

KEY, SECRET = "AKIATEST", "s3cr3t-Pl4nted-by-the-tests"


def environment(url: str, *, secret: str = SECRET, key: str = KEY) -> dict[str, str]:
    """Return the variables that point a process to a store; nothing of the machine's own configuration counts."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def use(monkeypatch: pytest.MonkeyPatch, url: str, *, secret: str = SECRET, key: str = KEY) -> None:
    """Point this process, and those it starts, to a store."""
    for name, value in environment(url, secret=secret, key=key).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


def make_bucket(name: str) -> None:
    s3fs.S3FileSystem().call_s3("create_bucket", Bucket=name)


@contextmanager
def bucket_of(test: str, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a bucket of the test's own, made on a server that is used from now on."""
    use(monkeypatch, url)
    name = re.sub("[^a-z0-9]+", "-", test.lower())[:60].strip("-")
    make_bucket(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()


def upload(folder: Path, target: str) -> None:
    fs = s3fs.S3FileSystem()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            fs.put_file(str(path), f"{target}/{path.relative_to(folder).as_posix()}")


class FaultyProxy:
    """Hands requests on to a store, or fails them.

    Attributes
    ----------
    share_busy : float
        Of the requests that are answered with `busy`, drawn with a fixed seed.
    busy : tuple of (int, str)
        Status and code of that answer.
    lag : float
        Seconds for which listings do not show an object that was written.
    denied : str
        Code of a 403 answer to every request, for example ``ExpiredToken``; empty for none.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.share_busy = 0.0
        self.busy = (503, "ServiceUnavailable")
        self.lag = 0.0
        self.hidden = 0
        self._written: dict[str, float] = {}
        self.denied = ""
        self.deny_after: int | None = None
        self.requests = self.failed = 0
        self._random = random.Random(1)
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Close the port: connections are refused until `start`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = self._body(request)
        with self._lock:
            self.requests += 1
            refused = self._server is None
            unavailable = self._random.random() < self.share_busy
            denied = self.denied and (self.deny_after is None or self.requests > self.deny_after)
            self.failed += bool(unavailable or denied)
        if refused:
            request.close_connection = True
            request.connection.close()
        elif denied:
            self._answer(request, 403, self.denied, "The provided token has expired.")
        elif unavailable:
            self._answer(request, *self.busy, "Please try again.")
        else:
            self._hand_on(request, body)

    def _body(self, request: BaseHTTPRequestHandler) -> bytes:
        if request.headers.get("Expect", "").lower() == "100-continue":
            request.send_response_only(100)
            request.end_headers()
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))

    def _answer(self, request: BaseHTTPRequestHandler, status: int, code: str, message: str) -> None:
        content = b""
        if request.command != "HEAD":
            content = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        request.send_response_only(status)
        request.send_header("Content-Type", "application/xml")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _hand_on(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        connection = http.client.HTTPConnection(self.target, timeout=60)
        connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name.lower() not in {"expect", "connection"}:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        if self.lag:
            content = self._as_listed(request, content)
        request.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                request.send_header(name, value)
        # The length of what a HEAD request did not send is the store's to say.
        length = answer.getheader("Content-Length") if request.command == "HEAD" else None
        request.send_header("Content-Length", length or str(len(content)))
        request.end_headers()
        request.wfile.write(content)
        connection.close()

    def _as_listed(self, request: BaseHTTPRequestHandler, content: bytes) -> bytes:
        """Take from a listing what was written just now, and the folders in which nothing else is."""
        address = urlsplit(request.path)
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        now = time.monotonic()
        with self._lock:
            if request.command in {"PUT", "POST"} and key:
                self._written.setdefault(f"{bucket}/{key}", now)
            if request.command != "GET" or "list-type=2" not in address.query:
                return content
            fresh = {name for name, when in self._written.items() if now - when < self.lag}
            older = self._written.keys() - fresh

        def kept(found: re.Match[bytes]) -> bytes:
            name = f"{bucket}/{unquote(unescape(found[2].decode()))}"
            is_new = any(other.startswith(name) for other in fresh) and not any(
                other.startswith(name) for other in older
            )
            self.hidden += is_new
            return b"" if is_new else found[0]

        pattern = rb"<(Contents|CommonPrefixes)>\s*<(?:Key|Prefix)>(.*?)</(?:Key|Prefix)>.*?</\1>"
        return re.sub(pattern, kept, content, flags=re.DOTALL)


@contextmanager
def moto_server() -> Iterator[str]:
    """Yield the URL of moto's server, which accepts any credentials."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def stopped_for(proxy: FaultyProxy, seconds: float) -> Iterator[None]:
    """Stop a proxy now and start it again, on the same port, in the background."""
    proxy.stop()

    def again() -> None:
        time.sleep(seconds)
        proxy.start()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        thread.join()
