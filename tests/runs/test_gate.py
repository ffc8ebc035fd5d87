"""A complete run becomes current only if it passes its gate; a held one waits for a person, on storage, whole."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from tests.makers.runs import read_rows, run
from tests.makers.surveys import simulated_table, write_partition, write_survey
from varstar_batch.api import ClassifyRequest, classify_survey
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.catalog.run_files.history import list_runs, release_held, resolve_run, rollback
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.errors import InputError, PartitionError, RefusedError
from varstar_batch.model.bundle import parse_bundle
from varstar_batch.model.bundle_files import read_bundle
from varstar_batch.report import write_report
from varstar_batch.runs import stages, tasks
from varstar_batch.runs.config import GateConfig, RunConfig, load_config
from varstar_batch.runs.gate import Check, audit
from varstar_batch.runs.prepare import HeldError
from varstar_batch.survey.open import Partition, Source, open_survey
from varstar_batch.survey.read import PartitionShape, partition_shape

BEFORE = sky_rows(200)


def column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))


def turned(count: int) -> pa.Table:
    """The same rows, of which the first classified ones have the class that they had second."""
    rows, left = BEFORE.to_pylist(), count
    for row in rows:
        if left and row["status"] == "ok":
            row["class"], row["second_class"] = row["second_class"], row["class"]
            left -= 1
    return pa.Table.from_pylist(rows, schema=BEFORE.schema)


def unclassified(count: int) -> pa.Table:
    """The same rows, `count` more of them without a class."""
    rows, left = BEFORE.to_pylist(), count
    for row in rows:
        if left and row["status"] == "ok":
            row["status"], row["class"] = "too_few_observations", None
            left -= 1
    return pa.Table.from_pylist(rows, schema=BEFORE.schema)


def strange(count: int) -> pa.Table:
    return column(BEFORE, "ood_score", [1.0 if k < count else 0.5 for k in range(200)])


def audited(tmp_path: Path, after: RunSpec, gate: GateConfig | None = None) -> dict[str, Check]:
    """Measure a run of `after` against one of BEFORE, and return its checks by limit."""
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(BEFORE)))
    root = write_run(tmp_path, run_name(2), after, publish=False)
    readers = (CatalogReader(root, run_name(2)), CatalogReader(root, run_name(1)))
    return {check.limit_name: check for check in audit(*readers, RunConfig(gate=gate or GateConfig()))}


FAILED = ("part-00009.parquet", "unreadable", "no Parquet")
GATES: dict[str, tuple[RunSpec, RunSpec, float]] = {
    # Limit: a run that passes, one that does not, and what that one measures.
    "max_changed": (
        RunSpec(partitions=in_slices(turned(18))),
        RunSpec(partitions=in_slices(turned(19))),
        19 / 180,
    ),
    "max_gone": (
        RunSpec(partitions=in_slices(BEFORE.slice(20))),
        RunSpec(partitions=in_slices(BEFORE.slice(21))),
        21 / 200,
    ),
    "max_unclassified": (
        RunSpec(partitions=in_slices(unclassified(140))),
        RunSpec(partitions=in_slices(unclassified(141))),
        161 / 200,
    ),
    "max_unclassified_growth": (
        RunSpec(partitions=in_slices(unclassified(20))),
        RunSpec(partitions=in_slices(unclassified(21))),
        21 / 200,
    ),
    "max_unfamiliar": (
        RunSpec(partitions=in_slices(strange(100))),
        RunSpec(partitions=in_slices(strange(102))),
        92 / 180,
    ),
    "max_failed": (
        RunSpec(partitions=in_slices(BEFORE, 1), failures=(FAILED,)),
        RunSpec(partitions=in_slices(BEFORE, 1), failures=(FAILED, FAILED)),
        2 / 3,
    ),
    "": (
        RunSpec(partitions=in_slices(unclassified(179))),
        RunSpec(partitions=in_slices(unclassified(180))),
        0,
    ),
}


@pytest.mark.parametrize("name", GATES)
def test_each_gate_lets_one_run_pass_and_holds_another(tmp_path: Path, name: str) -> None:
    passes, held, measured = GATES[name]
    assert audited(tmp_path / "passes", passes)[name].passed
    check = audited(tmp_path / "held", held)[name]
    assert not check.passed
    assert check.value == pytest.approx(measured, abs=0.011)
    assert str(check.limit).rstrip("0") in check.text or f"{check.limit:.1%}" in check.text


def test_the_first_publication_is_compared_with_nothing(tmp_path: Path) -> None:
    root = write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(BEFORE)), publish=False)
    checks = audit(CatalogReader(root, run_name(1)), None, RunConfig())
    assert all(check.passed for check in checks)
    assert [check.limit_name for check in checks] == ["", "max_unclassified", "max_failed", "max_unfamiliar"]


def test_another_survey_is_held_and_says_what_to_do(tmp_path: Path) -> None:
    """Measured: the release of another survey replaced 20,000 stars by 3,886."""
    other = RunSpec(partitions=in_slices(sky_rows(39, first_id=90_000)), survey="/surveys/other")
    check = audited(tmp_path, other)["max_gone"]
    assert (check.passed, check.value) == (False, 1.0)
    for words in ("/surveys/other", "/surveys/toy", "--replace-survey"):
        assert words in check.text
    named = RunSpec(partitions=in_slices(column(BEFORE, "object_id", range(200))), survey="/surveys/other")
    assert not audited(tmp_path / "number", named)["max_gone"].passed
    root = open_catalog_root(tmp_path)
    readers = (CatalogReader(root, run_name(2)), CatalogReader(root, run_name(1)))
    assert all(check.passed for check in audit(*readers, RunConfig(replace_survey=True)))


def test_a_moved_or_grown_survey_is_the_same(tmp_path: Path) -> None:
    grown = pa.concat_tables([BEFORE, sky_rows(100, first_id=90_000)])
    moved = RunSpec(partitions=in_slices(grown), survey="/surveys/toy-dr2")
    assert all(check.passed for check in audited(tmp_path, moved).values())


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_anchors_are_counted_against_the_classes_found(tmp_path: Path, form: str) -> None:
    known = BEFORE.filter(pa.compute.equal(BEFORE["status"], "ok")).select(["object_id", "class"]).slice(0, 50)
    ids, labels = known["object_id"].to_pylist(), known["class"].to_pylist()
    others = ["RR" if label != "RR" else "M" for label in labels]
    # Beside 50 that are in the catalog: one that is not, and one of a class that the model has not.
    for wrong in (10, 11):
        table = pa.table({"Object_ID": [*ids, 1, 2], "CLASS": [*others[:wrong], *labels[wrong:], "RR", "YSO"]})
        file = tmp_path / f"anchors-{wrong}.{form}"
        if form == "csv":
            lines = [",".join(map(str, row)) for row in zip(*table.to_pydict().values(), strict=True)]
            file.write_text("\n".join(["Object_ID,CLASS", *lines]) + "\n")
        else:
            pq.write_table(table, file)
        same = RunSpec(partitions=in_slices(BEFORE))
        check = audited(tmp_path / f"{wrong}", same, GateConfig(anchors=str(file)))["min_anchor_accuracy"]
        assert (check.passed, check.value) == (wrong == 10, 1 - wrong / 50)
        assert f"{50 - wrong} of 50 anchors are classified right" in check.text
    (tmp_path / "no.csv").write_text("star_name,kind\na,RR\n")
    with pytest.raises(InputError, match="a column class and a column object_id"):
        classify_survey(request(tmp_path / "survey", tmp_path / "c", gate=GateConfig(anchors=f"{tmp_path}/no.csv")))


def test_anchors_are_read_by_the_label_maps_and_may_be_positions(tmp_path: Path) -> None:
    known = BEFORE.filter(pa.compute.equal(BEFORE["status"], "ok")).slice(0, 30).to_pylist()
    written = {"RR": "RRAB", "ECL": "EW", "CEP": "DCEP", "M": "MIRA", "SR": "SRB", "DSCUT": "mine"}
    lines = [f"{row['ra']},{row['dec'] + 1e-4},{written[row['class']]}" for row in known]
    (tmp_path / "anchors.csv").write_text("\n".join(["RAJ2000,DEJ2000,Type", *lines]))
    write_run(
        tmp_path / "c", run_name(1), RunSpec(partitions=in_slices(BEFORE), configuration={"labels": {"mine": "DSCUT"}})
    )
    reader = CatalogReader(open_catalog_root(tmp_path / "c"), run_name(1))
    gate = GateConfig(anchors=str(tmp_path / "anchors.csv"), anchor_radius=1)
    check = next(each for each in audit(reader, None, RunConfig(gate=gate)) if each.limit_name == "min_anchor_accuracy")
    assert check.passed
    assert check.text.startswith("30 of 30 anchors are classified right: 100.0%")
    said = reader.catalog.validation(run_name(1))  # what the report shows
    assert said is not None
    assert said["right"]["count"] == 30
    with pytest.raises(InputError, match="identifiers of the anchors"):
        audit(reader, None, RunConfig(gate=GateConfig(anchors=gate.anchors)))


def test_a_damaged_current_run_does_not_bar_the_next(tmp_path: Path) -> None:
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(BEFORE)))
    root = write_run(tmp_path, run_name(2), RunSpec(partitions=in_slices(BEFORE)), publish=False)
    (tmp_path / f"runs/{run_name(1)}/dataset/part-00002.parquet").unlink()
    readers = (CatalogReader(root, run_name(2)), CatalogReader(root, run_name(1)))
    assert all(check.passed for check in audit(*readers, RunConfig()))
    write_run(tmp_path, run_name(3), RunSpec(partitions=in_slices(BEFORE.slice(50))), publish=False)
    checks = audit(CatalogReader(root, run_name(3)), readers[1], RunConfig())
    assert [check.limit_name for check in checks if not check.passed] == ["max_gone", "max_changed"]


def test_the_configuration_has_a_section_for_it(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[gate]\nmax_changed = 0.3\n")
    config = load_config(tmp_path / "c.toml", ["gate.max_gone=0.2"])
    assert (config.gate.max_changed, config.gate.max_gone) == (0.3, 0.2)
    with pytest.raises(InputError, match=r"unknown key 'gate.max_chnged'.*did you mean 'max_changed'"):
        load_config(None, ["gate.max_chnged=1"])
    assert RunConfig(gate=config.gate).result_settings() == RunConfig().result_settings()


def request(survey: Path, catalog: Path, gate: GateConfig | None = None, **options: Any) -> ClassifyRequest:
    config = RunConfig(gate=gate or GateConfig(), replace_survey=options.pop("replace_survey", False))
    return ClassifyRequest(survey=str(survey), catalog=str(catalog), config=config, workers=0, **options)


def without_periods(folder: Path, count: int = 30) -> Path:
    table = simulated_table(0, count)
    write_partition(folder / "part-00000.parquet", column(table, "period", [None] * count))
    return folder


def test_a_run_that_classified_nothing_is_held_goes_nowhere_and_is_released_by_name(tmp_path: Path) -> None:
    """Measured: 0 of 140 classified, published over a good run, exit 0."""
    catalog, root = tmp_path / "catalog", str(tmp_path / "catalog")
    good = classify_survey(request(write_survey(tmp_path / "survey", (30,)), catalog))
    assert good.held() is None
    for part in (tmp_path / "survey").iterdir():
        part.unlink()
    survey = without_periods(tmp_path / "survey")
    open_gate = GateConfig(max_unclassified=1, max_unclassified_growth=1)
    found = classify_survey(request(survey, catalog, open_gate))
    error = found.held()
    assert isinstance(error, HeldError)
    assert "0 of 30 objects were classified, at least 1" in str(error)
    assert f"varstar publish {catalog} {found.prepared.run_id} --because TEXT" in str(error)
    assert open_catalog(root).run_id == good.prepared.run_id
    held = open_catalog(root, found.prepared.run_id)
    assert verify_catalog(held) == []
    assert [entry.state for entry in list_runs(held.catalog)] == ["current", "held"]
    page = Path(str(write_report(held, tmp_path / "r.html"))).read_text()
    assert "Held, not published: 0 of 30 objects were classified" in page
    # The same again goes into it by no accident, whatever may be abandoned.
    for options in ({}, {"abandon_unfinished": True}, {"mode": "incremental"}):
        with pytest.raises(HeldError, match=found.prepared.run_id):
            classify_survey(request(survey, catalog, open_gate, **options))
    with pytest.raises(InputError, match="which is none of them"):
        rollback(held.catalog, found.prepared.run_id)
    with pytest.raises(InputError, match="--because"):
        release_held(held.catalog, found.prepared.run_id, because="  ", by="me")
    pointer = release_held(held.catalog, found.prepared.run_id[:18], because="they have no periods yet", by="me")
    assert (pointer.because, pointer.by) == ("they have no periods yet", "me")
    assert verify_catalog(held) == []
    assert list_runs(held.catalog)[-1].why == "released by me: they have no periods yet"
    assert resolve_run(held.catalog, "current") == found.prepared.run_id
    with pytest.raises(RefusedError, match="which was published"):
        release_held(held.catalog, found.prepared.run_id, because="again", by="me")
    # What the gate had found is sealed by the pointer.
    gate = catalog / f"gates/{found.prepared.run_id}.json"
    gate.write_text(gate.read_text().replace("0 of 30", "30 of 30"))
    assert [(finding.kind, finding.file) for finding in verify_catalog(held)] == [("checksum", f"gates/{gate.name}")]


def test_a_held_run_is_measured_anew_where_somebody_changed_its_gate(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    classify_survey(request(write_survey(tmp_path / "one", (30,)), catalog))
    other = write_survey(tmp_path / "other", (40,), seed=9)
    held = classify_survey(request(other, catalog))
    assert held.held() is not None
    done = classify_survey(request(other, catalog, replace_survey=True))
    assert done.held() is None
    assert done.prepared.run_id == held.prepared.run_id == open_catalog(str(catalog)).run_id
    assert done.record["rows"] == 40
    assert verify_catalog(open_catalog(str(catalog)), open_survey(str(other))) == []
    # A run of another survey is in no unfinished one's way.
    again = classify_survey(request(tmp_path / "one", catalog))
    assert again.held() is not None
    third = classify_survey(request(write_survey(tmp_path / "third", (20,), seed=2), catalog, replace_survey=True))
    assert third.held() is None


def test_weights_that_are_no_numbers_are_refused_when_the_bundle_is_read() -> None:
    """Measured: a bundle full of NaN, and one with a single infinite weight, were published; exit 0."""
    bundle = read_bundle()
    for value, all_of_them in ((np.nan, True), (np.inf, False), (-np.inf, False)):
        keras = _with_weight(bundle.keras_file, value, all_of_them)
        import hashlib

        contract = json.loads(bundle.contract.to_json()) | {"weights_sha256": hashlib.sha256(keras).hexdigest()}
        with pytest.raises(InputError, match="NaN or infinite in "):
            parse_bundle(json.dumps(contract).encode(), keras, "", where="bundle")


def _with_weight(keras_file: bytes, value: float, all_of_them: bool) -> bytes:
    """Return a .keras file with one weight, or all of one array, changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(keras_file)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "model.weights.h5":
                stream = io.BytesIO(content)
                with h5py.File(stream, "r+") as file:
                    array = max(_datasets(file), key=lambda each: each.size)
                    values = array[...]
                    values.flat[slice(None) if all_of_them else 3] = value
                    array[...] = values
                content = stream.getvalue()
            new.writestr(name, content)
    return out.getvalue()


