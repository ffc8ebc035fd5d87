"""Numba's decorator as this layer uses it: the interpreter's lock released, machine code kept on disk if possible."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def helper(function: F) -> F:
    """Compile a function for the kernels that call it; it is not kept on disk by itself."""
    return cast(F, numba.njit(**_OPTIONS)(function))


def inlined(function: F) -> F:
    """Compile a helper into each place of its call, which spares handing over all its arrays: for the common path."""
    return cast(F, numba.njit(forceinline=True, **_OPTIONS)(function))


def reduction(function: F) -> F:
    """Compile a helper that takes minima and maxima of values without NaN, in vector instructions.

    Which of 0 and -0 such a minimum is, and nothing else, may then depend on the order of the values.
    """
    return cast(F, numba.njit(fastmath={"nnan", "nsz"}, **_OPTIONS)(function))


def summation(function: F) -> F:
    """Compile a helper that sums in vector instructions: in an order that is fixed, but not that of the values."""
    return cast(F, numba.njit(fastmath={"reassoc", "contract", "nsz"}, **_OPTIONS)(function))


def source_checksum(module: str) -> int:
    """Return a checksum of the source files beside `module`, a file, and of itself."""
    sources = sorted(Path(module).parent.glob("*.py"))
    return zlib.crc32(b"".join(source.read_bytes() for source in sources))


def entry(function: F) -> F:
    """Compile a kernel that Python calls, and keep its machine code for the next process.

    Numba keeps it beside the module, or in the user's cache folder if the package's is read-only; `NUMBA_CACHE_DIR`
    sets another. Where no folder can be written at all (a container with a read-only disk) each process compiles anew.
    Numba notices changes in the kernel's own file only, not in the files of its helpers: a kernel that has such takes a
    last argument that is never passed and whose default is their `source_checksum`, which makes it part of the key.
    """
    try:
        return cast(F, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return cast(F, numba.njit(**_OPTIONS)(function))
