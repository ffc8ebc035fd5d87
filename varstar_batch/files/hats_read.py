"""HATS on the reading side: which folder holds the main catalog, and which files are its pixels.

Only the properties and the listing are needed for that. They are read here rather than by `hats.read_hats`, whose
import alone takes seconds and which opens every file by itself.
"""

from __future__ import annotations

import csv
import io
import re

from jproperties import ParseError, Properties  # type: ignore[import-untyped]

from varstar_batch.errors import InputError
from varstar_batch.files.location import FileInfo, Location, locate

_PIXEL_FILE = re.compile(r"^Norder=(\d+)/Dir=\d+/Npix=(\d+)(?:\.[\w.]+|/(?:[^/_.][^/]*/)*[^/_.][^/]*)$")
_READABLE_TYPES = ("object", "source")


def find_hats_catalog(folder: Location) -> tuple[Location, dict[str, str]] | None:
    """Return the HATS catalog at a folder and its properties, the main one of a collection; None if it is no HATS.

    Raises
    ------
    InputError
        The properties cannot be read, the main catalog is not there, or it is a margin or an index.
    """
    collection = _read_properties(folder / "collection.properties")
    if collection is not None:
        main = collection.get("hats_primary_table_url", "").strip()
        if not main:
            raise _bad_properties(folder / "collection.properties", "hats_primary_table_url", "none")
        folder = locate(main, what="HATS catalog") if "://" in main or main.startswith("/") else folder / main
    # Old catalogs have only `properties`, the name that HiPS uses.
    properties = _read_properties(folder / "hats.properties") or _read_properties(folder / "properties")
    if properties is None:
        if collection is None:
            return None
        raise InputError(
            expected="the main catalog of the HATS collection (a folder with hats.properties)",
            got="no such folder or file",
            where=str(folder),
            fix="correct hats_primary_table_url in its collection.properties",
        )
    kind = properties.get("dataproduct_type", "object")
    if kind not in _READABLE_TYPES:
        raise InputError(
            expected="a HATS catalog of objects",
            got=f"one of type {kind!r}",
            where=str(folder),
            fix="give the main catalog or the collection",
        )
    return folder, properties


def list_pixel_files(catalog: Location) -> list[FileInfo]:
    """List the files of a HATS catalog's pixels, sorted by key; pixels without any file are listed with size 0.

    The pixels that `partition_info.csv` promises are compared with what is there: a pixel whose file got lost must
    become a failed partition, not a hole in the sky.
    """
    found = [(_PIXEL_FILE.match(info.key), info) for info in (catalog / "dataset").files()]
    files = [FileInfo(f"dataset/{info.key}", info.size, info.version) for match, info in found if match]
    there = {(int(match[1]), int(match[2])) for match, _ in found if match}
    lost = [
        FileInfo(f"dataset/Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet", 0, "")
        for order, pixel in _promised_pixels(catalog / "partition_info.csv")
        if (order, pixel) not in there
    ]
    return sorted(files + lost, key=lambda info: info.key)


def _promised_pixels(file: Location) -> list[tuple[int, int]]:
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        return []
    try:
        rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        return [(int(row["Norder"]), int(row["Npix"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            expected="columns Norder and Npix of integers",
            got=f"{type(error).__name__}: {error}",
            where=str(file),
            fix="write it again with hats, or remove it: then the files that are there are taken",
        ) from error


def _read_properties(file: Location) -> dict[str, str] | None:
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    properties = Properties()
    try:
        properties.load(content.decode())
    except (ParseError, UnicodeDecodeError) as error:
        raise _bad_properties(file, "lines of key=value", str(error)) from error
    return {str(key): str(value) for key, value in properties.properties.items()}


def _bad_properties(file: Location, expected: str, got: str) -> InputError:
    return InputError(expected=expected, got=got, where=str(file), fix="write the file again with hats")