def _datasets(group: Any) -> list[Any]:
    """Return the arrays below a group of an HDF5 file."""
    return [each for item in group.values() for each in ([item] if isinstance(item, h5py.Dataset) else _datasets(item))]


RELEASING = """
import os, sys
from varstar_batch.files.location import Location

step, count = int(sys.argv.pop(1)), 0

def counted(name):
    original = getattr(Location, name)
    def wrapped(location, *args, **options):
        global count
        if not (name == "write_bytes" and location.is_local):
            count += 1
            if count > step:
                os._exit(77)
        return original(location, *args, **options)
    return wrapped

for name in ("atomic_output", "write_bytes", "create", "remove", "link_or_copy"):
    setattr(Location, name, counted(name))
from varstar_batch.cli import main
main()
"""


def test_a_process_that_dies_at_each_step_of_a_release_leaves_the_old_run_current(tmp_path: Path) -> None:
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(BEFORE)))
    root = write_run(tmp_path, run_name(2), RunSpec(partitions=in_slices(sky_rows(200, seed=2))), publish=False)
    root.write_gate(run_name(2), {"gate": [], "held": ["90 of 180 objects have another class"], "limits": {}})
    words = ["publish", str(tmp_path), run_name(2), "--because", "a new model"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for step in range(10):
        command = [sys.executable, "-c", RELEASING, str(step), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == 77, done.stderr
        assert root.current().run_id == run_name(1)
        assert verify_catalog(open_catalog(tmp_path)) == []
        assert root.held_runs() == [run_name(2)]
    assert 1 <= step < 10
    assert root.current().run_id == run_name(2)
    assert verify_catalog(open_catalog(tmp_path)) == []
    assert root.current().because == "a new model"


def test_a_failed_partition_keeps_its_objects(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (30, 20, 10)), tmp_path / "catalog"
    _, first = run(survey, catalog)
    before = read_rows(catalog)
    whole = (survey / "part-00001.parquet").read_bytes()
    (survey / "part-00001.parquet").write_bytes(whole[:1000])
    for _ in range(2):  # what is carried over once is carried over again
        record, second = run(survey, catalog, incremental=True)
        counted = {name: record[name] for name in ("rows", "objects", "kept_rows", "kept_partitions")}
        assert counted == {"rows": 60, "objects": 60, "kept_rows": 20, "kept_partitions": 1}
        assert (record["failed_partitions"], record["objects_estimated"], record["held"]) == (1, False, [])
        rows = read_rows(catalog)
        assert rows.drop_columns(["carried"]).equals(before.drop_columns(["carried"]))
        assert pa.compute.sum(rows["carried"]).as_py() == 20
        assert verify_catalog(open_catalog(str(catalog))) == []
        findings = verify_catalog(open_catalog(str(catalog)), open_survey(str(survey)))
        assert [finding.file for finding in findings] == ["part-00001.parquet"]
    assert second.run_id != first.run_id
    # Mended, it is classified and no mark is left; the file is not taken for one that did not change.
    (survey / "part-00001.parquet").write_bytes(whole)
    record, _ = run(survey, catalog, incremental=True)
    assert (record["classified_partitions"], record["carried_partitions"], record["kept_rows"]) == (1, 2, 0)
    assert not pa.compute.any(read_rows(catalog)["carried"]).as_py()
    assert verify_catalog(open_catalog(str(catalog)), open_survey(str(survey))) == []


def test_a_cluster_keeps_them_and_counts_the_gate_too(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (20, 10)), tmp_path / "catalog"
    run(survey, catalog)
    (survey / "part-00001.parquet").write_bytes(b"PAR1")
    record, _ = run(survey, catalog, workers=1)
    assert (record["rows"], record["kept_rows"], record["held"]) == (30, 10, [])


def test_where_there_is_no_earlier_run_the_counts_say_what_is_missing(tmp_path: Path, varstar: Any) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (30, 30, 30, 30)), tmp_path / "catalog"
    damaged = bytearray((survey / "part-00000.parquet").read_bytes())
    damaged[200:20_000] = bytes(19_800)
    (survey / "part-00000.parquet").write_bytes(damaged)  # its footer still tells how many there were
    (survey / "part-00003.parquet").write_bytes(b"PAR1")  # and this one's does not
    done = varstar("classify", survey, catalog, "--workers", 0)
    assert done.code == 1
    assert "60 of about 120 objects in; 2 partitions failed" in done.out
    record = open_catalog(str(catalog)).record
    assert (record["rows"], record["objects"], record["objects_estimated"]) == (60, 120, True)
    assert varstar("verify", catalog).code == 0
    checked = varstar("verify", catalog, "--survey", survey)
    assert checked.code == 1
    assert "60 of about 120 objects in; 2 partitions failed; 2 findings" in checked.out
    page = Path(str(write_report(open_catalog(str(catalog)), tmp_path / "r.html"))).read_text()
    assert "60 of about 120 objects in; 2 partitions failed" in page


def test_objects_that_moved_to_another_partition_are_not_doubled(tmp_path: Path) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (30, 20)), tmp_path / "catalog"
    run(survey, catalog)
    write_partition(survey / "part-00000.parquet", simulated_table(0, 40))  # with ten of the second one's
    (survey / "part-00001.parquet").write_bytes(b"PAR1")
    record, _ = run(survey, catalog)
    assert (record["rows"], record["kept_rows"], record["failed_partitions"]) == (40, 0, 1)
    assert verify_catalog(open_catalog(str(catalog))) == []


