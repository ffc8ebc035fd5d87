"""Any table of observations, by a mapping of its columns ([survey] in the configuration)."""

from __future__ import annotations

import pyarrow as pa

from varstar_batch.archives.content import Column, FileContent, Format, make_content, mean_positions, numbers
from varstar_batch.archives.fluxes import magnitudes_of
from varstar_batch.survey.columns import SurveyConfig

NAME = "table"


def table_format(config: SurveyConfig, time_system: str, flux_unit: str | None) -> Format:
    """Return the format of tables with these column names.

    Parameters
    ----------
    config : SurveyConfig
        Names of the columns; `object_id` may be missing: then a file is an object, by its name.
    time_system : str
        Of the times.
    flux_unit : str or None
        Says that the columns `mag` and `mag_err` hold fluxes and their errors, and in which unit.
    """

    def build(table: pa.Table, name: Column) -> FileContent:
        there = table.column_names
        ids = table[config.object_id] if config.object_id in there else name
        mag = table[config.mag]
        mag_err = table[config.mag_err] if config.mag_err else None
        if flux_unit is not None:
            errors = numbers(mag_err) if mag_err is not None else numbers(mag) * float("nan")
            mag, mag_err = magnitudes_of(numbers(mag), errors, flux_unit)
        columns = {"time": table[config.time], "mag": mag, "mag_err": mag_err}
        columns |= {key: table[key] for key in ("band", "camera") if key in there}
        known = {config.object_id, config.ra, config.dec} <= set(there)
        positions = mean_positions(ids, table[config.ra], table[config.dec]) if known else {}
        return make_content(ids, columns, None, positions)

    number, text = pa.float64(), pa.string()
    optional = {config.object_id: text, "band": text, "camera": text}
    return Format(
        name=NAME,
        time_system=time_system,
        columns={name: number for name in (config.time, config.mag, config.mag_err) if name},
        optional=optional | {name: number for name in (config.ra, config.dec) if name},
        build=build,
    )
