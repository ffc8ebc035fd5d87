"""Objects of a store that are small enough to be fetched whole, in a single request."""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO

from varstar_batch.storage.files import Location

WHOLE = 16 * 2**20
"""Bytes up to which an object is fetched whole. A request costs some 3 ms of a core here, and the store's; a partition
that is read column by column takes a dozen of them. The columns that nobody needs cost less than that."""

_kept: dict[tuple[str, int, str], bytes] = {}
"""The one object whose footer was read last: what it tells decides how the rest is read, from here."""


def open_fetched(file: Location, size: int, version: str, *, keep: bool) -> BinaryIO:
    """Fetch an object whole and open it for reading.

    Parameters
    ----------
    file : Location
    size : int
        Bytes that it had when it was listed, at most `WHOLE`.
    version : str
        Its version then.
    keep : bool
        Whether this process is about to open the same object again. It keeps one, until that is opened.

    Raises
    ------
    OSError
        FileNotFoundError, PermissionError, or the storage failed.
    """
    key = (str(file), size, version)
    content = _kept.pop(key, None)
    if content is None:
        content = bytes(file.fs.cat_file(file.path))
    if keep:
        _kept.clear()
        _kept[key] = content
    return BytesIO(content)
