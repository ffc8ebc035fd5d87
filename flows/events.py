"""Events, so that others can react: a survey's release, a published catalog, a run that is held or failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.events.schemas.automations import EventTrigger
from prefect.flows import Flow

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_SURVEY = "varstar.survey."
"""Beginning of the identifier by which a deployment's trigger knows its survey."""

RELEASE_PUBLISHED = "survey.release.published"
CATALOG_PUBLISHED = "varstar.catalog.published"
RUN_HELD = "varstar.run.held"
RUN_FAILED = "varstar.run.failed"


def surveys_waited_for(client: SyncPrefectClient) -> set[str]:
    """Return the surveys whose releases start a deployment of the server."""
    waiting = set()
    for automation in client.read_automations():
        trigger = automation.trigger
        if isinstance(trigger, EventTrigger) and RELEASE_PUBLISHED in trigger.expect and automation.enabled:
            ids = trigger.model_dump()["match"].get("prefect.resource.id", [])
            waiting |= {name.removeprefix(_SURVEY) for name in ([ids] if isinstance(ids, str) else ids)}
    return waiting


def release_event(survey: str, release: str) -> dict[str, Any]:
    """Return the event that says that a release of a survey has landed; the server's API takes it as it is."""
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": RELEASE_PUBLISHED,
        "resource": {"prefect.resource.id": f"{_SURVEY}{survey}", "prefect.resource.name": survey},
        "payload": {"survey": survey, "release": release},
    }


def emit_release(survey: str, release: str) -> None:
    """Say from within a flow that a release of a survey has landed."""
    event = release_event(survey, release)
    emit_event(event["event"], event["resource"], payload=event["payload"])


def emit_published(catalog: str, record: Mapping[str, Any], survey: str, release: str, link: str) -> None:
    """Say that a run was published: catalog, run, counts, and where to look at it."""
    names = (
        "run_id",
        "rows",
        "objects",
        "kept_rows",
        "failed_partitions",
        "status",
        "classes",
        "light_curves_per_second",
    )
    emit_event(
        CATALOG_PUBLISHED,
        _resource(catalog),
        payload={
            "catalog": catalog,
            "survey": survey,
            "release": release,
            "link": link,
            **{name: record[name] for name in names},
        },
    )


def emit_held(catalog: str, record: Mapping[str, Any], survey: str, release: str, link: str) -> None:
    """Say that a run is complete and was not published: why, number against limit, and where to look at it."""
    emit_event(
        RUN_HELD,
        _resource(catalog),
        payload={
            "catalog": catalog,
            "survey": survey,
            "release": release,
            "link": link,
            "run_id": record["run_id"],
            "reasons": record["held"],
            "gate": record["gate"],
        },
    )


def emit_failed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Say that a run failed or crashed; a hook, which the worker calls where the run's own process is gone."""
    parameters = flow_run.parameters.get("parameters", {})
    if not isinstance(parameters, Mapping):
        parameters = parameters.model_dump(mode="json")
    place = str(parameters.get("catalog") or parameters.get("out") or flow.name)
    emit_event(
        RUN_FAILED,
        _resource(place),
        payload={
            "flow": flow.name,
            "flow_run": flow_run.name,
            "flow_run_id": str(flow_run.id),
            "state": state.name,
            "message": state.message or "",
            **{name: parameters.get(name) for name in ("catalog", "survey", "release")},
        },
    )


def _resource(catalog: str) -> dict[str, str]:
    return {"prefect.resource.id": f"varstar.catalog.{catalog}", "prefect.resource.name": catalog}
