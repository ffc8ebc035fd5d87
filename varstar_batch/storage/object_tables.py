"""Tables of objects in any form (Parquet, CSV, ECSV, FITS, VOTable), and matching them by position."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv as pv

from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.archives.fits_votable import kind_of, read_with_astropy
from varstar_batch.errors import InputError
from varstar_batch.files.location import Location
from varstar_batch.survey.columns import SurveyConfig

_FIX = "give Parquet, CSV with names in the first line, ECSV, FITS or VOTable"


def read_small_table(file: Location, config: SurveyConfig) -> pa.Table | None:
    """Read a table of objects that is no Parquet; None where it is Parquet.

    Identifiers in CSV are read as texts, so that leading zeros stay.

    Raises
    ------
    InputError
        It is of no known form, damaged, or has no column.
    """
    content = file.read_bytes()
    if content.startswith(b"PAR1"):
        return None
    kind = kind_of(content, file.name)
    try:
        if kind is not None:
            return read_with_astropy(content, kind).replace_schema_metadata(None)
        if b"\0" in content[:65536] or b"," not in content[:65536]:
            raise UnreadableFileError("a table of objects", "something else")
        return _read_csv(content, config)
    except (UnreadableFileError, pa.ArrowException) as error:
        expected, got = (
            (error.expected, error.got) if isinstance(error, UnreadableFileError) else ("a CSV table", str(error))
        )
        raise InputError(expected=expected, got=got, where=str(file), fix=_FIX) from error


def _read_csv(content: bytes, config: SurveyConfig) -> pa.Table:
    texts = {config.object_id: pa.large_string()} | ({config.class_: pa.large_string()} if config.class_ else {})
    return pv.read_csv(
        pa.BufferReader(content),
        pv.ReadOptions(use_threads=False, block_size=min(len(content) + 1, 2**30)),
        convert_options=pv.ConvertOptions(column_types=texts, strings_can_be_null=True),
    )