@pytest.mark.parametrize("mended", [False, True])
def test_after_a_run_was_cut_off_partitions_that_failed_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    survey, catalog = write_survey(tmp_path / "survey", (30, 20)), tmp_path / "catalog"
    run(survey, catalog)
    pq.write_table(pq.read_table(survey / "part-00000.parquet"), survey / "part-00000.parquet", compression="gzip")

    def shape(source: Source, partition: Partition, **options: bool) -> PartitionShape:
        if partition.key == "part-00001.parquet":
            raise PartitionError(kind="forbidden", expected="a file", got="403", where=partition.key, fix="allow it")
        return partition_shape(source, partition, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "partition_shape", shape)
        patch.setattr(stages, "verify_run_files", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(survey, catalog)
    if not mended:
        monkeypatch.setattr(tasks, "partition_shape", shape)
    record, prepared = run(survey, catalog)
    assert set(prepared.carried) == {"part-00000.parquet", "part-00001.parquet"}
    assert record["carried_partitions"] == 1
    expected = (50, 0, 0) if mended else (50, 20, 1)
    assert (record["rows"], record["kept_rows"], record["failed_partitions"]) == expected
    assert pc.sum(read_rows(catalog)["carried"]).as_py() == expected[1]
    assert verify_catalog(open_catalog(str(catalog))) == []
