"""Model bundles on disks and object stores: a folder with ``bundle.json``, ``model.keras`` and ``card.md``."""

from __future__ import annotations

import os
from importlib import resources

from varstar_batch.errors import InputError, one_line
from varstar_batch.files.location import Location, locate, writable
from varstar_batch.model.bundle import Bundle, parse_bundle

CONTRACT_FILE = "bundle.json"
KERAS_FILE = "model.keras"
CARD_FILE = "card.md"
SHIPPED = "-"
"""Instead of a bundle's folder: the one that ships with the package."""

REPORT_FOLDER = "report"
"""What `varstar train` leaves beside the three files: measures and figures. No reader of a bundle needs it."""

WRITTEN = (CONTRACT_FILE, KERAS_FILE, CARD_FILE)
"""What `write_bundle` writes."""

BUNDLE_FILES = (*WRITTEN, REPORT_FOLDER)
"""All that may be in a bundle's folder."""


def read_bundle(url: str | os.PathLike[str] | None = None) -> Bundle:
    """Read a bundle and check that it is whole and fits this code.

    Parameters
    ----------
    url : str or path, optional
        Its folder, local or any fsspec URL; None for the bundle that ships with the package.

    Raises
    ------
    InputError
        If there is no bundle, or it cannot be read, or it is damaged.
    RefusedError
        If its contract does not fit this code; see `parse_bundle`.
    """
    if url is None:
        with resources.as_file(resources.files("varstar_batch.model") / "bundles" / "default") as folder:
            return _read(locate(folder, what="bundle"))
    if not isinstance(url, str | os.PathLike):
        raise InputError(
            expected="a bundle, or its folder or URL",
            got=repr(url)[:80],
            where="model",
            fix="leave it out for the bundle that ships",
        )
    return _read(locate(url, what="bundle"))


def write_bundle(bundle: Bundle, url: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Write a bundle into a folder.

    Parameters
    ----------
    bundle : Bundle
    url : str or path
        A folder that does not exist, is empty or, with `replace`, holds a bundle.
    replace : bool

    Raises
    ------
    InputError
        If the folder holds anything else, or cannot be written.
    """
    folder = locate(url, what="bundle")
    check_folder(folder, replace=replace)
    writable(str(folder), "bundle", lambda: _write(bundle, folder))


def check_folder(folder: Location, *, replace: bool) -> None:
    """Refuse a folder that holds anything but, with `replace`, a bundle; see `write_bundle`."""
    in_the_way = sorted(set(folder.children()) - set(BUNDLE_FILES if replace else ()))
    if in_the_way or folder.is_file():
        raise InputError(
            expected="an empty or new folder for the bundle" + (", or an old bundle" if replace else ""),
            got=f"one with {', '.join(in_the_way[:3])}" if in_the_way else "a file",
            where=str(folder),
            fix="choose another output" + ("" if replace else ", or say --replace for a bundle that may go"),
        )


def _write(bundle: Bundle, folder: Location) -> None:
    # bundle.json goes first and comes last: a folder without it is no bundle, so no reader sees a half-written one.
    (folder / CONTRACT_FILE).remove()
    (folder / KERAS_FILE).write_bytes(bundle.keras_file)
    (folder / CARD_FILE).write_bytes(bundle.card.encode())
    (folder / CONTRACT_FILE).write_bytes(bundle.contract.to_json())


def _read(folder: Location) -> Bundle:
    content = {}
    for name in WRITTEN:
        try:
            content[name] = (folder / name).read_bytes()
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            raise InputError(
                expected=f"a bundle: a folder with {', '.join(WRITTEN)}",
                got=f"no {name}" if missing else f"{name} cannot be read ({one_line(error)})",
                where=str(folder),
                fix="give the folder of a bundle to --model, or leave it out for the one that ships",
            ) from None
    card = content[CARD_FILE].decode("utf-8", errors="replace")
    return parse_bundle(content[CONTRACT_FILE], content[KERAS_FILE], card, where=str(folder))
