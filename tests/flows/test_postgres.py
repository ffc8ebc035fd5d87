"""A site whose server keeps its data in PostgreSQL: one setting, and many runs at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.makers.flow_site import Site, processes_with, running_site
from tests.makers.postgres import PASSWORD, running_postgres
from tests.makers.surveys import write_survey
from varstar_batch.cli.serve import DATABASE_VARIABLE, KEY_VARIABLE, database_of, site_key
from varstar_batch.errors import InputError

RUNS = 20


def test_a_database_is_told_without_its_password() -> None:
    assert database_of({}) == "SQLite in the site's folder"
    url = f"postgresql+asyncpg://prefect:{PASSWORD}@db.example:5432/prefect?ssl=require"
    assert database_of({DATABASE_VARIABLE: url}) == "postgresql at db.example:5432/prefect"


@pytest.mark.parametrize("scheme", ["postgresql://", "mysql://", ""])
def test_a_database_that_prefect_cannot_use_is_refused(scheme: str) -> None:
    with pytest.raises(InputError, match=re.escape("postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE")) as refused:
        database_of({DATABASE_VARIABLE: f"{scheme}prefect:{PASSWORD}@db/prefect"})
    assert PASSWORD not in str(refused.value)


def test_a_key_that_is_given_is_the_sites(tmp_path: Path) -> None:
    file = tmp_path / "key"
    site_key(file)
    assert site_key(file, "operator:right") == "operator:right" == site_key(file)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match=KEY_VARIABLE) as refused:
        site_key(file, "justaword")
    assert "justaword" not in str(refused.value)
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("postgres")
    write_survey(folder / "survey", (20,))
    with running_postgres() as url, running_site(folder, limit=4, settings={DATABASE_VARIABLE: url}) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_twenty_runs_queued_at_once_none_is_lost(site: Site, tmp_path: Path) -> None:
    # More than one at a time, or the server would have little to do.
    site.http.patch("/work_pools/varstar-local/queues/catalog", json={"concurrency_limit": 4}).raise_for_status()
    catalogs = [tmp_path / f"catalog-{number}" for number in range(RUNS)]
    runs = [
        site.start("reclassify/full", survey=str(site.survey), catalog=str(catalog), mode="full", workers=0)
        for catalog in catalogs
    ]
    for run in runs:
        site.ended(run, "COMPLETED", 600)
    for catalog in catalogs:
        (record,) = (json.loads(file.read_text()) for file in catalog.glob("runs/*/run.json"))
        assert record["rows"] == 20
    assert len(site.runs_of("reclassify/full")) == RUNS
    said = (site.folder / "site/logs/server.log").read_text()
    assert "database is locked" not in said
    assert "Traceback" not in said
    assert not list((site.folder / "site/prefect").glob("*.db"))


@pytest.mark.slow
def test_only_the_server_knows_the_password(site: Site) -> None:
    assert "Database postgresql at 127.0.0.1:" in (site.folder / "serve.log").read_text()
    told = [site.folder / "serve.log", *(site.folder / "site").rglob("*")]
    assert not [path for path in told if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    for pid in processes_with(str(site.folder)):
        assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert site.part("server") in processes_with(PASSWORD)
    assert site.part("worker") not in processes_with(PASSWORD)
