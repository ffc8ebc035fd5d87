"""The plan of a run, and the memory of its chunks: immutable data, made without a cluster, printable, comparable.

Everything that the result depends on is in the plan's fingerprint: the survey's files with sizes and versions, the
whole configuration, the model's hash, the code's version. What it does not depend on (workers, memory) is not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from varstar_batch._version import __version__
from varstar_batch.errors import InputError, differences
from varstar_batch.light_curves.classes import MIRA, SEMIREGULAR
from varstar_batch.model.bundle import Bundle, BundleContract
from varstar_batch.runs.config import RunConfig
from varstar_batch.survey.labels import LabelReader
from varstar_batch.survey.open import Partition, Survey
from varstar_batch.survey.read import BYTES_PER_CURVE, BYTES_PER_OBSERVATION, COPIES, CURVES, PartitionShape

LIBRARY_MEMORY = 224 * 2**20
"""Bytes of a worker's libraries that are read from their files. Workers of one host share them and the system takes
them back when it needs them, so how many are resident is the system's choice: 198 MiB, and 280 where the libraries were
installed just now and are mapped in larger pieces."""

WORKER_MEMORY = LIBRARY_MEMORY + 256 * 2**20
"""Bytes of a worker process before any light curve: interpreter, kernels, engine. Source: beside its libraries it holds
180 to 211 MiB of its own (tests/runs/test_bounded_memory.py). One that compiles the kernels itself, as the first on a
machine may, holds 160 MiB more."""

CHUNK_OVERHEAD = 24 * 2**20
"""Bytes of a chunk whatever its size: of Arrow and of the engine. Source: up to 16 MiB
(tests/runs/test_bounded_memory.py)."""

CODE = (
    "light_curves",
    "survey",
    "model",
    "catalog/columns/schema.py",
    "runs/chunks.py",
    "runs/tasks.py",
    "runs/gpu_tasks.py",
    "runs/written.py",
)
"""Packages and modules on the way from a survey's file to a catalog's: other source may be another result."""

BYTES_PER_ROW = 512
"""Of a catalog row until it is written: the row, sorted and unsorted, and its encoding."""

MOST_BANDS = 6
"""Of a survey: as many as Rubin has."""

FEWEST_ROWS = 2**16
"""A chunk is cut by its catalog rows only beyond this: 32 MiB."""


@dataclass(frozen=True)
class Chunk:
    """A bounded run of row groups of one partition: the unit of work."""

    partition: Partition
    """The file."""
    index: int = 0
    total: int = 1
    """This chunk is number `index` (from 0) of `total` of its partition."""
    row_groups: tuple[int, ...] | None = None
    """Row groups to read, in order; None for the whole file."""
    rows: tuple[int, int] | None = None
    """(int, int) or None. Of a single row group, only the rows from the first up to but not including the second; None
    for all."""
    expected_rows: int | None = None
    """Objects in it, as the footer says; None where only reading tells."""

    @property
    def key(self) -> str:
        """Immutable name of the chunk, as it stands in paths, logs and errors."""
        return f"{self.partition.key}#{self.index + 1}of{self.total}"


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run is going to do."""

    survey: Survey
    """With all its partitions."""
    config: RunConfig
    """The whole configuration."""
    model: Mapping[str, Any]
    """Name, version, hash and preprocessing of the bundle."""
    code_version: str = __version__
    """Version of this package."""
    code: Mapping[str, str]
    """Digests of its source, by part."""

    @property
    def ingredients(self) -> dict[str, Any]:
        """What the result depends on, apart from the files."""
        return {
            "survey": self.survey.source.url,
            "configuration": self.config.result_settings(),
            "model": dict(self.model),
            "code_version": self.code_version,
            "code": dict(self.code),
        }

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of everything that the result depends on: what the survey's files are, not where."""
        digest = hashlib.sha256(_canonical(self._settings))
        for partition in self.survey.partitions:
            digest.update(_canonical([partition.key, partition.size, partition.version]))
        return digest.hexdigest()

    def partition_fingerprint(self, partition: Partition) -> str:
        """Return the part of the fingerprint that one partition's result depends on."""
        return hashlib.sha256(
            _canonical([self._settings, partition.key, partition.size, partition.version])
        ).hexdigest()

    @property
    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in self.ingredients.items() if name != "survey"}

    def describe(self) -> dict[str, Any]:
        """Return the plan as JSON-ready data, without its list of partitions."""
        partitions = self.survey.partitions
        return {
            **self.ingredients,
            "layout": self.survey.source.layout,
            "time_system": self.survey.source.time_system,
            "partitions": len(partitions),
            "bytes": sum(partition.size for partition in partitions),
            "fingerprint": self.fingerprint,
        }


@lru_cache(maxsize=1)
def code_digests() -> Mapping[str, str]:
    """Return 12 characters of the SHA-256 of the source that decides what a catalog's bytes are, by its part."""
    package = Path(__file__).parents[1]
    found = {}
    for part in CODE:
        place = package / part
        digest = hashlib.sha256()
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
        found[part.removesuffix(".py")] = digest.hexdigest()[:12]
    return found


