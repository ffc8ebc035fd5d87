"""All benchmarks in one session: `make bench`, or with choices `make bench ARGS="--only end_to_end --rounds 3"`.

Each part runs in a process of its own, so that none can spoil another; what is done is on disk before the next begins.
The figures go into tests/benchmarks/results.json, docs/benchmarks.md and docs/benchmarks.png (not those of --quick,
which are for seeing that everything works).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import ROOT, Options, Part, machine
from tests.benchmarks.report import draw, section, table, write_section

PARTS = {
    "end_to_end": ("end_to_end", "measure"),
    "fold": ("stages", "measure_fold"),
    "features": ("bench_features", "measure"),
    "engines": ("stages", "measure_engines"),
    "reading": ("stages", "measure_reading"),
    "scaling": ("scaling", "measure"),
    "estimate": ("estimating", "measure"),
    "query": ("others", "measure_query"),
    "tap": ("bench_tap", "measure"),
    "memory": ("others", "measure_memory"),
    "overhead": ("distribution", "measure_overhead"),
    "s3": ("distribution", "measure_s3"),
    "flow": ("distribution", "measure_flow"),
    "gpu": ("bench_gpu", "measure"),
}
"""Name of a part, and the module and function that measure it."""

RESULTS = ROOT / "tests" / "benchmarks" / "results.json"
PLOT = ROOT / "docs" / "benchmarks.png"
PAGE = ROOT / "docs/benchmarks.md"
PART_SECONDS = 1500
"""After which a part is ended and counts as failed."""

STOP_SECONDS = 60
"""In which a part that is ended early stops what it started."""


def main() -> int:
    """Run the parts that were asked for and return how many failed."""
    arguments = _parser().parse_args()
    options = _options(arguments)
    if arguments.part:
        logging.disable(logging.WARNING)
        arguments.results.write_text(json.dumps(run_part(arguments.part, options).to_json()))
        return 0
    target = arguments.results or (None if options.quick else RESULTS)
    results: dict[str, Any] = {"parts": {}}
    if target is not None and target.exists():
        results = json.loads(target.read_text())
    results["machine"] = machine()
    failed = 0
    for name in arguments.only or PARTS:
        print(f"\n=== {name}", flush=True)
        start = time.perf_counter()
        part = _run_apart(name)
        part |= {"measured": f"{datetime.now(UTC):%Y-%m-%d}", "seconds": round(time.perf_counter() - start, 1)}
        failed += "failed" in part
        if "failed" not in part or "rows" not in results["parts"].get(name, {}):
            results["parts"][name] = part
        _show(part)
        if target is not None:
            target.write_text(json.dumps(results, indent=1) + "\n")
    if target == RESULTS:
        publish(results)
    return min(failed, 1)


def run_part(name: str, options: Options) -> Part:
    """Measure one part in this process."""
    module, function = PARTS[name]
    part: Part = getattr(importlib.import_module(f"tests.benchmarks.{module}"), function)(options)
    return part


def publish(results: dict[str, Any]) -> None:
    """Write the plot and the page's section from results."""
    drawn = draw(results, PLOT)
    write_section(PAGE, section(results, PLOT.name if drawn else None))


def _run_apart(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.json"
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks",
            *sys.argv[1:],
            "--part",
            name,
            "--results",
            str(file),
        ]
        # A session of its own, so that clusters and rivals of a part that hangs end with it.
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                _, complaints = process.communicate(timeout=PART_SECONDS)
            except subprocess.TimeoutExpired:
                return {"failed": f"it took longer than {PART_SECONDS} s"}
            finally:
                # Also when somebody interrupts the session.
                if process.poll() is None:
                    # Asked first: servers that it started in sessions of their own are for it to stop.
                    os.killpg(process.pid, signal.SIGTERM)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(STOP_SECONDS)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode or not file.exists():
            lines = [line for line in complaints.strip().splitlines() if line.strip()]
            print("\n".join(lines[-12:]), file=sys.stderr)
            return {"failed": lines[-1] if lines else f"exit code {process.returncode}"}
        result: dict[str, Any] = json.loads(file.read_text())
        return result


def _show(part: dict[str, Any]) -> None:
    if "failed" in part:
        print(f"FAILED after {part['seconds']} s: {part['failed']}", flush=True)
        return
    print(f"{part['title']} ({part['seconds']} s)\n")
    if part["rows"]:
        print(table(part) + "\n")
    for note in part["notes"]:
        print(f"- {note}")
    sys.stdout.flush()


def _options(arguments: argparse.Namespace) -> Options:
    quick = {"quick": True, "rounds": 1, "rival_rounds": 1, "objects": 10_000, "scaling_objects": 10_000}
    values: dict[str, Any] = (quick | {"scaling_partitions": 100}) if arguments.quick else {}
    for name in ("rounds", "rival_rounds", "objects", "scaling_objects", "scaling_partitions", "workers", "scratch"):
        value = getattr(arguments, name)
        if value is not None:
            values[name] = value
    return Options(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, one round; nothing is written")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}; repeat")
    parser.add_argument("--rounds", type=int, help="repeats (5)")
    parser.add_argument("--rival-rounds", type=int, help="repeats of the slow rivals, LSDB and the pool (2)")
    parser.add_argument("--objects", type=int, help="light curves end to end (200,000)")
    parser.add_argument(
        "--scaling-objects", type=int, help="light curves of the largest survey of the scaling (200,000)"
    )
    parser.add_argument("--scaling-partitions", type=int, help="files of the most finely cut survey (10,000)")
    parser.add_argument("--workers", type=int, help="processes (2)")
    parser.add_argument("--scratch", type=Path, help="folder for surveys, kept for the next time (build/benchmarks)")
    parser.add_argument("--results", type=Path, help="JSON file of the figures, instead of the committed one")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # in this process, for one of the others
    return parser


if __name__ == "__main__":
    # So that what was started is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
