"""Who may ask: on loopback programs of this machine and no web page of others; beyond it whoever has the key."""

from __future__ import annotations

import ipaddress
import secrets
from base64 import b64encode
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from varstar_batch.tap.request import TapRequest

OPEN = "/tap/availability"
"""What a probe may ask without a key."""

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def needs_key(request: TapRequest) -> bool:
    """Return whether clients are asked for a key."""
    return not (is_loopback(request.host) or request.public)


class Guard:
    """An ASGI application before another.

    A page that somebody looks at in a browser on this machine can send requests to its loopback; what a browser says of
    them, and a page cannot change, is whom they were sent to and from where.
    """

    def __init__(self, app: _App, request: TapRequest, port: int, key: str | None) -> None:
        self._app = app
        self._key = None if key is None else b"basic " + b64encode(key.encode())
        names = ("127.0.0.1", "localhost", "[::1]", request.host)
        self._hosts = {f"{name}:{port}".encode() for name in names}
        if request.url:
            self._hosts.add(urlsplit(request.url).netloc.encode())
        self._checks_host = is_loopback(request.host)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            said.setdefault(name.lower(), []).append(value)
        if self._checks_host and not self._is_ours(said):
            await _answer(send, 403, b"this service answers to its own address and its own pages only\n")
        elif self._key is not None and scope["path"] != OPEN and not self._has_key(said):
            await _answer(send, 401, b"a key is needed\n", (b"www-authenticate", b'Basic realm="varstar"'))
        else:
            await self._app(scope, receive, send)

    def _is_ours(self, said: dict[bytes, list[bytes]]) -> bool:
        hosts = [value.lower() for value in said.get(b"host", [])]
        origins = {urlsplit(value.lower()).netloc for value in said.get(b"origin", [])}
        return len(hosts) == 1 and hosts[0] in self._hosts and origins <= self._hosts

    def _has_key(self, said: dict[bytes, list[bytes]]) -> bool:
        given = said.get(b"authorization", [])
        if len(given) != 1 or self._key is None:
            return False
        kind, _, rest = given[0].partition(b" ")
        return secrets.compare_digest(kind.lower() + b" " + rest.strip(), self._key)


async def _answer(send: _Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    told = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
