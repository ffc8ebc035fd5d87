"""The operations, each by its request: what the flows, the command line and a notebook call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from varstar_batch.errors import RefusedError, WorkersLostError
from varstar_batch.model.bundle import Bundle
from varstar_batch.progress import ShowProgress, progress
from varstar_batch.requests import ClusterOptions
from varstar_batch.runs.config import PlanRequest
from varstar_batch.runs.execute import InProcess, Runner, Task, do_all
from varstar_batch.runs.plan import RunPlan
from varstar_batch.runs.prepare import RELEASE, HeldError, Prepared, find_published, plan_run, prepare
from varstar_batch.runs.records import count_run
from varstar_batch.runs.stages import RunObserver, execute_run, publish, verify
from varstar_batch.survey.labels import LabelReader
from varstar_batch.survey.open import Failure

if TYPE_CHECKING:
    from varstar_batch.ingest.options import ArchiveReport, IngestReport, IngestRequest
    from varstar_batch.training.options import TrainingRequest
    from varstar_batch.training.train import Trained

__all__ = [
    "ClassifiedSurvey",
    "ClassifyRequest",
    "classify_survey",
    "ingest",
    "train",
]


class ClassifyRequest(PlanRequest):
    """What to classify, with which model, where the catalog is, and who does it."""

    catalog: str = Field(min_length=1, description="Folder or URL of the catalog; made where there is none")
    mode: Literal["once", "incremental", "full"] = Field(
        "once",
        description="incremental: partitions that did not change since the published run are taken over; full: "
        "everything is classified anew; once: so, too, but not where the published run is the same. Whichever it is, a "
        "run that was cut off is resumed",
    )
    fresh: bool = Field(False, description="Begin a new run where one could be resumed")
    abandon_unfinished: bool = Field(
        False,
        description="Begin a new run where one of another survey, model or configuration was cut off; else refuse",
    )
    workers: int | None = Field(
        None, ge=0, description="Processes of a local cluster; 0: this process; one per core by default"
    )
    scheduler: str | None = Field(None, description="Address of a Dask scheduler, instead of a local cluster")
    cluster: ClusterOptions = Field(
        default_factory=ClusterOptions, description="TLS of a scheduler elsewhere (files on the worker), memory"
    )


@dataclass(frozen=True, kw_only=True)
class ClassifiedSurvey:
    """What became of a request."""

    record: dict[str, Any]
    """Of the run, as in its run.json."""
    prepared: Prepared
    """The run; `up_to_date` where the published one was the same already."""
    failures: tuple[Failure, ...] = ()
    """Partitions that failed, by key."""

    def held(self) -> HeldError | None:
        """Return the error that says why the run was not published, or None where it was."""
        reasons = self.record.get("held")
        if not reasons:
            return None
        catalog, run_id = self.prepared.catalog, self.prepared.run_id
        return HeldError(
            expected="a run that passes its gate",
            got=f"run {run_id}, which is held and not published: " + "; ".join(reasons),
            where=str(catalog),
            fix=RELEASE.format(catalog=catalog, run_id=run_id),
        )


def classify_survey(request: ClassifyRequest, observer: RunObserver | None = None) -> ClassifiedSurvey:
    """Classify every light curve of a survey into a published catalog, one row for every object.

    A run that does not pass its gate is complete but not published: `ClassifiedSurvey.held` says why.

    What is finished is read from storage: the same request again goes on where a run was cut off.

    Parameters
    ----------
    request : ClassifyRequest
    observer : RunObserver, optional
        Whom to tell what goes on, and who may do the stages in a way of its own.

    Raises
    ------
    InputError, RefusedError
        Survey, model, configuration, cluster or catalog do not fit.
    StorageLostError, WorkersLostError
        The system failed; the same request goes on from there.
    VerificationError
        What lies on storage is not what it must be; nothing was published.
    """
    observer = observer or RunObserver()
    if request.scheduler is None and request.workers != 0:
        from varstar_batch.cluster.forking import load_ahead_of_workers

        load_ahead_of_workers()
    plan, bundle = observer.stage("plan", plan_run, request.survey, request.model, request.run_config())
    if request.mode != "full" and not request.fresh:
        published = find_published(plan, bundle, request.catalog)
        if published is not None:
            return ClassifiedSurvey(record=published.published_record(), prepared=published)
    # The cluster first: where it cannot be had, nothing is written.
    with _open_runner(request, observer) as runner:
        prepared = observer.stage("prepare", _prepare, request, plan, bundle, observer)
        if prepared.up_to_date:
            return ClassifiedSurvey(record=prepared.published_record(), prepared=prepared)
        executed = observer.stage("classify", execute_run, prepared, runner, observer)
        observer.stage("verify", verify, prepared, executed)
        record = observer.stage("publish", publish, prepared, executed)
        # On a worker, which serves metrics for as long as its cluster lives; the run is finished without it, too.
        counted = Task("gate", "gate", count_run, (prepared.context, record["gate"], bool(record["held"])))
        with suppress(WorkersLostError):
            list(do_all(runner, [counted]))
    reader = LabelReader(plan.model["classes"], plan.config.labels)
    for why, line in reader.left_out(record["labels_left_out"]).items():
        (observer.warn if why == "unknown" else observer.note)(line)
    return ClassifiedSurvey(record=record, prepared=prepared, failures=executed.failures)


@contextmanager
def _open_runner(request: ClassifyRequest, observer: RunObserver) -> Iterator[Runner]:
    """Yield who does the tasks. Whatever ends the block, a signal too, closes client and local cluster."""
    if request.workers == 0 and request.scheduler is None:
        yield InProcess()
        return
    from varstar_batch.cluster.client import open_client, unlike_versions
    from varstar_batch.cluster.dask_runner import DaskRunner

    cluster = open_client(request.workers, request.scheduler, request.cluster, dashboard=observer.dashboard is not None)
    with cluster as client:
        if client is None:
            raise AssertionError("unreachable: workers or a scheduler are asked for")
        if observer.dashboard is not None and client.dashboard_link:
            observer.dashboard(client.dashboard_link)
        if request.scheduler is not None and (differs := unlike_versions(client)):
            observer.warn(differs)
        yield DaskRunner(client, request.config, warn=observer.warn)


def _prepare(request: ClassifyRequest, plan: RunPlan, bundle: Bundle, observer: RunObserver) -> Prepared:
    incremental = request.mode == "incremental"
    try:
        prepared = prepare(plan, bundle, request.catalog, fresh=request.fresh, incremental=incremental)
        if prepared.up_to_date and request.mode == "full":
            prepared = prepare(plan, bundle, request.catalog, fresh=True)
    except RefusedError as error:
        if not request.abandon_unfinished or isinstance(error, HeldError):
            raise
        observer.warn(f"beginning a new run: {error}")
        prepared = prepare(plan, bundle, request.catalog, fresh=True, incremental=incremental)
    if not prepared.up_to_date:
        observer.note(prepared.heading())
    return prepared


def ingest(request: IngestRequest, show: ShowProgress = progress) -> IngestReport | ArchiveReport:
    """Make a partitioned survey of observations, or of an archive's files, and a table of objects.

    Parameters
    ----------
    request : IngestRequest
    show : callable
        Shows the progress.

    Raises
    ------
    VarstarError
        As `varstar_batch.ingest.from_archive.ingest_survey` says.
    """
    # On first use: Numba and SciPy come with it, and Dask.
    from varstar_batch.cluster.dask_crew import open_crew
    from varstar_batch.ingest.from_archive import ingest_survey

    with open_crew(request.workers, request.scheduler, request.cluster) as crew:
        return ingest_survey(request, show, crew)


def train(
    request: TrainingRequest, show: ShowProgress = progress, note: Callable[[str], None] = lambda _: None
) -> Trained:
    """Train a bundle on labelled surveys and write it with its report.

    Parameters
    ----------
    request : TrainingRequest
    show : callable
        Shows the progress.
    note : callable
        Takes lines about what is going on.

    Raises
    ------
    VarstarError
        As `varstar_batch.training.make_bundle.make_bundle` says.
    """
    from varstar_batch.training.make_bundle import make_bundle

    return make_bundle(request, show, note)
