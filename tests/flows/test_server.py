"""The flows as operators live with them: a real server, a real process worker, `varstar serve` around both."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from tests.makers.flow_site import ROOT, Site, processes_with, running_site, until
from tests.makers.runbook import check_said
from tests.makers.surveys import simulated_table, write_partition, write_survey
from varstar_batch.files.local_write import TEMPORARY_PREFIX

pytestmark = pytest.mark.slow

SECONDS_TO_STOP = 20.0
"""From the click on Cancel to the end of the run's processes: one or two on an idle machine."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    write_survey(folder / "survey")
    with running_site(folder) as running:
        yield running


LONG_PARTITIONS = 72


@pytest.fixture(scope="module")
def long_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes some seconds to classify: the same light curves under other names, again and again."""
    folder = tmp_path_factory.mktemp("long") / "survey"
    table = simulated_table(0, 1000)
    for number in range(LONG_PARTITIONS):
        names = pa.array([name.as_py() + number * 1000 for name in table["object_id"]], table["object_id"].type)
        column = table.schema.get_field_index("object_id")
        write_partition(folder / f"part-{number:05d}.parquet", table.set_column(column, "object_id", names))
    return folder


@pytest.fixture(scope="module")
def endless_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes longer to classify than any test looks at it, on any machine: one partition under 2,000 names."""
    folder = tmp_path_factory.mktemp("endless") / "survey"
    write_partition(folder / "part-00000.parquet", simulated_table(0, 1000))
    for number in range(1, 2000):
        os.link(folder / "part-00000.parquet", folder / f"part-{number:05d}.parquet")
    return folder


def run_records(catalog: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(catalog.glob("runs/*/run.json"))]


def written(catalog: Path) -> list[Path]:
    """The partitions that are done: a process that is killed while it writes one leaves a file of another name."""
    files = catalog.glob("runs/*/dataset/**/*.parquet")
    return [file for file in files if not file.name.startswith(TEMPORARY_PREFIX)]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_a_schedule_fires_by_itself(site: Site) -> None:
    deployment = site.deployment("reclassify/nightly")
    assert [entry["schedule"]["cron"] for entry in deployment["schedules"]] == ["30 2 * * *"]
    # The deployment's own parameters, but in the flow's process: Dask workers take a while to start.
    parameters = {"parameters": deployment["parameters"]["parameters"] | {"workers": 0}}
    # Soon, and again only when that run is over.
    soon = datetime.now(UTC) + timedelta(seconds=6)
    when = {"interval": 40, "anchor_date": soon.isoformat()}
    schedule = {"schedule": when, "active": True, "parameters": parameters}
    made = site.post(f"/deployments/{deployment['id']}/schedules", [schedule])
    try:

        def look() -> dict[str, Any] | None:
            runs = [run for run in site.runs_of("reclassify/nightly") if run["state_type"] == "COMPLETED"]
            return runs[0] if runs else None

        run = until("the schedule to fire and its run to complete", look)
    finally:
        site.http.delete(f"/deployments/{deployment['id']}/schedules/{made[0]['id']}").raise_for_status()
    assert run["auto_scheduled"]
    assert run["name"] == "survey with the shipped model"
    assert run_records(site.catalog)[0]["rows"] == 120


def test_a_release_starts_a_run_with_its_name(site: Site) -> None:
    said = site.varstar("release", site.survey, "--name", "DR2")
    assert (said.returncode, said.stderr) == (0, "")
    run = until("a run of on-release", lambda: next(iter(site.runs_of("reclassify/on-release")), None))
    assert run["parameters"]["parameters"]["release"] == "DR2"
    assert run["parameters"]["parameters"]["survey"] == str(site.survey)
    ended = site.ended(run["id"], "COMPLETED")
    assert ended["name"] == "survey DR2 with the shipped model"
    # The server stores events some seconds after it acts on them, in batches.
    assert len(until("the event to be stored", lambda: site.events("survey.release.published"))) == 1


def test_a_release_of_a_link_to_an_unchanged_survey_makes_no_run(site: Site, tmp_path: Path) -> None:
    link = tmp_path / "DR2"
    link.symlink_to(site.survey)
    for file in site.survey.glob("*.parquet"):
        os.utime(file)
    before = [record["run_id"] for record in run_records(site.catalog)]
    known = {run["id"] for run in site.runs_of("reclassify/on-release")}
    assert before
    said = site.varstar("release", link, "--name", "DR2 again")
    assert (said.returncode, said.stderr) == (0, "")

    def look() -> dict[str, Any] | None:
        return next((run for run in site.runs_of("reclassify/on-release") if run["id"] not in known), None)

    ended = site.ended(until("a run of on-release", look)["id"], "COMPLETED")
    assert ended["name"] == "survey DR2 again with the shipped model"
    assert [record["run_id"] for record in run_records(site.catalog)] == before


