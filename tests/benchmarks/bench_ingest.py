"""Ingest: small files of an archive, and shuffled observations beyond memory; each in a process that is watched.

Run ``python -m tests.benchmarks.bench_ingest files 20000`` or ``... rows 100000000``, and a folder for it at the end.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_OF_A_FILE = 500
OBSERVATIONS_OF_AN_OBJECT = 500
_BLOCK = 2**20


def main() -> int:
    """Make the input, ingest it in a process of its own, and print what that took."""
    kind, count = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="bench-ingest-", dir=sys.argv[3] if len(sys.argv) > 3 else None) as folder:
        place = Path(folder)
        words = _make_files(place, count) if kind == "files" else _make_rows(place, count)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "varstar_batch", "ingest", *words], check=True)
        seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        unit = "files" if kind == "files" else "observations"
        print(
            f"{count:,} {unit}: {seconds:.1f} s, {count / seconds:,.0f} {unit}/s;"
            f" {used.ru_utime + used.ru_stime:.1f} s of CPU; peak memory {used.ru_maxrss / 1024:,.0f} MiB"
        )
    return 0


def _make_files(place: Path, count: int) -> list[str]:
    rng = np.random.default_rng(1)
    (place / "in").mkdir()
    lines = [
        f"{2457000 + 1.5 * i:.5f},2017-09-03.9710173,b{'abcd'[i % 4]},1.77,15.518,{mag:.3f},0.117,4.448,0.477,V"
        for i, mag in enumerate(rng.normal(14, 0.3, ROWS_OF_A_FILE))
    ]
    content = "HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err,Filter\n" + "\n".join(lines) + "\n"
    for i in range(count):
        (place / "in" / f"star-{i:06d}.csv").write_text(content)
    return [str(place / "in"), str(place / "out"), "--format", "auto"]


def _make_rows(place: Path, count: int) -> list[str]:
    rng = np.random.default_rng(1)
    objects = max(1, count // OBSERVATIONS_OF_AN_OBJECT)
    pq.write_table(
        pa.table(
            {
                "object_id": np.arange(objects),
                "period": rng.uniform(0.1, 10, objects),
                "ra": rng.uniform(0, 360, objects),
                "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, objects))),
            }
        ),
        place / "objects.parquet",
    )
    (place / "in").mkdir()
    for number, start in enumerate(range(0, count, 16 * _BLOCK)):
        rows = min(16 * _BLOCK, count - start)
        table = pa.table(
            {
                "object_id": rng.integers(0, objects, rows),
                "time": 2457000 + rng.uniform(0, 2000, rows),
                "mag": rng.normal(14, 0.3, rows).astype(np.float32),
                "mag_err": np.full(rows, 0.02, np.float32),
            }
        )
        pq.write_table(table, place / "in" / f"part-{number:04d}.parquet", row_group_size=_BLOCK)
    return [str(place / "in"), str(place / "out"), "--objects", str(place / "objects.parquet"), "--time-system", "HJD"]


if __name__ == "__main__":
    raise SystemExit(main())
