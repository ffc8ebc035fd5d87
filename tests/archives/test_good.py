"""Observations that are not to be used, in an archive's own columns: left out and counted; their stars stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.makers.archive_files import GOLDEN
from tests.makers.command_line import Result
from varstar_batch.archives.content import FileContent, UnreadableFileError
from varstar_batch.archives.formats import FORMATS, read_file
from varstar_batch.survey.good import Good


def golden(name: str) -> bytes:
    content: Any = GOLDEN[name][0]
    made: bytes = content() if callable(content) else content
    return made


def read(content: bytes, form: str, good: str) -> FileContent:
    return read_file(content, "star.csv", [replace(FORMATS[form], good=Good(good))])[1]


@pytest.mark.parametrize("name", GOLDEN)
def test_every_format_can_be_asked(name: str) -> None:
    form = GOLDEN[name][1]
    content = golden(name)
    (asked,) = [one for one in FORMATS.values() if one.name == form]
    number = next(each for each, kind in asked.columns.items() if pa.types.is_floating(kind) and each.isidentifier())
    whole = read_file(content, "star.csv", [asked])[1]
    none = read(content, form, f"{number} < -1e9")
    assert none.observations.num_rows == 0
    assert set(none.empty_objects) == {*whole.empty_objects, *whole.observations["object_id"].to_pylist()}
    every = read(content, form, f"{number} > -1e9")
    assert every.observations.equals(whole.observations)
    assert sum(every.left_out.values()) == sum(whole.left_out.values())


V2 = (
    b"JD,Flux,Flux Error,Mag,Mag Error,Limit,FWHM,Filter,Quality,Camera\n"
    b"2458000.1,4,.4,14.1,.02,15,1.1,V,G,ba\n2458001.1,4,.4,14.2,.02,15,1.9,V,G,bb\n2458002.1,4,.4,14.3,.02,15,1.2,V,B,ba\n"
)


@pytest.mark.parametrize(
    ("good", "times", "left_out"),
    [
        ("FWHM < 1.5", [2458000.1], {"not good: FWHM < 1.5": 1, "quality B": 1}),
        ("fwhm < 1.5", [2458000.1], {"not good: fwhm < 1.5": 1, "quality B": 1}),
        ("Camera == 'bb'", [2458001.1], {"not good: Camera == 'bb'": 2}),
        (
            "Quality == 'G' and not flag(chip)",
            [2458000.1, 2458001.1],
            {"not good: Quality == 'G' and not flag(chip)": 1},
        ),
    ],
)
def test_columns_that_the_format_has_no_use_for(good: str, times: list[float], left_out: dict[str, int]) -> None:
    content = read(V2, "asassn-skypatrol-v2", good)
    assert content.observations["time"].to_pylist() == times
    assert dict(content.left_out) == left_out


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(UnreadableFileError, match="no column 'chip'"):
        read(V2, "asassn-skypatrol-v2", "chip == 0")


def test_a_star_without_a_good_observation_is_a_star(tmp_path: Path, varstar: Callable[..., Result]) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "some.csv").write_bytes(V2)
    (tmp_path / "files" / "bad.csv").write_bytes(V2.replace(b",G,", b",B,"))
    config = tmp_path / "own.toml"
    config.write_text('[survey]\ngood = "FWHM < 1.5"\n')
    survey = tmp_path / "survey"
    result = varstar("ingest", tmp_path / "files", survey, "--format", "auto", "--config", config, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["left_out"] == {"quality B": 3, "not good: FWHM < 1.5": 2}
    rows = {row["object_id"]: row["lightcurve"]["time"] for row in pq.read_table(survey).to_pylist()}
    assert rows == {"bad": [], "some": [2458000.1]}
    # What the ingest used is accepted by what comes after it.
    for words in (("inspect", survey), ("classify", survey, tmp_path / "catalog", "--plan")):
        after = varstar(*words, "--config", config)
        assert (words[0], after.code, after.err if after.code else "") == (words[0], 0, "")


def test_rows_with_neither_name_nor_observation_are_counted(tmp_path: Path, varstar: Callable[..., Result]) -> None:
    table = pa.table(
        {
            "objectid": pa.array([1, None, None, 4], pa.int64()),
            "filterid": pa.array([1, 1, 1, 1], pa.int8()),
            "objra": [10.0, 11, 12, 13],
            "objdec": [1.0, 2, 3, 4],
            "hmjd": [[58000.5, 58001.5], [], None, []],
            "mag": [[14.0, 14.1], [], None, []],
            "magerr": [[0.1, 0.1], [], None, []],
            "catflags": pa.array([[0, 0], [], None, []], pa.list_(pa.int64())),
        }
    )
    (tmp_path / "files").mkdir()
    pq.write_table(table, tmp_path / "files" / "part.parquet")
    result = varstar("ingest", tmp_path / "files", tmp_path / "survey", "--format", "ztf-hats")
    assert result.code == 0
    assert "2 rows left out that have neither an identifier nor an observation" in result.err
    assert pq.read_table(tmp_path / "survey")["object_id"].to_pylist() == ["1", "4"]
