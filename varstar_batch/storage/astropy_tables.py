"""Arrow tables as astropy has them, with what their columns mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from astropy.table import Table


def astropy_table(table: pa.Table) -> Table:
    """Return an Arrow table as an astropy Table: nulls masked, units and UCDs from the metadata of the fields."""
    import numpy as np
    from astropy.table import MaskedColumn, Table

    columns = []
    for field in table.schema:
        values = table[field.name]
        mask = values.is_null().to_numpy()
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            data = values.fill_null(0).to_numpy()
        else:
            data = np.asarray(values.fill_null("").to_pylist(), dtype=str)
        said = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        columns.append(
            MaskedColumn(
                data,
                name=field.name,
                mask=mask,
                unit=said.get("unit") or None,
                description=said.get("description"),
                meta={"ucd": said["ucd"]} if said.get("ucd") else None,
            )
        )
    return Table(columns, copy=False)
