"""SQL that wants everything: time, memory, the disk, the operator's patience."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from tests.makers import s3_server
from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.catalog.sql.process import QueryLimits
from varstar_batch.catalog.sql.session import SPILL_AGE, SPILL_PREFIX, spill_folder
from varstar_batch.errors import InputError

ROWS = sky_rows(2000)
MIB = 2**20

LIMITS = QueryLimits(timeout=6, memory=512 * MIB)
PATIENT = QueryLimits(timeout=240, memory=512 * MIB)
"""Where it is the memory that ends a query, or nothing: on a busy machine, too."""

LATEST = 12.0
"""Seconds after which every hostile query is over: its time, and the start of a process on a busy machine."""

BASE = 200 * MIB
"""What an idle child has resident, at most: an interpreter, DuckDB and Arrow."""

FOREVER = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range * b.range % 7 = 3"

HOSTILE = {
    "cross join": "SELECT count(*) FROM catalog a, catalog b, catalog c, catalog d WHERE a.n_obs + b.n_obs > c.n_obs",
    "cross join of numbers": FOREVER,
    "three long texts": "SELECT length(repeat('x', 2000000000) || repeat('y', 2000000000) || repeat('z', 2000000000))",
    "a long text for every star": "SELECT repeat(status, 100000000) FROM catalog",
    "long texts, doubled": "SELECT length(repeat(repeat(repeat('x', 100000), 10000), 100))",
    "padded": "SELECT lpad('x', 2000000000, 'y'), rpad('x', 2000000000, 'y')",
    "endless recursion": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "recursion that doubles": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + i FROM t, range(2) r(i)) "
    "SELECT max(n) FROM t",
    "recursion of texts": "WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t) "
    "SELECT max(length(s)) FROM t",
    "recursion of sets": "WITH RECURSIVE t(n) AS (SELECT 1 UNION SELECT n + 1 FROM t) SELECT max(n) FROM t",
    "a long series": "SELECT * FROM generate_series(1000000000000)",
    "a series counted": "SELECT sum(sin(g)) FROM generate_series(1000000000000) t(g)",
    "a series as a list": "SELECT len(generate_series(1, 1000000000000))",
    "a list of a range": "SELECT list_sum(range(3000000000))",
    "an aggregated list": "SELECT list(g) FROM range(10000000000) t(g)",
    "lists of lists": "SELECT list(l) FROM (SELECT list(g) l FROM range(1000000000) t(g) GROUP BY g % 1000)",
    "an aggregated text": "SELECT string_agg(g::VARCHAR, ',') FROM range(10000000000) t(g)",
    "a histogram of all": "SELECT histogram(g) FROM range(1000000000) t(g)",
    "exact quantiles": "SELECT median(g), mode(g) FROM range(10000000000) t(g)",
    "distinct values": "SELECT count(DISTINCT hash(g)) FROM range(10000000000) t(g)",
    "a window over everything": "SELECT max(s) FROM (SELECT sum(g) OVER (ORDER BY hash(g)) s "
    "FROM range(10000000000) t(g))",
    "a window of lists": "SELECT max(len(l)) FROM (SELECT list(a.n_obs) OVER (ORDER BY a.object_id, b.object_id) l "
    "FROM catalog a, catalog b)",
    "a window of medians": "SELECT max(m) FROM (SELECT median(hash(g)) OVER (ORDER BY g ROWS BETWEEN 1000000 PRECEDING "
    "AND CURRENT ROW EXCLUDE TIES) m FROM range(100000000) t(g))",
    "a sort of more than fits": "SELECT * FROM range(10000000000) t(g) ORDER BY hash(g)",
    "the most of a sort": "SELECT g, repeat('x', 1000) FROM range(1000000000) t(g) ORDER BY hash(g) LIMIT 500000000",
    "a join of more than fits": "SELECT count(*) FROM range(1000000000) a(g) JOIN range(1000000000) b(g) "
    "ON hash(a.g) = hash(b.g + 1)",
    "a join by inequality": "SELECT count(*) FROM range(10000000) a(g) JOIN range(10000000) b(g) ON a.g < b.g AND "
    "a.g % 3 <> b.g % 3",
    "groups without end": "SELECT g, count(*), list(g) FROM range(10000000000) t(g) GROUP BY g",
    "groups of every kind": "SELECT count(*) FROM (SELECT count(*) FROM catalog, range(1000) t(g) GROUP BY CUBE (g, "
    "object_id, period, ra, dec, n_obs, n_used, status, entropy, margin))",
    "a pattern with a bomb": "SELECT count(*) FROM range(100000000) t(g) WHERE regexp_matches(repeat('a', 5000) || g, "
    "'(a|a|b|a*)*c')",
    "a pattern of many": "SELECT regexp_matches(repeat('a', 100000000), '((a{1,30}){1,30}){1,1000}b')",
    "patterns replaced": "SELECT length(regexp_replace(repeat('a', 100000000), 'a', repeat('b', 1000), 'g'))",
    "patterns split": "SELECT len(regexp_split_to_array(repeat('a,', 500000000), ','))",
    "edit distances": "SELECT max(levenshtein(repeat('a', 50000) || g, repeat('b', 50000))) FROM range(1000000) t(g)",
    "big numbers printed": "SELECT max(length(repeat(printf('%1000000d', g), 1000))) FROM range(1000000) t(g)",
    "unnested lists": "SELECT unnest(range(1000000000)), unnest(range(1000000000)), repeat('x', 1000)",
    "unnested twice": "SELECT count(*) FROM range(1000000) a(g), unnest(range(1000000)) b(h), unnest(range(h)) c(i)",
    "a wide row": f"SELECT {', '.join(f'repeat(status, 1000000) AS c{k}' for k in range(500))} FROM catalog",
    "a wide pivot": "SELECT * FROM (PIVOT (FROM catalog, range(10000) t(g)) ON g IN ("
    + ", ".join(map(str, range(5000)))
    + ") USING list(object_id) GROUP BY object_id)",
    "a deep expression": "SELECT " + "(" * 20000 + "1" + ")" * 20000,
    "a long expression": "SELECT " + " + ".join(["hash(object_id)"] * 9000) + " FROM catalog",
    "many joins": "SELECT count(*) FROM " + ", ".join(f"catalog c{k}" for k in range(60)),
    "a table of tables": " UNION ALL ".join(["SELECT count(*) FROM catalog a, catalog b, catalog c"] * 50),
    "json without end": "SELECT length(json_group_array(repeat('x', 10000))::VARCHAR) FROM range(10000000)",
    "sleep": "SELECT sleep_ms(100000)",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("limits") / "catalog"
    write_run(root, run_name(1), RunSpec(partitions=in_slices(ROWS)))
    return root


@pytest.fixture(scope="module")
def reader(root: Path) -> CatalogReader:
    return open_catalog(root)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


class Peak:
    """Most bytes that the processes below one that answer SQL have resident; others are of other tests."""

    def __init__(self, pid: int | None = None) -> None:
        self.bytes = 0
        self._parent = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            for child in self._parent.children(recursive=True):
                try:
                    if any("sql.child" in word for word in child.cmdline()):
                        self.bytes = max(self.bytes, child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_query_is_answered_or_ended(name: str, reader: CatalogReader, temporary: Path) -> None:
    """Each ends in time and within its memory, with an answer or one line, and leaves nothing."""
    start, said = time.monotonic(), ""
    with Peak() as peak:
        try:
            with reader.open_query(HOSTILE[name], limits=LIMITS) as answer:
                for _ in answer:
                    # Endless answers end when nobody wants more.
                    if time.monotonic() - start > LIMITS.timeout:
                        break
        except InputError as error:
            said = str(error)
    assert "\n" not in said
    assert len(said) < 1000
    assert time.monotonic() - start < LATEST
    assert peak.bytes < BASE + LIMITS.memory
    assert list(temporary.iterdir()) == []


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 40


def test_a_query_that_takes_too_long_gets_one_line(reader: CatalogReader, temporary: Path) -> None:
    with pytest.raises(InputError, match=r"within 0\.5 s.*--timeout"):
        reader.query(FOREVER, limits=QueryLimits(timeout=0.5))
    assert list(temporary.iterdir()) == []


def test_a_query_that_takes_too_much_gets_one_line(reader: CatalogReader) -> None:
    with pytest.raises(InputError, match=r"keeps to its memory.*--memory"):
        reader.query(HOSTILE["three long texts"], limits=PATIENT)
    with pytest.raises(InputError, match="keeps to its memory"):
        reader.query("SELECT list(g) FROM range(1000000000) t(g)", limits=PATIENT)


def test_an_answer_larger_than_all_memory_is_streamed(reader: CatalogReader) -> None:
    """A billion numbers would take 8 GB: the first are here before the last are made, and neither side holds many."""
    seen = 0
    before = pa.total_allocated_bytes()
    with Peak() as peak, reader.open_query("SELECT * FROM range(1000000000)", limits=PATIENT) as answer:
        for batch in answer:
            seen += batch.num_rows
            if seen > 50_000_000:
                break
    assert seen > 50_000_000
    assert 0 < peak.bytes < BASE
    assert pa.total_allocated_bytes() - before < 16 * MIB


@pytest.mark.slow
def test_what_spills_is_answered_and_leaves_nothing(reader: CatalogReader, temporary: Path) -> None:
    sql = "SELECT g, hash(g) AS h FROM range(20000000) t(g) ORDER BY h"
    rows, most = 0, 0
    with reader.open_query(sql, limits=QueryLimits(timeout=300, memory=512 * MIB)) as answer:
        for batch in answer:
            rows += batch.num_rows
            most = max(most, *(file.stat().st_size for file in temporary.rglob("*") if file.is_file()), 0)
    assert rows == 20_000_000
    assert most > 0
    assert list(temporary.iterdir()) == []


def test_threads_ask_at_once(reader: CatalogReader) -> None:
    found: list[int] = []

    def ask() -> None:
        found.append(reader.query("SELECT count(*) AS n FROM catalog")["n"][0].as_py())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [ROWS.num_rows] * 4


def test_a_query_has_nothing_of_the_environment(reader: CatalogReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a query found out of its process: no credential is there."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    with reader.open_query("SELECT * FROM range(1000000000000)") as answer:
        next(iter(answer))
        (child,) = [each for each in psutil.Process().children() if "sql.child" in " ".join(each.cmdline())]
        environment = child.environ()
    assert not {name for name in environment if name.startswith("AWS")}
    assert "HOME" not in environment


def test_a_catalog_on_an_object_store_is_read_without_a_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child asks this process for its bytes: it has no credential, and of the store exactly the run's files."""
    with s3_server.moto_server() as server, s3_server.bucket_of("sql", server, monkeypatch) as store:
        write_run(f"{store}/catalog", run_name(1), RunSpec(partitions=in_slices(ROWS)))
        reader = open_catalog(f"{store}/catalog")
        found = reader.query("SELECT * FROM catalog ORDER BY object_id")
        assert found.num_rows == ROWS.num_rows
        assert found.column_names == reader.schema.names
        assert found["prob_RR"].equals(ROWS.sort_by("object_id")["prob_RR"])
        for url in (f"{store}/catalog/runs/{run_name(1)}/run.json", f"{store}/other.parquet"):
            with pytest.raises(InputError, match="nothing but the catalog"):
                reader.query(f"SELECT * FROM read_text('{url}')")
        with reader.open_query("SELECT * FROM catalog, range(1000000000)") as answer:
            next(iter(answer))
            (child,) = [each for each in psutil.Process().children() if "sql.child" in " ".join(each.cmdline())]
            assert not {name for name in child.environ() if name.startswith("AWS")}


