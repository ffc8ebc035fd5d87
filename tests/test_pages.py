"""Every command of the pages of docs/ is run: on a small survey, a store, a cluster with TLS, a service that answers.

The README and the page of one's own survey have tests of their own (tests/test_readme.py).
"""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest

import varstar_batch as vb
from tests.makers.archive_files import GOLDEN, write_archive
from tests.makers.certificates import certificates
from tests.makers.clusters import free_port, wait_until
from tests.makers.command_line import exit_code
from tests.makers.s3_server import make_bucket, moto_server, upload, use
from varstar_batch.runs.config import RunConfig, validate_config
from varstar_batch.simulation.survey import write_simulated_survey

DOCS = Path(__file__).resolve().parents[1] / "docs"
SKIPPED = {"own-survey"}
LINES = re.compile(r'^ {0,4}(varstar (?:[^"\n]|"[^"]*")+)', flags=re.M)
"""Commands of a page stand in a block, or on lines of their own."""


def lines_of(page: str) -> list[str]:
    return [line.strip() for line in LINES.findall((DOCS / f"{page}.md").read_text())]


def words_of(line: str) -> list[str]:
    """Return the words of a command, with all that it may have and nothing that stands for more of the same."""
    plain = re.sub(r"[\[\]]|\.\.\.(?= |$)", "", line).replace("survey|paper", "survey")
    return shlex.split(plain, comments=True)[1:]


COMMANDS = [
    (page.stem, number)
    for page in sorted(DOCS.glob("*.md"))
    if page.stem not in SKIPPED | {"storage", "cluster", "tap"}
    for number in range(len(lines_of(page.stem)))
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which everything stands that the pages' commands speak of; the commands run in it."""
    folder = tmp_path_factory.mktemp("pages")
    with contextlib.chdir(folder):
        write_simulated_survey("demo", objects=300, partitions=3, seed=1)
        for catalog in ("CATALOG", "catalog"):
            assert exit_code("classify", "demo", catalog, "--workers", "0") == 0
        stars = pq.read_table("demo").select(["object_id", "class", "ra", "dec"])
        mag = pa.array(np.full(len(stars), 14.0))
        reference = stars.rename_columns(["object_id", "Type", "RAJ2000", "DEJ2000"]).append_column("Vmag", mag)
        pv.write_csv(reference, "reference.csv")
        yield folder


def fill_in(table: Path) -> None:
    """Write the classes of the survey into a table that `varstar ask` has made."""
    asked = pv.read_csv(table)
    survey = pq.read_table("demo")
    known = dict(zip(survey["object_id"].to_pylist(), survey["class"].to_pylist(), strict=True))
    classes = pa.array([known[name] for name in asked["object_id"].to_pylist()])
    pv.write_csv(asked.set_column(asked.column_names.index("class"), "class", classes), table)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("page", "number"), COMMANDS)
def test_a_command_does_what_it_says(page: str, number: int, workplace: Path) -> None:
    assert Path.cwd() == workplace
    words = words_of(lines_of(page)[number])
    made = f"{page}-{number}"
    stand_ins = {"SURVEY": "demo", "REFERENCE": "reference.csv", "ARCSEC": "2", "BUNDLE": "-"}
    if page == "periods":
        stand_ins["survey"] = "demo"
    if words[0] == "classify":
        stand_ins |= {"CATALOG": made, "catalog": made, "MY_BUNDLE": f"{page}-bundle"}
        words += ["--workers", "0"]
    elif words[0] == "ask":
        words[words.index("--n") + 1] = "60"
        stand_ins |= {"labels.csv": f"{page}-labels.csv", "FOLDER": made}
    elif words[0] == "train":
        stand_ins |= {"labels.csv": f"{page}-labels.csv", "MY_BUNDLE": f"{page}-bundle"}
        if "--from" not in words:
            # Once over 300 stars: what the command does with thousands takes half an hour.
            stand_ins |= {"400": "2", "5": "0", "BUNDLE": made}
            words += ["--epochs", "1"]
    elif words[0] == "evaluate":
        stand_ins["FOLDER"] = made
    # A model of few labels may give other classes, so that its run is held: it goes to a catalog of its own.
    assert exit_code(*(stand_ins.get(word, word) for word in words)) == 0
    if words[0] == "ask" and "--labels" not in words:
        fill_in(Path(f"{page}-labels.csv"))


