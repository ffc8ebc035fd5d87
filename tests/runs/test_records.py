"""What became of chunks, in columns: small, in order, and it adds up."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from varstar_batch.catalog.run_files.tables import PARTITIONS_SCHEMA
from varstar_batch.files.location import locate
from varstar_batch.files.parquet import ROWS_AT_ONCE, write_table
from varstar_batch.runs.records import (
    BATCH,
    TASKS_SCHEMA,
    ChunkRecord,
    Ledger,
    by_partition,
    counts,
    rows_by_partition,
    total,
)

PARTITIONS = 2 * BATCH + 300


def records(number: int, draw: random.Random) -> list[ChunkRecord]:
    chunks = 1 + number % 3
    return [
        ChunkRecord(
            partition=f"Norder=7/Dir=0/Npix={number:06d}.parquet",
            chunk=chunk,
            chunks=chunks,
            rows=draw.randrange(1000),
            observations=draw.randrange(100_000),
            bytes_in=1,
            bytes_out=draw.randrange(100) if chunk == chunks - 1 else 0,
            status={"ok": draw.randrange(1, 9), "no_period": 2},
            classes={draw.choice(["RR", "ECL"]): 3},
            periods={"ok": 2, "2P": 1},
            dropped={"outlier": 4},
            labels={},
            left_out={},
            seconds={"read": 0.5, "write": 0.25},
            started=1.5e9,
            sha256="a" * 64 if chunk == chunks - 1 else "",
            worker="host:123",
            classifier="host:123",
            peak_memory=10**9,
            retries=chunk,
            run_id="20260101T000000Z-00000000",
        )
        for chunk in range(chunks)
    ]


def test_everything_is_kept_in_order_and_adds_up() -> None:
    draw = random.Random(1)
    groups = [records(number, draw) for number in range(PARTITIONS)]
    ledger = Ledger()
    for group in draw.sample(groups, len(groups)):  # as they finish
        ledger.add(group)
    tasks = ledger.table()
    flat = [record for group in groups for record in group]
    assert tasks.schema == TASKS_SCHEMA
    assert tasks["partition"].to_pylist() == [record.partition for record in flat]
    assert tasks["chunk"].to_pylist() == [record.chunk for record in flat]
    assert total(tasks, "rows") == sum(record.rows for record in flat)
    for name in ("status", "classes", "dropped", "labels"):
        expected: Counter[str] = Counter()
        for record in flat:
            expected.update(getattr(record, name))
        assert counts(tasks, name) == expected
        assert list(counts(tasks, name).values()) == sorted(expected.values(), reverse=True)
    assert counts(tasks, "seconds") == {"read": 0.5 * len(flat), "write": 0.25 * len(flat)}
    rows = {group[0].partition: sum(record.rows for record in group) for group in groups}
    assert rows_by_partition(tasks) == rows
    partitions = list(by_partition(tasks))
    assert {entry["partition"]: entry["rows"] for entry in partitions} == rows
    assert [entry["sha256"] for entry in partitions] == ["a" * 64] * PARTITIONS
    assert [entry["bytes"] for entry in partitions] == [group[-1].bytes_out for group in groups]


def test_a_chunk_takes_less_than_a_kilobyte() -> None:
    ledger = Ledger()
    draw = random.Random(2)
    for number in range(PARTITIONS):
        ledger.add(records(number, draw))
    tasks = ledger.table()
    assert tasks.nbytes / tasks.num_rows < 700


def test_nothing_is_nothing() -> None:
    tasks = Ledger().table()
    assert tasks.schema == TASKS_SCHEMA
    assert (total(tasks, "rows"), counts(tasks, "status"), list(by_partition(tasks))) == (0, {}, [])


def test_long_tables_are_written_some_rows_at_a_time(tmp_path: Path) -> None:
    entry = {"rows": 1, "bytes": 2, "sha256": "", "status": {"ok": 1}, "classes": {}}
    entries = ({"partition": f"p{number}"} | entry for number in range(ROWS_AT_ONCE + 5))
    write_table(locate(tmp_path / "t.parquet", what="table"), entries, PARTITIONS_SCHEMA)
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert (file.metadata.num_rows, file.num_row_groups) == (ROWS_AT_ONCE + 5, 2)
    assert file.read()["status"][-1].as_py() == [("ok", 1)]
