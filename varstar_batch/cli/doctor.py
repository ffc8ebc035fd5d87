"""What `varstar doctor` does: each check of the set-up says what it found, and what to do where that is not right."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

from packaging.requirements import Requirement

from varstar_batch.cli.check import Check, check_of_error
from varstar_batch.cli.console import format_bytes
from varstar_batch.cli.doctor_server import ServerQuestions, check_server
from varstar_batch.errors import VarstarError
from varstar_batch.requests import ClusterOptions

BYTES_OF_A_ROW = 250
"""Of a catalog on disk: 103 in its files (as tests/cli/test_doctor.py measures), as much in the chunks before them."""

FEWEST_OBSERVATIONS = 50.0
"""Of an object that is classified: where footers do not tell how many objects there are, hardly more than this says."""

CAPPED = ("prefect", "fastapi", "sqlalchemy")
"""Packages with which nothing seems wrong at first when they are too new."""


def examine(
    questions: ServerQuestions,
    places: dict[str, str],
    model: str | None,
    scheduler: str | None,
    options: ClusterOptions,
) -> Iterator[Check]:
    """Yield the outcome of every check, in order; none of them raises.

    Parameters
    ----------
    questions : ServerQuestions
        What is asked of Prefect's server.
    places : dict of str to str
        Folders and URLs, by what they are: a survey that must be readable, others that must be writable.
    model : str or None
        Bundle; None for the shipped one.
    scheduler : str or None
        Of a Dask cluster; where none is given, Dask's own configuration counts.
    options : ClusterOptions
        How that is spoken to.
    """
    yield _guarded("versions", check_versions)
    yield from check_server(questions)
    for name, url in places.items():
        if name != "survey":
            yield _guarded(name, partial(check_place, name, url))
    if "survey" in places:
        yield _guarded("survey", partial(check_survey, places["survey"], model, places.get("catalog")))
    yield _guarded("model", partial(check_model, model))
    yield _guarded("gpu", check_gpu)
    address = scheduler or _configured_scheduler()
    if address is not None:
        yield from check_cluster(address, options)


def _configured_scheduler() -> str | None:
    import dask

    address: str | None = dask.config.get("scheduler-address", None)
    return address


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except VarstarError as error:
        return check_of_error(name, error)


def check_versions() -> Check:
    """Check the packages that matter against the caps of this package's own metadata."""
    found, wrong = [], []
    for text in importlib.metadata.requires("varstar-batch") or []:
        requirement = Requirement(text)
        if requirement.name not in CAPPED:
            continue
        version = importlib.metadata.version(requirement.name)
        found.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"'{requirement.name}{requirement.specifier}'")
    fix = f"pip install {' '.join(wrong)}: with others schedules may silently never fire" if wrong else ""
    return Check("versions", "failed" if wrong else "ok", ", ".join(found), fix)


def check_place(name: str, url: str) -> Check:
    """Check that a folder or URL can be written, and that of two who create one file the second is refused."""
    from varstar_batch.files.location import locate, writable

    probe = locate(url, what=name) / f".varstar-doctor-{uuid4().hex}"

    def write() -> str:
        probe.create(b"varstar doctor")
        try:
            if probe.read_bytes() != b"varstar doctor":
                return "what was written reads back otherwise"
            try:
                probe.create(b"somebody else")
            except FileExistsError:
                return ""
            return "conditional puts are ignored: of two runs that publish at once both would win"
        finally:
            probe.remove()

    wrong = writable(url, name, write)
    if wrong:
        return Check(name, "failed", f"{url}: {wrong}", "take a store that honours If-None-Match (docs/storage.md)")
    return Check(name, "ok", f"{url} can be written, conditionally, too")


def check_survey(survey: str, model: str | None, catalog: str | None) -> Check:
    """Check that a survey can be read, and that what a run of it writes fits on the disk of its catalog."""
    from varstar_batch.cluster.measure_rates import survey_workload
    from varstar_batch.files.location import locate
    from varstar_batch.runs.config import RunConfig
    from varstar_batch.runs.prepare import plan_run

    plan, _ = plan_run(survey, model, RunConfig())
    work = survey_workload(plan).with_objects(FEWEST_OBSERVATIONS)
    found = f"{survey}: {work.partitions:,} partitions, {work.objects or 0:,} objects"
    if catalog is None or not locate(catalog, what="catalog").is_local:
        return Check("survey", "ok", found)
    needed = (work.objects or 0) * BYTES_OF_A_ROW
    free = shutil.disk_usage(_there(catalog)).free
    found += f"; a run writes some {format_bytes(needed)}, {format_bytes(free)} are free beside {catalog}"
    if free < needed:
        return Check("survey", "failed", found, f"make room: varstar prune {catalog}")
    return Check("survey", "ok", found)


def _there(place: str) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    path = Path(place).absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def check_cluster(address: str, options: ClusterOptions) -> Iterator[Check]:
    """Check that a scheduler answers, that all of it is of these versions, and that its GPU workers see GPUs."""
    from varstar_batch.cluster.client import open_client
    from varstar_batch.cluster.examine import examine_cluster

    try:
        with open_client(None, address, options) as client:
            assert client is not None
            found = examine_cluster(client)
    except VarstarError as error:
        yield check_of_error("cluster", error)
        return
    said = f"{address}, {found.workers} workers"
    if not found.workers:
        yield Check("cluster", "failed", said, "start some: dask worker, with the scheduler's address")
    elif found.unlike:
        more = f", and {len(found.unlike) - 1} more" if len(found.unlike) > 1 else ""
        fix = "install the same versions everywhere: what goes wrong may come of that"
        yield Check("cluster", "failed", f"{said}: {found.unlike[0]}{more}", fix)
    else:
        yield Check("cluster", "ok", f"{said}, versions and code as here")
    if found.blind:
        fix = "mend driver or image of these workers, or start them without --resources GPU=1"
        yield Check("gpus", "failed", f"declared and not seen by {'; '.join(found.blind)}", fix)
    elif found.gpu_workers:
        yield Check("gpus", "ok", f"{found.gpu_workers} workers, each sees its own")


def check_model(model: str | None) -> Check:
    """Check that the bundle is sound, and that an engine takes it."""
    from varstar_batch.model.bundle_files import read_bundle
    from varstar_batch.model.engines.open import open_engine

    bundle = read_bundle(model)
    open_engine(bundle)
    contract = bundle.contract
    return Check("model", "ok", f"{contract.name} {contract.model_version}, {len(contract.classes)} classes")


def check_gpu() -> Check:
    """Check that TensorFlow sees the graphics cards that the driver sees; none at all is fine."""
    if shutil.which("nvidia-smi") is None:
        return Check("gpu", "ok", "none: OpenVINO classifies on the CPU")
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    cards = [line for line in listed.stdout.splitlines() if line.strip()]
    if listed.returncode or not cards:
        return Check("gpu", "warning", "nvidia-smi lists none", "look at the driver: nvidia-smi")
    from varstar_batch.model.keras_runtime import keras_sees_gpu

    if keras_sees_gpu():
        return Check("gpu", "ok", f"{len(cards)}, seen by TensorFlow: {cards[0]}")
    return Check("gpu", "warning", f"{len(cards)}, not seen by TensorFlow", "pip install 'varstar-batch[gpu]'")