LINK = re.compile(r"\]\(([^)]*)\)")


def links_open(site: Site, *runs: str) -> None:
    """Each link of each artifact leads to a page that is there, for who has the key: also when the run is long over."""
    links = [link for run in runs for each in site.artifacts(run).values() for link in LINK.findall(str(each["data"]))]
    assert len(links) == len(runs)
    for link in links:
        assert link.startswith(f"{site.url}/varstar/report?at=")
        page = httpx.get(link, timeout=60)
        assert (page.status_code, "iframe sandbox" in page.text) == (200, True)
        file = link.replace("?", "/file?")
        assert httpx.get(file, timeout=60).status_code == 401
        report = httpx.get(file, auth=tuple(site.key.split(":")), timeout=60)
        assert report.status_code == 200
        assert report.text == Path(parse_qs(urlsplit(link).query)["at"][0]).read_text()
    secret = f"{site.url}/varstar/report/file?at={site.folder}/site/prefect-key"
    assert httpx.get(secret, auth=tuple(site.key.split(":")), timeout=60).status_code == 404


def test_runs_of_one_catalog_queue_up_and_leave_what_a_person_wants_to_see(site: Site) -> None:
    asked = site.prefect("deployment", "run", "reclassify/full")
    assert asked.returncode == 0, asked.stderr
    first = max(site.runs_of("reclassify/full"), key=lambda run: run["created"])["id"]
    second = site.start(
        "reclassify/full", survey=str(site.survey), catalog=str(site.catalog), mode="full", release="DR3", workers=0
    )
    until("the first to run", lambda: site.run(first)["state_type"] == "RUNNING")
    assert site.run(second)["state_type"] == "SCHEDULED"
    before, after = site.ended(first, "COMPLETED"), site.ended(second, "COMPLETED")
    assert moment(after["start_time"]) >= moment(before["end_time"])

    shown = site.artifacts(second)
    assert set(shown) == set(site.artifacts(first)) == {"progress", "counts", "summary"}
    assert shown["progress"]["data"] == 100
    counts = json.loads(shown["counts"]["data"])
    assert sum(row["objects"] for row in counts if row["kind"] == "status") == 120
    record = run_records(site.catalog)[-1]
    for words in (record["run_id"], "Changes since", "### Failures\n\nNone.", f"reports/{record['run_id']}.html"):
        assert words in shown["summary"]["data"]
    assert (site.catalog / f"reports/{record['run_id']}.html").is_file()
    assert "Dask dashboard: http://" in site.logs_of(first)
    links_open(site, first, second)

    published = until("the event", lambda: [e for e in site.events("varstar.catalog.published") if "DR3" in str(e)])
    payload = published[0]["payload"]
    assert (payload["catalog"], payload["rows"], payload["run_id"]) == (str(site.catalog), 120, record["run_id"])
    assert payload["link"].endswith(f"{record['run_id']}.html")


