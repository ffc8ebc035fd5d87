"""Whether the deployments of a server are those that `deploy/` has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varstar_batch.errors import differences
from varstar_batch.flows.deploy import DEPLOY, POOLS, Kind, OneCatalog, SeveralCatalogs, Site

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

VARIABLE = re.compile(r"\{\{ \$(VARSTAR_\w+) \}\}")


def site_of(client: SyncPrefectClient, kind: Kind) -> OneCatalog | None:
    """Return what a server's own deployments are for, or None where it has several catalogs, or none."""
    applied = {each.name.removesuffix("-kubernetes"): each for each in _applied(client, kind)}
    if not {"nightly", "train"} <= applied.keys():
        return None
    asked = applied["nightly"].parameters["parameters"]
    models = str(applied["train"].parameters["parameters"]["out"]).rpartition("/")[0]
    return OneCatalog(Site(survey=asked["survey"], catalog=asked["catalog"], models=models))


def unlike(
    client: SyncPrefectClient, wanted: OneCatalog | SeveralCatalogs, kind: Kind, folder: Path = DEPLOY
) -> list[str]:
    """Return a line for each deployment that is missing, too much, or not as the files have it."""
    applied = {each.name: _as_applied(each) for each in _applied(client, kind)}
    meant = {
        entry["name"]: _as_meant(entry, site) for entries, site in wanted.wanted(kind, folder) for entry in entries
    }
    lines = [f"{name} is missing" for name in sorted(meant.keys() - applied.keys())]
    lines += [f"{name} is no longer meant" for name in sorted(applied.keys() - meant.keys())]
    for name in sorted(meant.keys() & applied.keys()):
        found = [key for key, *_ in differences(applied[name], meant[name])]
        if found:
            lines.append(f"{name} has another {', '.join(found)}")
    return lines


def _applied(client: SyncPrefectClient, kind: Kind) -> list[DeploymentResponse]:
    ours = client.read_deployments()
    return [each for each in ours if "varstar" in each.tags and each.work_pool_name == POOLS[kind]]


def _as_applied(deployment: DeploymentResponse) -> dict[str, Any]:
    return {
        "entrypoint": deployment.entrypoint,
        "description": deployment.description or "",
        "tags": sorted(deployment.tags),
        "parameters": deployment.parameters,
        "queue": deployment.work_queue_name,
        "schedules": _schedules(each.schedule.model_dump() | {"active": each.active} for each in deployment.schedules),
        "paused": deployment.paused,
    }


def _as_meant(entry: Mapping[str, Any], site: Site) -> dict[str, Any]:
    return {
        "entrypoint": entry["entrypoint"],
        "description": entry.get("description", ""),
        "tags": sorted(entry["tags"]),
        "parameters": _filled(entry.get("parameters", {}), site.environment()),
        "queue": entry["work_pool"]["work_queue_name"],
        "schedules": _schedules(entry.get("schedules", ())),
        "paused": False,
    }


def _schedules(schedules: Iterable[Mapping[str, Any]]) -> list[str]:
    found = []
    for each in schedules:
        state = "" if each.get("active", True) else " (paused)"
        found.append(f"{each.get('cron')} {each.get('timezone') or 'UTC'}{state}")
    return sorted(found)


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    """Return parameters with the site's own values, as `prefect deploy` fills them in."""
    if isinstance(value, str):
        return VARIABLE.sub(lambda found: variables[found[1]], value)
    if isinstance(value, Mapping):
        return {name: _filled(each, variables) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, variables) for each in value]
    return value
