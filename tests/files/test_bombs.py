"""Files of kilobytes that hold gigabytes: refused with one line, before the memory is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varstar_batch.archives import recognise
from varstar_batch.errors import InputError, PartitionError
from varstar_batch.files import parquet_guard
from varstar_batch.files.location import locate
from varstar_batch.files.parquet import opened_parquet
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import ArchiveOptions, IngestOptions
from varstar_batch.survey.open import open_survey

ROWS, LENGTH = 100_000, 2**20
ALLOWED = 1200 * 2**20
"""Bytes that the child may have beyond what its libraries take; each bomb holds a hundred gigabytes."""

CHILD = """
import json, resource, sys
from pathlib import Path
import pyarrow.compute
from varstar_batch.light_curves.rules import Preprocessing
from varstar_batch.errors import VarstarError
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.from_archive import ingest_archive
from varstar_batch.ingest.options import IngestOptions
from varstar_batch.survey.objects import find_object
from varstar_batch.survey.summary import summarise
from varstar_batch.survey.open import open_survey

def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

here, allowed = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + 3 * allowed, resource.RLIM_INFINITY))
before, said = status("VmRSS"), {}
tables = {"band": "objects", "prefixes": "objects", "id": "names", "good": "class"}
for name, objects in tables.items():
    try:
        ingest(here / f"{name}.parquet", here / f"{objects}.parquet", here / "none", IngestOptions(time_system="MJD"))
    except VarstarError as error:
        said[name] = str(error)
said["archive"] = [str(one) for one in ingest_archive(here / "archive", None, here / "out").tally.rejected]
survey = open_survey(here / "survey")
said["survey"] = summarise(survey, Preprocessing()).failures
try:
    find_object(survey, "5")
except VarstarError as error:
    said["object"] = str(error)
print(json.dumps([status("VmHWM") - before, said]))
"""


def repeated(kind: pa.DataType, rows: int = ROWS) -> pa.Array:
    """One long text, again and again."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * LENGTH], kind))


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, store_schema=False, **options)
    return path


def observed(rows: int, **more: Any) -> dict[str, Any]:
    return {"object_id": np.zeros(rows, np.int64), "time": np.arange(float(rows)), "mag": np.ones(rows)} | more


def test_a_hundred_gigabytes_in_kilobytes(tmp_path: Path) -> None:
    text = pa.string()
    write(tmp_path / "good.parquet", observed(9))
    write(tmp_path / "objects.parquet", {"object_id": [0], "period": [1.0]})
    write(tmp_path / "names.parquet", {"object_id": ["x"], "period": [1.0]})
    write(tmp_path / "band.parquet", observed(ROWS, band=repeated(text)))
    write(tmp_path / "id.parquet", observed(ROWS, object_id=repeated(text)))
    options: dict[str, Any] = {"use_dictionary": False, "column_encoding": {"band": "DELTA_BYTE_ARRAY"}}
    few = observed(400, band=pa.array(["x" * LENGTH] * 400))
    write(tmp_path / "prefixes.parquet", few, **options)
    ids = np.arange(ROWS)
    write(tmp_path / "class.parquet", {"object_id": ids, "period": np.ones(ROWS), "class": repeated(text)})
    stars = {name: np.ones(ROWS) for name in ("jd", "mag", "mag_err")}
    write(tmp_path / "archive" / "star.parquet", stars | {"camera": repeated(text)})
    good = {name: [1.0, 2.0] for name in stars} | {"jd": [2460000.5, 2460001.5], "camera": ["ba", "ba"]}
    write(tmp_path / "archive" / "good.parquet", good)
    lists = {name: pa.array([[1.0] * ROWS]) for name in ("hmjd", "mag", "magerr")} | {
        "catflags": pa.array([[0] * ROWS])
    }
    one = {"objectid": pa.array(["x" * LENGTH]), "filterid": [1], "objra": [1.0], "objdec": [1.0]}
    write(tmp_path / "archive" / "ztf.parquet", one | lists)
    curves = pa.StructArray.from_arrays([pa.array([[1.0]] * ROWS)] * 3, ["time", "mag", "mag_err"])
    survey = {"object_id": ids.astype(str), "period": np.ones(ROWS), "class": repeated(text), "lightcurve": curves}
    write(tmp_path / "survey" / "one.parquet", survey)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.parquet")]
    assert max(sizes) < 2**22
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(ALLOWED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    peak, said = json.loads(done.stdout)
    assert peak < ALLOWED
    for name, column in (("band", "band"), ("prefixes", "band"), ("id", "object_id")):
        assert f"bytes of texts in 1048576 rows of column '{column}', got at least" in said[name]
    assert "a table of at most" in said["good"]
    assert [line for line in said["archive"] if "star.parquet" in line and "a bomb?" in line]
    assert [line for line in said["archive"] if "ztf.parquet" in line and "once for each observation" in line]
    assert len(said["archive"]) == 2
    assert len(said["survey"]) == 1
    assert "of column 'class'" in said["survey"][0]
    assert "of column 'class'" in said["object"]


ENCODINGS: dict[str, dict[str, Any]] = {
    "dictionary": {},
    "plain": {"use_dictionary": False},
    "prefixes": {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
    "both": {"dictionary_pagesize_limit": 1000},
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", ["flat", "list", "struct"])
def test_texts_are_counted_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, form: str) -> None:
    rng = np.random.default_rng(5)
    texts = pa.array([None if i % 7 == 0 else "é" * int(rng.integers(0, 90)) for i in range(2000)], pa.string())
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, 2001, 4), pa.int32()), texts)
    column = {"flat": texts, "list": lists, "struct": pa.StructArray.from_arrays([lists], ["band"])}[form]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"t": column}), path, row_group_size=len(column), **ENCODINGS[encoding])
    exact = sum(len(text.encode()) for text in texts.to_pylist() if text is not None)
    monkeypatch.setattr(parquet_guard, "_SMALL", 0)
    monkeypatch.setattr(parquet_guard, "MAX_TEXTS", exact - 1)
    with opened_parquet(locate(path, what="table")) as parquet:
        assert parquet.decoded_sizes() == [exact]
    refused = pytest.raises(PartitionError, match=f"at most {exact - 1} bytes of texts .* got at least {exact}")
    with refused, opened_parquet(locate(path, what="table")) as parquet:
        list(parquet.iter_batches(2000))
    monkeypatch.setattr(parquet_guard, "MAX_TEXTS", exact)
    with opened_parquet(locate(path, what="table")) as parquet:
        assert pa.Table.from_batches(parquet.iter_batches(2000))["t"].combine_chunks().equals(column)


