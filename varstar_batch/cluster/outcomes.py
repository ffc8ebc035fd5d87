"""What becomes of chunks and partitions: records that add up, and failures that say why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from varstar_batch.cluster.plan import Chunk
from varstar_batch.files.location import Location
from varstar_batch.survey.open import Failure

STAGES = ("read", "fold", "classify", "write")

RECORDS_KEY = b"varstar.records"
"""Key of the Parquet metadata under which a catalog file carries the records of its chunks."""


@dataclass(frozen=True, kw_only=True)
class ChunkRecord:
    """What became of a chunk: counts that add up, and where the time went.

    Attributes
    ----------
    partition : str
        Key of the partition.
    chunk, chunks : int
        Number of the chunk, from 0, and of how many.
    rows, observations : int
        Light curves and observations read; `rows` is also the number of catalog rows written.
    bytes_in, bytes_out : int
        Size of the partition (of the first chunk only, so that sums add up) and of the file written.
    status, classes, dropped, labels : dict
        Objects by status and by class, observations by reason of their removal, and objects by "label>class" where the
        survey has labels.
    seconds : dict
        By stage: read, fold, classify, write.
    started : float
        POSIX time.
    sha256 : str
        Of the file written.
    worker, classifier : str
        Host and process that folded and that classified; the same unless GPU workers take part.
    peak_memory : int
        Largest resident size of the process so far, bytes.
    retries : int
        Tries that failed before this one: storage that did not answer, workers that died.
    run_id : str
        Run that classified the chunk; another run than the one it is in where it was carried over.
    """

    partition: str
    chunk: int
    chunks: int
    rows: int
    observations: int
    bytes_in: int
    bytes_out: int
    status: dict[str, int]
    classes: dict[str, int]
    dropped: dict[str, int]
    labels: dict[str, int]
    seconds: dict[str, float]
    started: float
    sha256: str
    worker: str
    classifier: str
    peak_memory: int
    retries: int = 0
    run_id: str


SYSTEMIC = frozenset({"storage", "disk_full", "credentials"})
"""Kinds that say nothing of the partition: the system failed, and the same partition may do later."""

Outcome = ChunkRecord | Failure | tuple[Chunk, ...]
"""Of a partition's first task: done, failed, or too large for one chunk and cut into these."""


def with_records(schema: pa.Schema, records: Sequence[ChunkRecord]) -> pa.Schema:
    """Return a schema that carries records: the file itself says how it came to be, for runs that are resumed."""
    text = json.dumps([asdict(record) for record in records])
    return schema.with_metadata((schema.metadata or {}) | {RECORDS_KEY: text})


def read_records(location: Location) -> list[ChunkRecord]:
    """Return the records that a catalog file or a part of one carries. Raises FileNotFoundError."""
    with location.open_input() as stream:
        metadata = pq.read_schema(stream).metadata
    return [ChunkRecord(**record) for record in json.loads(metadata[RECORDS_KEY])]
