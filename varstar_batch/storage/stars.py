"""One star through all runs of a catalog."""

from __future__ import annotations

from typing import Any

from varstar_batch.errors import InputError
from varstar_batch.storage.catalogs import CatalogReader
from varstar_batch.storage.publishing import Catalog
from varstar_batch.storage.run_history import published_runs


def star_history(catalog: Catalog, object_id: int | str) -> list[tuple[str, dict[str, Any] | None]]:
    """Return the rows of an object in every published run, oldest first.

    Parameters
    ----------
    catalog : Catalog
    object_id : int or str
        Texts are turned into numbers where the catalog has numbers.

    Returns
    -------
    list of (str, dict or None)
        Run and row; None where the run has no such object.

    Raises
    ------
    InputError
        No run has it, or it cannot be an identifier of this catalog.
    """
    found = [(run, CatalogReader(catalog, run).get(object_id)) for run in published_runs(catalog)]
    if all(row is None for _, row in found):
        raise InputError(
            expected="an object of the catalog",
            got=f"object_id {object_id}, which is in none of its {len(found)} runs",
            where=str(catalog),
            fix="look for it by position: varstar cone CATALOG --ra DEG --dec DEG --radius DEG",
        )
    return found
