"""The parts of a site as processes: started, watched, started again when they end, stopped with all that they began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from varstar_batch.cli.console import warning_line
from varstar_batch.errors import InputError, one_line

STOP_SECONDS = 30.0
"""In which a part lets its runs end, after a first signal."""

ORPHAN_SECONDS = 10.0
"""In which what a part that ended had started may end by itself: a run tells the server that it was interrupted."""

FIRST_WAIT_SECONDS = 1.0
"""Before a part that ended is started again; twice as long each time, up to the longest."""

LONGEST_WAIT_SECONDS = 60.0

STEADY_SECONDS = 60.0
"""A part that ran for so long was well: when it ends, the waits begin anew."""

POLL_SECONDS = 0.2


class Part:
    """A process of a site, in a session of its own, and whatever it starts.

    Parameters
    ----------
    name : str
        What it is, and the name of its log.
    words : sequence of str
        For ``python -m varstar_batch.cli.site_server``.
    environment : mapping of str to str
        All of its variables.
    logs : Path
        Folder of the log.
    """

    def __init__(self, name: str, words: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._words, self._environment = words, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = self._due = 0.0
        self._wait = 0.0

    def start(self) -> None:
        """Start the process; what it says goes to its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "varstar_batch.cli.site_server", *self._words],
                env=dict(self._environment),
                stdout=log,
                stderr=log,
                # It ends when nobody holds the other end any more, however this process ends.
                stdin=subprocess.PIPE,
                # A Ctrl-C in the terminal goes to the whole group: it must not reach the parts before their turn.
                start_new_session=True,
            )
        self._begun = time.monotonic()

    def check(self) -> None:
        """Raise InputError, with its last words, where the process has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise InputError(
                expected=f"a {self.name} that goes on running",
                got=f"{self._how()}, and as its last words: {self._last_words()}",
                where="varstar serve",
                fix=f"see {self.log}",
            )

    def look(self) -> None:
        """Start the process again where it has ended, once its wait is over."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._due:
                self.start()
            return
        if self._process.poll() is None:
            return
        steady = now - self._begun > STEADY_SECONDS
        self._wait = FIRST_WAIT_SECONDS if steady or not self._wait else min(2 * self._wait, LONGEST_WAIT_SECONDS)
        warning_line(f"the {self.name} ended ({self._how()}, see {self.log}): it starts again in {self._wait:.0f} s")
        self._end_all(ORPHAN_SECONDS)
        self._process, self._due = None, now + self._wait

    def stop(self) -> None:
        """End the process, and whatever it has started."""
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self._end_all(0.0)
        self._process = None

    def _end_all(self, patience: float) -> None:
        assert self._process is not None
        group = self._process.pid
        with suppress(ProcessLookupError):
            if patience:
                os.killpg(group, signal.SIGTERM)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                os.killpg(group, 0)
                time.sleep(POLL_SECONDS)
            os.killpg(group, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _how(self) -> str:
        assert self._process is not None
        code = self._process.returncode
        return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return one_line(next((line for line in reversed(lines) if line.strip()), "nothing"))


@contextmanager
def running(part: Part) -> Iterator[Part]:
    """Run a part while the context is open; nothing of it is left afterwards."""
    part.start()
    try:
        yield part
    finally:
        part.stop()


def keep_running(*parts: Part) -> NoReturn:
    """Watch the parts, and start again whichever ends; only a signal ends this."""
    while True:
        for part in parts:
            part.look()
        time.sleep(POLL_SECONDS)
