"""`varstar classify` as a process of its own, from start to published catalog."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.benchmarks.harness import ProcessRun, checked, run_process, varstar


@dataclass(frozen=True)
class Classified:
    """One run of the command.

    Attributes
    ----------
    process : ProcessRun
    record : dict
        What the command printed: the run's record.
    start_up : float
        Seconds from the start of the process until a worker took up the first chunk.
    first_done : float
        Seconds from the start of the process until the first chunk was done.
    """

    process: ProcessRun
    record: dict[str, Any]
    start_up: float
    first_done: float

    @property
    def rate(self) -> float:
        """Light curves per second from the first chunk to the end of the process: catalog published, cluster closed."""
        return float(self.record["rows"]) / (self.process.seconds - self.start_up)

    @property
    def whole_rate(self) -> float:
        """Light curves per second of the whole process, start-up included."""
        return float(self.record["rows"]) / self.process.seconds


def classify(survey: Path, model: Path, catalog: Path, *options: str, workers: int = 2) -> Classified:
    """Classify a survey into a new catalog, which is removed afterwards.

    Raises
    ------
    RuntimeError
        The command failed, or lost or added an object.
    """
    # Another session may use the same folder for its surveys.
    catalog = catalog.with_name(f"{catalog.name}-{os.getpid()}")
    shutil.rmtree(catalog, ignore_errors=True)
    command = varstar("classify", str(survey), str(catalog), "--model", str(model), "--workers", str(workers), "--json")
    run = checked(run_process([*command, *options]))
    record = json.loads(run.out)
    tasks = pq.read_table(catalog / "runs" / record["run_id"] / "tasks.parquet", columns=["started", "seconds"])
    seconds = [sum(value for _, value in row) for row in tasks["seconds"].to_pylist()]
    began = tasks["started"].to_pylist()
    shutil.rmtree(catalog)
    return Classified(
        process=run,
        record=record,
        start_up=pc.min(tasks["started"]).as_py() - run.started,
        first_done=min(a + b for a, b in zip(began, seconds, strict=True)) - run.started,
    )
