"""Benchmarks that stand on their own, as parts of the session: questions to a catalog, the memory of a worker."""

from __future__ import annotations

import re
import sys

from tests.benchmarks import bench_query
from tests.benchmarks.harness import Options, Part, checked, run_process
from tests.benchmarks.measures import Row, paired_ratio, spread

MEASURED = re.compile(r"([\d,]+) light curves, .*: ([\d.]+) s, peak of the worker (\d+) MiB .* limit (\d+) MiB")


def measure_query(options: Options) -> Part:
    """Measure what a published catalog answers, beside DuckDB on one unsorted file of the same rows."""
    rows = 100_000 if options.quick else 5_000_000
    folder = options.scratch / f"rows-{rows}"
    if not (folder / "unsorted.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        bench_query.make(folder, rows, 4 if options.quick else 16)
    ours, theirs = (bench_query.child(folder, rows, who) for who in ("catalog", "rival"))
    if ours["answers"] != theirs["answers"]:
        raise RuntimeError("the catalog and the plain file gave different answers")
    part = Part(f"Questions to a catalog of {rows:,} rows, beside DuckDB on one unsorted file of them")
    for name, seconds in ours["seconds"].items():
        other = theirs["seconds"][name]
        ratio = paired_ratio(other, seconds)
        found = [
            Row(name=f"{name}, one file", value=spread(other), unit="s", rounds=len(other), memory=theirs["peak"]),
            Row(
                name=f"{name}, catalog",
                value=spread(seconds),
                unit="s",
                rounds=len(seconds),
                ratio=ratio,
                against="one file",
                memory=ours["peak"],
                note=f"limit {bench_query.LIMITS[name]} s",
            ),
        ]
        part.rows += found
    part.notes.append("Ratio: how many times faster the catalog is.")
    return part


def measure_memory(options: Options) -> Part:
    """Measure the memory of a worker on one partition that is a single huge row group."""
    objects = 5_000 if options.quick else 300_000
    command = [sys.executable, "-m", "pytest", "tests/benchmarks/bench_memory.py", "-s", "-q", "-p", "no:cacheprovider"]
    run = checked(run_process(command, env={"VARSTAR_BENCH_OBJECTS": str(objects)}))
    match = MEASURED.search(run.out)
    if match is None:
        raise RuntimeError(f"expected a line about the worker, got {run.out[-300:]!r}")
    seconds, peak, limit = (float(text) for text in match.groups()[1:])
    row = Row(
        name=f"{objects:,} light curves in one row group, one worker",
        value=spread([objects / seconds]),
        memory=round(peak * 2**20),
        note=f"limit of the worker {limit:,.0f} MiB",
    )
    return Part("Memory of a worker on the largest partition", [row])
