"""What `sites.toml` says: the catalogs of a site, each with its survey, model, schedule, gate and contact.

    runs_at_once = 2
    notify = "slack-webhook/varstar-operators"

    [catalogs.crts]
    survey = "/data/crts/survey"
    catalog = "/data/crts/catalog"
    schedule = "30 2 * * *"
    gate = {max_changed = 0.05}

Each catalog gets the deployments of `deploy/prefect.yaml` under its own name (`nightly-crts`), in a queue of its own
that lets one run through at a time, with a trigger that knows its own survey only.
"""

from __future__ import annotations

import copy
import os
import tomllib
from pathlib import Path
from typing import Any

from prefect.client.schemas.schedules import CronSchedule
from pydantic import Field, ValidationError, field_validator

from varstar_batch.errors import InputError, one_line, told
from varstar_batch.requests import Request
from varstar_batch.runs.config import GateConfig, Preset

CATALOG_TAG = "varstar-catalog-"
"""Beginning of the tag of a catalog's deployments, by which those of a catalog that is no longer named are found."""

FLOWS_OF_A_CATALOG = ("reclassify", "maintain")
"""Flows whose deployments each catalog has; the others (training, ingest) the site has once."""


class CatalogSite(Request):
    """A catalog that a site keeps."""

    survey: str = Field(min_length=1, description="Folder or URL of the survey")
    catalog: str = Field(min_length=1, description="Folder or URL of the catalog")
    model: str | None = Field(None, description="Bundle; the one that ships by default")
    preset: Preset = Field("canonical", description="Column names of a known survey")
    schedule: str = Field("30 2 * * *", description="When the nightly run starts, as cron writes it")
    timezone: str = Field("UTC", description="Of the schedule")
    gate: GateConfig = Field(default_factory=GateConfig, description="What a run must be like to be published")
    keep: int = Field(8, ge=1, description="Published runs that the weekly upkeep leaves")
    notify: str | None = Field(None, description="Notification block, TYPE/NAME, told beside the site's")

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, schedule: str) -> str:
        CronSchedule(cron=schedule)
        return schedule


class Sites(Request):
    """A site: its catalogs, and what they share."""

    catalogs: dict[str, CatalogSite] = Field(min_length=1, description="By a short name for each")
    models: str = Field("models", description="Folder or URL where training leaves bundles")
    notify: str | None = Field(None, description="Notification block, TYPE/NAME, instead of automations.yaml's")
    runs_at_once: int = Field(2, ge=1, description="Runs of all catalogs together; others wait")

    @field_validator("catalogs")
    @classmethod
    def _are_names(cls, catalogs: dict[str, CatalogSite]) -> dict[str, CatalogSite]:
        for name in catalogs:
            if (
                not name.replace("-", "").isalnum()
                or name != name.lower()
                or not name.isascii()
                or name.startswith("-")
            ):
                raise ValueError(f"the name {name!r}: small letters, digits and - are allowed")
        places = [each.catalog for each in catalogs.values()]
        twice = sorted({place for place in places if places.count(place) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is the catalog of two entries: each needs its own")
        return catalogs


def read_sites(file: Path) -> Sites:
    """Return what a `sites.toml` says; relative paths are meant from the file's folder.

    Raises
    ------
    InputError
        It is no such file.
    """
    try:
        sites = Sites.model_validate(tomllib.loads(file.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            expected="a TOML file that can be read", got=one_line(error), where=str(file), fix="see deploy/README.md"
        ) from None
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {told(each)}" for each in error.errors()]
        raise InputError(
            expected="a site's catalogs", got="; ".join(problems), where=str(file), fix="see deploy/README.md"
        ) from None
    folder = file.resolve().parent

    def absolute(place: str) -> str:
        # As a link, not what it leads to: a release may be announced by it.
        return place.rstrip("/") if "://" in place else os.path.normpath(folder / place)

    catalogs = {
        name: each.model_copy(update={"survey": absolute(each.survey), "catalog": absolute(each.catalog)})
        for name, each in sites.catalogs.items()
    }
    return sites.model_copy(update={"catalogs": catalogs, "models": absolute(sites.models)})


def deployments_of(entries: list[dict[str, Any]], name: str, site: CatalogSite) -> list[dict[str, Any]]:
    """Return the deployments of one catalog, made of those that `deploy/prefect.yaml` has for any.

    Parameters
    ----------
    entries : list of dict
        Of the file, of one work pool.
    name : str
        The catalog's.
    site : CatalogSite

    Returns
    -------
    list of dict
        Under names of their own, in the queue ``catalog-NAME``, with the catalog's schedule, model and gate.
    """
    made = []
    for entry in copy.deepcopy(entries):
        if entry["entrypoint"].rpartition(".")[2] not in FLOWS_OF_A_CATALOG:
            continue
        base = entry["name"]
        entry["name"] = f"{base}-{name}"
        entry["tags"] = [*entry["tags"], CATALOG_TAG + name]
        entry["work_pool"] = entry["work_pool"] | {"work_queue_name": f"catalog-{name}"}
        if base.startswith("nightly"):
            entry["schedules"] = [{"cron": site.schedule, "timezone": site.timezone, "slug": "nightly"}]
        for parameters in (entry["parameters"], *(each["parameters"] for each in entry.get("triggers", ()))):
            asked = parameters["parameters"]
            if "keep" in asked:
                asked["keep"] = site.keep
                continue
            asked |= site.model_dump(include={"model", "preset"}, exclude_unset=True)
            gate = site.gate.model_dump(mode="json", exclude_unset=True)
            if gate:
                asked["config"] = asked.get("config", {}) | {"gate": gate}
        for trigger in entry.get("triggers", ()):
            trigger["name"] = f"{trigger['name']}-{name}"
        made.append(entry)
    return made
