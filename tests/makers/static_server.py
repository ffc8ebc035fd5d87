"""A static web server, as nginx or a bucket is one: files, and ranges of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Yield the address at which an ASGI application answers, on loopback."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """Yield the address at which a folder's files are."""
    with serving(Starlette(routes=[Mount("/", StaticFiles(directory=folder))])) as address:
        yield address
