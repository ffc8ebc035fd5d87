"""Standard output as it may be: full, closed, or in an encoding that knows few letters. None of it is a traceback."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from varstar_batch.errors import ExitCode, VarstarError


class OutputError(VarstarError):
    """What was printed did not arrive."""

    exit_code = ExitCode.FAILURES


class _Output(io.RawIOBase):
    """A file descriptor that says in one line what it cannot take."""

    def __init__(self, descriptor: int, refused: OSError | None) -> None:
        self.descriptor = descriptor
        self.refused = refused

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def write(self, content: object) -> int:
        if not self.refused:
            try:
                return os.write(self.descriptor, content)  # type: ignore[arg-type]
            except BrokenPipeError:  # the reader has seen enough, which is no error
                raise
            except OSError as error:
                self.refused = error
        # Whatever is still in a buffer has nowhere to go: it is not tried again when the process ends.
        first, self.descriptor = self.descriptor, -1
        if first < 0:
            return len(content)  # type: ignore[arg-type]
        raise OutputError(
            expected="a standard output that takes what is printed",
            got=self.refused.strerror or type(self.refused).__name__,
            where="standard output",
            fix="what the command did otherwise is done; print to a place with room, or give --out",
        )


def guard_streams() -> None:
    """Let standard output and error take any letter, and tell in one line that an output is full or closed.

    A descriptor that was closed is opened on nothing, so that no file which is opened later gets its number.
    """
    refused = None
    for descriptor in (1, 2):
        try:
            os.fstat(descriptor)
        except OSError as error:
            refused = error if descriptor == 1 else refused
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    stream = _Output(1, refused)
    there: TextIO | None = sys.stdout
    encoding = there.encoding if there is not None else "utf-8"
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(stream, 2**16), encoding=encoding, errors="backslashreplace", line_buffering=stream.isatty()
    )
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
