"""What an ingest has done so far, on disk: one that was killed and is started again does only what is missing."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from varstar_batch._version import __version__
from varstar_batch.errors import InputError, VarstarError, WorkersLostError
from varstar_batch.files.digests import read_sealed, write_sealed
from varstar_batch.files.local_write import TEMPORARY_PREFIX
from varstar_batch.files.location import Location, locate, writable
from varstar_batch.files.new_folder import check_vacant
from varstar_batch.ingest.plan import IngestPlan


@dataclass(frozen=True)
class Workspace:
    """Where an ingest keeps what it has done."""

    folder: Path
    """Local; found again by an ingest of the same things into the same place, and by no other."""
    fingerprint: str
    """Of these things: hexadecimal."""

    def load_plan(self) -> IngestPlan | None:
        """Return the plan of an ingest that was interrupted after it had counted; None where there is none."""
        content = read_sealed(self.folder / "plan.npz")
        if content is None:
            return None
        with np.load(BytesIO(content), allow_pickle=False) as saved:
            ids = tuple(json.loads(str(saved["orphan_ids"])))
            return IngestPlan(saved["counts"], saved["order"], saved["bounds"], int(saved["observations"]), ids)

    def save_plan(self, plan: IngestPlan) -> None:
        """Keep a plan."""
        content = BytesIO()
        np.savez(content, **(vars(plan) | {"orphan_ids": json.dumps(plan.orphan_ids)}))
        write_sealed(self.folder / "plan.npz", content.getvalue())


@contextmanager
def open_workspace(
    out: Location, scratch: str | None, inputs: Mapping[str, str | os.PathLike[str] | None], settings: str
) -> Iterator[Workspace]:
    """Yield the workspace of an ingest, with what an earlier one of the same things has left in it.

    It stays when the block is killed, or interrupted by anything but an error of this program; of an ingest of other
    things into the same place it is removed.

    Parameters
    ----------
    out : Location
        Of the survey.
    scratch : str or None
        Local folder for it; None: beside a local survey, in the system's folder for the survey of an object store.
    inputs : mapping of str to str, path or None
        Files and folders that the survey depends on, by what they hold.
    settings : str
        All else that it depends on.

    Raises
    ------
    InputError
        Another ingest into the same place is going on, the place holds something, or there is no place to write.
    """
    stamps = {what: _stamps_of(url, what) for what, url in inputs.items() if url is not None}
    said = json.dumps([__version__, str(out), stamps, settings], sort_keys=True)
    fingerprint = hashlib.sha256(said.encode()).hexdigest()[:16]
    if scratch is not None:
        base = Path(scratch)
    else:
        base = Path(out.path).parent if out.is_local else Path(tempfile.gettempdir())
    place = hashlib.sha256(str(out).encode()).hexdigest()[:8]
    stem = f"{TEMPORARY_PREFIX}ingest-{place}"
    folder = base / f"{stem}-{fingerprint}"
    writable(str(out), "survey", lambda: base.mkdir(parents=True, exist_ok=True))
    with _locked(base / f"{stem}.lock", out):
        for stale in base.glob(f"{stem}-*"):
            if stale != folder:
                shutil.rmtree(stale, ignore_errors=True)
                if out.is_local:
                    old = stale.name.rpartition("-")[2]
                    shutil.rmtree(Path(out.path).with_name(f"{TEMPORARY_PREFIX}{old}-{out.name}"), ignore_errors=True)
        writable(str(out), "survey", lambda: folder.mkdir(exist_ok=True))
        try:
            check_vacant(out, fingerprint)
            yield Workspace(folder, fingerprint)
        except WorkersLostError:
            raise
        except VarstarError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _stamps_of(url: str | os.PathLike[str], what: str) -> list[str]:
    """Return the files below a place, each with its size and its version, so that a change shows."""
    place = locate(url, what=what)
    if place.is_file():
        folder = Location(place.fs, place.path.rpartition("/")[0])
        return [repr(info) for info in folder.files(place.name) if info.key == place.name]
    return [repr(info) for info in place.files()]


@contextmanager
def _locked(path: Path, out: Location) -> Iterator[None]:
    """Hold a file that nobody else holds: the system lets go of it when the process dies, however it dies."""
    descriptor = _take(path, out)
    try:
        yield
        path.unlink(missing_ok=True)
    except VarstarError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _take(path: Path, out: Location) -> int:
    """Return the descriptor of the file of this name, once it is held."""
    while True:
        descriptor = writable(str(out), "survey", lambda: os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it may have removed it since it was opened here, and a third may hold one of the same name.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError(
                expected="one ingest into a place at a time",
                got="another one that is going on",
                where=str(out),
                fix="wait for it, or choose another output",
            ) from error
        os.close(descriptor)
