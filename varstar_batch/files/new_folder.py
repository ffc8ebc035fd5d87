"""A new folder that readers see whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from varstar_batch.errors import InputError, VarstarError, WorkersLostError
from varstar_batch.files.local_write import TEMPORARY_PREFIX, make_folder, sync_folder
from varstar_batch.files.location import Location, writable
from varstar_batch.files.parquet import UNFINISHED


@contextmanager
def new_folder(out: Location, what: str, resume: str | None = None) -> Iterator[Location]:
    """Yield a folder to fill, which becomes `out` when the block ends; when the block raises, nothing is left of it.

    On a local disk it is filled under a temporary name beside `out` and then renamed. An object store cannot rename, so
    there `out` itself is filled, and holds the mark `UNFINISHED` until it is complete.

    Parameters
    ----------
    out : Location
        Where nothing, or an empty folder, is yet.
    what : str
        What the reader of an error calls it, for example ``"survey"``.
    resume : str, optional
        A fingerprint: what a block with the same one has left when it was killed, or interrupted by anything but an
        error of this program, is in the folder. No two such blocks may run at once.

    Raises
    ------
    InputError
        The place holds something, or cannot be written.
    """
    check_vacant(out, resume)
    with _staged(out, what, resume) if out.is_local else _marked(out, what, resume) as folder:
        yield folder


def check_vacant(out: Location, resume: str | None = None) -> None:
    """Refuse a place that holds something, but what an interrupted block with this fingerprint has left.

    Raises
    ------
    InputError
        A file, or a folder that is not empty.
    """
    there = [out.name] if out.is_file() else out.children()
    if there and not (UNFINISHED in there and _is_mine(out / UNFINISHED, resume)):
        raise _occupied(out, "one with " + ", ".join(there[:3]) + (", ..." if len(there) > 3 else ""))


def _is_mine(mark: Location, resume: str | None) -> bool:
    try:
        return resume is not None and json.loads(mark.read_bytes()).get("resume") == resume
    except ValueError:  # cut short: nothing tells whose it is
        return False


@contextmanager
def _staged(out: Location, what: str, resume: str | None) -> Iterator[Location]:
    target = Path(out.path)
    staging = target.with_name(f"{TEMPORARY_PREFIX}{resume or uuid.uuid4().hex}-{target.name}")
    writable(str(out), what, lambda: make_folder(staging))
    kept = False
    try:
        yield Location(out.fs, str(staging))
        try:
            # An empty folder gives way to it, one that somebody filled meanwhile does not.
            staging.replace(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise _occupied(out, "one that was filled meanwhile") from error
    except BaseException as error:
        kept = resume is not None and _can_go_on(error)
        raise
    finally:
        if not kept:
            shutil.rmtree(staging, ignore_errors=True)
    sync_folder(target.parent)


@contextmanager
def _marked(out: Location, what: str, resume: str | None) -> Iterator[Location]:
    mark = out / UNFINISHED
    content = json.dumps({"unfinished": str(out), "resume": resume}).encode()
    try:
        if not (mark.is_file() and _is_mine(mark, resume)):
            writable(str(out), what, lambda: mark.create(content))
    except FileNotFoundError as error:
        raise InputError(
            expected=f"a bucket where the {what} can be written", got=str(error), where=str(out), fix="make the bucket"
        ) from error
    try:
        yield out
    except BaseException as error:
        if resume is not None and _can_go_on(error):
            raise
        # What cannot be removed now keeps its mark, and is no survey for anybody.
        with suppress(OSError):
            for info in out.files():
                if info.key != UNFINISHED:
                    (out / info.key).remove()
            mark.remove()
        raise
    mark.remove()


def _can_go_on(error: BaseException) -> bool:
    return isinstance(error, WorkersLostError) or not isinstance(error, VarstarError)


def _occupied(out: Location, got: str) -> InputError:
    return InputError(
        expected="an output folder that is empty or not there yet",
        got=got,
        where=str(out),
        fix="choose another one; nothing was changed in it",
    )
