"""Bring a Prefect server to what `deploy/` says: pools, queues, deployments, automations; again at will."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import yaml
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from varstar_batch.errors import InputError, one_line
from varstar_batch.flows.sites import CATALOG_TAG, FLOWS_OF_A_CATALOG, Sites, deployments_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

Kind = Literal["local", "kubernetes"]

POOLS: Mapping[Kind, str] = {"local": "varstar-local", "kubernetes": "varstar-kubernetes"}

QUEUES: Mapping[str, int | None] = {"catalog": 1, "other": None}
"""Of each pool, with how many runs at once: one for each catalog, so that the others wait their turn."""

LOCAL_ENVIRONMENT: Mapping[str, str] = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
"""Of every local job: a sign of life, by which deploy/automations.yaml tells a run whose machine is gone."""

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"


@dataclass(frozen=True, kw_only=True)
class Site:
    """What `deploy/prefect.yaml` leaves open."""

    survey: str
    catalog: str
    """Folders or URLs; absolute paths, since runs start elsewhere."""
    models: str = "models"
    """Folder or URL where training leaves bundles."""
    image: str = ""
    """Container image of the Kubernetes pool."""

    def environment(self) -> dict[str, str]:
        """Return the variables by which the file's templates take them."""
        names = ("survey", "catalog", "models", "image")
        return {f"VARSTAR_{name.upper()}": getattr(self, name) for name in names}


@dataclass
class Deployed:
    """What was applied: names of deployments and automations, and what was left out for want of the block `notify`."""

    deployments: list[str] = field(default_factory=list)
    automations: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notify: str = ""
    removed: list[str] = field(default_factory=list)
    """Deployments of catalogs that the site does not keep any more."""


@dataclass(frozen=True)
class OneCatalog:
    """A site with one catalog, whose deployments have plain names."""

    site: Site
    notify: str | None = None
    """Notification block, as TYPE/NAME; None for that of `deploy/automations.yaml`."""

    models: ClassVar[str | None] = None
    """Folder of models that its file names; this one has none."""

    def catalogs(self) -> list[tuple[str, str, str]]:
        """Return name, survey and catalog of each; this one has no name."""
        return [("", self.site.survey, self.site.catalog)]

    def wanted(self, kind: Kind, folder: Path = DEPLOY) -> list[tuple[list[dict[str, Any]], Site]]:
        """Return the deployments that a pool is to have, and what their templates leave open."""
        return [(_entries(folder / "prefect.yaml", kind), self.site)]

    def apply(self, client: SyncPrefectClient, kind: Kind, folder: Path = DEPLOY) -> Deployed:
        """Apply everything in `folder`, `prefect.yaml` and `automations.yaml`.

        Raises
        ------
        InputError
            A file is missing, or Prefect refuses it.
        """
        done = Deployed()
        make_pool(client, kind)
        for entries, site in self.wanted(kind, folder):
            done.deployments += apply_deployments(folder / "prefect.yaml", entries, site)
        apply_automations(client, folder / "automations.yaml", self.notify, done)
        return done


@dataclass(frozen=True)
class SeveralCatalogs:
    """A site with the catalogs of a `sites.toml`."""

    sites: Sites
    image: str = ""
    """Container image of the Kubernetes pool."""

    @property
    def models(self) -> str:
        """Folder of models that the file names."""
        return self.sites.models

    def catalogs(self) -> list[tuple[str, str, str]]:
        """Return name, survey and catalog of each."""
        return [(name, each.survey, each.catalog) for name, each in self.sites.catalogs.items()]

    def wanted(self, kind: Kind, folder: Path = DEPLOY) -> list[tuple[list[dict[str, Any]], Site]]:
        """Return the deployments that a pool is to have, and what their templates leave open."""
        entries = _entries(folder / "prefect.yaml", kind)
        common = [entry for entry in entries if entry["entrypoint"].rpartition(".")[2] not in FLOWS_OF_A_CATALOG]
        for entry in common:
            if "surveys" in entry.get("parameters", {}).get("parameters", {}):
                entry["parameters"]["parameters"]["surveys"] = [each.survey for each in self.sites.catalogs.values()]
        own = [
            (deployments_of(entries, name, each), self._site(each.survey, each.catalog))
            for name, each in self.sites.catalogs.items()
        ]
        return [(common, self._site("", "")), *own]

    def apply(self, client: SyncPrefectClient, kind: Kind, folder: Path = DEPLOY) -> Deployed:
        """Apply everything in `folder` for each catalog, and remove the deployments of others.

        Raises
        ------
        InputError
            A file is missing, or Prefect refuses it.
        """
        sites, done = self.sites, Deployed()
        queues = {f"catalog-{name}": 1 for name in sites.catalogs} | {"other": None}
        make_pool(client, kind, queues, sites.runs_at_once)
        for entries, site in self.wanted(kind, folder):
            done.deployments += apply_deployments(folder / "prefect.yaml", entries, site)
        automations = folder / "automations.yaml"
        apply_automations(client, automations, sites.notify, done)
        for name, each in sites.catalogs.items():
            if each.notify:
                apply_automations(client, automations, each.notify, done, catalog=name)
        done.removed = _remove_others(client, kind, set(done.deployments))
        return done

    def _site(self, survey: str, catalog: str) -> Site:
        return Site(survey=survey, catalog=catalog, models=self.sites.models, image=self.image)


