"""The runs of a catalog: listing them, naming them, going back to one, removing old ones."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Literal

from varstar_batch.catalog.finish import lost_files
from varstar_batch.catalog.root import Catalog, Pointer
from varstar_batch.catalog.tables import RUN_RECORD
from varstar_batch.errors import InputError, RefusedError
from varstar_batch.files.location import write_once

State = Literal["current", "published", "unfinished"]


@dataclass(frozen=True)
class Run:
    """One run of a catalog."""

    run_id: str
    state: State
    """{"current", "published", "unfinished"}. ``unfinished`` is a run that was never published: still going on, cut
    off, or refused."""
    published: str
    """When the catalog's pointer first named it, ISO 8601; empty if it never did."""
    record: dict[str, Any]
    """The content of ``run.json``; of an unfinished run, that of ``plan.json``; may be empty."""


def list_runs(catalog: Catalog) -> list[Run]:
    """Return the runs that are there, oldest first; those that were pruned are gone."""
    current = catalog.current().run_id
    times = {pointer.run_id: pointer.time for pointer in reversed(catalog.history())}
    return [_run(catalog, run_id, current, times) for run_id in catalog.run_ids()]


def published_runs(catalog: Catalog) -> list[str]:
    """Return the identifiers of the runs that can be read, in the order of their first publication."""
    there = set(catalog.run_ids())
    return [run_id for run_id in dict.fromkeys(pointer.run_id for pointer in catalog.history()) if run_id in there]


def resolve_run(catalog: Catalog, name: str | None) -> str:
    """Return the identifier of the published run that `name` means.

    Parameters
    ----------
    catalog : Catalog
    name : str or None
        An identifier or its unambiguous beginning; ``current`` or None; ``previous``, the last one published before.

    Raises
    ------
    InputError
        There is no such run, several begin so, or nothing was published yet.
    """
    current = catalog.current().run_id
    if not current:
        raise InputError(
            expected="a catalog with a published run",
            got="none yet",
            where=str(catalog),
            fix="finish one with `varstar classify SURVEY CATALOG`",
        )
    if name in {None, "current"}:
        return current
    runs = published_runs(catalog)
    if name == "previous":
        found = [run for run in runs if run != current][-1:]
    else:
        found = [name] if name in runs else [run for run in runs if run.startswith(str(name))]
    if len(found) != 1:
        close = difflib.get_close_matches(str(name), runs, n=1, cutoff=0.3)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(
            expected="a published run",
            got=f"{name!r}, which {len(found)} runs begin with" if found else f"{name!r}, which is none of them",
            where=str(catalog),
            fix=f"{hint}`varstar runs {catalog}` lists them",
        )
    return str(found[0])


def rollback(catalog: Catalog, name: str) -> Pointer:
    """Point the catalog back to an earlier run; everything that was published since stays readable by its name.

    Raises
    ------
    InputError
        There is no such published run.
    RefusedError
        It is the current one already, files of it are lost, or somebody published meanwhile.
    """
    run_id = resolve_run(catalog, name)
    pointer = catalog.current()
    if run_id == pointer.run_id:
        raise RefusedError(
            expected="a run other than the current one", got=run_id, where=str(catalog), fix="nothing was changed"
        )
    if lost := lost_files(catalog.run(run_id)):
        raise RefusedError(
            expected="a run that is complete",
            got=f"{len(lost)} files of {run_id} that are lost or cut short, the first: {lost[0]}",
            where=str(catalog),
            fix=f"nothing was changed; `varstar verify {catalog} --run {run_id}` says more",
        )
    return catalog.publish(run_id, based_on=pointer.number)


def prunable(catalog: Catalog, keep: int) -> list[str]:
    """Return the runs that `prune` would remove, oldest first, those first that it was interrupted at.

    Parameters
    ----------
    catalog : Catalog
    keep : int
        How many of the newest published runs stay, 1 or more; the current one always does. Unfinished runs count as
        old when a run that began later was published; a newer one may still be going on and stays.

    Raises
    ------
    InputError
        `keep` is below 1.
    """
    if keep < 1:
        raise InputError(expected="1 or more runs to keep", got=str(keep), where="--keep", fix="the current run stays")
    published = published_runs(catalog)
    stay = {*published[-keep:], catalog.current().run_id}
    newest = max(published, default="")
    begun = [run for run in catalog.removing() if run not in stay]
    return begun + [run for run in catalog.run_ids() if run not in stay and (run in published or run < newest)]


def prune(catalog: Catalog, run_ids: list[str]) -> None:
    """Remove runs with all their files, unless the catalog's pointer has come to name one of them.

    Each is marked first: from then on it is no run, whatever is left of it when this is interrupted. Doing it again
    removes the rest.

    Raises
    ------
    RefusedError
        One of them is the current run.
    """
    for run_id in run_ids:
        mark = catalog.root / f"removing/{run_id}"
        write_once(mark, b"by varstar prune\n")
        if run_id == catalog.current().run_id:
            mark.remove()
            raise RefusedError(
                expected="runs other than the current one", got=run_id, where=str(catalog), fix="run the command again"
            )
        catalog.run(run_id).remove()
        catalog.work(run_id).remove()
        mark.remove()
    # What somebody who woke up late has left.
    for run_id in {*(catalog.root / "work").children()} & {*published_runs(catalog)}:
        catalog.work(run_id).remove()


def _run(catalog: Catalog, run_id: str, current: str, times: dict[str, str]) -> Run:
    if run_id in times:
        state: State = "current" if run_id == current else "published"
        record = catalog.read_json(run_id, RUN_RECORD)
    else:
        state, record = "unfinished", catalog.read_json(run_id, "plan.json")
    return Run(run_id, state, times.get(run_id, ""), record or {})