def asking(root: Path, temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `varstar query` with a query that never ends, in a process group of its own, until it computes."""
    words = [sys.executable, "-m", "varstar_batch", "query", str(root), FOREVER]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not any(child.cpu_times().user > 1.5 for child in psutil.Process(process.pid).children()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(10))
def test_ctrl_c_ends_a_query_at_once(round_: int, root: Path, temporary: Path) -> None:
    del round_
    for process in asking(root, temporary):
        (child,) = psutil.Process(process.pid).children()
        start = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.readline()
        took = time.monotonic() - start
        said += process.communicate(timeout=30)[1]
        assert process.returncode == 130
        assert said.startswith("error: interrupted")
        assert said.count("\n") == 1
        assert not child.is_running()
        assert list(temporary.iterdir()) == []
        assert took < 1


@pytest.mark.slow
def test_a_query_ends_with_who_asked(root: Path, temporary: Path) -> None:
    """SIGKILL of the command: the child ends itself and removes what it spilled."""
    for process in asking(root, temporary):
        (child,) = psutil.Process(process.pid).children()
        process.kill()
        child.wait(5)
        assert list(temporary.iterdir()) == []


def test_folders_of_the_killed_are_removed_by_the_next(temporary: Path) -> None:
    left, young = temporary / f"{SPILL_PREFIX}left", temporary / f"{SPILL_PREFIX}young"
    for folder in (left, young):
        folder.mkdir()
        (folder / "spilled").touch()
    long_ago = time.time() - 2 * SPILL_AGE
    os.utime(left, (long_ago, long_ago))
    with spill_folder() as held:
        os.utime(held, (long_ago, long_ago))
        with spill_folder():
            assert Path(held).is_dir()
    assert list(temporary.iterdir()) == [young]


@pytest.mark.parametrize(("timeout", "memory"), [(0, 2**30), (-1, 2**30), (1, 2**20)])
def test_limits_that_are_none(timeout: float, memory: int) -> None:
    with pytest.raises(ValueError, match="greater than"):
        QueryLimits(timeout=timeout, memory=memory)