def make_plan(survey: Survey, bundle: Bundle, config: RunConfig) -> RunPlan:
    """Return the plan of classifying `survey` with `bundle`.

    Raises
    ------
    RefusedError
        The configuration states a preprocessing that is not the bundle's.
    InputError
        The survey has no partition, or a label means no class of the bundle.
    """
    if not survey.partitions:
        raise InputError(
            expected="at least one partition", got="none", where=survey.source.url, fix="check the survey's folder"
        )
    config.check_preprocessing(bundle.contract)
    contract = bundle.contract
    LabelReader(contract.classes, config.labels)
    check_line(contract, config.mira_amplitude)
    model = {
        "name": contract.name,
        "version": contract.model_version,
        "hash": bundle.hash,
        "architecture": contract.architecture,
        "classes": list(contract.classes),
    }
    return RunPlan(survey=survey, config=config, model=model, code=code_digests())


def check_line(contract: BundleContract, amplitude: float | None) -> None:
    """Refuse an amplitude that divides Miras from semi-regulars where it cannot. Raises InputError."""
    if amplitude is not None and not (isinstance(amplitude, float | int) and amplitude > 0):
        raise InputError(
            expected="an amplitude above 0, in magnitudes",
            got=repr(amplitude),
            where="--mira-amplitude",
            fix="leave it out, or give one such as 2.5",
        )
    if amplitude is not None and not {MIRA, SEMIREGULAR} <= set(contract.classes):
        raise InputError(
            expected=f"a model with the classes {MIRA} and {SEMIREGULAR}, which the amplitude divides",
            got=", ".join(contract.classes),
            where="--mira-amplitude",
            fix="leave it out, or choose another model",
        )


def split(partition: Partition, shape: PartitionShape, memory: int, max_rows: int | None = None) -> tuple[Chunk, ...]:
    """Cut a partition into chunks of whole row groups, or of slices of one.

    A chunk is closed when the next row group would take it beyond `memory`; a single row group larger than that is a
    chunk of its own, which the worker streams in slices.

    Parameters
    ----------
    partition : Partition
        The file.
    shape : PartitionShape
        Rows and observations of its row groups, and whether it may be cut between them.
    memory : int
        Bytes that a chunk may take.
    max_rows : int, optional
        Rows that a chunk may have; row groups with more are cut. By default as many as `memory` holds of the catalog's.
    """
    if not shape.divisible:
        return (Chunk(partition, expected_rows=shape.rows),)
    limit = max_rows or max(FEWEST_ROWS, memory // BYTES_PER_ROW)
    runs: list[list[tuple[int, int, int]]] = [[]]
    room, places = memory, limit
    for index, group in enumerate(shape.row_groups):
        need = projected_memory(group.rows, group.observations)
        for start in range(0, max(group.rows, 1), limit):
            stop = min(start + limit, group.rows)
            if runs[-1] and (need > room or stop - start > places or start):
                runs.append([])
                room, places = memory, limit
            runs[-1].append((index, start, stop))
            room, places = room - need, places - (stop - start)
    if len(runs) == 1:
        return (Chunk(partition, expected_rows=shape.rows),)
    return tuple(_chunk(partition, shape, index, len(runs), run) for index, run in enumerate(runs))


def projected_memory(rows: int, observations: int) -> int:
    """Return the bytes that `rows` light curves with `observations` observations in all take in a worker at the most.

    Where that is more than a chunk may take, they are streamed: see `chunk_peak`.
    """
    return COPIES * observations * BYTES_PER_OBSERVATION + CURVES * rows * BYTES_PER_CURVE


def chunk_peak(chunk_memory: int, rows: int = 0, observations: int | None = None) -> int:
    """Return the bytes by which a worker grows at the most while it does a chunk.

    Parameters
    ----------
    chunk_memory : int
        Bytes of light curves and curves that may be held at once, as the configuration has it.
    rows, observations : int
        Of the chunk; without `observations`, any chunk that is cut to `chunk_memory`.

    Source: measured peaks of reading, folding, classifying and writing; tests/runs/test_bounded_memory.py holds it to
    them.
    """
    held = chunk_memory if observations is None else min(chunk_memory, projected_memory(rows, observations))
    return CHUNK_OVERHEAD + held + rows * BYTES_PER_ROW


def waiting_memory(chunk_memory: int) -> int:
    """Return the bytes that a folded chunk may take while it waits for a GPU worker.

    A quarter of what a chunk may take while it is worked on, since others are being folded meanwhile.
    """
    return chunk_memory // 4


def packed_rows(chunk_memory: int, *, fused: bool = False) -> int:
    """Return how many folded objects fit into `waiting_memory`.

    Two curves, with its own and with a better period, of two bytes for each point, and less than 400 bytes for what
    else there is to know of an object; where bands are fused, as many times that as an object may have bands.
    """
    return max(1, waiting_memory(chunk_memory) // ((BYTES_PER_CURVE + 400) * (MOST_BANDS if fused else 1)))


def difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return one line for each key in which two nested mappings differ."""
    return [f"{key}: {then!r} then, {now!r} now" for key, then, now in differences(theirs, mine)]


def _chunk(
    partition: Partition, shape: PartitionShape, index: int, total: int, pieces: list[tuple[int, int, int]]
) -> Chunk:
    first, start, stop = pieces[0]
    sliced = stop - start < shape.row_groups[first].rows
    return Chunk(
        partition,
        index,
        total,
        row_groups=tuple(group for group, _, _ in pieces),
        rows=(start, stop) if sliced else None,
        expected_rows=sum(stop - start for _, start, stop in pieces),
    )


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
