"""Grafana's dashboard asks for nothing that no process tells: every metric, label and value, by a live scrape."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.makers.runs import run
from tests.makers.surveys import write_survey
from varstar_batch.runs import records as counting

K8S = Path(__file__).resolve().parents[2] / "k8s"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Return what a real scheduler tells, and a worker that has classified a survey and spilled to disk."""
    told = ""
    survey = write_survey(tmp_path_factory.mktemp("survey"), (60, 40))
    (survey / "bad.parquet").write_bytes(b"PAR1 not really")
    # Of 64 MiB a worker keeps no 48 in memory.
    settings = {"distributed.worker.memory.target": 0.1, "distributed.worker.memory.terminate": False}
    settings |= {"distributed.worker.memory.pause": False}
    small = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "memory_limit": "64MiB"}
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, **small) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        record, _ = run(survey, tmp_path_factory.mktemp("catalog"), scheduler=cluster.scheduler_address)
        assert (record["rows"], record["failed_partitions"]) == (100, 1)
        assert isinstance(client.submit(int, "no number").exception(), ValueError)
        held = client.map(bytes, [48 << 20, 47 << 20])
        assert client.submit(len, held[0]).result() == 48 << 20
        (worker,) = client.scheduler_info()["workers"].values()
        ports = {cluster.dashboard_link.rsplit(":", 1)[1].split("/")[0]: False, worker["services"]["dashboard"]: True}
        for port, counts in ports.items():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                lines = answer.read().decode().splitlines(keepends=True)
            # The scheduler is in this process, where tests before this one may have classified, too.
            told += "".join(line for line in lines if counts or "varstar_" not in line)
    return [sample for family in text_string_to_metric_families(told) for sample in family.samples]


@pytest.fixture(scope="module")
def metrics(samples: list[Sample]) -> dict[str, list[dict[str, str]]]:
    """Return the labels of each metric."""
    return {name: [each.labels for each in samples if each.name == name] for name in {each.name for each in samples}}


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """Return the sum of a metric over all labels but those that are given."""
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


def test_workers_count_what_they_did(samples: list[Sample]) -> None:
    assert value(samples, "varstar_objects_total") == 100
    assert 0 < value(samples, "varstar_objects_total", status="ok") <= 100
    assert value(samples, "varstar_chunks_total") == value(samples, "varstar_partitions_total") == 2
    assert value(samples, "varstar_failures_total", kind="unreadable") == value(samples, "varstar_failures_total") == 1
    assert value(samples, "varstar_retries_total") == 0
    assert value(samples, "varstar_observations_total") > 100 * 50
    assert value(samples, "varstar_survey_bytes_total") > 10_000
    assert all(value(samples, "varstar_stage_seconds_total", stage=stage) > 0 for stage in counting.STAGES)


def test_the_guide_has_every_metric_of_ours(samples: list[Sample]) -> None:
    ours = {each.name for each in samples if re.fullmatch(r"varstar_\w+_total", each.name)}
    assert set(re.findall(r"`(varstar_\w+_total)`", (K8S.parent / "deploy/README.md").read_text())) == ours


def test_nothing_is_counted_where_nobody_serves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "prometheus_client")
    monkeypatch.setattr(counting, "_counters", lambda: pytest.fail("counted"))
    counting.register()
    counting.count_retry()
    counting.count_failure("unreadable")
    counting.count_partition("carried")


def metric_problems(query: str, metrics: dict[str, list[dict[str, str]]]) -> list[str]:
    """Return what of a query nobody tells: metrics, labels, and values of labels."""
    found = []
    asked = re.findall(r"\b((?:dask|process|varstar)_\w+)(?:\{(\w+)(=~?)\"([^\"]*)\"\})?", query)
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