def test_cancelled_then_killed_then_resumed(site: Site, long_survey: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    parameters = {"survey": str(long_survey), "catalog": str(catalog), "workers": 1}

    cancelled = site.start("reclassify/nightly", **parameters)
    until("some partitions", lambda: len(written(catalog)) > 1, every=0.05)
    at_work = set(processes_with(cancelled))
    assert len(at_work) >= 2  # the flow and its Dask worker
    asked = time.monotonic()
    site.post(f"/flow_runs/{cancelled}/set_state", {"state": {"type": "CANCELLING"}})
    until("flow and workers to end", lambda: not at_work & set(processes_with(cancelled)), SECONDS_TO_STOP)
    seconds = time.monotonic() - asked
    site.ended(cancelled, "CANCELLED")
    done = len(written(catalog))
    assert done < LONG_PARTITIONS

    killed = site.start("reclassify/nightly", **parameters)
    until("more partitions", lambda: len(written(catalog)) > done, every=0.05)
    engine = min(processes_with(killed))
    os.kill(engine, signal.SIGKILL)
    crashed = site.ended(killed, "CRASHED")
    assert "-9" in crashed["state"]["message"]
    until("its processes to end", lambda: not processes_with(killed), SECONDS_TO_STOP)
    failed = until("the event", lambda: [e for e in site.events("varstar.run.failed") if killed in str(e)])
    assert failed[0]["payload"]["catalog"] == str(catalog)
    done = len(written(catalog))
    assert done < LONG_PARTITIONS

    site.ended(site.start("reclassify/nightly", **parameters), "COMPLETED")
    (record,) = run_records(catalog)  # one run, begun once, ended by the third
    assert record["resumed_partitions"] == done
    assert (record["rows"], record["failed_partitions"]) == (1000 * LONG_PARTITIONS, 0)
    print(f"cancelled within {seconds:.1f} s; {done} of {LONG_PARTITIONS} partitions were done when the last run began")


@contextmanager
def mailbox() -> Iterator[tuple[str, list[str]]]:
    """A webhook on loopback, and what it was sent."""
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the tests' output quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


NOTIFY = """\
import sys
from pathlib import Path
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from varstar_batch.flows.deploy import Deployed, apply_automations
from varstar_batch.cli.prefect_server import prefect_client
data = {"subject": "{{subject}}", "body": "{{body}}"}
CustomWebhookNotificationBlock(name="test", url=sys.argv[1], json_data=data).save("test", overwrite=True)
for _ in range(2):
    done = Deployed()
    with prefect_client() as client:
        apply_automations(client, Path(sys.argv[2]), "custom-webhook/test", done)
print(len(done.automations), len(done.left_out))
"""


AUTOMATIONS = ROOT / "deploy/automations.yaml"


def test_a_failure_is_notified_and_told_in_one_line(site: Site, tmp_path: Path) -> None:
    with mailbox() as (url, received):
        applied = site.command(sys.executable, "-c", NOTIFY, url, AUTOMATIONS)
        assert applied.stdout.split() == ["4", "0"], applied.stderr
        names = [entry["name"] for entry in site.post("/automations/filter") if entry["name"].startswith("varstar: ")]
        assert len(names) == len(set(names)) == 4  # applied twice, there once
        nowhere = tmp_path / "nowhere"
        run = site.start("reclassify/nightly", survey=str(nowhere), catalog=str(tmp_path / "catalog"))
        state = site.ended(run, "FAILED")["state"]
        message = until("the notification", lambda: next((text for text in received if str(nowhere) in text), None))
    assert "varstar: reclassify failed" in message
    assert run in message  # as a link
    assert str(nowhere) in state["message"]
    assert "check the path" in state["message"]
    logs = until("its last log", lambda: (text := site.logs_of(run)) and "Finished in state" in text and text)
    assert "Traceback" not in logs
    assert until("the event", lambda: [e for e in site.events("varstar.run.failed") if run in str(e)])


@contextmanager
def impatient(site: Site, folder: Path) -> Iterator[list[str]]:
    """The repository's automations, but waiting for seconds only; what they send arrives here."""
    content = yaml.safe_load(AUTOMATIONS.read_text())
    for entry in content["automations"]:
        if entry["trigger"]["posture"] == "Proactive":
            entry["trigger"]["within"] = 10
    (folder / "automations.yaml").write_text(yaml.safe_dump(content))
    with mailbox() as (url, received):
        applied = site.command(sys.executable, "-c", NOTIFY, url, folder / "automations.yaml")
        assert applied.returncode == 0, applied.stderr
        try:
            yield received
        finally:  # runs that last longer than that are none the worse
            restored = site.command(sys.executable, "-c", NOTIFY, url, AUTOMATIONS)
            assert restored.returncode == 0, restored.stderr


def test_a_run_that_falls_silent_is_ended_and_one_that_is_late_is_told_of(
    site: Site, endless_survey: Path, tmp_path: Path
) -> None:
    queue = "/work_pools/varstar-local/queues/catalog"
    with impatient(site, tmp_path) as received:
        silent = site.start("reclassify/nightly", survey=str(endless_survey), catalog=str(tmp_path / "c"), workers=0)
        until("a sign of life", lambda: [e for e in site.events("prefect.flow-run.heartbeat") if silent in str(e)])
        site.http.patch(queue, json={"is_paused": True}).raise_for_status()
        try:
            for pid in processes_with(silent):
                os.kill(pid, signal.SIGSTOP)  # its machine is gone, as far as anybody can tell
            late = site.start("maintain/maintenance", catalog=str(site.catalog))
            crashed = site.ended(silent, "CRASHED")
            check_said("run's machine gone", crashed["state"]["message"])
            message = until("the notification", lambda: next((text for text in received if late in text), None))
            assert "varstar: a run is late" in message
            assert site.run(late)["state"]["name"] == "Late"
            assert until("the other one", lambda: [text for text in received if silent in text and "crashed" in text])
            site.http.delete(f"/flow_runs/{late}").raise_for_status()
        finally:
            for pid in processes_with(silent):
                os.kill(pid, signal.SIGKILL)
            site.http.patch(queue, json={"is_paused": False}).raise_for_status()
        until("its processes to end", lambda: not processes_with(silent))


@pytest.mark.parametrize(
    "wrong",
    [{"mode": "some"}, {"workers": -1}, {"sruvey": "/data"}, {"config": {"engine": "abacus"}}, {"survey": ""}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_parameters_that_do_not_validate_are_refused(site: Site, wrong: dict[str, Any]) -> None:
    deployment = site.deployment("reclassify/nightly")
    before = len(site.runs_of("reclassify/nightly"))
    parameters = {"survey": str(site.survey), "catalog": str(site.catalog)} | wrong
    answer = site.http.post(
        f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": {"parameters": parameters}}
    )
    assert answer.status_code in {409, 422}
    assert len(site.runs_of("reclassify/nightly")) == before


def test_everything_that_the_repository_says_is_deployed(site: Site) -> None:
    names = {f"{name}" for name in (entry["name"] for entry in site.post("/deployments/filter"))}
    assert names == {"nightly", "full", "on-release", "train", "ingest", "maintenance"}
    automations = {entry["name"] for entry in site.post("/automations/filter")}
    assert automations >= {"survey.release.published starts on-release", "varstar: a run fell silent"}


def test_a_failed_partition_fails_the_run_and_leaves_the_list(site: Site, tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", (20, 20))
    (survey / "part-00002.parquet").write_bytes(b"PAR1 this is not Parquet PAR1")
    run = site.start("reclassify/nightly", survey=str(survey), catalog=str(tmp_path / "catalog"), workers=0)
    message = site.ended(run, "FAILED")["state"]["message"]
    for words in ("all 3 partitions classified", "part-00002.parquet", "is published without them"):
        assert words in message
    assert "part-00002.parquet" in site.artifacts(run)["summary"]["data"]
    assert (tmp_path / "catalog/current/00000001.json").is_file()


def test_a_pool_that_is_not_there(site: Site) -> None:
    found = site.varstar("doctor", "--pool", "nomad")
    assert found.returncode == 1
    assert "no pool nomad; there are: varstar-local" in found.stdout
    assert "make it with `varstar deploy`" in found.stdout


def test_doctor_finds_the_site_well(site: Site) -> None:
    found = site.varstar("doctor", "--catalog", site.catalog, "--json")
    assert found.returncode == 0, found.stdout
    states = {check["name"]: check["state"] for check in json.loads(found.stdout)}
    assert states == dict.fromkeys(
        ("versions", "server", "key", "clock", "pool", "queue", "deployed", "catalog", "model", "gpu"), "ok"
    ) | {"gpu": states["gpu"]}


def test_doctor_finds_deployments_that_somebody_changed(site: Site) -> None:
    nightly, maintenance = site.deployment("reclassify/nightly"), site.deployment("maintain/maintenance")
    paused = {"paused": True, "parameters": {"parameters": nightly["parameters"]["parameters"] | {"mode": "full"}}}
    site.http.patch(f"/deployments/{nightly['id']}", json=paused).raise_for_status()
    site.http.delete(f"/deployments/{maintenance['id']}").raise_for_status()
    try:
        found = site.varstar("doctor")
        assert found.returncode == 1
        (line,) = [line for line in found.stdout.splitlines() if "deployed" in line]
        check_said("deployments changed", line)
        assert "nightly has another parameters.parameters.mode, paused" in line
        assert "`varstar deploy` applies them again" in line
    finally:
        words = ["deploy", "--survey", site.survey, "--catalog", site.catalog, "--models", site.folder / "models"]
        done = site.varstar(*words)
        assert done.returncode == 0, done.stderr
        site.http.patch(f"/deployments/{nightly['id']}", json={"paused": False}).raise_for_status()
    assert site.varstar("doctor").returncode == 0


def long_form(folder: Path, objects: int) -> tuple[Path, Path]:
    """Tables of observations and of objects, as an archive would give them."""
    table = simulated_table(0, objects, seed=9)
    curves = table["lightcurve"].combine_chunks()
    observations = {name: pc.list_flatten(pc.struct_field(curves, name)) for name in ("time", "mag", "mag_err")}
    observations["object_id"] = table["object_id"].take(pc.list_parent_indices(pc.struct_field(curves, "time")))
    pq.write_table(pa.table(observations), folder / "observations.parquet")
    pq.write_table(table.drop_columns(["lightcurve"]), folder / "objects.parquet")
    return folder / "observations.parquet", folder / "objects.parquet"


def test_an_ingested_release_is_reclassified_and_looked_after(site: Site, tmp_path: Path) -> None:
    observations, objects = long_form(tmp_path, 30)
    survey = tmp_path / "second"
    site.ended(
        site.start(
            "ingest/ingest",
            observations=str(observations),
            objects=str(objects),
            out=str(survey),
            release="DR9",
            time_system="HJD",
            partitions=2,
            workers=2,
        ),
        "COMPLETED",
    )

    # The release of another survey than the site's starts nothing; this classifies it into a catalog of its own.
    assert until("the event", lambda: [e for e in site.events("survey.release.published") if "DR9" in str(e)])
    catalog = tmp_path / "catalog"
    for _ in range(2):
        run = site.start("reclassify/full", survey=str(survey), catalog=str(catalog), mode="full", workers=0)
        site.ended(run, "COMPLETED")
    assert [record["rows"] for record in run_records(catalog)] == [30, 30]
    assert not [run for run in site.runs_of("reclassify/on-release") if "DR9" in str(run["parameters"])]
    site.ended(site.start("maintain/maintenance", catalog=str(catalog), keep=1), "COMPLETED")
    (kept,) = (catalog / "runs").iterdir()
    assert kept.name == run_records(catalog)[-1]["run_id"]


def test_a_release_of_a_survey_that_nobody_waits_for_is_refused(site: Site, tmp_path: Path) -> None:
    other = write_survey(tmp_path / "other", (10,))
    said = site.varstar("release", other, "--name", "DR9")
    assert said.returncode == 3
    assert str(site.survey) in said.stderr
    assert "deployments for another survey" in said.stderr


def test_a_held_run_is_told_everywhere_and_released_by_name(site: Site, tmp_path: Path) -> None:
    """One run that passes, one that is held, one that is released; the flow in its own process, on a real server."""
    catalog = tmp_path / "catalog"
    survey = write_survey(tmp_path / "survey", (30,))
    passed = site.start("reclassify/nightly", survey=str(survey), catalog=str(catalog), workers=0)
    site.ended(passed, "COMPLETED")
    assert "### Gate: passed" in site.artifacts(passed)["summary"]["data"]
    before = (catalog / "current/00000001.json").read_bytes()
    write_survey(survey, (30,), seed=9)  # other stars under the same names
    held = site.start("reclassify/nightly", survey=str(survey), catalog=str(catalog), workers=0)
    message = site.ended(held, "FAILED")["state"]["message"]
    check_said("run held", message)
    for words in ("have another class than before", "gate.max_changed"):
        assert words in message
    summary = site.artifacts(held)["summary"]["data"]
    assert "### Gate: held, not published" in summary
    assert re.search(r"\*\*not passed\*\*: [\d,]+ of [\d,]+ objects .*%, at most [\d.]+% \(gate.max_changed\)", summary)
    (event,) = until("the event", lambda: [e for e in site.events("varstar.run.held") if str(catalog) in str(e)])
    assert "gate.max_changed" in event["payload"]["reasons"][0]
    assert [file.name for file in (catalog / "current").iterdir()] == ["00000001.json"]
    assert (catalog / "current/00000001.json").read_bytes() == before
    # The next night begins no run of it: the same one is held.
    again = site.start("reclassify/nightly", survey=str(survey), catalog=str(catalog), workers=0)
    assert "which is held" in site.ended(again, "FAILED")["state"]["message"]
    assert len(list((catalog / "runs").iterdir())) == 2
    listed = json.loads(site.varstar("runs", catalog, "--json").stdout)["runs"]
    assert [entry["state"] for entry in listed] == ["current", "held"]
    assert "gate.max_changed" in listed[1]["why"]
    said = site.varstar("publish", catalog, listed[1]["run_id"], "--because", "these stars are meant")
    assert said.returncode == 0, said.stderr
    listed = json.loads(site.varstar("runs", catalog, "--json").stdout)["runs"]
    assert [entry["state"] for entry in listed] == ["published", "current"]
    assert listed[1]["why"].endswith("these stars are meant")