@pytest.mark.slow
def test_commands_in_the_sentences_about_ones_own_survey(workplace: Path) -> None:
    text = re.sub(r"```.*?```", "", (DOCS / "own-survey.md").read_text(), flags=re.S)
    lines = [line.replace("\n", " ") for line in re.findall(r"`(varstar [^`]+)`", text)]
    assert len(lines) == 4
    archive = write_archive(workplace / "files", star=GOLDEN["bulk-g"][0])
    (workplace / "stars.csv").write_text("object_id,period\nstar,0.6\n")
    stand_ins = {"SURVEY": "demo", "OBJECT_ID": "7", "FOLDER": str(archive)}
    for number, line in enumerate(lines):
        words = [stand_ins.get(word, word) for word in shlex.split(line)[1:]]
        assert exit_code(*(f"out-{number}" if word == "OUT" else word for word in words)) == 0, line


def test_configurations_of_the_pages_are_valid() -> None:
    blocks = [
        (page.stem, block)
        for page in DOCS.glob("*.md")
        for block in re.findall(r"```toml\n(.*?)```", page.read_text(), flags=re.S)
    ]
    gate = re.search(r"^    \[gate\]\n(?:    .*\n)+", (DOCS / "known-stars.md").read_text(), flags=re.M)
    assert gate
    blocks.append(("known-stars", "\n".join(line[4:] for line in gate[0].splitlines())))
    assert len(blocks) >= 3
    for page, block in blocks:
        assert validate_config(tomllib.loads(block), page) != RunConfig()


@pytest.mark.slow
def test_commands_on_a_store(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with moto_server() as url:
        use(monkeypatch, url)
        for bucket in ("surveys", "catalogs"):
            make_bucket(bucket)
        upload(workplace / "demo", "surveys/crts")
        classify, query = (words_of(line) for line in lines_of("storage"))
        assert exit_code(*classify, "--workers", "1") == 0
        assert exit_code(*query) == 0


def answers(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cluster_of_ones_own(workplace: Path) -> None:
    certificates(workplace / "tls")
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (workplace / name).write_bytes((workplace / "tls" / name).read_bytes())
    port = free_port()
    tls = ("--tls-ca-file", "ca.crt", "--tls-cert", "tls.crt", "--tls-key", "tls.key")
    dask = (sys.executable, "-m", "dask")
    server = (*dask, "scheduler", "--host", "tls://127.0.0.1", "--port", str(port), "--no-dashboard", *tls)
    worker = (*dask, "worker", f"tls://127.0.0.1:{port}", "--no-dashboard", "--nthreads", "1", *tls)
    (line,) = lines_of("cluster")
    words = ["cluster" if word == "CATALOG" else word for word in words_of(line)]
    words = ["demo" if word == "SURVEY" else word.replace("HOST:8786", f"127.0.0.1:{port}") for word in words]
    with contextlib.ExitStack() as stack:
        for command in (server, worker):
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            stack.callback(process.terminate)
        wait_until(lambda: answers(port))
        assert exit_code(*words) == 0
    assert vb.open_catalog("cluster").run_id


@pytest.mark.slow
@pytest.mark.parametrize("number", range(2))
def test_a_service(number: int, workplace: Path) -> None:
    port = free_port()
    words = [word.replace("CATALOG2", "catalog") for word in words_of(lines_of("tap")[number])]
    command = (sys.executable, "-m", "varstar_batch", *words, "--port", str(port))
    with (workplace / "tap.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as service:
        try:
            until = time.monotonic() + 60
            while True:
                with contextlib.suppress(httpx.TransportError):
                    tables = httpx.get(f"http://127.0.0.1:{port}/tap/tables", timeout=30).text
                    break
                assert time.monotonic() < until, (workplace / "tap.log").read_text()
                time.sleep(0.2)
        finally:
            service.terminate()
    named = {name.lower() for name in re.findall(r"<name>(varstar\.\w+)</name>", tables)}
    assert named == ({"varstar.catalog"} if number == 0 else {"varstar.catalog", "varstar.name"})


@pytest.mark.slow
def test_operations_in_python(workplace: Path) -> None:
    """A short training: the page's takes twenty times over thousands of stars."""
    (code,) = re.findall(r"```python\n([^`]*vb\.ingest\(.*?)```", (DOCS / "python.md").read_text(), flags=re.S)
    (workplace / "python").mkdir()
    with contextlib.chdir(workplace / "python"):
        files = write_archive(Path("files"), star=GOLDEN["bulk-g"][0])
        assert files.name == "files"
        write_simulated_survey("labelled", objects=300, partitions=3, seed=1)
        code = code.replace("epochs=20", "epochs=1, folds=0, min_per_class=2")
        first, *others = code.splitlines()
        names: dict[str, object] = {"vb": vb, "table": pq.read_table("labelled")}
        exec(first, names)
        # A survey of one star of a dozen observations would be held.
        Path("survey").rename("survey-of-one")
        write_simulated_survey("survey", objects=50, partitions=1, seed=1)
        exec("\n".join(others), names)
