"""Files on an object store, read by one process for another, which has no credentials.

The child asks over a socket for a part of one of the files that it was named, by number; the parent answers with bytes.
"""

from __future__ import annotations

import io
import queue
import socket
import struct
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

from fsspec.spec import AbstractFileSystem

from varstar_batch.errors import one_line
from varstar_batch.files.location import Location

_QUESTION = struct.Struct("<IQQ")
"""Number of the file, where its part begins, how long that is; the whole of it nothing asks for, so 0 asks its size."""

_ANSWER = struct.Struct("<?Q")
"""Whether it could be read, and how many bytes follow: of the file, or of the words that say why not."""

_SIZE = struct.Struct("<Q")


def serve_files(files: Sequence[Location], sockets: Sequence[socket.socket]) -> None:
    """Answer for `files` on some sockets, each in a thread of its own that ends when the other side closes."""
    for end in sockets:
        threading.Thread(target=_serve, args=(files, end), name="varstar-sql-files", daemon=True).start()


def _serve(files: Sequence[Location], end: socket.socket) -> None:
    opened: dict[int, tuple[BinaryIO, int]] = {}
    try:
        with end:
            while question := _received(end, _QUESTION.size):
                number, offset, size = _QUESTION.unpack(question)
                try:
                    if number not in opened:
                        # The few files that a thread reads now and then: each keeps what it has read ahead.
                        while len(opened) >= _OPEN_FILES:
                            opened.pop(next(iter(opened)))[0].close()
                        opened[number] = _open(files[number])
                    answer = _read(*opened[number], offset, size)
                    end.sendall(_ANSWER.pack(True, len(answer)) + answer)
                except (OSError, IndexError) as error:
                    if isinstance(error, ConnectionError):
                        raise
                    words = one_line(error).encode()
                    end.sendall(_ANSWER.pack(False, len(words)) + words)
    except ConnectionError:  # the child was ended
        pass
    finally:
        for stream, _ in opened.values():
            stream.close()


_OPEN_FILES = 4


def _open(file: Location) -> tuple[BinaryIO, int]:
    stream = file.open_input()
    return stream, stream.seek(0, io.SEEK_END)


def _read(stream: BinaryIO, whole: int, offset: int, size: int) -> bytes:
    if size == 0:
        return _SIZE.pack(whole)
    stream.seek(offset)
    return stream.read(size)


class ServedFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The child's side: a file system of exactly the files that the parent reads for it."""

    cachable = False

    def __init__(self, protocol: str, paths: Sequence[str], sockets: Sequence[socket.socket]) -> None:
        super().__init__()
        self.protocol = protocol
        self._numbers = {self._strip(path): number for number, path in enumerate(paths)}
        self._sockets: queue.LifoQueue[socket.socket] = queue.LifoQueue()
        for end in sockets:
            self._sockets.put(end)

    def _strip(self, path: str) -> str:
        return path.split("://", 1)[-1].lstrip("/")

    def ask(self, path: str, offset: int, size: int) -> bytes:
        """Return a part of a file. Raises OSError where the parent could not read it."""
        try:
            number = self._numbers[self._strip(path)]
        except KeyError:
            raise FileNotFoundError(path) from None
        end = self._sockets.get()
        try:
            end.sendall(_QUESTION.pack(number, offset, size))
            well, length = _ANSWER.unpack(_received(end, _ANSWER.size))
            answer = _received(end, length)
        finally:
            self._sockets.put(end)
        if not well:
            raise OSError(answer.decode())
        return answer

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return a file's size."""
        (size,) = _SIZE.unpack(self.ask(path, 0, 0))
        return {"name": path, "size": size, "type": "file"}

    def modified(self, path: str) -> datetime:
        """Return one and the same time: a published file is never written again."""
        del path
        return datetime.fromtimestamp(0, UTC)

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the path itself: the files are known by name."""
        return [path] if self._strip(path) in self._numbers else []

    def open(self, path: str, *_: Any, **__: Any) -> BinaryIO:
        """Open a file for reading."""
        return io.BufferedReader(_ServedFile(self, path), 1)  # what DuckDB asks for is asked of the parent, no more


class NamedFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """A store whose paths are names and no patterns: DuckDB takes brackets and stars in them for a glob."""

    cachable = False

    def __init__(self, fs: AbstractFileSystem) -> None:
        super().__init__()
        self.protocol = fs.protocol
        self._fs = fs

    def info(self, path: str, **how: Any) -> dict[str, Any]:
        """Return what the store says of an object."""
        return dict(self._fs.info(path, **how))

    def modified(self, path: str) -> datetime:
        """Return when an object was written."""
        return self._fs.modified(path)  # type: ignore[no-any-return]

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the path itself, where there is an object."""
        return [path] if self._fs.exists(path) else []

    def open(self, path: str, mode: str = "rb", **how: Any) -> BinaryIO:
        """Open an object."""
        return self._fs.open(path, mode, **how)  # type: ignore[no-any-return]


class _ServedFile(io.RawIOBase):
    def __init__(self, fs: ServedFileSystem, path: str) -> None:
        self._fs = fs
        self._path = path
        self._size = fs.info(path)["size"]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, target: Any) -> int:
        size = min(len(target), self._size - self._at)
        if size <= 0:
            return 0
        answer = self._fs.ask(self._path, self._at, size)
        target[: len(answer)] = answer
        self._at += len(answer)
        return len(answer)


def _received(end: socket.socket, size: int) -> bytes:
    """Return exactly so many bytes, or none where the other side has closed."""
    parts = bytearray()
    while len(parts) < size:
        part = end.recv(min(size - len(parts), 2**20))
        if not part:
            return b""
        parts += part
    return bytes(parts)
