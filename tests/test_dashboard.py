"""Grafana's dashboard asks for nothing that no process tells: every metric, label and value, by a live scrape."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster
from prometheus_client.parser import text_string_to_metric_families

K8S = Path(__file__).resolve().parents[1] / "k8s"


@pytest.fixture(scope="module")
def metrics() -> dict[str, list[dict[str, str]]]:
    """Return what a real scheduler tells, and a worker that has spilled to disk: the labels of each metric."""
    told = ""
    # Of 64 MiB a worker keeps no 48 in memory.
    settings = {"distributed.worker.memory.target": 0.1, "distributed.worker.memory.terminate": False}
    settings |= {"distributed.worker.memory.pause": False}
    small = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "memory_limit": "64MiB"}
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, **small) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        held = client.map(bytes, [48 << 20, 47 << 20])
        assert client.submit(len, held[0]).result() == 48 << 20
        (worker,) = client.scheduler_info()["workers"].values()
        for port in (cluster.dashboard_link.rsplit(":", 1)[1].split("/")[0], worker["services"]["dashboard"]):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                told += answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(told) for sample in family.samples]
    return {name: [each.labels for each in samples if each.name == name] for name in {each.name for each in samples}}


def metric_problems(query: str, metrics: dict[str, list[dict[str, str]]]) -> list[str]:
    """Return what of a query nobody tells: metrics, labels, and values of labels."""
    found = []
    asked = re.findall(r"\b((?:dask|process)_\w+)(?:\{(\w+)(=~?)\"([^\"]*)\"\})?", query)
    for name, label, _, value in asked:
        labels = metrics.get(name, [])
        if not labels:
            found.append(f"no metric {name}")
        elif label and not any(re.fullmatch(value, each.get(label, "")) for each in labels):
            found.append(f"no {name} with {label} {value}")
    grouped = re.search(r"by \((\w+)\)", query)
    if grouped and not any(grouped[1] in each for name, *_ in asked for each in metrics.get(name, [])):
        found.append(f"no label {grouped[1]}")
    return found if asked else ["no metric"]


def test_everything_that_the_dashboard_asks_for_exists(metrics: dict[str, list[dict[str, str]]]) -> None:
    dashboard = json.loads((K8S / "base/grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= 10
    assert [line for query in queries for line in metric_problems(query, metrics)] == []
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(panel["title"] and panel["targets"] for panel in dashboard["panels"])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sum(dask_scheduler_workerz)", "no metric dask_scheduler_workerz"),
        ('sum(dask_scheduler_tasks{state="done"})', "no dask_scheduler_tasks with state done"),
        ("sum by (kind) (dask_scheduler_tasks)", "no label kind"),
        ("vector(1)", "no metric"),
    ],
)
def test_a_query_that_nobody_answers_is_noticed(
    query: str, said: str, metrics: dict[str, list[dict[str, str]]]
) -> None:
    assert metric_problems(query, metrics) == [said]
