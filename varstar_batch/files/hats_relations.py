"""How HATS tables belong to each other: the index of a catalog's identifiers, and a catalog as extension of another.

Everything is written with the `hats` library, whose import takes seconds and so stays inside of the functions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from varstar_batch.files.location import Location

EXTENSION = "variability"
"""Name of the extension: LSDB marks with it what both tables have."""

COLLECTION = "collection"
"""Folder in a catalog's that is the collection of it: `hats` takes the catalog's own for the catalog alone."""


def index_properties(catalog: Location, properties: Mapping[str, Any], column: str) -> dict[str, bytes]:
    """Return the files, by name, that say of a folder in a catalog's that it is the index by one of its columns."""
    from hats.catalog import TableProperties

    said = {
        "obs_collection": f"{properties['obs_collection']}_{column}",
        "dataproduct_type": "index",
        "hats_nrows": properties["hats_nrows"],
        "hats_primary_table_url": _from_below(catalog),
        "hats_index_column": column,
    }
    return _written(TableProperties(**said))


def collection_properties(
    catalog: Location, properties: Mapping[str, Any], indexes: Mapping[str, str]
) -> dict[str, bytes]:
    """Return the file that makes a collection of a catalog: itself and its indexes, folders in its own, by column."""
    from hats.catalog.dataset.collection_properties import CollectionProperties

    said = {
        "obs_collection": properties["obs_collection"],
        "hats_primary_table_url": _from_below(catalog),
        "all_indexes": {column: f"{_from_below(catalog)}/{folder}" for column, folder in indexes.items()},
        "default_index": next(iter(indexes)),
    }
    return {f"{COLLECTION}/{name}": content for name, content in _written(CollectionProperties(**said)).items()}


def extension_properties(
    catalog: Location, survey: str, columns: Sequence[str], *, primary: str, joined: str
) -> dict[str, bytes]:
    """Return the file that makes a catalog an extension of the survey, whose objects it has.

    Parameters
    ----------
    catalog : Location
    survey : str
        Where the survey is, absolute.
    columns : sequence of str
        That the catalog adds; its ra and dec are those of the survey.
    primary, joined : str
        Names of the column of identifiers in the survey and in the catalog.
    """
    from hats.catalog import ExtensionProperties

    said = {
        "obs_collection": EXTENSION,
        "hats_primary_table_url": survey,
        "hats_col_assn_primary": primary,
        "hats_assn_join_table_url": "." if catalog.is_local else str(catalog),
        "hats_col_assn_join": joined,
        "hats_ext_cols": list(columns),
        # Objects of a partition that failed are in the survey alone.
        "hats_ext_join_style": "left",
        "hats_ext_shares_primary_coords": True,
    }
    return _written(ExtensionProperties(**said))


def _from_below(catalog: Location) -> str:
    """Return how a folder in a catalog's names it: object stores know no dots; a local one may move, or be served."""
    return ".." if catalog.is_local else str(catalog)


def _written(properties: Any) -> dict[str, bytes]:
    from upath import UPath

    with tempfile.TemporaryDirectory() as place:
        properties.to_properties_file(UPath(place))
        return {path.name: path.read_bytes() for path in sorted(Path(place).iterdir())}
