"""Reclassify the variable stars of whole sky surveys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from varstar_batch._version import __version__

if TYPE_CHECKING:
    from varstar_batch.catalog.reader import open_catalog

__all__ = ["__version__", "open_catalog"]


def __getattr__(name: str) -> Any:
    # On first use: importing the package must not load Arrow and DuckDB for those who only want the arithmetic.
    if name == "open_catalog":
        from varstar_batch.catalog.reader import open_catalog

        return open_catalog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
