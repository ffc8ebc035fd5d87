"""What `varstar tap` is asked for."""

from __future__ import annotations

from pydantic import Field

from varstar_batch.catalog.sql.process import QueryLimits
from varstar_batch.requests import Request


class TapRequest(Request):
    """A service over some catalogs."""

    catalogs: tuple[str, ...] = Field(
        min_length=1, description="Folders or URLs of catalogs, each by itself or as NAME=CATALOG"
    )
    host: str = Field("127.0.0.1", description="Address to listen at; beyond loopback clients must give a key")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen at; 0 for any")
    url: str | None = Field(None, description="Address at which clients reach it, behind an ingress or a proxy")
    key_file: str = Field("tap-key", description="File USER:PASSWORD with the key, made where there is none")
    public: bool = Field(False, description="Ask nobody for a key")
    maxrec: int = Field(100_000, ge=1, description="Rows of an answer where nobody says MAXREC")
    most_rows: int = Field(5_000_000, ge=1, description="Rows of an answer that nobody gets more of")
    at_once: int = Field(2, ge=1, le=64, description="Queries that run at the same time; the others wait")
    limits: QueryLimits = Field(QueryLimits(), description="What one query may take")
