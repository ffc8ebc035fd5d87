"""`verify`: every kind of damage to a published run is found, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.catalogs import RunSpec, in_pixels, in_slices, run_name, sky_rows, survey_of, write_run
from tests.makers.surveys import write_survey
from varstar_batch.catalog.reader import open_catalog
from varstar_batch.catalog.run_files.checks import VerificationError, content_problems, verify_run_files
from varstar_batch.catalog.run_files.root import Catalog
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.files.location import locate
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.survey.open import Partition, Survey, open_survey

ROWS = sky_rows(400, seed=6)


def make(root: Path, layout: str = "directory") -> Path:
    cut = in_pixels if layout == "hats" else in_slices
    write_run(root, run_name(1), RunSpec(partitions=cut(ROWS), layout=layout))
    return root / "runs" / run_name(1)


def kinds(root: Path, survey: Survey | None = None) -> set[str]:
    return {finding.kind for finding in verify_catalog(open_catalog(root), survey)}


@pytest.mark.parametrize("layout", ["directory", "hats"])
def test_a_sound_catalog_has_no_findings(tmp_path: Path, layout: str) -> None:
    make(tmp_path, layout)
    assert verify_catalog(open_catalog(tmp_path)) == []


def first_file(run: Path) -> Path:
    return min((run / "dataset").rglob("*.parquet"))


def flip(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("where", [0.0, 0.2, 0.5, 0.8, 0.999])
def test_a_flipped_byte_in_a_partition_is_found(tmp_path: Path, where: float) -> None:
    path = first_file(make(tmp_path))
    flip(path, where)
    findings = verify_catalog(open_catalog(tmp_path))
    assert "checksum" in {finding.kind for finding in findings}
    assert {finding.file for finding in findings if finding.kind == "checksum"} == {f"dataset/{path.name}"}


@pytest.mark.parametrize("content", [b"[]", b"{}x", b'{"a": {"byt\xef\xbf\xbds": 1}}', b'{"a": 3}', b"\xff\xfe"])
def test_a_record_of_another_shape_is_damage(tmp_path: Path, content: bytes) -> None:
    run = make(tmp_path)
    reader = open_catalog(tmp_path)
    for name in ("manifest.json", "run.json"):
        before = (run / name).read_bytes()
        (run / name).write_bytes(content)
        assert {finding.kind for finding in verify_catalog(reader)} == {"damaged"}
        (run / name).write_bytes(before)


def test_a_flipped_byte_in_any_other_file_of_the_run_is_found(tmp_path: Path) -> None:
    run = make(tmp_path, "hats")
    others = [path for path in run.rglob("*") if path.is_file() and "Npix" not in path.name]
    assert {path.name for path in others} >= {
        "run.json",
        "plan.json",
        "partitions.parquet",
        "hats.properties",
        "_metadata",
    }
    for path in others:
        content = path.read_bytes()
        flip(path, 0.5)
        assert kinds(tmp_path), path
        path.write_bytes(content)
    assert kinds(tmp_path) == set()


def test_a_lost_file_is_found(tmp_path: Path) -> None:
    run = make(tmp_path, "hats")
    partition = first_file(run)
    for path in [path for path in run.rglob("*") if path.is_file() and ("Npix" not in path.name or path == partition)]:
        content = path.read_bytes()
        path.unlink()
        assert "lost" in kinds(tmp_path), path
        path.write_bytes(content)


def test_a_file_that_does_not_belong_is_found(tmp_path: Path) -> None:
    run = make(tmp_path)
    (run / "dataset" / "stray.parquet").write_bytes(first_file(run).read_bytes())
    assert kinds(tmp_path) == {"unexpected"}


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(path, partitioning=None)
    pq.write_table(change(table).cast(table.schema), path)


def test_a_doubled_row_is_found(tmp_path: Path) -> None:
    path = first_file(make(tmp_path))
    rewrite(path, lambda table: pa.concat_tables([table, table.slice(3, 1)]))
    findings = verify_catalog(open_catalog(tmp_path))
    assert {"rows", "duplicate"} <= {finding.kind for finding in findings}
    doubled = pq.read_table(path)["object_id"][-1].as_py()
    assert any(str(doubled) in finding.message for finding in findings if finding.kind == "duplicate")


def test_an_object_in_two_partitions_is_found_although_every_count_is_right(tmp_path: Path) -> None:
    run = make(tmp_path)
    paths = sorted((run / "dataset").glob("*.parquet"))
    other = pq.read_table(paths[1])["object_id"][0]
    rewrite(
        paths[0], lambda table: with_column(table, "object_id", [other.as_py(), *table["object_id"].to_pylist()[1:]])
    )
    approve(run)
    (finding,) = verify_catalog(open_catalog(tmp_path))
    assert finding.kind == "duplicate"
    assert finding.file == f"dataset/{paths[0].name}"
    assert finding.message == f"object_id {other} stands twice, also in dataset/{paths[1].name}"


def with_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def approve(run: Path) -> None:
    """Write the checksums of what is there now, as an attacker, or a bug in the writer, would have it."""
    from varstar_batch.catalog.run_files.finish import fingerprint_file, manifest

    table = pq.read_table(run / "partitions.parquet")
    rows = [
        row | fingerprint_file(locate(run / "dataset" / row["partition"], what="file")) for row in table.to_pylist()
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), run / "partitions.parquet")
    keys = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest(locate(run, what="run"), keys)))


def set_values(name: str, value: object, status: str = "ok") -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        row = table["status"].to_pylist().index(status)
        values = table[name].to_pylist()
        values[row] = value
        return with_column(table, name, values)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_values("prob_RR", 1.5), "outside"),
        (set_values("prob_RR", -0.1), "outside"),
        (set_values("prob_RR", float("nan")), "outside"),
        (set_values("prob_RR", None), "missing"),
        (set_values("class_prob", 0.123), "not the greatest"),
        (set_values("class", "nothing"), "not the one"),
        (set_values("class", "RR", "no_period"), "there is a class"),
        (set_values("prob_M", 0.5, "no_period"), "there is a class"),
    ],
)
def test_numbers_that_cannot_be_are_found_before_and_after_publishing(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    run = make(tmp_path)
    rewrite(first_file(run), change)
    approve(run)
    findings = verify_catalog(open_catalog(tmp_path))
    assert {finding.kind for finding in findings} == {"content"}
    assert any(said in finding.message for finding in findings)
    keys = {f"dataset/{path.name}": 100 for path in (run / "dataset").glob("*.parquet")}
    with pytest.raises(VerificationError, match=said) as caught:
        verify_run_files(locate(run, what="run"), keys, keys)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("scale", "found"), [(1 + 3e-6, True), (1 - 3e-6, True), (1.0, False), (1 + 2e-7, False)])
def test_sums_are_held_to_one_part_in_a_million(tmp_path: Path, scale: float, found: bool) -> None:
    probabilities = np.full(6, 0.1)
    probabilities[2] = 0.5
    values = dict(zip((f"prob_{name}" for name in CLASSES), (probabilities * scale).astype(np.float32), strict=True))
    row = {"status": "ok", "class": CLASSES[2], "class_prob": np.float32(0.5 * scale), "object_id": 1} | values
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    assert bool(content_problems(locate(tmp_path, what="run"), ["a.parquet"])) is found


def test_verification_before_publishing_names_what_is_off(tmp_path: Path) -> None:
    run = make(tmp_path)
    keys = {f"dataset/{path.name}": 100 for path in (run / "dataset").glob("*.parquet")}
    verify_run_files(locate(run, what="run"), keys, keys)
    first = min(keys)
    with pytest.raises(VerificationError, match=r"99 rows"):
        verify_run_files(locate(run, what="run"), keys | {first: 99}, keys)
    with pytest.raises(VerificationError, match="none of dataset/other"):
        verify_run_files(locate(run, what="run"), keys, {*keys, "dataset/other"})
    rewrite_schema(run / first)
    with pytest.raises(VerificationError, match="columns n_obs differ"):
        verify_run_files(locate(run, what="run"), dict(sorted(keys.items(), reverse=True)), keys)
    (run / first).unlink()
    with pytest.raises(VerificationError, match="no file"):
        verify_run_files(locate(run, what="run"), keys, keys)


def rewrite_schema(path: Path) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index("n_obs")
    pq.write_table(table.set_column(place, "n_obs", table["n_obs"].cast(pa.int64())), path)


def test_another_schema_and_another_total_are_found(tmp_path: Path) -> None:
    run = make(tmp_path)
    rewrite_schema(sorted((run / "dataset").glob("*.parquet"))[2])
    approve(run)
    assert kinds(tmp_path) == {"schema"}
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"rows": 399}))
    approve(run)
    assert kinds(tmp_path) == {"schema", "totals"}


def test_a_column_that_is_there_twice_is_found(tmp_path: Path) -> None:
    run = make(tmp_path)
    path = sorted((run / "dataset").glob("*.parquet"))[2]
    table = pq.read_table(path)
    pq.write_table(table.append_column("n_obs", table["n_obs"]), path)
    approve(run)
    messages = [finding.message for finding in verify_catalog(open_catalog(tmp_path))]
    assert any("columns n_obs differ" in message for message in messages), messages


def test_the_survey_s_objects_are_compared(tmp_path: Path) -> None:
    """A survey whose files hold the same, one object more, one less; one file changed, one new, one gone."""
    survey_root = write_survey(tmp_path / "survey", (30, 30, 30))
    survey = open_survey(str(survey_root))
    rows = {}
    for partition in survey.partitions:
        ids = pq.read_table(survey_root / partition.key, columns=["object_id"])["object_id"]
        part = sky_rows(len(ids), id_type=ids.type)
        rows[partition.key] = part.set_column(0, "object_id", ids)
    spec = RunSpec(partitions=rows, survey=str(survey_root))
    catalog = write_run(tmp_path / "catalog", run_name(1), spec)
    planned_as(catalog, survey)
    assert kinds(tmp_path / "catalog", survey) == set()

    first = survey_root / survey.partitions[0].key
    table = pq.read_table(first)
    ids = pa.array([None, *table["object_id"].to_pylist()[1:]], table.schema.field("object_id").type)
    pq.write_table(table.set_column(table.column_names.index("object_id"), "object_id", ids), first)
    messages = [finding.message for finding in verify_catalog(open_catalog(tmp_path / "catalog"), survey)]
    assert "object_id cannot be compared: rows without one" in messages
    pq.write_table(table.slice(1), first)
    findings = verify_catalog(open_catalog(tmp_path / "catalog"), open_survey(str(survey_root)))
    assert {finding.kind for finding in findings} == {"survey", "objects"}
    assert any("not in the survey" in finding.message for finding in findings)
    (survey_root / survey.partitions[1].key).rename(survey_root / "part-99999.parquet")
    messages = " ".join(
        finding.message for finding in verify_catalog(open_catalog(tmp_path / "catalog"), open_survey(str(survey_root)))
    )
    assert "it came later" in messages
    assert "no longer in the survey" in messages


def planned_as(catalog: Catalog, survey: Survey) -> None:
    from varstar_batch.catalog.run_files.finish import manifest
    from varstar_batch.catalog.run_files.tables import PLAN_SCHEMA
    from varstar_batch.files.location import write_json
    from varstar_batch.files.parquet import write_table

    run = catalog.run(run_name(1))
    rows = [{"partition": p.key, "size": p.size, "version": p.version, "fingerprint": p.key} for p in survey.partitions]
    write_table(run / "plan.parquet", rows, PLAN_SCHEMA)
    write_json(run / "manifest.json", manifest(run, json.loads((run / "manifest.json").read_bytes())))


def test_a_partition_that_nobody_accounts_for_is_found(tmp_path: Path) -> None:
    partitions = in_slices(ROWS)
    failures = tuple((key, "unreadable", "cut short") for key in list(partitions)[:1])
    write_run(tmp_path, run_name(1), RunSpec(partitions=dict(list(partitions.items())[1:]), failures=failures))
    survey = survey_of(RunSpec(partitions=dict(list(partitions.items())[1:])))
    catalog = open_catalog(tmp_path).catalog
    planned_as(catalog, Survey(source=survey.source, partitions=tuple(Partition(key, 1, "1") for key in partitions)))
    assert kinds(tmp_path) == set()
    planned_as(
        catalog,
        Survey(source=survey.source, partitions=tuple(Partition(key, 1, "1") for key in [*partitions, "extra"])),
    )
    assert kinds(tmp_path) == {"partition"}
