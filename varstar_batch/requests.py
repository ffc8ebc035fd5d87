"""What the requests of all operations are made of: the command line, Prefect and Python build the same objects.

A request's field has its description, its default and its bounds, once for all three.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

BYTES = "bytes"

Bytes: TypeAlias = Annotated[int, BYTES]
"""A size; the command line takes it with a unit, such as 256MiB."""


class Request(BaseModel):
    """Base of what somebody asks for: unknown names are refused, and nothing changes it under way."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClusterOptions(Request):
    """How a cluster is spoken to; of PEM files either all three or none."""

    tls_ca: str | None = Field(None, description="PEM file of the authority that signed everybody's certificates")
    tls_cert: str | None = Field(None, description="PEM file of this client's certificate")
    tls_key: str | None = Field(None, description="PEM file of its key")
    insecure: bool = Field(
        False,
        description="Speak to a scheduler on another machine without TLS: whoever reaches such a scheduler can run "
        "code on its workers",
    )
    worker_memory: Bytes | None = Field(
        None,
        ge=2**28,
        description="Bytes that a worker of a local cluster may take; by default they share the machine's memory",
    )
