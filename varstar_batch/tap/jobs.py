"""Asynchronous queries as UWS has them: jobs, their phases, and what is told of them.

Jobs live as long as the service: one that is started again has none. Source: UWS 1.1 (IVOA REC-UWS).
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from varstar_batch.errors import InputError
from varstar_batch.tap.engine import Running

MOST_JOBS = 1_000

RETENTION = timedelta(days=1)
"""How long a job is kept, at most."""

PENDING, QUEUED, EXECUTING, COMPLETED = "PENDING", "QUEUED", "EXECUTING", "COMPLETED"
ERROR, ABORTED = "ERROR", "ABORTED"
ACTIVE = {PENDING, QUEUED, EXECUTING}


@dataclass(eq=False)
class Job:
    """One job."""

    identifier: str
    folder: Path
    parameters: dict[str, str]
    duration: float
    """Seconds that it may run."""
    phase: str = PENDING
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    destruction: datetime = field(default_factory=lambda: datetime.now(UTC) + RETENTION)
    started: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    media_type: str = ""
    running: Running = field(default_factory=Running)

    @property
    def result(self) -> Path:
        """The file of the answer."""
        return self.folder / "result"

    def abort(self) -> None:
        """End it, whatever it does."""
        if self.phase in ACTIVE:
            self.phase = ABORTED
            self.ended = datetime.now(UTC)
        self.running.abort()


class Jobs:
    """The jobs of a service."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: dict[str, Job] = {}

    def create(self, parameters: Mapping[str, str], duration: float) -> Job:
        """Return a new job. Raises InputError where there are too many."""
        self._sweep()
        if len(self._jobs) >= MOST_JOBS:
            raise InputError(
                expected=f"at most {MOST_JOBS:,} jobs", got="one more", where="async", fix="delete jobs that are done"
            )
        identifier = secrets.token_hex(16)
        folder = self._folder / identifier
        folder.mkdir()
        self._jobs[identifier] = job = Job(identifier, folder, dict(parameters), duration)
        return job

    def get(self, identifier: str) -> Job | None:
        """Return a job that is there."""
        self._sweep()
        return self._jobs.get(identifier)

    def delete(self, job: Job) -> None:
        """End and forget a job."""
        job.abort()
        self._jobs.pop(job.identifier, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def all(self) -> list[Job]:
        """Return the jobs, the oldest first."""
        self._sweep()
        return list(self._jobs.values())

    def _sweep(self) -> None:
        now = datetime.now(UTC)
        for job in [job for job in self._jobs.values() if job.destruction < now]:
            self.delete(job)


def iso(time: datetime) -> str:
    """Return a time as DALI writes it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> datetime:
    """Return the time that a text says, UTC where it names no zone. Raises InputError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            expected="a time as 2026-01-31T12:00:00Z", got=text[:40], where="DESTRUCTION", fix="write it so"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


_NAMESPACES = (
    'xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)


def job_document(job: Job, address: str) -> str:
    """Return what is told of a job, whose resource is at `address`."""
    said = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<uws:job version="1.1" {_NAMESPACES}>',
        f"<uws:jobId>{job.identifier}</uws:jobId>",
        '<uws:ownerId xsi:nil="true"/>',
        f"<uws:phase>{job.phase}</uws:phase>",
        '<uws:quote xsi:nil="true"/>',
        f"<uws:creationTime>{iso(job.created)}</uws:creationTime>",
        *(_time("startTime", job.started), _time("endTime", job.ended)),
        f"<uws:executionDuration>{round(job.duration)}</uws:executionDuration>",
        f"<uws:destruction>{iso(job.destruction)}</uws:destruction>",
        parameters_element(job),
        results_element(job, address),
    ]
    if job.phase == ERROR:
        message = escape(job.error)
        said.append(
            f'<uws:errorSummary type="fatal" hasDetail="true"><uws:message>{message}</uws:message></uws:errorSummary>'
        )
    return "\n".join([*said, "</uws:job>", ""])


def parameters_element(job: Job) -> str:
    """Return the parameters of a job."""
    rows = "".join(
        f"<uws:parameter id={quoteattr(name)}>{escape(value)}</uws:parameter>"
        for name, value in sorted(job.parameters.items())
    )
    return f"<uws:parameters>{rows}</uws:parameters>"


def results_element(job: Job, address: str) -> str:
    """Return the results of a job."""
    row = ""
    if job.phase == COMPLETED:
        link = quoteattr(f"{address}/results/result")
        row = f'<uws:result id="result" xlink:type="simple" xlink:href={link} mime-type={quoteattr(job.media_type)}/>'
    return f"<uws:results>{row}</uws:results>"


def part_document(element: str) -> str:
    """Return a part of a job as a document of its own."""
    head, rest = element.split(">", 1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head} {_NAMESPACES}>{rest}\n'


def list_document(jobs: Iterable[Job], address: str) -> str:
    """Return the list of jobs, whose resources are below `address`."""
    rows = [
        f'<uws:jobref id="{job.identifier}" xlink:type="simple" xlink:href={quoteattr(f"{address}/{job.identifier}")}>'
        f"<uws:phase>{job.phase}</uws:phase><uws:creationTime>{iso(job.created)}</uws:creationTime></uws:jobref>"
        for job in jobs
    ]
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<uws:jobs version="1.1" {_NAMESPACES}>\n'
    return head + "\n".join([*rows, "</uws:jobs>", ""])


def _time(name: str, time: datetime | None) -> str:
    return f'<uws:{name} xsi:nil="true"/>' if time is None else f"<uws:{name}>{iso(time)}</uws:{name}>"
