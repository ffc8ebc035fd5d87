"""Mangled tables of the long form: no crash, no hang, nothing lost silently; what cannot be read is one line."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.archives.test_mangled import cut, doubled, flip_bytes, no_utf8, other_encoding, packed
from varstar_batch.errors import InputError, VarstarError
from varstar_batch.ingest.from_tables import ingest
from varstar_batch.ingest.options import IngestOptions
from varstar_batch.survey.columns import SurveyConfig
from varstar_batch.survey.open import open_survey
from varstar_batch.survey.read import read_batches

TABLES = 450
OBJECTS, EACH = 4, 15
MJD = IngestOptions(time_system="MJD", partitions=1)


def names_of(ids: np.ndarray, texts: bool) -> pa.Array:
    return pa.array([f"star {i}" for i in ids]) if texts else pa.array(ids)


def make_observations(rng: random.Random, texts: bool) -> pa.Table:
    """Observations of some objects, together or in any order."""
    random_values = np.random.default_rng(rng.randrange(2**32))
    n = OBJECTS * EACH
    ids = np.repeat(np.arange(OBJECTS), EACH)
    table = pa.table(
        {
            "object_id": names_of(ids, texts),
            "period": ids + 0.5,
            "time": 55000 + np.tile(np.arange(EACH), OBJECTS) + random_values.random(n),
            "mag": random_values.normal(15, 1, n).astype(np.float32),
            "mag_err": np.full(n, 0.25, np.float32),
            "camera": pa.array(["ba", "be", None] * (n // 3)),
        }
    )
    return table if rng.random() < 0.7 else table.take(pa.array(random_values.permutation(n)))


def make_objects(texts: bool) -> pa.Table:
    ids = np.arange(OBJECTS)
    classes = pa.array(["RR", "CEP", None, "ECL"])
    return pa.table({"object_id": names_of(ids, texts), "period": ids + 0.5, "ra": ids * 1.0, "class": classes})


def make_content(table: pa.Table, rng: random.Random) -> bytes:
    """A Parquet file in one of its dialects."""
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=rng.choice([7, 40, 1000]),
        compression=rng.choice(["none", "snappy", "zstd", "gzip"]),
        use_dictionary=rng.random() < 0.5,
        data_page_version=rng.choice(["1.0", "2.0"]),
        write_page_checksum=rng.random() < 0.3,
        version=rng.choice(["1.0", "2.6"]),
    )
    return sink.getvalue()


def flip_footer(content: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(content[-8:-4], "little") + 8
    return content[:-size] + flip_bytes(content[-size:], rng)


MANGLE_CONTENT: list[Callable[[bytes, random.Random], bytes]] = [
    cut,
    flip_bytes,
    flip_footer,
    no_utf8,
    other_encoding,
    doubled,
    packed,
]


def shuffle_columns(table: pa.Table, rng: random.Random) -> pa.Table:
    return table.select(rng.sample(table.column_names, table.num_columns))


def shift_names(table: pa.Table, rng: random.Random) -> pa.Table:
    return table.rename_columns(rng.sample(table.column_names, table.num_columns))


def drop_column(table: pa.Table, rng: random.Random) -> pa.Table:
    return table.drop_columns([rng.choice(table.column_names)])


def double_column(table: pa.Table, rng: random.Random) -> pa.Table:
    return table.append_column(rng.choice(table.column_names), rng.choice(table.columns))


def odd_values(table: pa.Table, rng: random.Random) -> pa.Table:
    place = rng.randrange(table.num_columns)
    kind = table.schema.field(place).type
    odd: list[Any] = [None]
    if pa.types.is_floating(kind):
        odd += [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e38, -1e38]
    elif pa.types.is_integer(kind):
        odd += [-(2**63), 2**63 - 1, 0]
    else:
        odd += ["", "x" * 100_000, "\0", "star\n1", "\ud7ff\U0010ffff"]
    values = table.column(place).to_pylist()
    for row in rng.sample(range(len(values)), rng.randrange(1, len(values))):
        values[row] = rng.choice(odd)
    return table.set_column(place, table.column_names[place], pa.array(values, kind))


def other_type(table: pa.Table, rng: random.Random) -> pa.Table:
    n = table.num_rows
    odd: list[Callable[[], pa.Array]] = [
        lambda: pa.nulls(n),
        lambda: pa.array([2**63 - 1 - i for i in range(n)]),
        lambda: pa.array([2**64 - 1 - i for i in range(n)], pa.uint64()),
        lambda: pa.array([i % 2 == 0 for i in range(n)]),
        lambda: pa.array([b"\xff\xfe%d" % i for i in range(n)]),
        lambda: pa.array([b"\xe9t\xe9"] * n).view(pa.string()),
        lambda: pa.array([str(i) for i in range(n)]).dictionary_encode(),
        lambda: pa.array(["x"] * n).dictionary_encode(),
        lambda: pa.array(np.arange(n), pa.timestamp("ms")),
        lambda: pa.array(np.arange(n), pa.duration("ms")),
        lambda: pa.array(np.arange(n).astype(np.float16)),
        lambda: pa.array(np.arange(n)).cast(pa.decimal128(30, 2)),
        lambda: pa.array([[1.0, None]] * n),
        lambda: pa.array([{"a": 1}] * n),
        lambda: pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int64())),
    ]
    place = rng.randrange(table.num_columns)
    return table.set_column(place, table.column_names[place], rng.choice(odd)())


def rows_of_nothing(table: pa.Table, rng: random.Random) -> pa.Table:
    return table.slice(0, rng.choice([0, 0, 1]))


def twice(table: pa.Table, rng: random.Random) -> pa.Table:
    return pa.concat_tables([table, table.slice(rng.randrange(table.num_rows))])


MANGLE_TABLE: list[Callable[[pa.Table, random.Random], pa.Table]] = [
    shuffle_columns,
    shift_names,
    drop_column,
    double_column,
    odd_values,
    other_type,
    rows_of_nothing,
    twice,
]


def check_line(error: VarstarError) -> None:
    assert "expected " in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


def mangle(table: pa.Table, rng: random.Random, number: int) -> tuple[bytes, int | None]:
    """Return a mangled file of a table, and how many rows are in it if anybody can say so."""
    way = number % (len(MANGLE_CONTENT) + len(MANGLE_TABLE))
    if way < len(MANGLE_CONTENT):
        return MANGLE_CONTENT[way](make_content(table, rng), rng), None
    table = MANGLE_TABLE[way - len(MANGLE_CONTENT)](table, rng)
    return make_content(table, rng), table.num_rows


def is_ingested(folder: Path, rows: int | None) -> bool:
    """Ingest both tables; all of it is there, or they were refused. Return whether they were read."""
    out = folder / "survey"
    try:
        report = ingest(folder / "observations.parquet", folder / "objects.parquet", out, MJD)
    except VarstarError as error:
        check_line(error)
        assert not out.exists()
        return False
    if rows is not None:
        assert report.observations == rows
    assert report.observations == report.observations_written + report.duplicates + report.orphans
    assert report.objects == report.objects_written
    table = pq.read_table(out / "part-00000.parquet")
    assert table.num_rows == report.objects
    curves = table["lightcurve"].combine_chunks()
    assert len(curves.field("time").flatten()) == report.observations_written
    return True


def is_survey(file: Path, rows: int | None) -> bool:
    """Read the table as a survey, as a run does; return whether it was."""
    try:
        survey = open_survey(file, SurveyConfig(time_system="MJD"))
        batches = list(read_batches(survey.source, survey.partitions[0], None, 30))
        for batch in batches:
            batch.objects.to_pylist()
    except VarstarError as error:
        check_line(error)
        return False
    if rows is not None:
        assert sum(int(batch.light_curves.n_obs.sum()) for batch in batches) == rows
    return True


def is_read(folder: Path, number: int) -> bool:
    """Mangle one of two tables, ingest both, read them as a survey as well; return whether they could be ingested."""
    rng = random.Random(number)
    texts = rng.random() < 0.5
    observations, objects = make_observations(rng, texts), make_objects(texts)
    folder.mkdir()
    if rng.random() < 0.25:
        content, _ = mangle(objects, rng, number)
        (folder / "objects.parquet").write_bytes(content)
        (folder / "observations.parquet").write_bytes(make_content(observations, rng))
        return is_ingested(folder, observations.num_rows)
    content, rows = mangle(observations, rng, number)
    (folder / "observations.parquet").write_bytes(content)
    (folder / "objects.parquet").write_bytes(make_content(objects, rng))
    is_survey(folder / "observations.parquet", rows)
    return is_ingested(folder, rows)


@pytest.mark.timeout(120)
def test_mangled_tables_are_read_whole_or_refused_in_one_line(tmp_path: Path) -> None:
    taken = sum(is_read(tmp_path / str(number), number) for number in range(TABLES))
    assert TABLES // 5 < taken < TABLES // 2  # both happen often enough to show something


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    table = make_observations(random.Random(1), texts=False)
    for name in ("camera", "mag", "object_id"):
        doubled_one = table.append_column(name, table[name])
        pq.write_table(doubled_one, tmp_path / "observations.parquet")
        pq.write_table(make_objects(texts=False), tmp_path / "objects.parquet")
        with pytest.raises(InputError, match=f"expected one column '{name}', got 2 of that name"):
            ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", tmp_path / "survey", MJD)
        if name != "camera":  # which no run reads
            with pytest.raises(InputError, match=f"expected one column '{name}', got 2 of that name"):
                open_survey(tmp_path / "observations.parquet", SurveyConfig(time_system="MJD"))


def test_integers_too_large_for_a_double_are_data(tmp_path: Path) -> None:
    table = make_observations(random.Random(1), texts=False)
    large = pa.array([2**63 - 1] * table.num_rows)
    table = table.set_column(table.column_names.index("mag"), "mag", large)
    pq.write_table(table, tmp_path / "observations.parquet")
    pq.write_table(make_objects(texts=False), tmp_path / "objects.parquet")
    assert is_survey(tmp_path / "observations.parquet", table.num_rows)
    assert is_ingested(tmp_path, table.num_rows)
    curves = pq.read_table(tmp_path / "survey/part-00000.parquet")["lightcurve"].combine_chunks()
    assert curves.field("mag").flatten().to_pylist() == [2.0**63] * table.num_rows


def test_texts_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    table = make_observations(random.Random(1), texts=True)
    names = pa.array([b"\xe9toile"] * table.num_rows).view(pa.string())
    pq.write_table(make_objects(texts=True), tmp_path / "objects.parquet")
    for column in ("camera", "object_id"):
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, names), tmp_path / "observations.parquet")
        with pytest.raises(InputError, match="UTF8"):
            ingest(tmp_path / "observations.parquet", tmp_path / "objects.parquet", tmp_path / "out", MJD)
    assert not is_survey(tmp_path / "observations.parquet", None)
