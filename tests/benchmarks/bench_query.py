"""How fast a published catalog answers, beside plain DuckDB on one unsorted Parquet file of the same rows.

    python -m tests.benchmarks.bench_query [--rows 20000000] [--partitions 16] [--keep FOLDER]

The hardest case on purpose: every partition covers the whole sky, and identifiers are in no order, so that neither
partitions nor row groups can be told apart by them. Times are of whole calls from Python, opening the catalog included;
the first call of each kind is left out, since it pays for imports and for the page cache. The rows are made up.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.makers.catalogs import RunSpec, run_name, sky_rows, write_run
from varstar_batch import open_catalog
from varstar_batch.catalog.columns.schema import ROW_GROUP_ROWS

LIMITS = {"point look-up": 0.2, "1-degree cone": 0.5, "GROUP BY class": 1.0}
ROUNDS = 7
GROUP_BY = 'SELECT "class", count(*) AS n FROM catalog GROUP BY "class" ORDER BY n'
SEPARATION = """degrees(2 * asin(sqrt(pow(sin(radians(dec - {dec}) / 2), 2)
  + cos(radians(dec)) * cos(radians({dec})) * pow(sin(radians(ra - {ra}) / 2), 2)))) <= {radius}"""
ODD = np.uint64(0x9E3779B97F4A7C15)


class MadeUp(Mapping[str, pa.Table]):
    """Partitions that are made when they are asked for, and copied to one unsorted file as they come."""

    def __init__(self, rows: int, partitions: int, unsorted: Path) -> None:
        self.size = rows // partitions
        self.keys_ = [f"part-{k:05d}.parquet" for k in range(partitions)]
        self.rest = sky_rows(self.size)
        self.unsorted = unsorted
        self.writer: pq.ParquetWriter | None = None

    def __len__(self) -> int:
        return len(self.keys_)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_)

    def __getitem__(self, key: str) -> pa.Table:
        number = self.keys_.index(key)
        rng = np.random.default_rng(number)
        numbers = np.uint64(number * self.size) + rng.permutation(self.size).astype(np.uint64)
        # Identifiers and positions are new in every partition; all else repeats, which only saves time here.
        columns = {
            "object_id": ((numbers * ODD) >> np.uint64(1)).astype(np.int64),
            "ra": rng.uniform(0, 360, self.size),
            "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, self.size))),
        }
        rows = self.rest
        for name, values in columns.items():
            rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
        copied = rows.append_column("model_version", pa.repeat("1", self.size))
        copied = copied.append_column("run_id", pa.repeat(run_name(1), self.size))
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.unsorted, copied.schema, compression="zstd")
        self.writer.write_table(copied)
        return rows


def make(folder: Path, rows: int, partitions: int) -> float:
    start = time.perf_counter()
    made = MadeUp(rows, partitions, folder / "unsorted.parquet")
    write_run(folder / "catalog", run_name(1), RunSpec(partitions=made, row_group_rows=ROW_GROUP_ROWS))
    if made.writer is not None:
        made.writer.close()
    return time.perf_counter() - start


def questions(folder: Path, rows: int) -> dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]]:
    """What is asked of the catalog and, in the same words, of the one file; each takes the number of the round."""
    rng = np.random.default_rng(1)
    ids = ((rng.integers(0, rows, ROUNDS).astype(np.uint64) * ODD) >> np.uint64(1)).tolist()
    centres = [(float(rng.uniform(0, 360)), float(rng.uniform(-80, 80))) for _ in range(ROUNDS)]

    def plain(sql: str) -> pa.Table:
        with duckdb.connect() as connection:
            connection.execute(f"CREATE VIEW catalog AS FROM '{folder / 'unsorted.parquet'}'")
            return connection.sql(sql).to_arrow_table()

    def cone_sql(k: int) -> str:
        ra, dec = centres[k]
        return f"SELECT * FROM catalog WHERE {SEPARATION.format(ra=ra, dec=dec, radius=1.0)}"

    catalog = folder / "catalog"
    return {
        "point look-up": (
            lambda k: open_catalog(catalog).query(f"SELECT * FROM catalog WHERE object_id = {ids[k]}").num_rows,
            lambda k: plain(f"SELECT * FROM catalog WHERE object_id = {ids[k]}").num_rows,
        ),
        "1-degree cone": (
            lambda k: open_catalog(catalog).cone(*centres[k], 1.0).num_rows,
            lambda k: plain(cone_sql(k)).num_rows,
        ),
        "GROUP BY class": (
            lambda _: open_catalog(catalog).query(GROUP_BY).to_pylist(),
            lambda _: plain(GROUP_BY).to_pylist(),
        ),
    }


def measure(folder: Path, rows: int, rival: bool) -> None:
    """Print times by question, answers and the peak memory of this process as JSON."""
    found: dict[str, Any] = {"seconds": {}, "answers": {}}
    for name, pair in questions(folder, rows).items():
        ask = pair[1] if rival else pair[0]
        seconds = []
        for k in range(ROUNDS):
            start = time.perf_counter()
            answer = ask(k)
            seconds.append(time.perf_counter() - start)
            found["answers"].setdefault(name, []).append(answer)
        found["seconds"][name] = seconds[1:]
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps(found))


def child(folder: Path, rows: int, who: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.bench_query", "--rows", str(rows), "--measure", who]
    done = subprocess.run([*command, "--keep", str(folder)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def report(folder: Path, rows: int) -> int:
    """Measure both, print the table, and return how many limits were missed."""
    ours, theirs = child(folder, rows, "catalog"), child(folder, rows, "rival")
    assert ours["answers"] == theirs["answers"], "the two must agree on every answer"
    missed = 0
    print(f"| {rows:,} rows | catalog: median [s] | lowest - highest | limit | one unsorted file: median [s] |")
    print("|---|---|---|---|---|")
    for name, limit in LIMITS.items():
        mine, other = ours["seconds"][name], theirs["seconds"][name]
        missed += statistics.median(mine) > limit
        spread = f"{min(mine):.3f} - {max(mine):.3f}"
        print(f"| {name} | {statistics.median(mine):.3f} | {spread} | {limit} | {statistics.median(other):.3f} |")
    print(f"| peak memory [MiB] | {ours['peak'] / 2**20:.0f} | | 1024 | {theirs['peak'] / 2**20:.0f} |")
    return missed + (ours["peak"] > 2**30)


def main() -> None:
    parser = argparse.ArgumentParser(description="Query speed of a catalog")
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument(
        "--keep", type=Path, help="folder for the rows, kept and used again; a temporary one by default"
    )
    parser.add_argument("--measure", choices=["catalog", "rival"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.keep, options.rows, options.measure == "rival")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "unsorted.parquet").exists():
            folder.mkdir(parents=True, exist_ok=True)
            print(f"made {options.rows:,} rows in {make(folder, options.rows, options.partitions):.0f} s")
        sys.exit(report(folder, options.rows))


if __name__ == "__main__":
    main()