def test_damaged_texts_are_counted_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "t.parquet", {"t": [f"star-{i // 10:05d}" for i in range(3000)]}, row_group_size=500)
    raw = path.read_bytes()
    monkeypatch.setattr(parquet_guard, "_SMALL", 0)
    monkeypatch.setattr(parquet_guard, "MAX_TEXTS", 1000)
    refused = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        damaged = bytearray(raw)
        for _ in range(5):
            damaged[int(rng.integers(len(raw)))] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            with opened_parquet(locate(path, what="table")) as parquet:
                parquet.decoded_sizes()
                list(parquet.iter_batches(2000))
        except PartitionError:
            refused += 1
    assert refused == 150


def test_what_is_decoded_at_once_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = locate(write(tmp_path / "t.parquet", {"t": ["x" * 100] * 1000}), what="table")
    monkeypatch.setattr(parquet_guard, "MAX_TEXTS", 20_000)
    with opened_parquet(file) as parquet:
        assert sum(record.num_rows for record in parquet.iter_batches(100)) == 1000
    with pytest.raises(PartitionError, match="20000 bytes of texts in 1000 rows"), opened_parquet(file) as parquet:
        list(parquet.iter_batches(1000))


def test_texts_of_one_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    column = pa.array([b"x" * 1000] * 100, pa.binary(1000))
    file = locate(write(tmp_path / "t.parquet", {"t": column}), what="table")
    monkeypatch.setattr(parquet_guard, "MAX_TEXTS", 50_000)
    with pytest.raises(PartitionError, match="at least 100000"), opened_parquet(file) as parquet:
        list(parquet.iter_batches(100))


def test_numbers_that_are_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "good.parquet", observed(9))
    write(tmp_path / "objects.parquet", {"object_id": np.arange(20_000), "period": np.ones(20_000)})
    monkeypatch.setattr(parquet_guard, "MAX_TABLE", 2**16)
    options = IngestOptions(time_system="MJD")
    ingest(tmp_path / "good.parquet", tmp_path / "objects.parquet", tmp_path / "out", options)
    write(tmp_path / "objects.parquet", {"object_id": np.zeros(99_999), "period": np.ones(99_999)})
    with pytest.raises(InputError, match="a bomb"):
        ingest(tmp_path / "good.parquet", tmp_path / "objects.parquet", tmp_path / "other", options)


def test_long_names_that_are_short_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognise, "MAX_REPEATED", 1000)
    lists = {name: pa.array([[1.0] * 10]) for name in ("hmjd", "mag", "magerr")} | {"catflags": pa.array([[0] * 10])}
    one = {"filterid": [1], "objra": [1.0], "objdec": [1.0]} | lists
    write(tmp_path / "in" / "a.parquet", {"objectid": pa.array(["x" * 100])} | one)
    write(tmp_path / "in" / "b.parquet", {"objectid": pa.array(["x" * 101])} | one)
    report = ingest_archive(tmp_path / "in", None, tmp_path / "out", ArchiveOptions())
    assert [one.file for one in report.tally.rejected] == ["b.parquet"]
    assert open_survey(tmp_path / "out").source.time_system == "HMJD"
