"""A catalog's runs and the pointer to the one that is current.

    CATALOG/
      varstar-catalog.json        what this folder is
      current/00000007.json       the pointer: the highest number counts; each is created once, exclusively
      gates/RUN_ID.json           what the gate of a complete run found, and so why a held one is not current
      validations/RUN_ID/validation.json    how right a run is by known stars, as it was last asked
      runs/RUN_ID/plan.json       what the run is about, written first
      runs/RUN_ID/model/          the bundle that classified it
      runs/RUN_ID/dataset/...     one Parquet file for each partition of the survey, mirrored
      runs/RUN_ID/tasks.parquet, partitions.parquet, failures.parquet, run.json
      runs/RUN_ID/row_groups.parquet, definitions/    what readers look things up in
      runs/RUN_ID/hats.properties, partition_info.csv, skymap.fits, ...    where the survey is a HATS catalog
      runs/RUN_ID/id_index/, collection/, variability.properties    likewise: the run as LSDB's extension of its survey
      runs/RUN_ID/manifest.json   size and SHA-256 of all of these
      work/RUN_ID/                parts of partitions and measurements, until the run is finished
      removing/RUN_ID             a run that `prune` has begun to remove: it is no run any more
      reports/RUN_ID.html         a page about the run

A run is invisible to readers until the pointer names it, so a crash at any step leaves the old catalog whole. Numbered
pointers make publishing a compare-and-swap on every storage that can create a file exclusively: a publisher that began
from number 6 creates number 7, and of two such publishers the storage lets one succeed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from varstar_batch.errors import InputError, RefusedError, one_line
from varstar_batch.files.location import Location, check_reachable, locate, writable, write_json

MARKER = "varstar-catalog.json"
FORMAT_VERSION = 1
_POINTER = re.compile(r"^(\d{8})\.json$")
_TIME = "%Y%m%dT%H%M%SZ"
_RUN_ID = re.compile(r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Pointer:
    """One entry of the pointer's history: at `number` the catalog was, or is, the run `run_id`."""

    number: int
    run_id: str
    time: str
    because: str = ""
    """Why a person released the run, which its gate had held; empty for one that passed."""
    by: str = ""
    """Who that was."""
    gate_sha256: str = ""
    """Of what the gate of the run had found by then, which stands beside the run; empty where nothing does."""


NO_POINTER = Pointer(0, "", "")
"""Before the first publication."""


