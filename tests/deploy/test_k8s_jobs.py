"""Jobs of flow runs in a cluster: valid, restricted, and with the name of a secret instead of what stands in it."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import yaml
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from tests.makers.manifests import (
    Manifest,
    house_problems,
    kubernetes_problems,
    literal_problems,
    pods,
    restricted_problems,
)

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
PLANTED = "operator:pl4nted-prefect-password"

pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate: pip install '.[test]'")
kubernetes = pytest.importorskip("prefect_kubernetes.worker", reason="needs prefect-kubernetes")


def configuration_of_a_flow_run() -> tuple[Any, Manifest]:
    """Return what a worker makes a job of, and the work pool's template, as `varstar deploy` fills it in."""
    template = json.loads((K8S / "base/job-template.json").read_text())
    entries = yaml.safe_load((ROOT / "deploy/prefect.yaml").read_text())["deployments"]
    variables = next(each for each in entries if each["name"] == "nightly-kubernetes")["work_pool"]["job_variables"]
    variables = copy.deepcopy(variables) | {"image": "varstar-batch-gpu:0.1.0"}
    make = kubernetes.KubernetesWorkerJobConfiguration.from_template_and_values
    made = asyncio.run(make(template, variables, client=AsyncMock()))  # nothing in it refers to the server
    made.command = "python -m prefect.flow_engine"
    made.env = {name: value for name, value in made.env.items() if name.startswith("PREFECT_FLOWS")}
    made.prepare_for_flow_run(_flow_run())
    return made, template


def _flow_run() -> Any:
    from uuid import uuid4

    from prefect.client.schemas.objects import FlowRun

    return FlowRun(id=uuid4(), flow_id=uuid4(), name="a night's run")


def test_jobs_of_flow_runs_are_valid_and_restricted() -> None:
    made, template = configuration_of_a_flow_run()
    job = made.job_manifest
    ((_, labels, spec),) = pods(job | {"metadata": {"name": "flow"}})
    assert labels["app.kubernetes.io/name"] == "varstar-flow"
    assert kubernetes_problems(job) == []
    assert [*restricted_problems(spec), *house_problems(spec), *literal_problems(job | {"metadata": {}})] == []
    assert job["spec"]["backoffLimit"] == 0
    assert job["metadata"]["namespace"] == "varstar"
    assert spec["containers"][0]["image"] == "varstar-batch-gpu:0.1.0"
    variables = {each["name"]: each["value"] for each in spec["containers"][0]["env"]}
    assert variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert template["variables"]["properties"]["service_account_name"]["default"] == spec["serviceAccountName"]
    job["spec"]["template"]["spec"]["completions"] = 1
    assert kubernetes_problems(job) != []


def job_as_sent(monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Return the job that a worker sends to Kubernetes, whose own settings hold the password."""
    with temporary_settings(updates={PREFECT_API_AUTH_STRING: PLANTED}):
        made, _ = configuration_of_a_flow_run()
        batch = AsyncMock()
        monkeypatch.setattr(kubernetes, "BatchV1Api", lambda _: batch)
        asyncio.run(kubernetes.KubernetesWorker("varstar-kubernetes")._create_job(made, AsyncMock()))
    job: Manifest = batch.create_namespaced_job.await_args.args[1]
    return job


def test_jobs_name_the_secret_of_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PLANTED in json.dumps(job_as_sent(monkeypatch)), "without our settings the password would be in it"
    documents = yaml.safe_load_all((K8S / "base/prefect-worker.yaml").read_text())
    (container,) = next(documents)["spec"]["template"]["spec"]["containers"]
    for each in container["env"]:
        if each["name"].startswith("PREFECT_INTEGRATIONS_"):
            monkeypatch.setenv(each["name"], each["value"])
    job = job_as_sent(monkeypatch)
    assert PLANTED not in json.dumps(job)
    variables = {each["name"]: each for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    expected = {"secretKeyRef": {"name": "varstar-prefect", "key": "auth-string"}}
    assert variables["PREFECT_API_AUTH_STRING"]["valueFrom"] == expected
