"""How fast `varstar tap` answers: a cone beside `varstar cone`, and sixteen clients at once."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.csv as pa_csv

from tests.benchmarks import bench_query
from tests.benchmarks.harness import Options, Part
from tests.benchmarks.measures import Row, paired_ratio, spread
from varstar_batch import open_catalog

CLIENTS = 16
ASKED_BY_EACH = 4


def measure(options: Options) -> Part:
    """Measure a cone of 1 degree as a client gets it, beside the command, and many clients at once."""
    rows = 100_000 if options.quick else 5_000_000
    folder = options.scratch / f"rows-{rows}"
    if not (folder / "unsorted.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        bench_query.make(folder, rows, 4 if options.quick else 16)
    rng = np.random.default_rng(3)
    centres = [(float(rng.uniform(0, 360)), float(rng.uniform(-80, 80))) for _ in range(options.rounds + 1)]
    part = Part(f"TAP over a catalog of {rows:,} rows")
    with serving(folder / "catalog") as address:

        def by_tap(ra: float, dec: float) -> int:
            where = f"1 = CONTAINS(POINT(ra, dec), CIRCLE({ra}, {dec}, 1))"
            return count(ask(address, f"SELECT * FROM catalog WHERE {where}"))

        def by_scs(ra: float, dec: float) -> int:
            words = {"RA": str(ra), "DEC": str(dec), "SR": "1", "RESPONSEFORMAT": "csv"}
            return count(httpx.get(f"{address}/scs", params=words, timeout=300))

        def by_command(ra: float, dec: float) -> int:
            words = ["cone", str(folder / "catalog"), "--ra", str(ra), "--dec", str(dec), "--radius", "1"]
            done = subprocess.run([*_VARSTAR, *words, "--format", "csv"], capture_output=True, check=True)
            return len(done.stdout.splitlines()) - 1

        def in_python(ra: float, dec: float) -> int:
            return open_catalog(folder / "catalog").cone(ra, dec, 1.0).num_rows

        ways = {"varstar cone": by_command, "in Python": in_python, "TAP": by_tap, "Simple Cone Search": by_scs}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for ra, dec in centres:
            found = set()
            for name, ask_one in ways.items():
                taken, answer = timed(ask_one, ra, dec)
                seconds[name].append(taken)
                found.add(answer)
            if len(found) != 1:
                raise RuntimeError(f"expected the same objects of all, got {found} of them")
        for name, each in seconds.items():
            row = Row(name=f"1-degree cone, {name}", value=spread(each[1:]), unit="s", rounds=len(each) - 1)
            if name != "varstar cone":
                row = replace(
                    row,
                    ratio=paired_ratio(each[1:], seconds["varstar cone"][1:]),
                    against="1-degree cone, varstar cone",
                )
            part.rows.append(row)
        taken_each = crowd(lambda k: by_tap(*centres[k % len(centres)]))
        part.rows.append(
            Row(
                name=f"{CLIENTS} clients at once, each {ASKED_BY_EACH} cones",
                value=spread(taken_each),
                unit="s",
                rounds=len(taken_each),
                note=f"the slowest {max(taken_each):.1f} s",
            )
        )
    part.notes.append("Ratio: how many times as long as the command; aim: 2 at most. Two queries run at a time.")
    return part


_VARSTAR = (sys.executable, "-m", "varstar_batch")


@contextlib.contextmanager
def serving(catalog: Path) -> Iterator[str]:
    """Yield the address of a service over a catalog."""
    words = [*_VARSTAR, "tap", str(catalog), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = re.match(r"TAP +(http://[^/]+)/tap", process.stdout.readline())
        if said is None:
            raise RuntimeError("expected a service that starts, got none")
        try:
            yield said[1]
        finally:
            process.terminate()


def ask(address: str, query: str) -> httpx.Response:
    """Return the answer to a query, as CSV."""
    words = {"LANG": "ADQL", "QUERY": query, "FORMAT": "csv"}
    return httpx.post(f"{address}/tap/sync", data=words, timeout=300).raise_for_status()


def count(answer: httpx.Response) -> int:
    """Return the rows of an answer."""
    return int(pa_csv.read_csv(io.BytesIO(answer.content)).num_rows)


def timed(function: Callable[..., int], *words: Any) -> tuple[float, int]:
    """Return the seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    answer = function(*words)
    return time.perf_counter() - start, answer


def crowd(one: Callable[[int], int]) -> list[float]:
    """Return the seconds of every question of many clients."""

    def client(number: int) -> list[float]:
        return [timed(one, number + k)[0] for k in range(ASKED_BY_EACH)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [taken for each in pool.map(client, range(CLIENTS)) for taken in each]
