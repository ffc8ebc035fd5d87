"""Any table of observations, by a mapping of its columns ([survey] in the configuration)."""

from __future__ import annotations

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
from varstar_batch.errors import InputError
from varstar_batch.light_curves.times import is_same_system, parse_time_system
from varstar_batch.survey.bands import Bands
from varstar_batch.survey.columns import SurveyConfig, first_of
from varstar_batch.survey.good import Good
from varstar_batch.survey.units import told_time_system

NAME = "table"


def table_formats(config: SurveyConfig, time_system: str, headerless: tuple[str, ...] = ()) -> list[Format]:
    """Return the formats of tables with these column names: with magnitudes, and with fluxes where they are named.

    Parameters
    ----------
    config : SurveyConfig
        Names of the columns; `object_id` may be missing: then a file is an object, by its name.
    time_system : str
        Of the times.
    headerless : tuple of str
        Names of the columns of texts that name none.
    """
    formats = [_table_format(config, time_system, headerless)]
    if config.flux is not None:
        fluxes = config.model_copy(update={"mag": config.flux, "mag_err": config.flux_err})
        formats.append(_table_format(fluxes, time_system, is_flux=True))
    return formats


def _table_format(
    chosen: SurveyConfig, time_system: str, headerless: tuple[str, ...] = (), *, is_flux: bool = False
) -> Format:
    roles = ("object_id", "period", "class_", "ra", "dec", "time", "mag", "mag_err")
    choices = {role: getattr(chosen, role).split("|") for role in roles if getattr(chosen, role)}
    config = chosen.model_copy(update={role: names[0] for role, names in choices.items()})
    aliases = {name: names[0] for names in choices.values() for name in names[1:] if name}
    # ATLAS calls its band F, others a flux.
    taken = {getattr(config, role) for role in roles}
    bands = [name for name in (config.band or "").split("|") if name not in taken]
    good = None if config.good is None else Good(config.good)

    def build(table: pa.Table, name: Column) -> FileContent:
        there = table.column_names
        ids = table[config.object_id] if config.object_id in there else name
        mag_err = table[config.mag_err] if config.mag_err else None
        time = _in_system(table[config.time], table.schema, config.time, time_system)
        columns = {"time": time, "mag": table[config.mag], "mag_err": mag_err}
        columns |= {"camera": table["camera"]} if "camera" in there else {}
        band = first_of([*bands, ""], there)
        if band is not None:
            columns["band"] = Bands.read(table[band].combine_chunks(), band).texts()
        return make_content(ids, columns)

    number, text = pa.float64(), pa.string()
    optional = dict.fromkeys((config.object_id, "camera", *filter(None, bands)), text)
    needed = {} if good is None else {name: good.kinds()[name] for name in good.needed}
    named = {config.band: text} if config.band and "|" not in config.band else {}
    own = {name: number for name in (config.time, config.mag, config.mag_err) if name}
    columns_of = {role: getattr(config, role) for role in ("period", "ra", "dec", "time", "mag", "mag_err")}
    return Format(
        name=NAME,
        time_system=time_system,
        # Times first, whatever else is needed.
        columns=own | needed | named | own,
        optional=optional
        | {name: number for name in (config.ra, config.dec, config.period) if name}
        | ({config.class_: text} if config.class_ else {}),
        aliases=aliases,
        build=build,
        headerless=headerless,
        per_object={role: name for role, name in (("period", config.period), ("class", config.class_)) if name},
        roles={role: name for role, name in columns_of.items() if name},
        config=config,
        is_flux=is_flux,
        object_id=config.object_id,
        position=(config.ra, config.dec) if config.ra and config.dec else (),
        band_folders=bool(config.band),
    )


_SPELLINGS = {"mag_err": ("err", "error", "e_mag", "magerr", "mag_error", "merr", "sigma"), "object_id": ("id", "star")}


def names_of(columns: tuple[str, ...], config: SurveyConfig) -> tuple[SurveyConfig, tuple[str, ...]]:
    """Return the names for the columns of texts without names, as ``--columns time,mag,err`` says them.

    Returns
    -------
    SurveyConfig, tuple of str
        The configuration without a column of errors where none is named, and the names as it has them.

    Raises
    ------
    InputError
        Times or magnitudes are not among them.
    """
    called = {other: role for role, others in _SPELLINGS.items() for other in others}
    own = {config.time, config.mag, config.mag_err, config.object_id}
    roles = [name if name in own else called.get(name.casefold(), name) for name in map(str.strip, columns)]
    names = tuple(getattr(config, role) or role if role in ("mag_err", "object_id") else role for role in roles)
    missing = [name for name in (config.time, config.mag) if names.count(name) != 1]
    if missing:
        raise InputError(
            expected="names with " + " and ".join(missing),
            got=",".join(columns),
            where="--columns",
            fix=f"name every column of the texts, as in --columns {config.time},{config.mag},err",
        )
    return config if config.mag_err in names else config.model_copy(update={"mag_err": None}), names


def _in_system(times: Column, schema: pa.Schema, name: str, wanted: str) -> Column:
    """Return times as they are, or, where the file itself says which system they are in, in the one that is wanted."""
    of_column = (schema.metadata or {}).get(time_system_key(name).encode())
    said = of_column.decode() if of_column is not None else told_time_system(schema, name)
    if said is None or is_same_system(said, wanted):
        return times
    of_file, of_survey = parse_time_system(said), parse_time_system(wanted)
    if of_survey.jd_offset is None or of_file.jd_offset is None:
        raise UnreadableFileError("a time system such as MJD or BJD_TDB, for times that have one of their own", wanted)
    dates = numbers(times)
    offset = of_file.jd_offset
    if of_survey.scale and of_file.scale and of_survey.scale != of_file.scale:
        from astropy.time import Time

        told = Time(np.nan_to_num(dates), offset, format="jd", scale=of_file.scale.lower())
        dates, offset = np.where(np.isfinite(dates), getattr(told, of_survey.scale.lower()).jd, np.nan), 0.0
    return dates + (offset - of_survey.jd_offset)
