"""Numba's decorator as this layer uses it: the interpreter's lock released, machine code kept on disk where possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def helper(function: F) -> F:
    """Compile a function into the kernels that call it; it is not kept on disk by itself."""
    return cast(F, numba.njit(nogil=True, error_model="numpy")(function))


def reduction(function: F) -> F:
    """Compile a helper that takes minima and maxima of values without NaN, in vector instructions.

    Which of 0 and -0 such a minimum is, and nothing else, may then depend on the order of the values.
    """
    return cast(F, numba.njit(nogil=True, error_model="numpy", fastmath={"nnan", "nsz"})(function))


def entry(function: F) -> F:
    """Compile a kernel that Python calls, and keep its machine code for the next process.

    Numba keeps it beside the module, or in the user's cache folder if the package's is read-only; `NUMBA_CACHE_DIR`
    sets another. Where no folder can be written at all (a container with a read-only disk) each process compiles anew.
    Numba notices changes in the kernel's own file only, so helpers belong into that file.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return cast(F, numba.njit(**options)(function))
