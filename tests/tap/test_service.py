"""The service as clients see it: pyvo, curl's requests, STILTS, and those who mean no good."""

from __future__ import annotations

import gc
import io
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import pyvo
import requests
from astropy.io.votable import parse

from tests.makers.catalogs import RunSpec, in_pixels, in_slices, run_name, sky_rows, write_run
from tests.makers.clusters import wait_until
from tests.makers.static_server import serving
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.sql.process import QueryLimits
from varstar_batch.errors import InputError
from varstar_batch.report.star_page import build_star_page
from varstar_batch.tap.guard import Guard
from varstar_batch.tap.request import TapRequest
from varstar_batch.tap.service import make_app

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")

ROWS = sky_rows(1500, seed=8)
LIMITS = QueryLimits(timeout=30.0, memory=2**29)

PATIENCE = 120.0
"""Seconds for an answer: machines that run tests are busy, and httpx's own 5 are soon over."""
get, post = partial(httpx.get, timeout=PATIENCE), partial(httpx.post, timeout=PATIENCE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tap")
    write_run(place / "stars", run_name(1), RunSpec(partitions=in_pixels(ROWS, order=0), layout="hats"))
    write_run(place / "others", run_name(1), RunSpec(partitions=in_slices(ROWS.slice(0, 300))))
    (place / "answers").mkdir()
    return place


@pytest.fixture(scope="module")
def service(place: Path) -> Iterator[str]:
    catalogs = (str(place / "stars"), f"Second={place / 'others'}")
    request = TapRequest(catalogs=catalogs, most_rows=1000, limits=LIMITS)
    app = make_app(request, place / "answers", lambda catalog, star: build_star_page(open_catalog_root(catalog), star))
    with serving(app) as address:
        yield address


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """For pyvo, which leaves answers open: here they go."""
    with requests.Session() as session:
        yield session
    gc.collect()


def ask(service: str, query: str, **more: str) -> httpx.Response:
    return post(f"{service}/tap/sync", data={"LANG": "ADQL", "QUERY": query, **more})


def test_pyvo_asks_and_gets_units(service: str, session: requests.Session) -> None:
    tap = pyvo.dal.TAPService(f"{service}/tap", session=session)
    assert {"varstar.stars", "varstar.Second", "TAP_SCHEMA.columns"} <= set(tap.tables.keys())
    assert tap.tables["varstar.stars"].columns[3].unit == "deg"
    found = tap.search("SELECT TOP 5 object_id, ra, class FROM varstar.stars WHERE class_prob > 0.5 ORDER BY ra DESC")
    table = found.to_table()
    assert str(table["ra"].unit) == "deg"
    expected = sorted(
        (row["ra"] for row in ROWS.to_pylist() if row["class_prob"] is not None and row["class_prob"] > 0.5),
        reverse=True,
    )
    assert table["ra"].tolist() == expected[:5]


def test_pyvo_runs_a_job(service: str, session: requests.Session) -> None:
    job = pyvo.dal.TAPService(f"{service}/tap", session=session).submit_job(
        "SELECT class, count(*) AS n FROM varstar.stars GROUP BY class ORDER BY class", maxrec=3
    )
    assert job.phase == "PENDING"
    job.run()
    job.wait(phases={"COMPLETED", "ERROR"}, timeout=PATIENCE)
    table = job.fetch_result().to_table()
    expected = sorted({name for name in ROWS["class"].to_pylist() if name})[:3]
    assert table["class"].tolist() == expected
    assert table["n"].tolist() == [ROWS["class"].to_pylist().count(name) for name in expected]
    address = job.url
    job.delete()
    assert get(address).status_code == 404


def test_pyvo_searches_a_cone(service: str, place: Path, session: requests.Session) -> None:
    expected = open_catalog(place / "stars").cone(40.0, -20.0, 15.0)
    found = pyvo.dal.SCSService(f"{service}/scs/stars", session=session).search(pos=(40.0, -20.0), radius=15.0)
    assert sorted(int(record.id) for record in found) == sorted(expected["object_id"].to_pylist())
    assert found[0].pos.ra.deg == pytest.approx(found.to_table()["ra"][0])
    empty = get(f"{service}/scs/stars", params={"RA": "1", "DEC": "2", "SR": "0"}).content
    assert len(parse(io.BytesIO(empty)).get_first_table().array) == 0
    for wrong in ({"RA": "x", "DEC": "2", "SR": "1"}, {"RA": "1", "DEC": "91", "SR": "1"}, {"RA": "1", "DEC": "2"}):
        told = parse(io.BytesIO(get(f"{service}/scs/stars", params=wrong).content))
        assert [info.name for info in told.resources[0].infos] == ["Error"]
    assert b"name one" in get(f"{service}/scs", params={"RA": "1", "DEC": "2", "SR": "1"}).content


def test_the_snippet_of_the_page_runs(service: str, session: requests.Session) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/tap.md").read_text()
    text = page.split("```python\n")[1].split("```")[0].replace("http://127.0.0.1:8080", service)
    text = (
        text.replace("varstar.catalog", "varstar.stars")
        .replace("/scs", "/scs/stars")
        .replace("80.9, -69.8, 1.0", "80, -69, 90")
    )
    found: dict[str, Any] = {}
    exec(text, found)
    assert len(found["stars"]) > 10
    assert found["stars"]["class_prob"].min() > 0.9
    found["job"].delete()


def test_a_cone_in_adql_is_the_cone_of_the_catalog(service: str, place: Path) -> None:
    cone = "1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', 40, -20, 15))"
    expected = sorted(open_catalog(place / "stars").cone(40.0, -20.0, 15.0)["object_id"].to_pylist())
    text = ask(service, f"SELECT object_id FROM stars WHERE {cone} ORDER BY object_id", FORMAT="csv").text
    assert [int(line) for line in text.splitlines()[1:]] == expected
    parquet = ask(service, f"SELECT * FROM stars WHERE {cone}", RESPONSEFORMAT="parquet").content
    assert sorted(pq.read_table(io.BytesIO(parquet))["object_id"].to_pylist()) == expected


def test_errors_and_overflow_are_told_as_dali_has_it(service: str) -> None:
    wrong = ask(service, "SELECT nothing FROM stars")
    assert wrong.status_code == 400
    (info,) = parse(io.BytesIO(wrong.content)).resources[0].infos
    assert (info.name, info.value) == ("QUERY_STATUS", "ERROR")
    assert "nothing" in info.content
    for words in ({"LANG": "SQL"}, {"MAXREC": "-1"}, {"FORMAT": "fits"}, {"UPLOAD": "a,http://x"}, {"REQUEST": "x"}):
        assert ask(service, "SELECT ra FROM stars", **words).status_code == 400
    assert post(f"{service}/tap/sync", content=b"x" * 200_000).status_code == 400
    assert post(f"{service}/tap/sync", files={"QUERY": b"SELECT 1"}).status_code == 400
    over = ask(service, "SELECT ra FROM stars", FORMAT="votable/td", MAXREC="7").text
    assert over.count("<TR>") == 7
    assert over.count("OVERFLOW") == 1
    # Nobody gets more than the service gives.
    assert ask(service, "SELECT ra FROM stars", FORMAT="votable/td", MAXREC="99999999").text.count("<TR>") == 1000


def test_the_service_tells_what_it_has(service: str) -> None:
    assert "<vosi:available>true" in get(f"{service}/tap/availability").text
    capabilities = get(f"{service}/tap/capabilities").text
    assert f'<accessURL use="base">{service}/tap</accessURL>' in capabilities
    assert "<form>POLYGON</form>" in capabilities
    rows = ask(
        service, "SELECT column_name, unit FROM TAP_SCHEMA.columns WHERE table_name = 'varstar.stars'", FORMAT="csv"
    )
    assert 'period","d"' in rows.text
    joined = "SELECT c.column_name FROM TAP_SCHEMA.columns c JOIN TAP_SCHEMA.tables t ON c.table_name = t.table_name"
    assert ask(service, joined).status_code == 200
    assert "varstar.Second" in get(service).text


def test_a_later_run_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("varstar_batch.tap.tables.LOOKED_AT", 0.0)
    write_run(tmp_path / "c", run_name(1), RunSpec(partitions=in_slices(ROWS.slice(0, 30))))
    app = make_app(TapRequest(catalogs=(str(tmp_path / "c"),), limits=LIMITS), tmp_path)
    with serving(app) as address:
        count = "SELECT count(*) AS n FROM c"
        assert ask(address, count, FORMAT="csv").text.split() == ['"n"', "30"]
        write_run(tmp_path / "c", run_name(2), RunSpec(partitions=in_slices(ROWS.slice(0, 50))))
        assert ask(address, count, FORMAT="csv").text.split() == ['"n"', "50"]


def test_a_catalog_on_another_file_system(tmp_path: Path) -> None:
    write_run("memory://tap/c", run_name(1), RunSpec(partitions=in_pixels(ROWS.slice(0, 300), order=0), layout="hats"))
    app = make_app(TapRequest(catalogs=("memory://tap/c",), limits=LIMITS), tmp_path)
    with serving(app) as address:
        cone = "1 = CONTAINS(POINT(ra, dec), CIRCLE(40, -20, 40))"
        expected = open_catalog("memory://tap/c").cone(40, -20, 40).num_rows
        assert ask(address, f"SELECT count(*) AS n FROM c WHERE {cone}", FORMAT="csv").text.split() == [
            '"n"',
            str(expected),
        ]
        assert ask(address, "SELECT count(*) AS n FROM TAP_SCHEMA.tables", FORMAT="csv").text.split() == ['"n"', "6"]
        both = ask(address, "SELECT c.ra FROM c JOIN TAP_SCHEMA.tables t ON c.class = t.table_name")
        assert both.status_code == 400
        assert "one storage" in both.text


def computing() -> bool:
    """Say whether a query is at work: its process has computed for longer than those take that wait for one."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has just ended
            if "sql.child" in " ".join(child.cmdline()) and child.cpu_times().user > 2.5:
                return True
    return False


def test_a_job_can_be_ended_and_is_forgotten(place: Path, tmp_path: Path) -> None:
    """Long before its own time, which is more than the test has."""
    limits = QueryLimits(timeout=600.0, memory=2**29)
    endless = "SELECT count(*) AS n FROM stars a, stars b, stars c, stars d WHERE a.ra + b.ra + c.ra > d.ra"
    with serving(make_app(TapRequest(catalogs=(str(place / "stars"),), limits=limits), tmp_path)) as service:
        made = post(f"{service}/tap/async", data={"LANG": "ADQL", "QUERY": endless, "PHASE": "RUN"})
        assert made.status_code == 303
        job = made.headers["location"]
        wait_until(computing)
        assert get(f"{job}/phase").text == "EXECUTING"
        post(f"{job}/phase", data={"PHASE": "ABORT"})
        assert get(f"{job}/phase").text == "ABORTED"
        wait_until(lambda: not computing())
        assert get(f"{job}/results/result").status_code == 404
        post(job, data={"DESTRUCTION": "2020-01-01T00:00:00Z"})
        assert get(job).status_code == 404


def test_a_job_that_fails_says_why(service: str) -> None:
    made = post(f"{service}/tap/async", data={"LANG": "ADQL", "QUERY": "SELECT", "PHASE": "RUN"})
    wrong = made.headers["location"]
    wait_until(lambda: get(f"{wrong}/phase").text not in {"QUEUED", "EXECUTING"})
    assert get(f"{wrong}/phase").text == "ERROR"
    assert "QUERY_STATUS" in get(f"{wrong}/error").text
    assert get(f"{service}/tap/async/{'0' * 32}").status_code == 404


BOUNDED = {
    "four times the sky": "SELECT count(*) AS n FROM stars a, stars b, stars c, stars d WHERE a.ra > d.ra",
    "a sort of the square": "SELECT a.ra FROM stars a, stars b, Second c ORDER BY a.ra * b.dec + c.ra",
    "a text that doubles": "WITH "
    + ", ".join(
        ["t0 AS (SELECT label AS x FROM stars)"]
        + [f"t{k} AS (SELECT a.x || b.x AS x FROM t{k - 1} a, t{k - 1} b)" for k in range(1, 6)]
    )
    + " SELECT max(x) AS m FROM t5",
    "patterns": "SELECT count(*) AS n FROM stars a, stars b WHERE a.run_id || b.run_id LIKE '%0%0%0%0%0%0%0%0%0%0%1%x'",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDED)
def test_what_takes_too_much_is_ended(name: str, service: str) -> None:
    start = time.monotonic()
    done = ask(service, BOUNDED[name])
    assert time.monotonic() - start < LIMITS.timeout + 20
    assert done.status_code in {200, 400}
    assert len(done.content) < 100_000
    assert ask(service, "SELECT TOP 1 ra FROM stars").status_code == 200


@pytest.mark.slow
def test_sixteen_clients_at_once(service: str) -> None:
    def one(number: int) -> int:
        cone = f"1 = CONTAINS(POINT(ra, dec), CIRCLE({number * 20}, {number * 5 - 40}, 20))"
        text = ask(service, f"SELECT object_id, ra, dec FROM stars WHERE {cone}", FORMAT="csv").text
        return len(text.splitlines()) - 1

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(16)))
    ra, dec = np.radians(ROWS["ra"].to_numpy()), np.radians(ROWS["dec"].to_numpy())
    for number, count in enumerate(found):
        a, d = np.radians(number * 20), np.radians(number * 5 - 40)
        inside = np.sin(d) * np.sin(dec) + np.cos(d) * np.cos(dec) * np.cos(ra - a) >= np.cos(np.radians(20))
        assert count == inside.sum()


def test_pages_of_others_and_strangers_are_sent_away(place: Path, tmp_path: Path) -> None:
    request = TapRequest(catalogs=(str(place / "others"),), limits=LIMITS)
    app = make_app(request, tmp_path)
    with serving(Guard(app, request, 0, None)) as address:
        assert get(address).status_code == 403, "the port is another"
    port = 80
    with serving(Guard(make_app(request, place), request, port, None)) as address:
        for headers, status in (
            ({"Host": "localhost:80"}, 200),
            ({"Host": "evil.example:80"}, 403),
            ({"Host": "localhost:80", "Origin": "http://evil.example"}, 403),
            ({"Host": "localhost:80", "Origin": "http://localhost:80"}, 200),
        ):
            assert get(f"{address}/tap/availability", headers=headers).status_code == status
    abroad = request.model_copy(update={"host": "0.0.0.0"})
    (tmp_path / "abroad").mkdir()
    with serving(Guard(make_app(abroad, tmp_path / "abroad"), abroad, port, "varstar:secret")) as address:
        asked = get(f"{address}/tap/tables")
        assert (asked.status_code, asked.headers["www-authenticate"]) == (401, 'Basic realm="varstar"')
        assert get(f"{address}/tap/tables", auth=("varstar", "Secret")).status_code == 401
        assert get(f"{address}/tap/tables", auth=("varstar", "secret")).status_code == 200
        assert get(f"{address}/tap/availability").status_code == 200


def test_catalogs_need_names_of_their_own(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NAME=CATALOG"):
        make_app(TapRequest(catalogs=(str(place / "stars"), str(place / "stars"))), tmp_path)
    with pytest.raises(InputError):
        make_app(TapRequest(catalogs=(str(place / "nowhere"),)), tmp_path)


@pytest.fixture
def command(place: Path, tmp_path: Path) -> Iterator[str]:
    """The address of `varstar tap`, run as people run it."""
    words = [sys.executable, "-m", "varstar_batch", "tap", str(place / "stars"), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=tmp_path, text=True) as process:
        assert process.stdout is not None
        said = re.match(r"TAP +(http://127\.0\.0\.1:\d+)/tap", process.stdout.readline())
        assert said is not None
        threading.Thread(target=process.stdout.read, daemon=True).start()
        try:
            yield said[1]
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.slow
def test_stilts_finds_no_error(command: str) -> None:
    if shutil.which("stilts") is None:
        pytest.skip("needs STILTS (Debian's package stilts)")
    done = subprocess.run(
        ["stilts", "taplint", f"tapurl={command}/tap"], capture_output=True, text=True, check=False, timeout=280
    )
    assert re.findall(r"^[EW]-.*", done.stdout, flags=re.M) == []
    assert "Totals: Errors: 0" in done.stdout


def test_a_star_has_a_page(service: str) -> None:
    name = ROWS["object_id"][3].as_py()
    answer = get(f"{service}/star/{name}")
    assert answer.status_code == 200
    assert f"<h1>{name}</h1>" in answer.text
    gone = get(f"{service}/star/999999999999")
    assert gone.status_code == 404
    assert "object_id 999999999999" in gone.text
    hostile = get(f"{service}/star/<script>")
    assert hostile.status_code == 404
    assert hostile.headers["content-type"].startswith("text/plain")
