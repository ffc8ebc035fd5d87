"""Files and folders, local or on an object store, behind one handle: listing, atomic writes, exclusive creation.

Everything is written once and appears at once: on a local disk under a temporary name that is then renamed, on an
object store by the single request that completes the object. Exclusive creation (`Location.create`) is the one
primitive that publishing rests on: of any number of writers exactly one succeeds.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from fsspec.core import url_to_fs
from fsspec.spec import AbstractFileSystem

from varstar_batch.errors import InputError, one_line
from varstar_batch.files.local_write import TEMPORARY_PREFIX, file_beside, make_folder, remove_abandoned
from varstar_batch.files.object_store import error_codes, is_refused_condition, s3_options, storage_errors

_T = TypeVar("_T")


@dataclass(frozen=True)
class FileInfo:
    """One file as a listing shows it."""

    key: str
    """Path relative to the listed folder, with forward slashes."""
    size: int
    """Bytes."""
    version: str
    """What changes when the content does: the ETag on an object store, else the time of modification in nanoseconds."""

    @classmethod
    def of(cls, key: str, info: Mapping[str, Any]) -> FileInfo:
        """Return what a listing of fsspec says of a file."""
        version = str(info.get("ETag") or info.get("etag") or "").strip('"')
        if not version and "mtime" in info:
            version = str(round(float(info["mtime"]) * 1e9))
        return cls(key, int(info["size"]), version or str(info.get("LastModified") or info.get("created") or ""))


@dataclass(frozen=True)
class Location:
    """A file or folder on any fsspec filesystem."""

    fs: AbstractFileSystem
    """Credentials come from the environment or profiles; none is ever part of a location's text."""
    path: str
    """Path on that filesystem."""

    def __truediv__(self, key: str) -> Location:
        return Location(self.fs, f"{self.path.rstrip('/')}/{key}" if key else self.path)

    def __str__(self) -> str:
        return self.path if self.is_local else str(self.fs.unstrip_protocol(self.path))

    @property
    def is_local(self) -> bool:
        """Whether the operating system can open `path` itself."""
        protocol = self.fs.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    def exists(self) -> bool:
        """Whether a file or folder is there."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(self.path))

    def is_file(self) -> bool:
        """Whether a file is there."""
        return bool(self.fs.isfile(self.path))

    def files(self, suffix: str = "") -> list[FileInfo]:
        """List the files below this folder that end in `suffix`, sorted by key; unfinished files are left out."""
        self.fs.invalidate_cache()
        root = self.path.rstrip("/") + "/"
        found = self.fs.find(self.path, detail=True)
        infos = [
            FileInfo.of(path[len(root) :], info)
            for path, info in found.items()
            if path.endswith(suffix) and path.startswith(root) and f"/{TEMPORARY_PREFIX}" not in path[len(root) - 1 :]
        ]
        return sorted(infos, key=lambda info: info.key)

    def sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the bytes of those files below this folder that are there, by key.

        One listing tells; what it does not show is asked for by itself, since listings of some stores lag behind.
        """
        there = {info.key: info.size for info in self.files()}
        found = {}
        for key in keys:
            with suppress(FileNotFoundError):
                found[key] = there[key] if key in there else int(self.fs.info((self / key).path)["size"])
        return found

    def children(self) -> list[str]:
        """Names directly in this folder, sorted; empty where there is no folder."""
        self.fs.invalidate_cache()
        try:
            paths = self.fs.ls(self.path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = (str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths if str(path).rstrip("/") != self.path)
        return sorted(name for name in names if not name.startswith(TEMPORARY_PREFIX))

    def read_bytes(self) -> bytes:
        """Return the whole content. Raises FileNotFoundError."""
        return bytes(self.fs.cat_file(self.path))

    def open_input(self) -> BinaryIO:
        """Open for reading; the caller closes it."""
        if self.is_local:
            return Path(self.path).open("rb")
        return self.fs.open(self.path, "rb")  # type: ignore[no-any-return]

    @contextmanager
    def atomic_output(self, *, exclusive: bool = False) -> Iterator[BinaryIO]:
        """Open for writing; the file appears whole when the block ends, and not at all when it raises.

        Raises
        ------
        FileExistsError
            With `exclusive`, when the block ends: another writer was first, and what it wrote stays.
        """
        if self.is_local:
            with file_beside(Path(self.path), os.link if exclusive else os.replace) as file:
                yield file
            return
        stream = self.fs.open(self.path, "xb" if exclusive and not hasattr(self.fs, "call_s3") else "wb")
        if exclusive:
            stream.mode = "xb"  # opened so, s3fs would ask first; the condition goes with the request that completes
        try:
            yield stream
        except BaseException:
            stream.discard()
            # fsspec completes an upload in close() and __del__ unless it believes that it is closed already.
            stream.closed = True
            raise
        try:
            stream.close()
        except OSError as error:
            stream.closed = True
            self._check_refused(error)
            raise

    def write_bytes(self, content: bytes) -> None:
        """Write the whole content atomically, over whatever was there."""
        if self.is_local:
            with self.atomic_output() as file:
                file.write(content)
        else:
            self.fs.pipe_file(self.path, content)

    def create(self, content: bytes) -> None:
        """Write a small file that must not exist yet: of any number of writers at once exactly one succeeds.

        Raises
        ------
        FileExistsError
            Another writer was first.
        """
        if self.is_local:
            with file_beside(Path(self.path), os.link) as file:
                file.write(content)
            return
        try:
            # One small put with If-None-Match: the multipart completion ignores the condition on some servers.
            self.fs.pipe_file(self.path, content, mode="create")
        except OSError as error:
            self._check_refused(error)
            raise

    def _check_refused(self, error: OSError) -> None:
        if isinstance(error, FileExistsError) or is_refused_condition(error):
            raise FileExistsError(errno.EEXIST, "already exists", str(self)) from error

    def link_or_copy(self, target: Location) -> None:
        """Make `target` hold the same bytes without moving them through this process where that can be had.

        Raises
        ------
        FileExistsError
            On a local disk: something is there already.
        """
        if self.is_local and target.is_local:
            make_folder(Path(target.path).parent)
            try:
                os.link(self.path, target.path)
            except FileExistsError:
                raise
            except OSError:
                with self.open_input() as source, target.atomic_output(exclusive=True) as sink:
                    shutil.copyfileobj(source, sink)
        else:
            self.fs.cp_file(self.path, target.path)

    def remove(self) -> None:
        """Remove the file, or the folder and all below it; nothing there is fine."""
        self.fs.invalidate_cache()
        if self.is_local or not has_magic(self.path):
            while self.fs.exists(self.path):
                with suppress(FileNotFoundError):  # of a file below it that somebody else has removed meanwhile
                    self.fs.rm(self.path, recursive=True)
            return
        # fsspec would take the name for a pattern, and remove what it matches.
        for key in self.fs.find(self.path) or [self.path] * self.fs.exists(self.path):
            self.fs.rm_file(key)

    def remove_unfinished(self) -> None:
        """Remove what writers that were killed left below this folder; what others are still writing stays."""
        if self.is_local:
            remove_abandoned(Path(self.path))


def same_place(one: str, other: str) -> bool:
    """Whether two texts name one place: the same, or local paths that links lead to the same file or folder."""
    if one.rstrip("/") == other.rstrip("/"):
        return True
    # pathlib would fold the slashes of a URL.
    return "://" not in one + other and os.path.realpath(one) == os.path.realpath(other)


def locate(url: str | os.PathLike[str], *, what: str) -> Location:
    """Return the location of a path or fsspec URL.

    Parameters
    ----------
    url : str or path
        Local path, or for example ``s3://bucket/folder``. Credentials belong in the environment, never here.
    what : str
        What the reader of an error calls it, for example ``"survey"``.

    Raises
    ------
    InputError
        The protocol is unknown, the URL carries credentials, or a folder in it has no name.
    """
    text = os.fspath(url)
    if not text:
        raise InputError(expected=f"the path or URL of a {what}", got="an empty text", where=what, fix="give a path")
    if "://" in text and "@" in urlsplit(text).netloc:
        raise InputError(
            expected="a URL without credentials",
            got="a URL with an '@' before its host",
            where=what,
            fix="put credentials into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or a profile",
        )
    protocol, _, below = text.partition("://")
    if below and protocol not in {"file", "local"} and "//" in below.rstrip("/"):
        raise _empty_name(text, what)
    options = s3_options() if text.startswith("s3://") else {}
    try:
        fs, path = url_to_fs(text, **options)
    except (ValueError, ImportError) as error:
        raise InputError(
            expected="a local path or an fsspec URL such as s3://bucket/folder",
            got=f"{text!r} ({one_line(error)})",
            where=what,
            fix="check the part before '://'",
        ) from error
    return Location(fs, str(path))


def _empty_name(where: str, what: str) -> InputError:
    return InputError(
        expected="names between all slashes, as folders have them",
        got="two slashes, one after the other, which only an object store takes for something",
        where=f"{what} {where}",
        fix="leave one out, or give the objects other keys",
    )


def check_names(folder: Location, files: Iterable[FileInfo]) -> None:
    """Refuse keys with an empty name in them, which no path could say. Raises InputError."""
    for info in files:
        if not all(info.key.split("/")):
            raise _empty_name(str(folder / info.key), "file")


def writable(where: str, what: str, action: Callable[[], _T]) -> _T:
    """Run a first write and turn what the system refuses into one clear line.

    Raises
    ------
    InputError
        No permission, a read-only or full disk, a file where a folder has to be.
    """
    try:
        return action()
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        got = os.strerror(error.errno) if error.errno else one_line(error)
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG}:
            raise
        got = os.strerror(error.errno)
    raise InputError(
        expected=f"a place where the {what} can be written",
        got=got,
        where=where,
        fix="choose another output or free it",
    )