def _remove_others(client: SyncPrefectClient, kind: Kind, kept: set[str]) -> list[str]:
    """Remove the deployments of this pool that are not among those just made: of other catalogs, or of one alone."""
    removed = []
    for deployment in client.read_deployments():
        ours = "varstar" in deployment.tags and deployment.work_pool_name == POOLS[kind]
        if ours and deployment.name not in kept:
            client.delete_deployment(deployment.id)
            removed.append(deployment.name)
    return sorted(removed)


def make_pool(
    client: SyncPrefectClient,
    kind: Kind,
    queues: Mapping[str, int | None] = QUEUES,
    runs_at_once: int | None = None,
) -> None:
    """Make the work pool and its queues where they are not there yet, and set their limits."""
    name = POOLS[kind]
    template = _job_template(kind)
    try:
        there = client.read_work_pool(name)
    except ObjectNotFound:
        type_ = "process" if kind == "local" else "kubernetes"
        client.create_work_pool(WorkPoolCreate(name=name, type=type_, base_job_template=template))
    else:
        # A site's own template for Kubernetes stays; one that lets a run bring its command was made by Prefect.
        if kind == "local" or "command" in there.base_job_template["variables"]["properties"]:
            client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    if runs_at_once is not None:
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=runs_at_once))
    for queue, limit in queues.items():
        try:
            found = client.read_work_queue_by_name(queue, work_pool_name=name)
        except ObjectNotFound:
            found = client.create_work_queue(queue, work_pool_name=name)
        client.update_work_queue(found.id, concurrency_limit=limit)


def _job_template(kind: Kind) -> dict[str, Any]:
    """Return what a job of a pool is. A run may choose little of it: no command, and nothing that becomes one."""
    if kind == "local":
        # The worker makes the command itself, of the deployment's entry point.
        return {
            "job_configuration": {"env": LOCAL_ENVIRONMENT, "name": "{{ name }}", "labels": {}, "stream_output": True},
            "variables": {
                "type": "object",
                "properties": {"name": {"type": ["string", "null"], "default": None, "description": "Of the process"}},
                "additionalProperties": False,
            },
        }
    try:
        from prefect_kubernetes import KubernetesWorker
    except ImportError:
        raise InputError(
            expected="the package prefect-kubernetes",
            got="none",
            where="--pool kubernetes",
            fix="pip install 'varstar-batch[kubernetes]'",
        ) from None
    template: dict[str, Any] = KubernetesWorker.get_default_base_job_template()
    # What a pod of the pool's image does is the worker's to say.
    del template["variables"]["properties"]["command"]
    del template["job_configuration"]["command"]
    del template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"][0]["args"]
    template["variables"]["additionalProperties"] = False
    return template


def _entries(file: Path, kind: Kind) -> list[dict[str, Any]]:
    """Return the deployments that a file has for a kind of pool."""
    return [entry for entry in read_yaml(file)["deployments"] if entry["work_pool"]["name"] == POOLS[kind]]


def apply_deployments(file: Path, entries: Sequence[Mapping[str, Any]], site: Site) -> list[str]:
    """Apply deployments as `prefect deploy` does, and return their names; `file` is where they stand."""
    names = [entry["name"] for entry in entries]
    words = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file"]
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "prefect.yaml"
        chosen.write_text(yaml.safe_dump(read_yaml(file) | {"definitions": {}, "deployments": [*entries]}))
        done = subprocess.run(
            [sys.executable, "-m", *words, str(chosen)],
            env={**os.environ, **site.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
    said = done.stdout + done.stderr
    # It exits with 0 after an invalid file, too, having done nothing.
    if done.returncode or said.count("successfully created") != len(names):
        lines = [line for line in said.splitlines() if "rror" in line or "nvalid" in line or "•" in line]
        raise InputError(
            expected=f"{len(names)} deployments that Prefect accepts",
            got=one_line(" ".join(lines)) or one_line(said)[-300:],
            where=str(file),
            fix="correct the file",
        )
    return names


def apply_automations(
    client: SyncPrefectClient, file: Path, notify: str | None, done: Deployed, catalog: str = ""
) -> None:
    """Create the automations, or update those that have the same names; their notifications go to one block.

    With the name of a catalog only those that notify, of its runs alone.
    """
    content = read_yaml(file)
    done.notify = notify or content["notify"]
    block = _block_id(client, done.notify)
    for entry in content["automations"]:
        if catalog:
            if entry["actions"][0]["type"] != "send-notification":
                continue
            entry["name"] += f" ({catalog})"
            entry["trigger"]["match_related"] = {
                "prefect.resource.role": "tag",
                "prefect.resource.id": f"prefect.tag.{CATALOG_TAG}{catalog}",
            }
        actions = [_with_block(action, block) for action in entry["actions"]]
        if None in actions:
            done.left_out.append(entry["name"])
            continue
        automation = AutomationCore.model_validate(entry | {"actions": actions})
        there = client.read_automations_by_name(entry["name"])
        if there:
            client.update_automation(there[0].id, automation)
        else:
            client.create_automation(automation)
        done.automations.append(entry["name"])


def _with_block(action: dict[str, Any], block: str | None) -> dict[str, Any] | None:
    if action["type"] != "send-notification":
        return action
    return None if block is None else action | {"block_document_id": block}


def _block_id(client: SyncPrefectClient, name: str) -> str | None:
    kind, _, own = name.partition("/")
    try:
        return str(client.read_block_document_by_name(own, kind).id)
    except ObjectNotFound:
        return None


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the content of a YAML file, or raise InputError."""
    try:
        content: dict[str, Any] = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(
            expected="a YAML file as in the project's deploy/", got=one_line(error), where=str(file), fix="check it"
        ) from None
    return content
