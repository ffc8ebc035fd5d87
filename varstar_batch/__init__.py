"""Reclassify the variable stars of whole sky surveys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from varstar_batch._version import __version__

if TYPE_CHECKING:
    from varstar_batch.api import (
        ClassifyRequest,
        classify,
        classify_survey,
        fold,
        ingest,
        open_catalog,
        open_model,
        open_survey,
        train,
    )

__all__ = [
    "ClassifyRequest",
    "__version__",
    "classify",
    "classify_survey",
    "fold",
    "ingest",
    "open_catalog",
    "open_model",
    "open_survey",
    "train",
]


def __getattr__(name: str) -> Any:
    # On first use: importing the package must not load Arrow and DuckDB for those who only want the arithmetic.
    if name in __all__:
        from varstar_batch import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
