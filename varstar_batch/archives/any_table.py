"""Any table of observations, by a mapping of its columns ([survey] in the configuration)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from varstar_batch.archives.content import (
    Column,
    FileContent,
    Format,
    UnreadableFileError,
    make_content,
    numbers,
)
from varstar_batch.archives.fits_votable import time_system_key
from varstar_batch.light_curves.fluxes import magnitudes_of
from varstar_batch.light_curves.times import parse_time_system
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
        time = _in_system(table[config.time], table.schema.metadata, config.time, time_system)
        columns = {"time": time, "mag": mag, "mag_err": mag_err}
        columns |= {key: table[key] for key in ("band", "camera") if key in there}
        return make_content(ids, columns)

    number, text = pa.float64(), pa.string()
    optional = {config.object_id: text, "band": text, "camera": text}
    return Format(
        name=NAME,
        time_system=time_system,
        columns={name: number for name in (config.time, config.mag, config.mag_err) if name},
        optional=optional | {name: number for name in (config.ra, config.dec) if name},
        build=build,
        object_id=config.object_id,
        position=(config.ra, config.dec) if config.ra and config.dec else (),
    )


def _in_system(times: Column, metadata: Mapping[bytes, bytes] | None, name: str, wanted: str) -> Column:
    """Return times as they are, or, where the file itself says which system they are in, in the one that is wanted."""
    said = (metadata or {}).get(time_system_key(name).encode())
    if said is None:
        return times
    of_file, of_survey = parse_time_system(said.decode()), parse_time_system(wanted)
    if of_survey.jd_offset is None:
        raise UnreadableFileError("a time system such as MJD or BJD_TDB, for times that have one of their own", wanted)
    dates = numbers(times)
    if of_survey.scale and of_file.scale and of_survey.scale != of_file.scale:
        from astropy.time import Time

        told = Time(np.nan_to_num(dates), format="jd", scale=of_file.scale.lower())
        dates = np.where(np.isfinite(dates), getattr(told, of_survey.scale.lower()).jd, np.nan)
    return dates - of_survey.jd_offset
