"""Several catalogs on one site: what `sites.toml` may say, and what becomes of it on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.makers.flow_site import ROOT, Site, running_site, until
from tests.makers.surveys import write_survey
from varstar_batch.errors import InputError
from varstar_batch.flows.sites import CatalogSite, deployments_of, read_sites

WHOLE = """
runs_at_once = 1
models = "models"
notify = "slack-webhook/all"

[catalogs.crts]
survey = "surveys/crts"
catalog = "s3://bucket/crts/"
model = "models/own"
preset = "ztf"
schedule = "15 4 * * 1-5"
timezone = "Europe/Berlin"
gate = {max_changed = 0.05, anchors = "known.csv"}
keep = 3
notify = "email/crts"

[catalogs.ogle-4]
survey = "/data/ogle"
catalog = "ogle"
"""


def write_sites(folder: Path, text: str) -> Path:
    file = folder / "sites.toml"
    file.write_text(text)
    return file


def test_a_file_is_read_with_paths_from_where_it_stands(tmp_path: Path) -> None:
    sites = read_sites(write_sites(tmp_path, WHOLE))
    assert sites.runs_at_once == 1
    assert sites.models == str(tmp_path / "models")
    assert list(sites.catalogs) == ["crts", "ogle-4"]
    crts, ogle = sites.catalogs.values()
    assert (crts.survey, crts.catalog) == (str(tmp_path / "surveys/crts"), "s3://bucket/crts")
    assert (ogle.survey, ogle.catalog, ogle.schedule) == ("/data/ogle", str(tmp_path / "ogle"), "30 2 * * *")
    assert crts.gate.max_changed == 0.05


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[catalogs.crts]", "[catalogs.crts", "a TOML file that can be read"),
        ("[catalogs.crts]", "[catalogs.CRTS]", "the name 'CRTS': small letters"),
        ('survey = "/data/ogle"', "", "catalogs.ogle-4.survey: expected a value"),
        ("keep = 3", "kept = 3", "catalogs.crts.kept: expected a name that is known"),
        ("keep = 3", "keep = 0", "catalogs.crts.keep: expected greater than or equal to 1"),
        ("15 4 * * 1-5", "every night", "catalogs.crts.schedule"),
        ("max_changed = 0.05", "max_changed = 5", "catalogs.crts.gate.max_changed"),
        ('catalog = "ogle"', 'catalog = "s3://bucket/crts/"', "is the catalog of two entries"),
        ('preset = "ztf"', 'preset = "zft"', "catalogs.crts.preset"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in WHOLE
    with pytest.raises(InputError) as raised:
        read_sites(write_sites(tmp_path, WHOLE.replace(old, new)))
    assert said in str(raised.value)
    assert "sites.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_file_and_no_catalog(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_sites(tmp_path / "sites.toml")
    with pytest.raises(InputError, match="catalogs"):
        read_sites(write_sites(tmp_path, "[catalogs]"))


def test_each_catalog_has_its_own_deployments(tmp_path: Path) -> None:
    crts = read_sites(write_sites(tmp_path, WHOLE)).catalogs["crts"]
    entries: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/prefect.yaml").read_text())["deployments"]
    local = [entry for entry in entries if entry["work_pool"]["name"] == "varstar-local"]
    made = {entry["name"]: entry for entry in deployments_of(local, "crts", crts)}
    assert set(made) == {"nightly-crts", "full-crts", "on-release-crts", "maintenance-crts"}
    nightly = made["nightly-crts"]
    assert nightly["schedules"] == [{"cron": "15 4 * * 1-5", "timezone": "Europe/Berlin", "slug": "nightly"}]
    asked = nightly["parameters"]["parameters"]
    assert (asked["model"], asked["preset"], asked["mode"]) == ("models/own", "ztf", "incremental")
    assert asked["config"] == {"gate": {"max_changed": 0.05, "anchors": "known.csv"}}
    (trigger,) = made["on-release-crts"]["triggers"]
    assert trigger["parameters"]["parameters"]["config"] == asked["config"]
    assert made["maintenance-crts"]["parameters"]["parameters"]["keep"] == 3
    assert {entry["work_pool"]["work_queue_name"] for entry in made.values()} == {"catalog-crts"}
    # What the file has for any catalog is left as it is.
    assert local[0]["name"] == "nightly"
    assert "model" not in local[0]["parameters"]["parameters"]
    plain = CatalogSite(survey="s", catalog="c")
    assert "config" not in deployments_of(local, "x", plain)[0]["parameters"]["parameters"]


TWO = """
runs_at_once = 1

[catalogs.first]
survey = "first"
catalog = "catalogs/first"

[catalogs.second]
survey = "second"
catalog = "catalogs/second"
schedule = "0 5 * * *"
gate = {max_unclassified = 0.0}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("sites")
    write_survey(folder / "first", (20, 20))
    write_survey(folder / "second", (30,))
    with running_site(folder, sites=write_sites(folder, TWO)) as running:
        yield running


def deployed(site: Site) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in site.post("/deployments/filter")}


@pytest.mark.slow
def test_a_site_keeps_two_catalogs_apart(site: Site) -> None:
    there = deployed(site)
    each = {
        f"{flow}-{name}" for flow in ("nightly", "full", "on-release", "maintenance") for name in ("first", "second")
    }
    assert set(there) == each | {"train", "ingest"}
    assert there["nightly-second"]["schedules"][0]["schedule"]["cron"] == "0 5 * * *"
    assert site.get("/work_pools/varstar-local")["concurrency_limit"] == 1
    queues = {
        queue["name"]: queue["concurrency_limit"] for queue in site.post("/work_pools/varstar-local/queues/filter")
    }
    assert (queues["catalog-first"], queues["catalog-second"]) == (1, 1)
    trained = there["train"]["parameters"]["parameters"]["surveys"]
    assert trained == [str(site.folder / "first"), str(site.folder / "second")]


@pytest.mark.slow
def test_a_release_starts_the_runs_of_its_own_survey_only(site: Site) -> None:
    said = site.varstar("release", site.folder / "first", "--name", "DR2")
    assert said.returncode == 0, said.stderr
    (run,) = until("a run of the release", lambda: site.runs_of("reclassify/on-release-first"))
    site.ended(run["id"], "COMPLETED")
    assert not site.runs_of("reclassify/on-release-second")
    assert (site.folder / "catalogs/first").is_dir()
    assert not (site.folder / "catalogs/second").exists()


@pytest.mark.slow
def test_each_catalog_has_its_own_gate(site: Site) -> None:
    """Some of the objects of any survey have too few observations: the second catalog wants none of these."""
    run = site.ended(site.start("reclassify/nightly-second"), "FAILED")
    assert "max_unclassified" in run["state"]["message"]


@pytest.mark.slow
def test_a_catalog_that_is_no_longer_named_is_no_longer_run(site: Site, tmp_path: Path) -> None:
    text = TWO.partition("[catalogs.second]")[0].replace('"first"', f'"{site.folder}/first"')
    done = site.varstar("deploy", "--sites", write_sites(tmp_path, text))
    assert done.returncode == 0, done.stderr
    gone = {f"{flow}-second" for flow in ("nightly", "full", "on-release", "maintenance")}
    assert {line.split()[1] for line in done.stdout.splitlines() if line.startswith("removed")} == gone
    assert not gone & set(deployed(site))
    both = site.varstar("deploy", "--sites", tmp_path / "sites.toml", "--survey", "s")
    assert both.returncode == 2
    assert "expected --survey and --catalog, or --sites, got --sites and --survey" in both.stderr.replace("\n", " ")
