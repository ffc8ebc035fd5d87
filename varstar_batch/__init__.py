"""Reclassify the variable stars of whole sky surveys."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from varstar_batch._version import __version__

if TYPE_CHECKING:
    from varstar_batch.notebook import (
        ClassifyRequest,
        classify,
        classify_survey,
        fold,
        ingest,
        open_catalog,
        open_model,
        open_survey,
        plot,
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
    "plot",
    "train",
]


def __getattr__(name: str) -> Any:
    # On first use: importing the package must not load Arrow and DuckDB for those who only want the arithmetic.
    if name in __all__:
        from varstar_batch import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Ingest(ModuleType):
    """The package `varstar_batch.ingest`, called as the function of that name, whose place it takes once imported."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from varstar_batch import notebook

        return notebook.ingest(*arguments, **options)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "ingest" and isinstance(value, ModuleType):
            value.__class__ = _Ingest
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
