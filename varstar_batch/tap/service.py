"""The service: which address does what. TAP is below /tap, Simple Cone Search at /scs."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from varstar_batch.catalog.cone import Cone
from varstar_batch.errors import InputError, VarstarError
from varstar_batch.tap import jobs as uws
from varstar_batch.tap import vosi
from varstar_batch.tap.engine import Engine
from varstar_batch.tap.parameters import maxrec_of, number_of, parameters_of, query_of
from varstar_batch.tap.request import TapRequest
from varstar_batch.tap.tables import Published, TapTable
from varstar_batch.tap.votable import FORMATS, VOTABLE, error_document, format_of

WAITING = 100
"""Queries that wait for their turn; one more is sent away."""

LONGEST_WAIT = 60.0
"""Seconds that a request may ask to wait for a job's phase to change."""


StarPage = Callable[[str, str], str]
"""Takes the address of a catalog and an identifier, and returns the star's page as HTML; raises InputError."""


def make_app(request: TapRequest, folder: Path, star_page: StarPage | None = None) -> Starlette:
    """Return the application, which keeps answers in a folder.

    Parameters
    ----------
    request : TapRequest
    folder : Path
    star_page : callable, optional
        What makes the page at ``/star/ID``; without it there is none.

    Raises
    ------
    InputError
        A catalog cannot be opened.
    """
    service = _Service(request, folder, star_page)
    return Starlette(routes=service.routes(), lifespan=service.lifespan)


