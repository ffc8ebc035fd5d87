"""Writing on a local disk: whole files under their names or none, durable before they appear, new folders too."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY_PREFIX = ".tmp-"
"""Names that begin so are unfinished; every listing leaves them out."""


@contextmanager
def file_beside(target: Path, appear: Callable[[Path, Path], None]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `target`; what is written is on the disk before `appear` gives it its name."""
    make_folder(target.parent)
    file, temporary = _hold_temporary(target)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            appear(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, durably; one that is there is fine."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in a local folder durable: without this a power cut could bring back the old name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files below a folder whose writers are dead; one that sleeps still holds its own."""
    for left in folder.rglob(f"{TEMPORARY_PREFIX}*"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink(missing_ok=True)


def _hold_temporary(target: Path) -> tuple[BinaryIO, Path]:
    """Return a new temporary file, locked as long as it is open: the system lets go of it when the writer dies."""
    while True:
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{target.name}")
        file = temporary.open("xb")
        # Filesystems without locks refuse it to those who would remove the file, too.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file, temporary
        file.close()  # somebody who tidied up was faster than the lock
