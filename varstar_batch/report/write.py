"""Writing a report where it was asked for, or beside the run that it is about."""

from __future__ import annotations

import os

from varstar_batch.catalog.reader import CatalogReader
from varstar_batch.files.location import Location, locate, writable
from varstar_batch.report.data import gather
from varstar_batch.report.page import build_page


def write_report(
    reader: CatalogReader, out: str | os.PathLike[str] | Location | None = None, *, survey_url: str | None = None
) -> Location:
    """Write the report of a run and return where it is.

    Parameters
    ----------
    reader : CatalogReader
        The run.
    out : str, path or Location, optional
        HTML file to write; `report_location` by default.
    survey_url : str, optional
        Where the survey's light curves are, if not where they were classified.

    Raises
    ------
    InputError
        The run is damaged, or the output cannot be written.
    """
    if out is None:
        target = report_location(reader)
    else:
        target = out if isinstance(out, Location) else locate(out, what="report")
    page = build_page(gather(reader, survey_url)).encode()
    writable(str(target), "report", lambda: target.write_bytes(page))
    return target


def report_location(reader: CatalogReader) -> Location:
    """Return where a flow leaves the report of a run: in the catalog, outside of the run, which is never changed."""
    return reader.catalog.root / f"reports/{reader.run_id}.html"
