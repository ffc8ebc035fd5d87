"""The alerts: rules that Prometheus itself loads, each fired by what it is for, and by nothing else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.makers.clusters import free_port
from tests.makers.flow_site import PATIENCE, until
from tests.makers.runs import run
from tests.makers.surveys import write_survey

ALERTS = Path(__file__).resolve().parents[2] / "k8s/components/monitoring/alerts.yaml"
RULES: dict[str, Any] = yaml.safe_load(ALERTS.read_text())["spec"]

QUIET = {
    'varstar_runs_total{outcome="published"}': "0+1x200",
    'varstar_runs_total{outcome="held"}': "0x200",
    "varstar_retries_total{}": "0+1x200",
    'dask_scheduler_tasks{state="no-worker"}': "0x200",
    "dask_scheduler_workers{}": "2x200",
    'varstar_gpu_tasks{state="no-worker"}': "0x200",
    "dask_scheduler_tasks_suspicious_total{}": "0x200",
}
"""Metrics of a site where all is well, as promtool writes series: first value, step, how often; one a minute."""

FAULTS: dict[str, dict[str, str]] = {
    "VarstarRunHeld": {'varstar_runs_total{outcome="held"}': "0x190 1x10"},
    "VarstarPartitionsFail": {'varstar_failures_total{kind="unreadable"}': "_x190 1x10"},
    "VarstarStoreRefuses": {"varstar_retries_total{}": "0x150 0+30x50"},
    "VarstarNoWorkers": {'dask_scheduler_tasks{state="no-worker"}': "5x200", "dask_scheduler_workers{}": "0x200"},
    "VarstarQueueGrows": {'varstar_gpu_tasks{state="no-worker"}': "0x100 9x100"},
    "VarstarWorkersDie": {"dask_scheduler_tasks_suspicious_total{}": "0x190 2x10"},
}


def firing(series: dict[str, str], folder: Path, at: str, alerts: list[str], fires: set[str]) -> None:
    """Have promtool check which of the alerts fire at a time, and fail with what it says."""
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (Debian: prometheus), which this machine does not have")
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
    expected = [{"eval_time": at, "alertname": name} for name in alerts]
    for each in expected:
        rule = next(rule for rule in RULES["groups"][0]["rules"] if rule["alert"] == each["alertname"])
        if each["alertname"] in fires:
            kind = {"kind": "unreadable"} if "sum by (kind)" in rule["expr"] else {}
            words = {
                name: text.replace("{{ $labels.kind }}", "unreadable") for name, text in rule["annotations"].items()
            }
            each["exp_alerts"] = [{"exp_labels": rule["labels"] | kind, "exp_annotations": words}]  # type: ignore[assignment]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": expected,
    }
    (folder / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [test]}))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


NAMES = [rule["alert"] for rule in RULES["groups"][0]["rules"]]


def test_no_alert_fires_where_all_is_well(tmp_path: Path) -> None:
    firing(QUIET, tmp_path, "199m", NAMES, set())


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_an_alert_fires_for_what_it_is_for_and_alone(name: str, tmp_path: Path) -> None:
    firing(QUIET | FAULTS[name], tmp_path, "199m", NAMES, {name})


def test_a_full_disk_is_told_with_the_failed_partition(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (Debian: prometheus), which this machine does not have")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    done = subprocess.run(
        ["promtool", "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"{len(NAMES)} rules found" in done.stdout
    firing(
        QUIET | {'varstar_failures_total{kind="disk_full"}': "_x190 1x10"},
        tmp_path,
        "199m",
        ["VarstarDiskFull"],
        {"VarstarDiskFull"},
    )


def test_a_day_without_a_run_is_told_and_a_week_is_not(tmp_path: Path) -> None:
    a_day = {'varstar_runs_total{outcome="published"}': "0x60 1x1700"}
    firing(a_day, tmp_path, "1750m", ["VarstarNoRun"], {"VarstarNoRun"})
    firing(a_day, tmp_path, "1300m", ["VarstarNoRun"], set())
    # Of a site that was never used nothing is said.
    firing({'varstar_runs_total{outcome="published"}': "0x1760"}, tmp_path, "1750m", ["VarstarNoRun"], set())


@contextmanager
def prometheus(folder: Path, scraped: str) -> Iterator[str]:
    """Run a real Prometheus that loads the rules and asks one process for its metrics, once a second."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus (Debian: prometheus), which this machine does not have")
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
    often = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    scrape = [{"job_name": "worker", "static_configs": [{"targets": [scraped]}]}]
    settings = {"global": often, "rule_files": ["rules.yaml"], "scrape_configs": scrape}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    address = f"127.0.0.1:{free_port()}"
    words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "prometheus.log").open("w") as log:
        server = subprocess.Popen(
            ["prometheus", *words, f"--web.listen-address={address}"], stdout=log, stderr=log, cwd=folder
        )
    try:
        yield f"http://{address}/api/v1"
    finally:
        server.terminate()
        server.wait(60)


def asked(url: str, **query: str) -> list[dict[str, Any]]:
    try:
        data = httpx.get(url, params=query, timeout=30).json().get("data", {})
    except httpx.TransportError:
        return []
    return data.get("alerts") or data.get("result") or []


@pytest.mark.slow
def test_a_real_prometheus_fires_for_a_real_run_with_a_failed_partition(tmp_path: Path) -> None:
    import dask
    from distributed import Client, LocalCluster

    survey = write_survey(tmp_path / "survey", (40,))
    (survey / "bad.parquet").write_bytes(b"PAR1 not really")
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        (worker,) = client.scheduler_info()["workers"].values()
        with prometheus(tmp_path, f"127.0.0.1:{worker['services']['dashboard']}") as url:
            until("Prometheus to ask the worker", lambda: asked(f"{url}/query", query="up == 1"), 2 * PATIENCE)
            assert asked(f"{url}/alerts") == []
            record, _ = run(survey, tmp_path / "catalog", scheduler=cluster.scheduler_address)
            assert record["failed_partitions"] == 1
            fired = until("an alert", lambda: asked(f"{url}/alerts"), 2 * PATIENCE)
    assert {each["labels"]["alertname"]: each["state"] for each in fired} == {"VarstarPartitionsFail": "firing"}
    assert fired[0]["annotations"]["summary"] == "Partitions failed: unreadable."
