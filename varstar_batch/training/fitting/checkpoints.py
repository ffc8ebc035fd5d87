"""Where a training keeps its unfinished work, so that it goes on after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from varstar_batch.errors import RefusedError
from varstar_batch.files.digests import sealed, unsealed
from varstar_batch.files.location import Location, locate, writable
from varstar_batch.model.bundle_files import check_folder

_PLAN = "plan.json"
_SUFFIX = ".training"


@dataclass(frozen=True)
class WorkFolder:
    """Checkpoints in a folder beside the bundle that is being made."""

    folder: Location
    resumed: bool
    """Whether some were there already."""

    def read(self, name: str) -> bytes | None:
        """Return a checkpoint, None if there is none that is whole."""
        try:
            return unsealed((self.folder / name).read_bytes())
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a checkpoint, whole or not at all."""
        target = self.folder / name
        writable(str(target), "checkpoint", lambda: target.write_bytes(sealed(content)))

    def remove(self) -> None:
        """Remove it with all that is in it."""
        self.folder.remove()


def check_output(out: str | os.PathLike[str], *, replace: bool) -> None:
    """Refuse, before hours of work, an output that could not be written after them.

    Raises
    ------
    InputError
        Something is there that may not be replaced.
    """
    target = locate(out, what="bundle")
    # An unfinished training of this very output: whatever of the bundle is there is its own.
    if not (_work_folder(target) / _PLAN).is_file():
        check_folder(target, replace=replace)


def open_work(
    out: str | os.PathLike[str], fingerprint: str, description: Mapping[str, Any], *, fresh: bool = False
) -> WorkFolder:
    """Open the folder of unfinished work beside an output, and make it where there is none.

    Parameters
    ----------
    out : str or path
        The bundle that is being made.
    fingerprint : str
        Of the training.
    description : mapping
        What a person is told of it where another one is in the way; JSON.
    fresh : bool
        Begin anew, whatever is there.

    Raises
    ------
    RefusedError
        There is unfinished work of another training: other data, options or versions.
    """
    target = locate(out, what="bundle")
    folder = _work_folder(target)
    if fresh:
        writable(str(folder), "work folder", folder.remove)
    try:
        there = json.loads((folder / _PLAN).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        if isinstance(error, ValueError):  # cut short: nothing tells whose checkpoints these are
            writable(str(folder), "work folder", folder.remove)
        plan = {"fingerprint": fingerprint, **description}
        writable(str(folder), "work folder", lambda: (folder / _PLAN).write_bytes(json.dumps(plan, indent=1).encode()))
        return WorkFolder(folder, resumed=False)
    if there.get("fingerprint") != fingerprint:
        differences = [
            f"{key} {there.get(key)!r} instead of {value!r}"
            for key, value in description.items()
            if there.get(key) != value
        ]
        raise RefusedError(
            expected="unfinished work of the same training, or none",
            got=f"that of another one ({'; '.join(differences) or 'other inputs'})",
            where=str(folder),
            fix="give the same command again to finish it, or say --fresh to begin anew",
        )
    return WorkFolder(folder, resumed=True)


def _work_folder(target: Location) -> Location:
    return Location(target.fs, target.path.rstrip("/") + _SUFFIX)
