"""How far something long is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""


err = Console(stderr=True, highlight=False, soft_wrap=True)


class Advance(Protocol):
    """Tells a progress display that more is done."""

    def __call__(self, amount: int) -> None:
        """Add `amount`."""


ShowProgress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], None]]]
"""Takes a title, a total (or None) and a unit, and gives what is told of each step; `progress` is one."""


@contextmanager
def progress(title: str, total: int | None, unit: str, log: Callable[[str], None] | None = None) -> Iterator[Advance]:
    """Show the progress of something long: a bar with rate and time left on a terminal, else a line now and then.

    Parameters
    ----------
    title : str
        What is going on.
    total : int or None
        How many there will be, None where nobody knows.
    unit : str
        Of what.
    log : callable, optional
        Takes the lines where there is no terminal; they go to the standard error otherwise.
    """
    if err.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=err) as bars:
            task = bars.add_task(title, total=total)
            yield lambda amount: bars.advance(task, amount)
        return
    lines = _PlainProgress(title, total, unit, log or (lambda line: err.print(Text(line))))
    yield lines.advance
    lines.finish()


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(pace(rate, self.unit) if rate else "", style="progress.data.speed")


class _PlainProgress:
    def __init__(self, title: str, total: int | None, unit: str, log: Callable[[str], None]) -> None:
        self.title, self.total, self.unit, self.log = title, total, unit, log
        self.done = 0
        self.start = self.last = time.monotonic()

    def advance(self, amount: int) -> None:
        self.done += amount
        if time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            self._print()

    def finish(self) -> None:
        self._print()

    def _print(self) -> None:
        seconds = time.monotonic() - self.start
        rate = self.done / seconds if seconds else 0.0
        of = f" of {self.total:,} ({self.done / self.total:.0%})" if self.total else ""
        left = (
            f", {duration((self.total - self.done) / rate)} left" if self.total and 0 < self.done < self.total else ""
        )
        self.log(f"{self.title}: {self.done:,}{of} {self.unit}, {pace(rate)}, {seconds:.1f} s{left}")


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def pace(rate: float, unit: str = "") -> str:
    """Return how many a second, or, of what takes longer than that, how long each takes."""
    if 0 < rate < 1:
        return f"{1 / rate:,.1f} s each"
    return f"{rate:,.0f} {unit}/s" if unit else f"{rate:,.0f}/s"
