"""Surveys: what a folder of light curves holds, found out once from listings and one footer, before anything is read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from varstar_batch.arithmetic.rules import Limits
from varstar_batch.storage.columns import SurveyConfig
from varstar_batch.storage.files import Location, locate

Layout = Literal["hats", "directory"]
Form = Literal["nested", "lists", "structs", "long"]


@dataclass(frozen=True)
class Partition:
    """One Parquet file of a survey: the unit of resuming and of publishing.

    Attributes
    ----------
    key : str
        Path relative to the survey's folder, with forward slashes, for example
        ``dataset/Norder=1/Dir=0/Npix=17.parquet``. A catalog's partitions carry the same keys.
    size : int
        Bytes.
    version : str
        What changes when the content does (ETag, or time of modification in nanoseconds).
    """

    key: str
    size: int
    version: str


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Column names of a survey as they were found in it; None where it has no such column.

    `time`, `mag` and `mag_err` are the fields of `lightcurve` (forms nested, structs) or top-level columns (lists, long).
    """

    object_id: str
    period: str
    ra: str | None
    dec: str | None
    class_: str | None
    healpix: str | None
    lightcurve: str | None
    time: str
    mag: str
    mag_err: str | None


@dataclass(frozen=True, kw_only=True)
class Source:
    """All that reading one partition needs to know of its survey: small, picklable, the same for every partition.

    Attributes
    ----------
    url : str
        The folder that partition keys are relative to (of a HATS collection: its main catalog).
    layout : {"hats", "directory"}
        Whether the files are the pixels of a HATS catalog.
    form : {"nested", "lists", "structs", "long"}
        struct of lists; top-level lists; list of structs; one row per observation, sorted by object.
    columns : Columns
        Names as found.
    object_id_type : {"int64", "uint64", "large_string"}
        Arrow type that identifiers are read to.
    time_system : str or None
        As declared, free text included; None where nothing declares it.
    limits : Limits
        Of this survey's times [d, in its own system] and magnitudes.
    """

    url: str
    layout: Layout
    form: Form
    columns: Columns
    object_id_type: str
    time_system: str | None
    limits: Limits

    @property
    def location(self) -> Location:
        """The folder that partition keys are relative to."""
        return locate(self.url, what="survey")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A survey as it was listed once.

    Attributes
    ----------
    source : Source
        What a worker needs: send this and one `Partition`, never the whole survey (10^5 partitions are megabytes).
    partitions : tuple of Partition
        Sorted by key; corrupt ones included (reading them raises PartitionError).
    hats_properties : dict or None
        `hats.properties` of a HATS catalog, as text: what a catalog that mirrors it starts from.
    """

    source: Source
    partitions: tuple[Partition, ...]
    hats_properties: dict[str, str] | None = None


def open_survey(url: str | os.PathLike[str], config: SurveyConfig | None = None) -> Survey:
    """Find out what a survey holds, from listings and the first footer that can be read.

    Parameters
    ----------
    url : str or path
        A HATS catalog or collection, a folder with Parquet files anywhere below it (names that begin with ``_`` or ``.``
        are left out), or one Parquet file.
    config : SurveyConfig, optional
        Its column names; canonical by default.

    Raises
    ------
    InputError
        Nothing there, no Parquet in it, no partition that can be read, a missing or mistyped column.
    """
    raise NotImplementedError(url, config)
