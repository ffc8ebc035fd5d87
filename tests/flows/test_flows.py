"""The flows without a server: parameters, names, errors, summaries, and what deploy/ says."""

from __future__ import annotations

import importlib.metadata
import logging
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pydantic import ValidationError

from tests.makers.flow_site import ROOT, processes_with
from varstar_batch.catalog.compare import Difference
from varstar_batch.errors import InputError
from varstar_batch.runs.execute import StorageLostError
from varstar_batch.survey.columns import PRESETS
from varstar_batch.survey.open import Failure

DEPLOYMENTS = yaml.safe_load((ROOT / "deploy/prefect.yaml").read_text())["deployments"]
AUTOMATIONS = yaml.safe_load((ROOT / "deploy/automations.yaml").read_text())["automations"]

CAPS = {
    "prefect": ("<3.9", "3.9", "certifi"),
    "fastapi": ("<0.151", "0.165", "Body(min_items)"),
    "sqlalchemy": ("<2.1", "2.1", "schedules silently never fire"),
}
"""By package: the cap, a version that must stay out, and words of the reason."""


@pytest.mark.parametrize("name", CAPS)
def test_the_caps_without_which_things_break_stand_with_their_reasons(name: str) -> None:
    cap, bad, words = CAPS[name]
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    (index,) = [number for number, line in enumerate(lines) if re.match(rf'\s+"{name}\b', line)]
    assert words in lines[index - 1]
    assert lines[index - 1].lstrip().startswith("#")
    declared = tomllib.loads("\n".join(lines))["project"]["dependencies"]
    requirement = next(r for r in map(Requirement, declared) if r.name == name)
    assert cap in str(requirement.specifier)
    assert not requirement.specifier.contains(bad)
    assert requirement.specifier.contains(importlib.metadata.version(name))


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name, (_, bad, _) in CAPS.items()])
def test_doctor_says_so_where_somebody_lifted_a_cap(name: str, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from varstar_batch.cli.doctor import check_versions

    assert check_versions().state == "ok"
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda asked: bad if asked == name else real(asked))
    check = check_versions()
    assert check.state == "failed"
    assert f"'{name}" in check.fix


def test_constraints_keep_the_caps() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    for name, (cap, _, _) in CAPS.items():
        key = next(key for key in pinned if key.lower() == name)
        assert SpecifierSet(cap).contains(pinned[key])


def test_parameters_say_what_they_are_and_refuse_what_they_are_not() -> None:
    from varstar_batch.flows.ingest import IngestParameters
    from varstar_batch.flows.maintain import MaintainParameters
    from varstar_batch.flows.reclassify import ReclassifyParameters
    from varstar_batch.flows.train import TrainParameters

    for model in (ReclassifyParameters, IngestParameters, MaintainParameters, TrainParameters):
        assert all(field.description for field in model.model_fields.values()), model
        assert model.model_json_schema()["additionalProperties"] is False
    good: dict[str, Any] = {"survey": "s3://bucket/survey", "catalog": "/data/catalog"}
    assert ReclassifyParameters(**good).mode == "incremental"
    for wrong in ({"survey": "s3://key:secret@bucket/survey"}, {"mode": "some"}, {"unknown": 1}, {"workers": -1}):
        with pytest.raises(ValidationError):
            ReclassifyParameters(**good | wrong)


