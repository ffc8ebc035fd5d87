"""Ingest beside hats-import on the same shuffled observations: processor time, time, and memory of all processes.

Run ``python -m tests.benchmarks.bench_hats_import PYTHON [OBSERVATIONS [FOLDER]]``; PYTHON is that of an environment
with hats-import, which is no dependency of this project. Both write HATS: we a row an object with its light curve by
time, hats-import, which needs the position in every row, a row an observation, neither joined nor sorted by time.
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

from tests.benchmarks.harness import checked, run_process, varstar

OBSERVATIONS_OF_AN_OBJECT = 500
_BLOCK = 2**20

IMPORT = """
import sys
from pathlib import Path
from dask.distributed import Client
from hats_import import pipeline_with_client
from hats_import.catalog.arguments import ImportArguments

if __name__ == "__main__":
    place = Path(sys.argv[1])
    arguments = ImportArguments(
        output_path=place, output_artifact_name="theirs", input_file_list=sorted(map(str, place.glob("in/*.parquet"))),
        file_reader="parquet", catalog_type="source", pixel_threshold=4_000_000, progress_bar=False,
        tmp_dir=place, dask_tmp=place,
    )
    with Client(n_workers=2, threads_per_worker=1, local_directory=str(place), dashboard_address=None) as client:
        pipeline_with_client(arguments, client)
"""


def main() -> int:
    """Make the input, ingest it in both ways, and print what each took."""
    python = sys.argv[1] if len(sys.argv) > 1 else ""
    if not python or subprocess.run([python, "-c", "import hats_import"], capture_output=True, check=False).returncode:
        print(f"skipped: expected a python with hats-import as the first argument, got {python or 'none'}")
        return 0
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000_000
    with tempfile.TemporaryDirectory(prefix="bench-hats-", dir=sys.argv[3] if len(sys.argv) > 3 else None) as folder:
        place = Path(folder)
        make_rows(place, count)
        script = place / "hats_import_rows.py"
        script.write_text(IMPORT)
        words = ["--objects", str(place / "objects.parquet"), "--time-system", "HJD", "--hats"]
        commands = {
            "varstar ingest --hats": varstar("ingest", str(place / "in"), str(place / "ours"), *words),
            "hats-import": [python, str(script), str(place)],
        }
        for name, command in commands.items():
            before, start = _cpu(), time.perf_counter()
            run = checked(run_process(command))
            seconds, cpu = time.perf_counter() - start, _cpu() - before
            print(f"{name}: {seconds:.1f} s, {cpu:.1f} s of CPU, peak {run.memory / 2**20:,.0f} MiB", flush=True)
        files = [pq.ParquetFile(path) for path in place.glob("theirs/dataset/Norder=*/**/*.parquet")]
        print(f"hats-import wrote {sum(file.metadata.num_rows for file in files):,} of {count:,} observations")
    return 0


def make_rows(place: Path, count: int) -> None:
    """Write observations in any order, each with the position of its object, and the table of objects."""
    rng = np.random.default_rng(1)
    objects = max(1, count // OBSERVATIONS_OF_AN_OBJECT)
    ra, dec = rng.uniform(0, 360, objects), np.degrees(np.arcsin(rng.uniform(-1, 1, objects)))
    table = {"object_id": np.arange(objects), "period": rng.uniform(0.1, 10, objects), "ra": ra, "dec": dec}
    pq.write_table(pa.table(table), place / "objects.parquet")
    (place / "in").mkdir()
    for number, start in enumerate(range(0, count, 4 * _BLOCK)):
        rows = min(4 * _BLOCK, count - start)
        ids = rng.integers(0, objects, rows)
        content = {
            "object_id": ids,
            "ra": ra[ids],
            "dec": dec[ids],
            "time": 2457000 + rng.uniform(0, 2000, rows),
            "mag": rng.normal(14, 0.3, rows).astype(np.float32),
            "mag_err": np.full(rows, 0.02, np.float32),
        }
        pq.write_table(pa.table(content), place / "in" / f"part-{number:04d}.parquet", row_group_size=_BLOCK)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