@dataclass(frozen=True)
class Catalog:
    """A catalog root."""

    root: Location

    def __str__(self) -> str:
        return str(self.root)

    def run(self, run_id: str) -> Location:
        """Return the folder of a run."""
        return self.root / f"runs/{run_id}"

    def work(self, run_id: str) -> Location:
        """Return the folder of what a run needs only until it is finished; nothing there belongs to a catalog."""
        return self.root / f"work/{run_id}"

    def run_ids(self) -> list[str]:
        """Return every run here, finished or not, oldest first; without those that are being removed."""
        gone = set(self.removing())
        return [name for name in (self.root / "runs").children() if _RUN_ID.match(name) and name not in gone]

    def removing(self) -> list[str]:
        """Return the runs that somebody has begun to remove."""
        return (self.root / "removing").children()

    def history(self) -> list[Pointer]:
        """Return where the pointer has been, oldest first."""
        return [self._pointer(number) for number in self._numbers()]

    def current(self) -> Pointer:
        """Return the pointer as it stands, `NO_POINTER` before the first publication."""
        numbers = self._numbers()
        return self._pointer(numbers[-1]) if numbers else NO_POINTER

    def gate(self, run_id: str) -> dict[str, Any]:
        """Return what the gate of a finished run found: ``gate``, each check; ``held``, why it is held; ``limits``."""
        return self._read_json(f"gates/{run_id}.json") or {"gate": [], "held": [], "limits": {}}

    def gate_sha256(self, run_id: str) -> str:
        """Return the SHA-256 of what the gate of a run found, as it stands; empty where there is none."""
        try:
            return hashlib.sha256((self.root / f"gates/{run_id}.json").read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def write_gate(self, run_id: str, found: Mapping[str, Any]) -> None:
        """Keep what the gate of a finished run found; where ``held`` is not empty, that holds the run."""
        write_json(self.root / f"gates/{run_id}.json", found)

    def validation(self, run_id: str) -> dict[str, Any] | None:
        """Return how right a run was by known stars when that was last asked; None where nobody asked."""
        return self._read_json(f"validations/{run_id}/validation.json")

    def write_validation(self, run_id: str, found: Mapping[str, Any]) -> Location:
        """Keep how right a run is by known stars, beside the run, and return where."""
        target = self.root / f"validations/{run_id}/validation.json"
        write_json(target, found)
        return target

    def forget_findings(self, run_id: str) -> None:
        """Remove what the gate of a run and known stars have found, with the run."""
        (self.root / f"gates/{run_id}.json").remove()
        (self.root / f"validations/{run_id}").remove()

    def held_runs(self) -> list[str]:
        """Return the runs that are held, oldest first; one that was released is not."""
        published = {pointer.run_id for pointer in self.history()}
        measured = {name.removesuffix(".json") for name in (self.root / "gates").children()} - published
        return [run_id for run_id in self.run_ids() if run_id in measured and self.gate(run_id)["held"]]

    def publish(self, run_id: str, *, based_on: int, because: str = "", by: str = "") -> Pointer:
        """Make a run the current one, in one atomic step.

        Parameters
        ----------
        run_id : str
            A run that is complete and verified.
        based_on : int
            Number of the pointer that the run began from.
        because, by : str
            Of a run that was held: why it is released, and who does it.

        Raises
        ------
        RefusedError
            Somebody else moved the pointer meanwhile, or has begun to remove the run.
        """
        self._check_kept(run_id)
        time = datetime.now(UTC).isoformat(timespec="seconds")
        pointer = Pointer(based_on + 1, run_id, time, because, by, self.gate_sha256(run_id))
        target = self.root / f"current/{pointer.number:08d}.json"
        try:
            content = {name: value for name, value in asdict(pointer).items() if value and name != "number"}
            target.create(json.dumps(content).encode())
        except FileExistsError:
            raise RefusedError(
                expected=f"the catalog as it was when the run began (pointer {based_on})",
                got=f"run {self.current().run_id} published meanwhile",
                where=str(self),
                fix="look at that run, then start this one again: it resumes and publishes on top",
            ) from None
        try:
            self._check_kept(run_id)
        except RefusedError:
            # Who removes looks at the pointer after its mark, this at the mark after the pointer: one sees the other.
            if based_on:
                self.publish(self._pointer(based_on).run_id, based_on=pointer.number)
            raise
        return pointer

    def _check_kept(self, run_id: str) -> None:
        if run_id in self.removing():
            raise RefusedError(
                expected="a run that stays",
                got=f"{run_id}, which `varstar prune` has begun to remove",
                where=str(self),
                fix="start it again: a new run begins",
            )

    def read_json(self, run_id: str, name: str) -> dict[str, Any] | None:
        """Return a JSON file of a run, or None where there is none. Raises InputError where it is damaged."""
        return self._read_json(f"runs/{run_id}/{name}")

    def _read_json(self, key: str) -> dict[str, Any] | None:
        file = self.root / key
        try:
            content = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _damaged(file, one_line(error)) from None
        if not isinstance(content, dict):
            raise _damaged(file, type(content).__name__)
        return content

    def _numbers(self) -> list[int]:
        numbers = [int(name[:8]) for name in (self.root / "current").children() if _POINTER.match(name)]
        # A listing may lag behind: the next one is asked for by name.
        while (self.root / f"current/{(following := max(numbers, default=0) + 1):08d}.json").is_file():
            numbers.append(following)
        return numbers

    def _pointer(self, number: int) -> Pointer:
        content = json.loads((self.root / f"current/{number:08d}.json").read_bytes())
        return Pointer(number, **content)


def _damaged(file: Location, got: str) -> InputError:
    return InputError(
        expected="the record of a run, as it was written",
        got=f"damage ({got})",
        where=str(file),
        fix="bring it back from a backup, or go to another run with `varstar rollback`",
    )


def output_key(layout: str, key: str) -> str:
    """Return where in a run's folder the catalog file of the survey's partition `key` stands.

    A HATS survey's keys begin with ``dataset/`` already, and its catalog keeps them, since it is a HATS catalog itself.
    """
    return key if layout == "hats" else f"dataset/{key}"


def new_run_id(fingerprint: str, after: str = "") -> str:
    """Return an identifier that ends in the beginning of the run's fingerprint and sorts behind the run `after`.

    It begins with the time, but where the clock is behind that of an earlier run: order does not rest on clocks.
    """
    time = datetime.now(UTC)
    if after:
        time = max(time, datetime.strptime(after[:16], _TIME).replace(tzinfo=UTC) + timedelta(seconds=1))
    return f"{time:{_TIME}}-{fingerprint[:8]}"


def open_catalog_root(url: str | os.PathLike[str]) -> Catalog:
    """Return the catalog at `url`.

    Raises
    ------
    InputError
        There is no catalog there.
    """
    catalog = Catalog(check_reachable(locate(url, what="catalog"), "catalog"))
    if not (catalog.root / MARKER).is_file():
        there = catalog.root.children()
        got = "a folder that holds " + ", ".join(there[:3]) if there else "nothing there"
        raise InputError(
            expected=f"a catalog (a folder with {MARKER})",
            got=got,
            where=str(catalog),
            fix="give the folder that `varstar classify SURVEY CATALOG` wrote",
        )
    return catalog


def check_catalog_root(url: str | os.PathLike[str]) -> Catalog:
    """Return the catalog at `url`, there already or still to be made; nothing is written.

    Raises
    ------
    InputError
        The place holds something else.
    """
    catalog = Catalog(check_reachable(locate(url, what="catalog"), "catalog"))
    # The marker is written before anything else, so it is asked for last: in any other order a catalog that another run
    # makes in between would be taken for something else. A listing alone is no single look on every filesystem.
    there = [catalog.root.name] if catalog.root.is_file() else catalog.root.children()
    if there and MARKER not in there and not (catalog.root / MARKER).is_file():
        raise InputError(
            expected="an empty place or a catalog",
            got="something else: " + ", ".join(there[:3]) + (", ..." if len(there) > 3 else ""),
            where=str(catalog),
            fix="choose another output folder; nothing was written",
        )
    return catalog


def make_catalog_root(url: str | os.PathLike[str]) -> Catalog:
    """Return the catalog at `url`, made where there was nothing.

    Raises
    ------
    InputError
        The place holds something else, or cannot be written.
    """
    catalog = check_catalog_root(url)
    marker = catalog.root / MARKER
    if not marker.is_file():
        content = json.dumps({"format": "varstar-catalog", "format_version": FORMAT_VERSION}).encode()
        writable(str(catalog), "catalog", lambda: marker.write_bytes(content))
    return catalog