def fields_of(schema: Mapping[str, Any], definitions: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a form, those of forms within it too."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}{name}", field
        nested = [field, *field.get("allOf", []), *field.get("anyOf", [])]
        for reference in (each["$ref"] for each in nested if "$ref" in each):
            yield from fields_of(definitions[reference.rsplit("/", 1)[1]], definitions, f"{path}{name}.")


@pytest.mark.parametrize("module", ["reclassify", "train", "ingest", "maintain"])
def test_every_field_of_the_form_says_what_it_is_with_its_default_and_choices(module: str) -> None:
    import importlib

    flow = getattr(importlib.import_module(f"flows.{module}"), module)
    form = flow.parameters.model_dump()  # what the UI is given
    whole = form["definitions"][_name_of(form)]
    fields = dict(fields_of(whole, form["definitions"]))
    assert len(fields) >= 3
    for name, field in fields.items():
        assert field.get("description"), name
        is_group = "$ref" in str(field)  # whose fields have their own defaults
        assert "default" in field or is_group or name in whole["required"], name
    choices = {name: field["enum"] for name, field in fields.items() if "enum" in field}
    if module == "reclassify":
        assert choices["mode"] == ["incremental", "full"]
        assert set(choices["preset"]) == set(PRESETS)
        assert choices["config.precision"] == ["float32", "bfloat16", "int8", "auto"]
        assert {"config.engine", "config.lost_gpus"} <= set(choices)
        assert {"config.survey.time_system", "cluster.tls_ca"} <= set(fields)


def _name_of(form: Mapping[str, Any]) -> str:
    return str(next(iter(form["properties"].values()))["$ref"].rsplit("/", 1)[1])


def test_presets_are_those_of_the_surveys() -> None:
    from typing import get_args

    from varstar_batch.flows.reclassify import ReclassifyParameters
    from varstar_batch.runs.config import Preset

    assert set(get_args(Preset)) == set(PRESETS)
    parameters = ReclassifyParameters.model_validate(
        {"survey": "s", "catalog": "c", "preset": "ztf", "config": {"survey": {"mag": "magcorr"}}}
    )
    as_the_form_sends_it = ReclassifyParameters.model_validate(parameters.model_dump(by_alias=True))
    assert as_the_form_sends_it.run_config() == parameters.run_config()
    names = parameters.run_config().survey
    assert (names.object_id, names.mag, names.time_system) == ("objectid", "magcorr", "HMJD")


def test_our_errors_are_one_line_in_the_log_and_others_keep_their_traceback() -> None:
    from varstar_batch.flows.common import OneLine

    error = InputError(expected="a survey", got="nothing", where="/data", fix="check the path")
    for raised, expected in ((error, str(error)), (ValueError("else"), "it failed: ValueError('else')")):
        record = logging.LogRecord(
            "prefect.flow_runs", logging.ERROR, "", 0, "it failed: %r", (raised,), (type(raised), raised, None)
        )
        assert OneLine().filter(record)
        assert record.getMessage() == expected
        assert (record.exc_info is None) == isinstance(raised, InputError)


def test_only_what_may_pass_is_tried_again() -> None:
    from prefect.states import Failed

    from varstar_batch.flows.common import worth_retrying

    mine = InputError(expected="a survey", got="nothing", where="/data", fix="check the path")
    assert not worth_retrying(None, None, Failed(data=mine))  # type: ignore[arg-type]
    lost = StorageLostError(expected="storage", got="none", where="/data", fix="mend it")
    for passing in (OSError("storage is away"), lost):
        assert worth_retrying(None, None, Failed(data=passing))  # type: ignore[arg-type]


def test_a_summary_says_what_changed_and_what_failed() -> None:
    from varstar_batch.flows.artifacts import Links, summary_text

    record = {
        "run_id": "B",
        "model": {"name": "paper", "version": "2"},
        "status": {"ok": 90, "no_period": 10},
        "rows": 100,
        "objects": 120,
        "gate": [{"passed": True, "text": "2 of 30 partitions failed: 6.7%, at most 50.0% (gate.max_failed)"}],
        "held": [],
        "failed_partitions": 2,
        "resumed_partitions": 3,
        "carried_partitions": 4,
        "light_curves_per_second": 5000.0,
        "seconds": 2.0,
    }
    difference = Difference(
        run_a="A",
        run_b="B",
        rows_a=100,
        rows_b=100,
        changed={"class": 7, "status": 0, "appeared": 0, "vanished": 0, "moved": 0},
        causes={"new_model": 7},
        matrix={("RR", "RR"): 83, ("RR", "ECL"): 7},
        settings=["model.version: 1 -> 2"],
        carried=0,
    )
    failures = [Failure(f"part-{n}", "unreadable", f"part-{n} is no Parquet") for n in range(30)]
    text = summary_text("survey DR2", record, Links(catalog="/c", report="/c/r.html"), difference, failures)
    for words in ("since `A`", "7 objects: class", "new_model: 7", "model.version: 1 -> 2", "| RR | ECL | 7 |"):
        assert words in text
    assert "100 of 120 objects in; 2 partitions failed; 90 classified" in text
    assert "Gate: passed\n\n- passed: 2 of 30 partitions" in text
    assert "`part-0` (unreadable): part-0 is no Parquet" in text
    assert "and 10 more" in text
    assert "| report | `/c/r.html` |" in text
    assert "file:" not in text
    first = summary_text(
        "survey", record | {"failed_partitions": 0}, Links(catalog="s3://c", report="s3://c/r"), None, []
    )
    assert "nothing to compare with" in first
    assert first.endswith("### Failures\n\nNone.")


def schema_of(entry: Mapping[str, Any]) -> type[Any]:
    import importlib

    module, _, name = entry["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    return flow.fn.__globals__[flow.fn.__annotations__["parameters"]]


@pytest.mark.parametrize("entry", DEPLOYMENTS, ids=lambda entry: entry["name"])
def test_deployments_give_parameters_that_their_flows_take(entry: dict[str, Any]) -> None:
    given = entry.get("parameters", {}).get("parameters")
    if given is not None:
        schema_of(entry).model_validate(given)
    for trigger in entry.get("triggers", []):
        schema_of(entry).model_validate(trigger["parameters"]["parameters"])
    touches_catalog = "catalog" in (given or {})
    assert (entry["work_pool"]["work_queue_name"] == "catalog") == touches_catalog
    assert "varstar" in entry["tags"]  # by which the automations know them


def test_both_pools_have_the_same_deployments() -> None:
    pools: dict[str, set[str]] = {}
    for entry in DEPLOYMENTS:
        pools.setdefault(entry["work_pool"]["name"], set()).add(entry["name"].removesuffix("-kubernetes"))
    assert set(pools) == {"varstar-local", "varstar-kubernetes"}
    assert pools["varstar-local"] == pools["varstar-kubernetes"]
    assert pools["varstar-local"] >= {"nightly", "full", "on-release", "train", "maintenance"}


def test_runs_in_kubernetes_classify_on_the_dask_cluster_of_the_manifests() -> None:
    """Its service's name is the operator's doing: NAME-scheduler."""
    cluster = next(yaml.safe_load_all((ROOT / "k8s/base/dask-cluster.yaml").read_text()))
    ports = {port["name"]: port["port"] for port in cluster["spec"]["scheduler"]["service"]["ports"]}
    address = f"tls://{cluster['metadata']['name']}-scheduler:{ports['tcp-comm']}"
    found = 0
    for entry in DEPLOYMENTS:
        if entry["entrypoint"] != "varstar_batch.flows.reclassify.reclassify":
            continue
        wanted = address if entry["work_pool"]["name"] == "varstar-kubernetes" else None
        given = [entry["parameters"], *(trigger["parameters"] for trigger in entry.get("triggers", []))]
        for parameters in given:
            assert parameters["parameters"].get("scheduler") == wanted
            found += 1
    assert found == 8


@pytest.mark.parametrize("entry", AUTOMATIONS, ids=lambda entry: entry["name"])
def test_automations_are_what_prefect_takes(entry: dict[str, Any]) -> None:
    from prefect.events.schemas.automations import AutomationCore

    block = "00000000-0000-0000-0000-000000000001"
    actions = [
        action | {"block_document_id": block} if action["type"] == "send-notification" else action
        for action in entry["actions"]
    ]
    automation = AutomationCore.model_validate(entry | {"actions": actions})
    assert automation.enabled


def test_automations_watch_failure_lateness_and_crash() -> None:
    watched = {
        name for entry in AUTOMATIONS for name in [*entry["trigger"].get("after", []), *entry["trigger"]["expect"]]
    }
    for state in ("Failed", "TimedOut", "Crashed", "Late", "heartbeat"):
        assert f"prefect.flow-run.{state}" in watched


@pytest.mark.slow
def test_demo_shows_the_way_and_leaves_nothing_running(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "varstar_batch",
        "demo",
        str(tmp_path / "demo"),
        "--objects",
        "300",
        "--partitions",
        "3",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert "300 objects in, 300 rows out" in done.stdout
    assert "varstar query" in done.stdout
    assert not processes_with(str(tmp_path))


@pytest.mark.slow
def test_the_stage_of_training_writes_a_bundle(tmp_path: Path) -> None:
    from prefect.logging import disable_run_logger

    from tests.makers.surveys import write_survey
    from varstar_batch.flows.train import TrainParameters, train_stage
    from varstar_batch.model.bundle_files import read_bundle

    survey = write_survey(tmp_path / "survey", (150, 150))
    parameters = TrainParameters(
        surveys=(str(survey),), out=str(tmp_path / "model"), name="tiny", epochs=1, folds=0, min_per_class=5
    )
    with disable_run_logger():
        written = train_stage.fn(parameters)
    bundle = read_bundle(parameters.out)
    assert (bundle.hash, bundle.contract.name) == (written, "tiny")
