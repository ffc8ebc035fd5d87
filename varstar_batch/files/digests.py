"""Content that can be told whole from cut short or zeroed, as a power cut leaves it: by its SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from varstar_batch.files.local_write import file_beside


def sealed(content: bytes) -> bytes:
    """Return content behind its digest, for `unsealed`."""
    return hashlib.sha256(content).digest() + content


def unsealed(whole: bytes) -> bytes | None:
    """Return the content of what `sealed` made; None where it is not what it was."""
    digest, content = whole[:32], whole[32:]
    return content if hashlib.sha256(content).digest() == digest else None


def read_sealed(path: Path) -> bytes | None:
    """Return the content of a local file that was written sealed; None where it is missing or not what it was."""
    try:
        return unsealed(path.read_bytes())
    except FileNotFoundError:
        return None


def write_sealed(path: Path, content: bytes) -> None:
    """Write a local file sealed, whole or not at all."""
    with file_beside(path, os.replace) as file:
        file.write(sealed(content))


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a local file in hexadecimal; None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


class HashingSink:
    """A writable stream that hashes and counts what passes through."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self._digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, content: bytes) -> int:
        """Hand `content` on."""
        self._digest.update(content)
        self.size += len(content)
        self._write(content)
        return len(content)

    def hexdigest(self) -> str:
        """Return the SHA-256 of what passed so far."""
        return self._digest.hexdigest()

    def tell(self) -> int:
        """Return how much passed so far."""
        return self.size

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Take note; whoever opened the stream below closes it."""
        self.closed = True
