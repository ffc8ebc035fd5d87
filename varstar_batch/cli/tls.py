"""How a command asks for a Dask scheduler elsewhere."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

TlsCa: TypeAlias = Annotated[str | None, typer.Option(help="PEM file of the authority behind the cluster's TLS.")]
TlsCert: TypeAlias = Annotated[str | None, typer.Option(help="PEM file of this client's certificate.")]
TlsKey: TypeAlias = Annotated[str | None, typer.Option(help="PEM file of its key.")]
InsecureScheduler: TypeAlias = Annotated[
    bool, typer.Option("--insecure-scheduler", help="Speak to a scheduler elsewhere without TLS.")
]
