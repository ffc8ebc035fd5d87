"""The runs of a catalog: listing them, naming them, going back to one, removing old ones."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from varstar_batch.catalog.run_files.finish import lost_files
from varstar_batch.catalog.run_files.root import Catalog, Pointer
from varstar_batch.catalog.run_files.tables import RUN_RECORD
from varstar_batch.errors import InputError, RefusedError
from varstar_batch.files.location import write_once

State = Literal["current", "published", "held", "unfinished"]


@dataclass(frozen=True)
class Run:
    """One run of a catalog."""

    run_id: str
    state: State
    """``held``: complete, but its gate was not passed. ``unfinished``: still going on, cut off, or refused."""
    published: str
    """When the catalog's pointer first named it, ISO 8601; empty if it never did."""
    record: dict[str, Any]
    """The content of ``run.json``; of an unfinished run, that of ``plan.json``; may be empty."""
    why: str = ""
    """Of a held run: what stopped it, number against limit. Of a released one: who released it, and why."""


def list_runs(catalog: Catalog) -> list[Run]:
    """Return the runs that are there, oldest first; those that were pruned are gone."""
    current = catalog.current().run_id
    first = {pointer.run_id: pointer for pointer in reversed(catalog.history())}
    return [_run(catalog, run_id, current, first) for run_id in catalog.run_ids()]


def published_runs(catalog: Catalog) -> list[str]:
    """Return the identifiers of the runs that can be read, in the order of their first publication."""
    there = set(catalog.run_ids())
    return [run_id for run_id in dict.fromkeys(pointer.run_id for pointer in catalog.history()) if run_id in there]


def resolve_run(catalog: Catalog, name: str | None, *, held: bool = True) -> str:
    """Return the identifier of the run that `name` means.

    Parameters
    ----------
    catalog : Catalog
    name : str or None
        An identifier or its unambiguous beginning; ``current`` or None; ``previous``, the last one published before.
    held : bool
        Whether an identifier may be that of a run that is held, too.

    Raises
    ------
    InputError
        There is no such run, several begin so, or nothing was published yet.
    """
    current = catalog.current().run_id
    runs = published_runs(catalog)
    waiting = catalog.held_runs() if held else []
    if name in {None, "current", "previous"} and not current:
        fix = "finish one with `varstar classify SURVEY CATALOG`"
        if waiting := catalog.held_runs():
            fix = f"run {waiting[-1]} is held: `varstar runs {catalog}` says why, `varstar publish` releases it"
        raise InputError(expected="a catalog with a published run", got="none yet", where=str(catalog), fix=fix)
    if name in {None, "current"}:
        return current
    earlier = [run for run in runs if run != current]
    found = earlier[-1:] if name == "previous" else named(str(name), [*runs, *waiting])
    if len(found) != 1:
        raise _no_such_run(catalog, str(name), found, [*runs, *waiting], "a published run")
    return found[0]


def named(name: str, runs: list[str]) -> list[str]:
    """Return the runs that `name` may mean: the one that is called so, or those that begin so."""
    return [name] if name in runs else [run for run in runs if run.startswith(name)]


def _no_such_run(catalog: Catalog, name: str, found: list[str], runs: list[str], expected: str) -> InputError:
    close = difflib.get_close_matches(name, runs, n=1, cutoff=0.3)
    hint = f"did you mean {close[0]}? " if close else ""
    return InputError(
        expected=expected,
        got=f"{name!r}, which {len(found)} runs begin with" if found else f"{name!r}, which is none of them",
        where=str(catalog),
        fix=f"{hint}`varstar runs {catalog}` lists them",
    )


def release_held(catalog: Catalog, name: str, *, because: str, by: str) -> Pointer:
    """Make a held run the current one, and keep who said so and why.

    Whoever calls this has looked at the run and verified it. It is one atomic step.

    Parameters
    ----------
    catalog : Catalog
    name : str
        Its identifier, or the unambiguous beginning of it.
    because, by : str
        Why, in a person's words, and who that is.

    Raises
    ------
    InputError
        There is no such run that is held, or no reason is given.
    RefusedError
        It was published already, or it is cut off, or somebody published meanwhile.
    """
    if not because.strip():
        raise InputError(expected="a reason", got="none", where="--because", fix="say why the run may be published")
    held = catalog.held_runs()
    found = named(name, held)
    if len(found) != 1:
        others = named(name, [run for run in catalog.run_ids() if run not in held])
        if found or len(others) != 1:
            raise _no_such_run(catalog, name, found, held, "a run that is held")
        was = others[0] in published_runs(catalog)
        raise RefusedError(
            expected="a run that is held",
            got=f"{others[0]}, which {'was published' if was else 'is not finished'}",
            where=str(catalog),
            fix="`varstar rollback` goes back to it" if was else "give its `varstar classify` again: it resumes",
        )
    return catalog.publish(found[0], based_on=catalog.current().number, because=because.strip(), by=by)


def rollback(catalog: Catalog, name: str) -> Pointer:
    """Point the catalog back to an earlier run; everything that was published since stays readable by its name.

    Raises
    ------
    InputError
        There is no such published run.
    RefusedError
        It is the current one already, files of it are lost, or somebody published meanwhile.
    """
    run_id = resolve_run(catalog, name, held=False)
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
        catalog.forget_findings(run_id)
        mark.remove()
    # What somebody who woke up late has left.
    for run_id in {*(catalog.root / "work").children()} & {*published_runs(catalog)}:
        catalog.work(run_id).remove()


def _run(catalog: Catalog, run_id: str, current: str, first: Mapping[str, Pointer]) -> Run:
    pointer = first.get(run_id)
    why = "" if pointer is not None else "; ".join(catalog.gate(run_id)["held"])
    if pointer is not None:
        state: State = "current" if run_id == current else "published"
        if pointer.because:
            why = f"released by {pointer.by}: {pointer.because}"
    else:
        state = "held" if why else "unfinished"
    record = catalog.read_json(run_id, "plan.json" if state == "unfinished" else RUN_RECORD)
    return Run(run_id, state, "" if pointer is None else pointer.time, record or {}, why)
