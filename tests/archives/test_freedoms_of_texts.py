"""Texts as people and programs write them: separators, comments, units, encodings, words for nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from varstar_batch.archives.any_table import table_formats
from varstar_batch.archives.content import UnreadableFileError
from varstar_batch.archives.formats import read_file
from varstar_batch.ingest.objects import read_objects
from varstar_batch.survey.columns import SurveyConfig

ROWS = [("57000.5", "14.25", "0.02"), ("57001.5", "14.5", "0.03"), ("57002.5", "13.75", "0.02")]
NAMES = ("time", "mag", "mag_err")

OBJECTS = "object_id,period,ra,dec\n012,0.6,80,-69\n013,,81,-68\n"


def text(separator: str = ",", names: tuple[str, ...] = NAMES, rows: list[tuple[str, ...]] = ROWS) -> str:
    return "".join(separator.join(row) + "\n" for row in ([names] if names else []) + rows)


def between(mark: str) -> str:
    return text(rows=ROWS[:1]) + f"{mark} clouds, came\n" + text(names=(), rows=ROWS[1:]) + f"{mark} end\n"


READ = {
    **{f"separator {each!r}": text(each) for each in ("\t", ";", "|", "  ")},
    "decimal commas": text(";").replace(".", ","),
    "bars at both ends are no columns": "".join(f"{line}|\n" for line in text("|").splitlines()),
    "a separator behind each line": text(names=()).replace("\n", ",\n").join(["time,mag,mag_err\n", ""]),
    "lines of an old Macintosh": text().replace("\n", "\r"),
    "a comment in Latin-1": b"# \xe9toile, 1\n" + text().encode(),
    "UTF-16": text().encode("utf-16"),
    "names in single quotes": text(names=tuple(f"'{name}'" for name in NAMES)),
    **{f"{mark} above": f"{mark} mine, all of it\n{mark}\n{text()}" for mark in ("#", "%", "!", ";", "//", "\\")},
    **{f"{mark} before names": f"{mark} {text(' ')}" for mark in ("#", "%", "!", ";", "//")},
    **{f"{mark} among values": between(mark) for mark in ("#", "%", "!", ";", "//")},
    "comments behind values": text().replace(".02\n", ".02 # ok\n").replace("mag_err,#", "mag_err"),
    "commented out": text() + "#57003.5,10,0.1\n",
    "a line of units": text(rows=[("d", "mag", "mag"), *ROWS]),
    "a line of units, with blanks": text(" ", rows=[("d", "mag", "mag"), *ROWS]),
    "a line of dashes": text(" ", rows=[("----", "---", "-------"), *ROWS]),
    "units in a comment": "# time mag mag_err\n# d mag mag\n" + text(" ", names=()),
    "exponents of Fortran": text().replace("57001.5", "5.70015D+04"),
    "identifiers come first": text(" ", ("object_id", *NAMES), [("star", *row) for row in ROWS]),
}


@pytest.mark.parametrize("content", READ.values(), ids=READ.keys())
def test_observations(content: str | bytes) -> None:
    content = content.encode() if isinstance(content, str) else content
    _, found = read_file(content, "star.csv", table_formats(SurveyConfig(), "MJD"))
    assert found.observations["object_id"].to_pylist() == ["star"] * 3
    for place, name in enumerate(NAMES):
        expected = [float(row[place]) for row in ROWS]
        np.testing.assert_allclose(found.observations[name].to_numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("word", ["", "nan", "--", "-", "NULL", "null", "None", "N/A", "INDEF", "masked"])
def test_words_for_nothing(word: str) -> None:
    content = text(rows=[*ROWS, ("57003.5", word, "0.02")]).encode()
    _, found = read_file(content, "star.csv", table_formats(SurveyConfig(), "MJD"))
    np.testing.assert_array_equal(np.isnan(found.observations["mag"].to_numpy()), [False, False, False, True])


def test_units_that_a_line_says_are_heeded() -> None:
    content = text(rows=[("s", "mmag", "mag"), ("4924843200", "14250", "0.02")]).encode()
    _, found = read_file(content, "star.csv", table_formats(SurveyConfig(), "MJD"))
    (row,) = found.observations.to_pylist()
    assert (row["time"], row["mag"]) == (57000.5, 14.25)


@pytest.mark.parametrize(
    "content",
    [
        text(rows=[*ROWS, ("57003.5", "V1D05", "0.02")]),  # a name is no number
        text(rows=[*ROWS, ("57003.5", "14", "0.02", "a", "b")]),
        text(rows=[("d", "FOO", "mag"), *ROWS]),  # no line of units
    ],
)
def test_what_is_no_freedom(content: str) -> None:
    with pytest.raises(UnreadableFileError, match="lines of a table"):
        read_file(content.encode(), "star.csv", table_formats(SurveyConfig(), "MJD"))


TABLES = {
    **{f"{mark} above": f"{mark} mine, all of it\n{mark} and more\n{OBJECTS}" for mark in ("%", "!", "//", "\\")},
    **{f"{mark} before names": f"{mark}{OBJECTS}" for mark in ("%", "!", "//")},
    **{f"{mark} among rows": OBJECTS.replace("013", f"{mark} note\n013") for mark in ("#", "%", "!", ";", "//")},
    "commented out": OBJECTS + "#014,1,2,3\n",
    "decimal commas": "object_id;period;ra;dec\n012;0,6;80;-69\n013;;81,0;-68\n",
    "UTF-16": OBJECTS.encode("utf-16"),
    "words for nothing": OBJECTS.replace("013,,", "013,--,"),
    "VizieR": "#\n#RESOURCE=yCat\n\n"
    "object_id\tperiod\tra\tdec\n\td\tdeg\tdeg\n---\t---\t---\t---\n012\t0.6\t80\t-69\n013\t\t81\t-68\n",
    "in hours, by a line of units": "object_id,period,ra,dec\n,h,deg,deg\n012,14.4,80,-69\n013,,81,-68\n",
    "IPAC": "\\ comment\n|object_id|period|ra    |dec   |\n|char     |double|double|double|\n"
    "|         |h     |deg   |deg   |\n"
    " 012       14.4   80.0   -69.0  \n 013       nan    81.0   -68.0  \n",
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES.keys())
def test_tables_of_objects(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "objects.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    objects = read_objects(path, SurveyConfig())
    assert objects["object_id"].to_pylist() == ["012", "013"]
    np.testing.assert_allclose(objects["period"].fill_null(np.nan).to_numpy(), [0.6, np.nan])
    assert objects["ra"].to_pylist() == [80.0, 81.0]
    assert objects["dec"].to_pylist() == [-69.0, -68.0]
