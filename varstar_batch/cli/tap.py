"""The command `varstar tap`: catalogs as a service of the Virtual Observatory."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from varstar_batch._version import __version__
from varstar_batch.cli.console import note, say
from varstar_batch.cli.options import takes
from varstar_batch.errors import InputError
from varstar_batch.tap.request import TapRequest


@takes(TapRequest, arguments=("catalogs",))
def tap(request: TapRequest) -> None:
    """Serve CATALOGS to TOPCAT, Aladin and pyvo (TAP with ADQL, Simple Cone Search), read-only; Ctrl-C stops it.

    Example: varstar tap CATALOG, then TOPCAT's TAP window at http://127.0.0.1:8080/tap
    """
    import uvicorn

    from varstar_batch.catalog.run_files.root import open_catalog_root
    from varstar_batch.report.star_page import build_star_page
    from varstar_batch.tap.guard import Guard, needs_key
    from varstar_batch.tap.service import make_app

    key = None
    if needs_key(request):
        from varstar_batch.cli.serve import site_key

        key = site_key(Path(request.key_file))
    with tempfile.TemporaryDirectory(prefix="varstar-tap-", ignore_cleanup_errors=True) as place:
        app = make_app(request, Path(place), lambda catalog, star: build_star_page(open_catalog_root(catalog), star))
        with _listening(request) as listening:
            port = listening.getsockname()[1]
            base = request.url or f"http://{'127.0.0.1' if request.host == '0.0.0.0' else request.host}:{port}"
            say(f"TAP      {base}/tap")
            say(f"Cones    {base}/scs")
            say(f"Stars    {base}/star/ID")
            if key is not None:
                say(f"Key      clients give what is in {request.key_file} (user and password)")
            say("Ctrl-C stops it.")
            sys.stdout.flush()
            config = uvicorn.Config(
                Guard(app, request, port, key),
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                headers=[("server", f"varstar-batch/{__version__}")],
                limit_concurrency=512,
                timeout_graceful_shutdown=5,
            )
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listening])
    note("Stopped.")


def _listening(request: TapRequest) -> socket.socket:
    family = socket.AF_INET6 if ":" in request.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((request.host, request.port))
    except OSError as error:
        listening.close()
        raise InputError(
            expected="an address and a port that are free",
            got=error.strerror or os.strerror(error.errno or 0),
            where=f"--host {request.host} --port {request.port}",
            fix="give others, or stop what runs there",
        ) from None
    return listening
