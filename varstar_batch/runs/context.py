"""What every chunk of a run has in common, and what a worker process keeps between chunks: the model."""

from __future__ import annotations

import os
import resource
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from varstar_batch.catalog.root import output_key
from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files.location import Location
from varstar_batch.model.bundle import Bundle
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.model.engines.engine import Engine, EngineName, Precision
from varstar_batch.model.engines.open import open_engine
from varstar_batch.runs.plan import Chunk
from varstar_batch.survey.open import Source

_PROC_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What every chunk of a run has in common; small, since it travels with each."""

    source: Source
    """The survey, without its list of partitions."""
    run: Location
    """The run's folder, where the bundle stands and the output goes."""
    run_id: str
    bundle_hash: str
    """Identity of the run and of its model."""
    engine: EngineName = "auto"
    precision: Precision = "float32"
    """Inference engine and its arithmetic."""
    chunk_memory: int
    """Bytes that a chunk may take in a worker."""
    threads: int = 1
    """Cores that one task may use."""
    carried_from: Location | None = None
    """Folder of the run that unchanged partitions are carried over from."""

    def output(self, key: str) -> Location:
        """Return where the catalog file of the partition `key` stands."""
        return self.run / output_key(self.source.layout, key)

    def target(self, chunk: Chunk) -> Location:
        """Return where a chunk is written: the partition's own file, or a part that waits for the others.

        The part's name says which row groups it holds, so that a run that is resumed with another memory takes none for
        what it is not.
        """
        if chunk.total == 1:
            return self.output(chunk.partition.key)
        groups = chunk.row_groups or (0,)
        rows = "" if chunk.rows is None else f"-rows{chunk.rows[0]}-{chunk.rows[1]}"
        return self.run / f"parts/{chunk.partition.key}/groups{groups[0]}-{groups[-1]}{rows}.parquet"


def load_bundle(context: RunContext) -> Bundle:
    """Return the bundle of a run, read once in each worker process and anew when it changes."""
    return _bundle(context.run, context.bundle_hash)


def load_engine(context: RunContext) -> Engine:
    """Return an engine for the bundle of a run, opened once in each worker process and anew when it changes."""
    return _engine(context.run, context.bundle_hash, context.engine, context.precision, context.threads)


def this_worker() -> str:
    """Return host and process, as records name them."""
    return f"{socket.gethostname()}:{os.getpid()}"


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    # A process inherits ru_maxrss from the one that started it, which may be much larger; VmHWM is its own.
    if _PROC_STATUS.exists():
        for line in _PROC_STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@lru_cache(maxsize=1)
def _bundle(run: Location, bundle_hash: str) -> Bundle:
    folder = run / "model"
    try:
        bundle = read_bundle(str(folder))
    except InputError as error:
        # A store that does not answer is no bad bundle: another try may do.
        cause = error.__context__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError | PermissionError):
            raise cause from None
        raise
    if bundle.hash != bundle_hash:
        raise PartitionError(
            kind="model",
            expected=f"the bundle {bundle_hash[:12]} that the run was planned with",
            got=bundle.hash[:12],
            where=str(folder),
            fix="start the run afresh",
        )
    return bundle


@lru_cache(maxsize=1)
def _engine(run: Location, bundle_hash: str, engine: EngineName, precision: Precision, threads: int) -> Engine:
    return open_engine(_bundle(run, bundle_hash), engine, precision, threads)
