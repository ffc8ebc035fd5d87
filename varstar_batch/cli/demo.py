"""What `varstar demo` does: a simulated survey through the Prefect flow into a catalog, and one question to that."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import typer

from varstar_batch.cli.console import print_agreement, print_counts, print_table, say
from varstar_batch.errors import InputError
from varstar_batch.progress import progress

QUERY = """\
SELECT class, count(*) AS objects, round(avg(class_prob), 3) AS mean_probability,
  round(median(period), 4) AS median_period
FROM catalog WHERE class_prob > 0.9 GROUP BY class ORDER BY objects DESC"""

MARKER = ".varstar-demo"

SERVER_SECONDS = 120
"""In which the server must have made its database; ten on an idle machine."""


def demonstrate(folder: Path, objects: int, partitions: int, seed: int) -> None:
    """Run the demonstration in `folder`, starting over where an earlier one left something.

    Raises
    ------
    InputError
        The folder holds something that is no demonstration, or cannot be written.
    """
    _clear(folder)
    survey, catalog = folder / "survey", folder / "catalog"
    server = _start_server(folder / ".prefect")
    _simulate(survey, objects, partitions, seed)
    start = time.perf_counter()
    server.join()
    record = _run_flow(survey, catalog)
    seconds = time.perf_counter() - start
    print_counts("Status", record["status"], "status")
    print_counts("Class", record["classes"], "class")
    say(f"{objects:,} objects in, {record['rows']:,} rows out")
    say(
        f"{record['light_curves_per_second']:,.0f} light curves/s classified and written; "
        f"{seconds:.1f} s in all, with waiting for Prefect's server and the workers"
    )
    print_agreement(record["labels"])
    say(f"Catalog: {catalog} (run {record['run_id']})")
    say(f'\nvarstar query {catalog} "{" ".join(QUERY.split())}"')
    _ask(catalog)


def _clear(folder: Path) -> None:
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if (there and MARKER not in there) or folder.is_file():
        raise InputError(
            expected="an empty place, or the folder of an earlier demonstration",
            got=f"something else ({', '.join(there[:3]) or 'a file'})",
            where=str(folder),
            fix="give another folder: varstar demo FOLDER",
        )
    try:
        shutil.rmtree(folder, ignore_errors=False) if there else None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    except OSError as error:
        raise InputError(
            expected="a folder that can be written",
            got=os.strerror(error.errno or 0),
            where=str(folder),
            fix="give another folder: varstar demo FOLDER",
        ) from None


def _simulate(survey: Path, objects: int, partitions: int, seed: int) -> None:
    from varstar_batch.simulation.survey import write_simulated_survey

    with progress("Simulating", objects, "light curves") as advance:
        write_simulated_survey(str(survey), objects=objects, partitions=partitions, seed=seed, progress=advance)


def _start_server(home: Path) -> Thread:
    """Start the flow's server beside the simulation: it makes its database first, which takes longer than anything."""
    # A server of its own, in this folder, that ends with this process: nothing of a real one may be touched.
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]  # an empty PREFECT_API_URL would not do
    key = f"varstar:{secrets.token_urlsafe(32)}"
    os.environ |= {
        "PREFECT_HOME": str(home.resolve()),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(SERVER_SECONDS),
        "PREFECT_SERVER_API_AUTH_STRING": key,
        "PREFECT_API_AUTH_STRING": key,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
    }

    def start() -> None:
        from prefect.client.orchestration import get_client

        # What goes wrong here goes wrong again in the flow, which tells it.
        with suppress(RuntimeError, OSError), get_client(sync_client=True):
            pass

    thread = Thread(target=start, name="server", daemon=True)
    thread.start()
    return thread


def _run_flow(survey: Path, catalog: Path) -> dict[str, Any]:
    from varstar_batch.flows.reclassify import ReclassifyParameters, reclassify

    return reclassify(ReclassifyParameters(survey=str(survey), catalog=str(catalog)))


def _ask(catalog: Path) -> None:
    from varstar_batch.catalog.reader import open_catalog

    answer = open_catalog(catalog).query(QUERY)
    print_table("", answer.column_names, [tuple(row.values()) for row in answer.to_pylist()])


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the survey and the catalog go.")] = Path("demo"),
    objects: Annotated[int, typer.Option(min=1, help="Light curves to simulate.")] = 20_000,
    partitions: Annotated[int, typer.Option(min=1, help="Files of the survey.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 1,
) -> None:
    """Simulate a survey, classify it with the Prefect flow, publish its catalog, and ask it a question.

    Needs no server and leaves none running. Run it again, and it starts over in the same folder.
    """
    from varstar_batch.cli.demo import demonstrate

    demonstrate(folder, objects, partitions, seed)
