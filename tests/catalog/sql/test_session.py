"""SQL over a catalog: what it answers, and that it can do nothing else."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.cli.output import format_of, write_answer
from varstar_batch.errors import InputError

ROWS = sky_rows(2000)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("query") / "the 'catalog'"
    write_run(root, run_name(1), RunSpec(partitions=in_slices(ROWS.slice(0, 1500))))
    write_run(root, run_name(2), RunSpec(partitions=in_slices(ROWS), model_version="2"))
    write_run(root, run_name(3), RunSpec(partitions=in_slices(ROWS)), publish=False)
    return root


@pytest.fixture(scope="module")
def reader(root: Path) -> CatalogReader:
    return open_catalog(root)


def test_the_catalog_is_a_table(reader: CatalogReader) -> None:
    found = reader.query('SELECT "class", count(*) AS n FROM catalog WHERE class IS NOT NULL GROUP BY ALL ORDER BY 1')
    expected = ROWS["class"].drop_null().value_counts().to_pylist()
    assert found.to_pylist() == sorted(
        ({"class": entry["values"], "n": entry["counts"]} for entry in expected), key=lambda row: row["class"]
    )
    assert reader.query("SELECT sum(prob_RR::DOUBLE) AS s FROM catalog")["s"][0].as_py() == pytest.approx(
        sum(value for value in ROWS["prob_RR"].to_pylist() if value is not None), rel=1e-12
    )


def test_other_runs_are_catalog_at(reader: CatalogReader) -> None:
    other = run_name(1)
    assert reader.query(f"SELECT count(*) AS n FROM catalog_at('{other}')")["n"].to_pylist() == [1500]
    joined = reader.query(f"SELECT count(*) AS n FROM catalog a JOIN catalog_at('{other}') b USING (object_id)")
    assert joined["n"].to_pylist() == [1500]
    assert reader.at("previous").query("SELECT count(*) AS n FROM catalog")["n"].to_pylist() == [1500]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM catalog LIMIT 3",
        "VALUES (1), (2), (3)",
        "WITH a AS (SELECT * FROM catalog) SELECT * FROM a LIMIT 3",
        "SELECT * FROM (PIVOT catalog ON class IN ('RR', 'M') USING count(*) GROUP BY status) LIMIT 3",
        "SELECT object_id FROM catalog ORDER BY entropy DESC LIMIT 3;",
        "DESCRIBE catalog",
        "SUMMARIZE catalog",
        "SELECT class, status FROM catalog USING SAMPLE 3 ROWS -- comment; with a semicolon",
    ],
)
def test_what_only_reads_is_answered(reader: CatalogReader, sql: str) -> None:
    assert reader.query(sql).num_rows >= 1


def attacks(root: Path) -> list[str]:
    """Texts that must not be answered; each would write, or read something other than the catalog."""
    file = str(next((root / "runs" / run_name(2) / "dataset").glob("*.parquet"))).replace("'", "''")
    unpublished = str(next((root / "runs" / run_name(3) / "dataset").glob("*.parquet"))).replace("'", "''")
    out = str(root.parent / "out").replace("'", "''")
    record = str(root / "runs" / run_name(2) / "run.json").replace("'", "''")
    return [
        # writing
        f"COPY (SELECT 1) TO '{out}.csv'",
        f"COPY catalog TO '{out}.parquet' (FORMAT parquet)",
        f"COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
        f"EXPORT DATABASE '{out}'",
        f"IMPORT DATABASE '{out}'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE OR REPLACE VIEW catalog AS SELECT 1",
        "CREATE MACRO catalog_at(run) AS TABLE SELECT 1",
        'DROP VIEW "catalog"',
        "INSERT INTO catalog VALUES (1)",
        "UPDATE catalog SET period = 1",
        "DELETE FROM catalog",
        "TRUNCATE catalog",
        "ALTER VIEW catalog RENAME TO other",
        "CREATE SCHEMA s",
        "CREATE SEQUENCE s",
        "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        f"EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}.csv'",
        "PREPARE p AS DELETE FROM catalog",
        "VACUUM",
        "CHECKPOINT",
        "BEGIN TRANSACTION",
        # attaching
        f"ATTACH '{out}.db'",
        "ATTACH ':memory:' AS other",
        "ATTACH 'https://example.org/a.db' AS other",
        "DETACH memory",
        "USE memory",
        # reading something else
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv_auto('/etc/passwd', sep = ':')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_json('/etc/hosts')",
        "SELECT * FROM read_ndjson_objects('/etc/hosts')",
        f"SELECT * FROM read_json('{record}')",
        f"SELECT * FROM read_text('{record}')",
        f"SELECT * FROM read_parquet('{unpublished}')",
        f"SELECT * FROM '{unpublished}'",
        f"SELECT * FROM parquet_metadata('{unpublished}')",
        f"SELECT * FROM read_text('{file}/../../../../../../../../etc/passwd')",
        f"SELECT * FROM read_text('{file}/../../run.json')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM glob('/etc/**')",
        "SELECT * FROM read_parquet('/**/*.parquet')",
        "SELECT * FROM read_parquet('s3://bucket/a.parquet')",
        "SELECT * FROM read_csv('https://example.org/a.csv')",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
        "SELECT * FROM query_table('/etc/passwd')",
        "SELECT (SELECT content FROM read_text('/etc/passwd')) FROM catalog",
        "WITH a AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM a",
        "SELECT * FROM catalog UNION ALL SELECT * FROM read_parquet('/tmp/other.parquet')",
        "SELECT getenv('HOME')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM sqlite_scan('/tmp/a.db', 't')",
        "SELECT * FROM a_python_variable",
        f"SELECT * FROM catalog_at('{run_name(3)}')",
        "SELECT * FROM catalog_at('../../../etc')",
        # configuration and extensions
        "SET enable_external_access = true",
        "SET GLOBAL lock_configuration = false",
        "RESET lock_configuration",
        "SET allowed_directories = ['/']",
        "SET temp_directory = '/tmp/x'",
        "PRAGMA enable_external_access",
        "PRAGMA database_list",
        "INSTALL httpfs",
        "FORCE INSTALL httpfs FROM community",
        "LOAD httpfs",
        "LOAD '/tmp/evil.duckdb_extension'",
        "UPDATE EXTENSIONS",
        "CALL force_checkpoint()",
        # several at once, and none
        "SELECT 1; DROP VIEW catalog",
        "SELECT 1; SELECT 2",
        "",
        ";",
        "-- nothing",
        *snooping(),
    ]


def snooping() -> list[str]:
    """Texts that ask for settings, paths and secrets of the machine."""
    return [
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_settings",
        "SELECT value FROM main.duckdb_settings() WHERE name = 'temp_directory'",
        "SELECT * FROM pg_catalog.pg_settings",
        "SELECT current_setting('temp_directory')",
        "SELECT CURRENT_SETTING('allowed_paths') FROM catalog",
        "SELECT system.main.current_setting('home_directory')",
        "SELECT list_transform([1], lambda x: current_setting('temp_directory'))",
        "SELECT 1 WHERE EXISTS (SELECT current_setting('secret_directory') LIKE '%/%')",
        "DESCRIBE SELECT * FROM duckdb_settings()",
        "SUMMARIZE FROM duckdb_settings()",
        "SELECT getvariable('a')",
        "SELECT * FROM duckdb_views()",
        "SELECT sql FROM duckdb_views",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM information_schema.tables",
        "SELECT view_definition FROM information_schema.views",
        "SELECT pg_get_viewdef(view_oid) FROM duckdb_views()",
        "SELECT * FROM duckdb_databases()",
        "SELECT * FROM pragma_database_list",
        "SELECT * FROM duckdb_temporary_files()",
        "SELECT * FROM duckdb_external_file_cache()",
        "SELECT * FROM duckdb_extensions()",
        "SELECT * FROM duckdb_logs",
        "SELECT * FROM duckdb_variables()",
        "SELECT * FROM pragma_platform()",
        "SHOW ALL TABLES",
        "SHOW DATABASES",
        "SELECT * FROM (SHOW ALL TABLES)",
        "SELECT * FROM which_secret('s3://bucket', 's3')",
        "SELECT filename FROM catalog",
        "SELECT * FROM query('SELECT current_setting(''temp_directory'')')",
        "SELECT * FROM query_table('duckdb_settings')",
        "SELECT * FROM catalog_at('x'' UNION FROM duckdb_settings()')",
        "SELECT * FROM histogram_values(duckdb_settings, 'name')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM duckdb_settings()'))",
        'SELECT * FROM "catalog@' + run_name(2) + '"',
        "WITH a AS (FROM duckdb_settings()) SELECT * FROM a",
        "SELECT (FROM duckdb_settings() SELECT any_value(value)) FROM catalog",
        "SELECT write_log('x')",
    ]


def test_a_query_can_only_read_the_catalog(root: Path, reader: CatalogReader) -> None:
    a_python_variable = pa.table({"secret": [1]})
    before = {path: path.stat().st_mtime_ns for path in root.parent.rglob("*")}
    tried = attacks(root)
    assert len(tried) >= 50
    # In this process: the one of its own that a person's SQL gets is no part of this wall, and takes a second to start.
    for sql in tried:
        with reader.open_queries() as ask, pytest.raises(InputError) as caught:
            ask(sql).table()
        assert caught.value.exit_code == 2, sql
        assert "\n" not in str(caught.value)
    assert a_python_variable.num_rows == 1
    assert {path: path.stat().st_mtime_ns for path in root.parent.rglob("*")} == before
    assert len(reader.query("SELECT object_id FROM catalog")) == ROWS.num_rows


def test_even_without_the_check_of_the_text_nothing_can_be_reached(root: Path, reader: CatalogReader) -> None:
    """The two walls are independent: here the second one stands alone."""
    import duckdb

    from varstar_batch.catalog.sql.session import open_session

    # What these do stays inside of this throw-away, in-memory database.
    inside = ("CREATE", "ATTACH ':memory:'", "EXPLAIN ANALYZE CREATE", "PRAGMA database_list", "BEGIN", "USE", "ALTER")
    inside += ("VACUUM", "CHECKPOINT", "CALL", "DETACH", "PREPARE", "UPDATE EXT", "DROP", "SELECT 1", "--")
    with open_session({reader.run_id: reader.locations}, reader.run_id) as connection:
        for sql in attacks(root):
            # What the session itself is, is walled off by name alone.
            if sql in snooping():
                continue
            # That a file which may be read may not be written is only the other wall's business.
            if sql.startswith(inside) or not sql.strip(";") or "USE_TMP_FILE false" in sql:
                continue
            with pytest.raises(duckdb.Error):
                connection.execute(sql)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM catalog", "nothing"),
        ("SELECT * FROM nothing", "nothing"),
        ("SELECT class + 1 FROM catalog", "No function matches"),
        ("SELECT CASE WHEN n_obs > 0 THEN error('boom') END FROM catalog", "boom"),
        ("SELECT * FROM catalog_at('20010101T000000Z-00000000')", "varstar runs"),
    ],
)
def test_bad_sql_gets_one_line(reader: CatalogReader, sql: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        reader.query(sql)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_several_statements_are_told_from_one(reader: CatalogReader) -> None:
    assert reader.query("SELECT 1;").num_rows == 1
    with pytest.raises(InputError, match="2 statements"):
        reader.query("SELECT 1; SELECT 2;")
    with pytest.raises(InputError, match="0 statements"):
        reader.query("  ")


def test_a_catalog_on_another_file_system_is_queried_the_same_way() -> None:
    root = "memory://query-catalog"
    write_run(root, run_name(1), RunSpec(partitions=in_slices(ROWS)))
    reader = open_catalog(root)
    assert reader.query("SELECT count(*) AS n FROM catalog")["n"].to_pylist() == [ROWS.num_rows]
    assert reader.get(10_007) is not None
    assert reader.cone(0, 0, 180).num_rows == ROWS.num_rows
    secret = pa.table({"a": [1]})
    with fsspec.filesystem("memory").open("/elsewhere/a.parquet", "wb") as sink:
        pq.write_table(secret, sink)
    for url in ("memory:///elsewhere/a.parquet", "memory://elsewhere/a.parquet", "/etc/passwd"):
        with pytest.raises(InputError, match="nothing but the catalog"):
            reader.query(f"SELECT * FROM read_parquet('{url}')")


def test_answers_as_csv_json_and_parquet(reader: CatalogReader) -> None:
    sql = "SELECT object_id, class, class_prob, n_obs / 0 AS bad FROM catalog ORDER BY object_id LIMIT 50"
    expected = reader.query(sql)
    written = {}
    for form in ("csv", "json", "parquet"):
        sink = io.BytesIO()
        with reader.open_query(sql) as answer:
            assert write_answer(answer.schema, answer, format_of(f"x.{form}"), sink) == 50
        written[form] = sink.getvalue()
    rows = json.loads(written["json"])
    assert [row["object_id"] for row in rows] == expected["object_id"].to_pylist()
    assert [row["class"] for row in rows] == expected["class"].to_pylist()
    assert {row["bad"] for row in rows} == {None}
    assert pa.array([row["class_prob"] for row in rows], pa.float32()).equals(
        expected["class_prob"].combine_chunks()
    ), "float32 in full precision"
    table = list(csv.DictReader(io.StringIO(written["csv"].decode())))
    assert [int(row["object_id"]) for row in table] == expected["object_id"].to_pylist()
    assert pq.read_table(pa.BufferReader(written["parquet"])).equals(expected)


def test_an_answer_without_rows_is_still_an_answer(reader: CatalogReader) -> None:
    sink = io.BytesIO()
    with reader.open_query("SELECT object_id FROM catalog WHERE false") as answer:
        assert write_answer(answer.schema, answer, "json", sink) == 0
    assert json.loads(sink.getvalue()) == []


def test_nested_columns_cannot_be_csv() -> None:
    batch = pa.record_batch({"a": [[1, 2]]})
    with pytest.raises(InputError, match="lists or structs in a"):
        write_answer(batch.schema, [batch], "csv", io.BytesIO())
    with pytest.raises(InputError, match=r"\.csv, \.json, \.parquet"):
        format_of("answer.txt")