class _Service:
    def __init__(self, request: TapRequest, folder: Path, star_page: StarPage | None) -> None:
        self.request = request
        self.star_page = star_page
        self.folder = folder
        self.published = Published(request.catalogs, folder)
        self.engine = Engine(self.published, request.limits)
        (folder / "jobs").mkdir()
        self.jobs = uws.Jobs(folder / "jobs")
        self.since = datetime.now(UTC)
        self.turns = asyncio.Semaphore(request.at_once)
        self.waiting = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for job in self.jobs.all():
                job.abort()
            self.engine.close()

    def routes(self) -> list[Route]:
        both = ["GET", "POST"]
        ways: list[tuple[str, Callable[..., Any], list[str]]] = [
            ("/", self.page, ["GET"]),
            ("/tap", self.page, ["GET"]),
            ("/tap/sync", self.sync, both),
            ("/tap/async", self.job_list, both),
            ("/tap/async/{job}", self.job, ["GET", "POST", "DELETE"]),
            ("/tap/async/{job}/results/result", self.result, ["GET"]),
            ("/tap/async/{job}/{part}", self.part, both),
            ("/tap/availability", self.availability, ["GET"]),
            ("/tap/capabilities", self.capabilities, ["GET"]),
            ("/tap/tables", self.tables, ["GET"]),
            *([] if self.star_page is None else [("/star/{star}", self.star, ["GET"])]),
            ("/scs", self.cone, both),
            ("/scs/{table}", self.cone, both),
        ]
        return [Route(path, self._told(answer), methods=methods) for path, answer, methods in ways]

    def _told(self, answer: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
        """Return what answers the same, and says what is wrong as DALI has it."""

        async def told(request: HttpRequest) -> Response:
            try:
                return await answer(request)  # type: ignore[no-any-return]
            except _BusyError as error:
                return Response(error_document(str(error)), 503, {"Retry-After": "10"}, VOTABLE)
            except VarstarError as error:
                return Response(error_document(str(error)), 400, media_type=VOTABLE)

        return told

    def base(self, request: HttpRequest) -> str:
        """Return the address of the service, as clients know it."""
        return (self.request.url or str(request.base_url)).rstrip("/")

    async def page(self, request: HttpRequest) -> Response:
        """Tell a person what is here."""
        base = escape(self.base(request))
        tables = await self.work(self.published.tables)
        rows = "".join(
            f"<li><code>{escape(table.name)}</code>: {escape(table.description)}" for table in tables.values()
        )
        example = f"SELECT TOP 10 * FROM {next(iter(tables.values())).name} WHERE class_prob &gt; 0.9"
        return HTMLResponse(
            "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            "<title>Catalogs</title>"
            f"<h1>Catalogs of variable stars</h1><p>TAP: <code>{base}/tap</code>, cones: <code>{base}/scs</code>, in"
            f" TOPCAT, Aladin or pyvo.<p>For example <code>{example}</code><ul>{rows}</ul>"
        )

    async def availability(self, _request: HttpRequest) -> Response:
        return _xml(vosi.availability(self.since))

    async def capabilities(self, request: HttpRequest) -> Response:
        return _xml(vosi.capabilities(self.base(request), self.request))

    async def tables(self, _request: HttpRequest) -> Response:
        published = await self.work(self.published.tables)
        return _xml(vosi.tables(published.values()))

    async def sync(self, request: HttpRequest) -> Response:
        """Answer a query at once."""
        query = query_of(await parameters_of(request), self.request)
        return await self.answered(lambda file: self.engine.answer(query, file), query.form)

    async def cone(self, request: HttpRequest) -> Response:
        """Answer a Simple Cone Search."""
        parameters = await parameters_of(request)
        try:
            table = self._table(request.path_params.get("table"), await self.work(self.published.tables))
            ra, dec, radius = (number_of(parameters, name) for name in ("RA", "DEC", "SR"))
            cone = Cone(ra, dec, radius) if radius else None
            form = format_of(parameters.get("RESPONSEFORMAT", "votable/td"))
            maxrec = maxrec_of(parameters, self.request)
            return await self.answered(lambda file: self.engine.cone(table, cone, form, maxrec, file), form)
        except InputError as error:
            # Of before DALI: an INFO of that name, and status 200.
            content = error_document(str(error)).replace(b'name="QUERY_STATUS" value="ERROR">', b'name="Error" value="')
            return Response(content.replace(b"</INFO>", b'"/>'), media_type="text/xml")

    def _table(self, name: str | None, tables: Mapping[str, TapTable]) -> TapTable:
        catalogs = [table for table in tables.values() if table.reader is not None]
        found = catalogs if name is None else [table for table in catalogs if table.key == name]
        if len(found) != 1:
            names = ", ".join(f"/scs/{table.key}" for table in catalogs)
            raise InputError(expected=f"one of {names}", got=f"/scs/{name or ''}", where="the address", fix="name one")
        return found[0]

    async def answered(self, work: Callable[[Path], None], form: str) -> Response:
        """Return the file that some work writes, and remove it when it is sent."""
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as made:
            file = Path(made.name)
        try:
            await self.turn(lambda: work(file))
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        gone = BackgroundTask(file.unlink, missing_ok=True)
        return FileResponse(file, media_type=FORMATS[form][0], background=gone)

    async def turn(self, work: Callable[[], None]) -> None:
        """Do some work in a thread when it is its turn. Raises _BusyError where too many wait."""
        if self.waiting >= WAITING:
            raise _BusyError(
                expected=f"at most {WAITING} queries that wait",
                got="one more",
                where="the service",
                fix="try again later",
            )
        self.waiting += 1
        try:
            async with self.turns:
                await self.work(work)
        finally:
            self.waiting -= 1

    async def work(self, function: Callable[[], Any]) -> Any:
        """Call a function in a thread."""
        return await anyio.to_thread.run_sync(function)

    async def star(self, request: HttpRequest) -> Response:
        """Show a star of the first catalog that has it."""
        assert self.star_page is not None
        star, missed = request.path_params["star"], "it is in none of the catalogs"
        for catalog in self.request.catalogs:
            url = catalog.partition("=")[2] or catalog if "=" in catalog.partition("://")[0] else catalog
            try:
                page = await self.work(partial(self.star_page, url, star))
            except InputError as error:
                missed = str(error)
                continue
            return HTMLResponse(page)
        return PlainTextResponse(missed, 404)

    async def job_list(self, request: HttpRequest) -> Response:
        """List jobs, or make one."""
        parameters = await parameters_of(request)
        if request.method == "GET":
            found = [job for job in self.jobs.all() if parameters.get("PHASE", job.phase) == job.phase]
            if "AFTER" in parameters:
                found = [job for job in found if job.created > uws.parse_iso(parameters["AFTER"])]
            if "LAST" in parameters:
                found = found[-int(maxrec_of({"MAXREC": parameters["LAST"]}, self.request)) :]
            return _xml(uws.list_document(found, self.base(request) + "/tap/async"))
        phase = parameters.pop("PHASE", "")
        job = self.jobs.create(parameters, self.request.limits.timeout)
        if phase == "RUN":
            self.start(job)
        return self.at(request, job)

    def at(self, request: HttpRequest, job: uws.Job) -> Response:
        """Return the way to a job."""
        return RedirectResponse(f"{self.base(request)}/tap/async/{job.identifier}", 303)

    def start(self, job: uws.Job) -> None:
        """Queue a job that is pending."""
        if job.phase != uws.PENDING:
            return
        job.phase = uws.QUEUED
        task = asyncio.create_task(self.run(job))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def run(self, job: uws.Job) -> None:
        """Run a job, and keep what became of it."""

        def work() -> None:
            if job.phase == uws.QUEUED:
                job.phase, job.started = uws.EXECUTING, datetime.now(UTC)
                self.engine.answer(query, job.result, job.running)

        try:
            query = query_of(job.parameters, self.request, job.duration)
            await self.turn(work)
            failed = ""
        except VarstarError as error:
            failed = str(error)
        if job.phase in uws.ACTIVE:
            job.media_type = "" if failed else FORMATS[query.form][0]
            job.error, job.ended = failed, datetime.now(UTC)
            job.phase = uws.ERROR if failed else uws.COMPLETED

    async def job(self, request: HttpRequest) -> Response:
        """Tell of a job, or delete it."""
        job = self.jobs.get(request.path_params["job"])
        if job is None:
            return _missing()
        parameters = await parameters_of(request)
        if request.method == "DELETE" or parameters.get("ACTION", "").upper() == "DELETE":
            await self.work(lambda: self.jobs.delete(job))
            return RedirectResponse(f"{self.base(request)}/tap/async", 303)
        if request.method == "POST":
            return await self.change(request, job, parameters)
        if "WAIT" in parameters:
            await _wait(job, parameters)
        return _xml(uws.job_document(job, f"{self.base(request)}/tap/async/{job.identifier}"))

    async def change(self, request: HttpRequest, job: uws.Job, parameters: dict[str, str]) -> Response:
        """Change a job as UWS allows it."""
        phase = parameters.pop("PHASE", "").upper()
        if "DESTRUCTION" in parameters:
            wanted = uws.parse_iso(parameters.pop("DESTRUCTION"))
            job.destruction = min(wanted, datetime.now(UTC) + uws.RETENTION)
        if "EXECUTIONDURATION" in parameters:
            seconds = number_of(parameters, "EXECUTIONDURATION")
            parameters.pop("EXECUTIONDURATION")
            most = self.request.limits.timeout
            job.duration = min(seconds, most) if seconds > 0 else most
        if job.phase == uws.PENDING:
            job.parameters |= parameters
        if phase == "RUN":
            self.start(job)
        elif phase == "ABORT":
            await self.work(job.abort)
        return self.at(request, job)

    async def part(self, request: HttpRequest) -> Response:
        """Tell or change one part of a job."""
        job = self.jobs.get(request.path_params["job"])
        if job is None:
            return _missing()
        if request.method == "POST":
            return await self.change(request, job, await parameters_of(request))
        address = f"{self.base(request)}/tap/async/{job.identifier}"
        texts = {
            "phase": job.phase,
            "quote": "",
            "owner": "",
            "executionduration": str(round(job.duration)),
            "destruction": uws.iso(job.destruction),
        }
        documents = {"parameters": uws.parameters_element(job), "results": uws.results_element(job, address)}
        name = request.path_params["part"]
        if name in texts:
            return PlainTextResponse(texts[name])
        if name in documents:
            return _xml(uws.part_document(documents[name]))
        if name == "error" and job.phase == uws.ERROR:
            return Response(error_document(job.error), media_type=VOTABLE)
        return _missing()

    async def result(self, request: HttpRequest) -> Response:
        """Return the answer of a job."""
        job = self.jobs.get(request.path_params["job"])
        if job is None or job.phase != uws.COMPLETED:
            return _missing()
        return FileResponse(job.result, media_type=job.media_type)


class _BusyError(InputError):
    """Too many wait."""


async def _wait(job: uws.Job, parameters: Mapping[str, str]) -> None:
    """Wait until the phase of a job changes, if it is that which the client knows."""
    seconds = number_of(parameters, "WAIT")
    until = datetime.now(UTC) + timedelta(seconds=min(seconds, LONGEST_WAIT) if seconds >= 0 else LONGEST_WAIT)
    known = parameters.get("PHASE", job.phase)
    while job.phase == known and job.phase in uws.ACTIVE - {uws.PENDING} and datetime.now(UTC) < until:
        await asyncio.sleep(0.1)


def _xml(content: str) -> Response:
    return Response(content, media_type="text/xml")


def _missing() -> Response:
    said = (
        "there is no such job, or no such part of it: a job is kept for a day, and until the service that took it ends"
    )
    return Response(error_document(f"{said}; ask the query again"), 404, media_type=VOTABLE)