def listed(folder: Location, keys: Iterable[str]) -> Location:
    """Return a folder in which the sizes of the files `keys` are known, instead of being asked for file by file.

    Nobody may write in it as long as the result is used: the same folder through a filesystem of its own, which keeps a
    listing; a local one as it is.
    """
    if folder.is_local or not hasattr(folder.fs, "call_s3"):
        return folder
    options = folder.fs.storage_options | {"use_listings_cache": True, "skip_instance_cache": True}
    fs = type(folder.fs)(**options)
    shown = set(fs.find(folder.path))
    for path in {(folder / key).path for key in keys} - shown:  # listings of some stores lag behind
        with suppress(FileNotFoundError):
            fs.dircache.setdefault(path.rpartition("/")[0], []).append(folder.fs.info(path))
    return replace(folder, fs=fs)


def refusal(location: Location, error: OSError) -> OSError:
    """Return why a store forbids reading an object; a HEAD request, by which it was found out, does not say why."""
    if location.is_local or error_codes(error) - {"403", "Forbidden"}:
        return error
    try:
        with storage_errors():
            location.fs.cat_file(location.path, start=0, end=1)
    except OSError as reason:
        return reason if isinstance(reason, PermissionError) else error
    return error


def check_reachable(location: Location, what: str) -> Location:
    """Return a location after its bucket has answered; on a local disk, at once.

    Raises
    ------
    InputError
        No such bucket, wrong or missing credentials, nobody answers; in one line, without any secret.
    """
    if location.is_local or not hasattr(location.fs, "call_s3"):
        return location
    bucket, _, prefix = location.path.partition("/")
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    server = f"{endpoint.hostname}:{endpoint.port}" if endpoint.hostname else "Amazon S3"
    try:
        with storage_errors():
            location.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
        return location
    except FileNotFoundError:
        expected, got = "a bucket that exists", f"no bucket {bucket!r} at {server}"
        fix = "check its name and AWS_ENDPOINT_URL, or create it"
    except PermissionError as error:
        expected, got = f"credentials that {server} accepts", _without_secrets(error)
        fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or AWS_PROFILE"
    except OSError as error:
        expected, got = "an object store that answers", _without_secrets(error)
        fix = "check AWS_ENDPOINT_URL and the network"
    raise InputError(expected=expected, got=got, where=f"{what} {location}", fix=fix)


def _without_secrets(error: OSError) -> str:
    text = error.strerror if error.errno and error.strerror else one_line(error)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        secret = os.environ.get(name)
        if secret:
            text = text.replace(secret, "***")
    return text or type(error).__name__


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file that people may read too."""
    return json.dumps(content, indent=1).encode() + b"\n"


def write_once(location: Location, content: bytes) -> None:
    """Write a file unless it is there: of several writers the first one's content stays."""
    with suppress(FileExistsError):
        location.create(content)


def write_json(location: Location, content: Mapping[str, Any]) -> None:
    """Write a JSON file that people may read too, atomically."""
    location.write_bytes(json_bytes(content))
