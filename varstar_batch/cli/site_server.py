"""The parts of `varstar serve`, each in a process that ends with it: Prefect's server behind a guard, and its worker.

    python -m varstar_batch.cli.site_server server 4200
    python -m varstar_batch.cli.site_server prefect worker start ...

A page that somebody looks at in a browser on this machine can send requests to its loopback. Prefect's key stops what
they ask; the guard stops them before that, by what a browser says of them and a page cannot change: whom they were sent
to (so that no name of the page's own can be made to lead here), and from where.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import re
import runpy
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

HOST = "127.0.0.1"
"""Loopback only: whoever reaches a Prefect server, and has its key, can run code through it."""

ENTRANCE = "/varstar"
"""Page that takes the key from the link that led there, where no server sees it, and hands it to Prefect's pages."""

REPORTS = "/varstar/report"
"""Page of a run's report, which links in Prefect's UI lead to; it asks for the report with the key that the UI has."""

REPORT = re.compile(r"[^\0]+/reports/[A-Za-z0-9._-]+\.html")
"""What may be asked for there."""

KILL_SECONDS = 5.0
"""Between asking the processes of a part to end and ending them, when `varstar serve` is gone."""

_ENTRANCE_PAGE = b"""<!doctype html><meta charset="utf-8"><title>varstar</title><script>
const key = decodeURIComponent(location.hash.slice(1));
if (key) localStorage.setItem("prefect-password", btoa(key));
location.replace("/");
</script>"""

# Whatever a report says, it is nobody: no scripts, and not of this origin, whose storage has the key.
_REPORT_PAGE = b"""<!doctype html><meta charset="utf-8"><title>Report</title>
<style>body, iframe { margin: 0; border: 0; width: 100%; height: 100vh }</style>
<iframe sandbox="allow-popups allow-popups-to-escape-sandbox"></iframe><script>
const headers = {authorization: "Basic " + localStorage.getItem("prefect-password")};
fetch(location.pathname + "/file" + location.search, {headers}).then(answer => answer.text()).then(
  text => { document.querySelector("iframe").srcdoc = text });
</script>"""

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """An ASGI application before another: it lets pass what was sent to this server, and from no other's page."""

    def __init__(self, app: Callable[[_Scope, _Receive, _Send], Awaitable[None]], port: int, key: str = "") -> None:
        self._app = app
        self._key = b"basic " + base64.b64encode(key.encode())
        self._hosts = {f"{name}:{port}".encode() for name in (HOST, "localhost")}
        self._origins = {b"http://" + host for host in self._hosts}

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        wrong = self._wrong(scope["headers"])
        if wrong:
            await _refuse(scope, receive, send, wrong)
        elif scope["type"] == "http" and scope["path"] == ENTRANCE:
            await _answer(send, 200, _ENTRANCE_PAGE, b"text/html")
        elif scope["type"] == "http" and scope["path"] == REPORTS:
            await _answer(send, 200, _REPORT_PAGE, b"text/html")
        elif scope["type"] == "http" and scope["path"] == f"{REPORTS}/file":
            await self._report(scope, send)
        else:
            await self._app(scope, receive, _unframed(send))

    async def _report(self, scope: _Scope, send: _Send) -> None:
        said = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
        scheme, _, secret = said.partition(b" ")
        if not hmac.compare_digest(scheme.lower() + b" " + secret, self._key):
            await _answer(send, 401, b"open the UI by the link that `varstar serve` prints, then this page again\n")
            return
        asked = parse_qs(scope["query_string"].decode("ascii", "replace")).get("at", [""])[0]
        content = await asyncio.to_thread(_read_report, asked) if REPORT.fullmatch(asked) else None
        if content is None:
            await _answer(send, 404, b"there is no such report; `varstar report CATALOG --run RUN` writes it\n")
        else:
            await _answer(send, 200, content, b"text/html; charset=utf-8")

    def _wrong(self, headers: list[tuple[bytes, bytes]]) -> str:
        said: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            said.setdefault(name.lower(), []).append(value.lower())
        hosts = said.get(b"host", [])
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return "this server answers to its own address only"
        if not self._origins.issuperset(said.get(b"origin", [])):
            return "this server answers to its own pages only"
        return ""


def _unframed(send: _Send) -> _Send:
    async def with_header(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            # In a frame of another page a person could be led to click here.
            message["headers"] = [*message.get("headers", []), (b"content-security-policy", b"frame-ancestors 'none'")]
        await send(message)

    return with_header


async def _refuse(scope: _Scope, receive: _Receive, send: _Send, why: str) -> None:
    if scope["type"] == "http":
        await _answer(send, 403, why.encode() + b"\n", b"text/plain")
        return
    await receive()
    await send({"type": "websocket.close", "code": 1008, "reason": why})


def _read_report(place: str) -> bytes | None:
    from varstar_batch.errors import VarstarError
    from varstar_batch.files.location import locate

    try:
        return locate(place, what="report").read_bytes()
    except (VarstarError, OSError):
        return None


async def _answer(send: _Send, status: int, body: bytes, kind: bytes = b"text/plain") -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await _unframed(send)({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main(words: list[str]) -> None:
    """Run a part until it ends, or until the other end of standard input does."""
    threading.Thread(target=_end_with_serve, args=(os.dup(0),), daemon=True).start()
    # What the part starts must not hold that end, nor read from it.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if words[0] == "server":
        import uvicorn
        from prefect.server.api.server import create_app

        app = Guard(create_app(final=True), int(words[1]), os.environ["PREFECT_SERVER_API_AUTH_STRING"])
        uvicorn.run(app, host=HOST, port=int(words[1]), log_level="info")
        return
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__")


def _end_with_serve(end: int) -> None:
    os.set_inheritable(end, False)
    os.read(end, 1)
    # Everything that this part has started, too: it has a session of its own.
    os.killpg(os.getpgrp(), signal.SIGTERM)
    time.sleep(KILL_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
