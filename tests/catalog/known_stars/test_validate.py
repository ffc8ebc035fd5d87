"""A catalog against known stars: shares and intervals by hand, matches by name and by place, labels as written."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from tests.makers import command_line
from tests.makers.catalogs import RunSpec, in_slices, run_name, sky_rows, write_run
from tests.makers.command_line import Result, exit_code
from varstar_batch.catalog.known_stars.validate import PERIOD_EDGES, interval
from varstar_batch.catalog.reader import CatalogReader, open_catalog
from varstar_batch.catalog.run_files.history import prune
from varstar_batch.catalog.run_files.root import open_catalog_root
from varstar_batch.catalog.verify import verify_catalog
from varstar_batch.errors import InputError
from varstar_batch.light_curves.classes import CLASSES, PARENTS
from varstar_batch.report import write_report
from varstar_batch.sky import Places

ROWS = sky_rows(300, seed=4)
LABELS = {
    "RR": ("RRAB", "RRc:"),
    "ECL": ("EW", "EA/RS"),
    "CEP": ("DCEP",),
    "M": ("M",),
    "SR": ("SRB",),
    "DSCUT": ("HADS",),
}
"""As other catalogs write them."""


def known_table(count: int = 200, seed: int = 1) -> pa.Table:
    """Stars of ROWS with labels that are right for two of three, and stars that ROWS does not have."""
    random = np.random.default_rng(seed)
    rows = ROWS.slice(0, count)
    labels = []
    for k, found in enumerate(rows["class"].to_pylist()):
        class_ = found if found is not None and k % 3 else str(random.choice(CLASSES))
        labels.append("ROT" if k % 10 == 5 else "quark" if k % 50 == 7 else str(random.choice(LABELS[class_])))
    return pa.table(
        {
            "ID": pa.concat_arrays([rows["object_id"].combine_chunks(), pa.array([1, 2], pa.int64())]),
            "Type": [*labels, "RRAB", "EW"],
            "RAJ2000": np.append(rows["ra"].to_numpy(), [10.0, 20.0]),
            "DEJ2000": np.append(rows["dec"].to_numpy(), [89.9, -89.9]),
            "Vmag": random.uniform(10, 15, count + 2),
        }
    )


KNOWN = known_table()


def write_known(folder: Path, table: pa.Table, form: str = "csv") -> Path:
    file = folder / f"known.{form}"
    if form == "csv":
        pa_csv.write_csv(table, file)
    elif form == "parquet":
        pq.write_table(table, file)
    else:
        Table(
            {name: table[name].to_numpy().astype("U" if name == "Type" else None) for name in table.column_names}
        ).write(file, format={"fits": "fits", "vot": "votable"}[form])
    return file


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("validate") / "catalog"
    write_run(root, run_name(1), RunSpec(partitions=in_slices(ROWS)))
    write_run(root, run_name(2), RunSpec(partitions=in_slices(ROWS)))
    return root


@pytest.fixture(scope="module")
def reader(root: Path) -> CatalogReader:
    return open_catalog(root)


def wilson(count: int, total: int) -> tuple[float, float]:
    """Limits of an interval of 95 %, as in Wilson's paper."""
    z, p = 1.959963984540054, count / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return middle - half, middle + half


def stars_of(table: pa.Table) -> list[dict[str, Any]]:
    """What a person would write down of each known star that ROWS has."""
    means = {label: class_ for class_, labels in LABELS.items() for label in labels}
    rows = {row["object_id"]: row for row in ROWS.to_pylist()}
    return [
        {"truth": means.get(star["Type"]), "other": star["Type"] == "ROT", "found": rows[star["ID"]]["class"], **star}
        | {"period": rows[star["ID"]]["period"]}
        for star in table.to_pylist()
        if star["ID"] in rows
    ]


def check_rates(said: dict[str, Any], stars: Sequence[dict[str, Any]], parent: dict[str, str]) -> None:
    """Completeness, purity and other kinds are what counting one by one gives."""

    def of(name: str | None) -> str | None:
        return None if name is None else parent.get(name, name)

    names = {of(star["truth"]) for star in stars} | {
        of(star["found"]) for star in stars if star["truth"] or star["other"]
    }
    assert said.keys() == names - {None}
    for name, values in said.items():
        known = [star for star in stars if of(star["truth"]) == name]
        called = [star for star in stars if of(star["found"]) == name and star["truth"]]
        right = sum(of(star["found"]) == name for star in known)
        others = sum(of(star["found"]) == name and star["other"] for star in stars)
        assert (values["completeness"]["count"], values["completeness"]["of"]) == (right, len(known))
        assert (values["purity"]["count"], values["purity"]["of"]) == (right, len(called))
        assert values["other_kinds"] == others
        assert values["purity_with_other_kinds"]["of"] == len(called) + others


@pytest.mark.parametrize("form", ["csv", "parquet", "fits", "vot"])
def test_completeness_and_purity_are_those_of_counting(tmp_path: Path, reader: CatalogReader, form: str) -> None:
    said = reader.validate(write_known(tmp_path, KNOWN, form)).summary
    stars = stars_of(KNOWN)
    assert (said["reference_stars"], said["matched"]) == (202, 200)
    assert said["with_class"] == said["right"]["of"] == sum(star["truth"] is not None for star in stars)
    assert said["right"]["count"] == sum(star["truth"] == star["found"] for star in stars if star["truth"])
    assert said["labels_left_out"] == {"ROT": 20, "quark": 4}
    assert said["not_classified"] == {
        "no_period": sum(star["truth"] is not None and star["found"] is None for star in stars)
    }
    check_rates(said["by_class"], stars, {})
    check_rates(said["by_parent"], stars, dict(PARENTS))
    assert sum(each["right"]["of"] for each in said["by_magnitude"]) == said["with_class"]
    for each in said["by_magnitude"]:
        check_rates(each["by_class"], [star for star in stars if each["from"] <= star["Vmag"] < each["to"]], {})
    for each in said["by_period"]:
        inside = [s for s in stars if s["period"] and each["from"] <= s["period"] < (each["to"] or math.inf)]
        check_rates(each["by_parent"], inside, dict(PARENTS))
    assert {each["from"] for each in said["by_period"]} <= set(PERIOD_EDGES)
    assert sum(said["confusion"].values()) == said["with_class"]


def test_intervals_are_wilsons() -> None:
    for count, total in ((0, 7), (7, 7), (3, 200), (81, 90)):
        said = interval(count, total)
        assert (said["low"], said["high"]) == pytest.approx(wilson(count, total), abs=2e-5)
        assert said["share"] == pytest.approx(count / total, abs=1e-5)
    assert interval(0, 0)["share"] is None


def test_positions_find_the_same_stars(tmp_path: Path, reader: CatalogReader) -> None:
    by_name = reader.validate(write_known(tmp_path, KNOWN)).summary
    moved = KNOWN.set_column(3, "DEJ2000", pa.array(KNOWN["DEJ2000"].to_numpy() - 1e-4))
    found = reader.validate(write_known(tmp_path, moved.drop_columns(["ID"])), radius=1)
    assert found.summary["by_class"] == by_name["by_class"]
    assert found.stars["separation"].to_numpy() == pytest.approx(0.36, abs=1e-3)
    with pytest.raises(InputError, match=r"none of 202 by their positions within 0.1 arcsec"):
        reader.validate(write_known(tmp_path, moved.drop_columns(["ID"])), radius=0.1)


def test_places_across_the_meridian_and_at_the_poles() -> None:
    places = Places([0.00005, 359.9999, 120.0, 300.0, np.nan], [10.0, -30.0, 89.99999, -90.0, 0.0])
    row, separation = places.nearest(
        [359.99999, 0.00005, 300.0, 17.0, 0.0, np.nan], [10.0, -30.0, 89.99999, -89.9999, 0.0, 0.0], 0.4 / 3600
    )
    assert row.tolist() == [0, -1, 2, 3, -1, -1]
    assert separation[:1] * 3600 == pytest.approx(0.00006 * 3600 * math.cos(math.radians(10)), rel=1e-6)
    assert separation[2] * 3600 == pytest.approx(0.072, rel=1e-6)
    assert Places([], []).nearest([1.0], [1.0], 0.1)[0].tolist() == [-1]


def test_of_objects_near_one_star_the_nearest_counts_and_each_is_of_its_nearest(tmp_path: Path) -> None:
    rows = ROWS.slice(0, 8)
    arcsec = 1 / 3600
    for place, name, values in (
        (1, "ra", [0.0, 359.9999, *np.arange(50.0, 56.0)]),
        (2, "dec", [0.0, 0.0, *([5.0] * 6)]),
    ):
        rows = rows.set_column(place, name, pa.array(values))
    write_run(tmp_path / "c", run_name(1), RunSpec(partitions=in_slices(rows, 3)))
    ids = rows["object_id"].to_pylist()
    table = "label,ra,dec\n" + "\n".join(
        # Between two objects, nearer to the first, beyond the meridian; two stars near one object.
        [f"RR,{360 - 0.1 * arcsec},0", f"EW,{50 + 0.4 * arcsec},5", f"M,{50 - 0.1 * arcsec},5", "SR,51,5.1"]
    )
    (tmp_path / "known.csv").write_text(table)
    stars = open_catalog(tmp_path / "c").validate(tmp_path / "known.csv", radius=1).stars
    assert dict(zip(stars["known_label"].to_pylist(), stars["object_id"].to_pylist(), strict=True)) == {
        "RR": ids[0],
        "M": ids[2],
    }


def test_a_run_whose_model_knew_of_no_parents_is_judged_by_those_of_its_classes(
    tmp_path: Path, reader: CatalogReader
) -> None:
    place = ROWS.schema.get_field_index("parent")
    rows = ROWS.set_column(place, "parent", pa.nulls(ROWS.num_rows, pa.string()))
    write_run(tmp_path / "catalog", run_name(1), RunSpec(partitions=in_slices(rows)))
    known = write_known(tmp_path, KNOWN)
    found = open_catalog(tmp_path / "catalog").validate(known).summary
    assert found["by_parent"] == reader.validate(known).summary["by_parent"]


def test_a_label_may_name_a_parent_only_and_own_meanings_win(tmp_path: Path, reader: CatalogReader) -> None:
    ids = ROWS["object_id"].to_pylist()[:4]
    (tmp_path / "known.csv").write_text(
        "id,type\n" + "\n".join(f"{i},{t}" for i, t in zip(ids, ["LPV", "EW", "quark", "4"], strict=True))
    )
    said = reader.validate(tmp_path / "known.csv", labels={"quark": "M", "4": "", "EW": "RR"}).summary
    assert said["in_reference"] == {"CEP": 0, "DSCUT": 0, "ECL": 0, "M": 1, "RR": 1, "SR": 0}
    assert said["by_parent"]["LPV"]["completeness"]["of"] == 2
    assert said["by_parent"]["RR"]["completeness"]["of"] == 1
    assert said["labels_left_out"] == {"LPV": 1, "4": 1}


def test_stars_with_two_classes_count_for_nothing_and_repetitions_once(tmp_path: Path, reader: CatalogReader) -> None:
    a, b, c = ROWS["object_id"].to_pylist()[:3]
    (tmp_path / "k.csv").write_text(f"id,type\n{a},EW\n{a},RRAB\n{b},VAR\n{b},M\n{c},SRA\n{c},SRB\n")
    said = reader.validate(tmp_path / "k.csv").summary
    assert (said["contradictory"], said["matched"], said["with_class"]) == (1, 2, 2)
    assert said["by_class"]["M"]["completeness"]["of"] == said["by_class"]["SR"]["completeness"]["of"] == 1


@pytest.mark.parametrize(
    ("content", "how", "words"),
    [
        ("id,type\n1,RR\n", {}, "none of 1 by their identifiers"),
        ("id,type\nx1,RR\n", {}, "object_id is int64"),
        ("id,kind\n1,RR\n", {}, "a column class"),
        ("kind,ra\nRR,1\n", {"columns": ("class=kind",)}, r"a column object_id \(or ra and dec\)"),
        ("id,type\n1,\n", {}, "stars with a label"),
        ("id,type\n1,RR\n", {"radius": 1}, "positions of the stars"),
        ("type,ra,dec\nRR,1,2\n", {}, "identifiers of the stars"),
        ("type,ra,dec\nRR,1,95\n", {"radius": 1}, "from -90 to 90"),
        ("type,ra,dec\nRR,one,2\n", {"radius": 1}, "numbers in column 'ra'"),
        ("id,type\n1,RR\n", {"columns": ("class=Typ",)}, "a column 'Typ'"),
        ("id,type\n1,RR\n", {"columns": ("sort=type",)}, "NAME=COLUMN"),
        ("id,type\n1,RR\n", {"labels": {"EW": "EB"}}, "a class of the model"),
    ],
)
def test_what_cannot_be_held_against_it_is_refused(
    tmp_path: Path, reader: CatalogReader, content: str, how: dict[str, Any], words: str
) -> None:
    (tmp_path / "k.csv").write_text(content)
    with pytest.raises(InputError, match=words):
        reader.validate(tmp_path / "k.csv", **how)


def test_hours_and_units_are_read(tmp_path: Path, reader: CatalogReader) -> None:
    rows = ROWS.filter(pa.compute.equal(ROWS["status"], "ok")).slice(0, 20)
    from astropy.coordinates import Angle

    ra = Angle(rows["ra"].to_numpy(), "deg").to_string("hour", sep=":", precision=4)
    dec = Angle(rows["dec"].to_numpy(), "deg").to_string("deg", sep=":", precision=3, alwayssign=True)
    lines = [f"{r},{d},{t}" for r, d, t in zip(ra, dec, rows["class"].to_pylist(), strict=True)]
    (tmp_path / "k.csv").write_text("RA,Decl,Type\n" + "\n".join(lines))
    assert reader.validate(tmp_path / "k.csv", radius=0.1).summary["right"]["count"] == 20
    table = Table(
        {"ra": np.radians(rows["ra"].to_numpy()), "dec": rows["dec"].to_numpy(), "type": rows["class"].to_pylist()}
    )
    table["ra"].unit = "rad"
    sink = io.BytesIO()
    table.write(sink, format="votable")
    (tmp_path / "k.vot").write_bytes(sink.getvalue())
    assert reader.validate(tmp_path / "k.vot", radius=0.1).summary["right"]["count"] == 20


@pytest.fixture
def varstar(capfd: pytest.CaptureFixture[str]) -> Iterator[Any]:
    def call(*words: object) -> Result:
        capfd.readouterr()
        code = exit_code(*words)
        return Result(code, *capfd.readouterr())

    return call


def test_the_command_tells_it_keeps_it_and_the_report_shows_it(tmp_path: Path, root: Path, varstar: Any) -> None:
    import json

    file = write_known(tmp_path, KNOWN)
    result = varstar("validate", root, file, "--set", "labels.quark=RR", "--out", tmp_path / "stars.csv")
    assert result.code == 0, result
    for part in ("By class", "By parent", "By magnitude", "By period", "LPV", "'ROT' 20", "validation.json"):
        assert part in result.out, part
    kept = root / f"validations/{run_name(2)}/validation.json"
    said = json.loads(kept.read_text())
    assert said["labels_left_out"] == {"ROT": 20}
    assert len((tmp_path / "stars.csv").read_text().splitlines()) == 201
    assert json.loads(varstar("validate", root, file, "--json").out)["labels_left_out"] == {"ROT": 20, "quark": 4}
    reader = open_catalog(root)
    assert verify_catalog(reader) == []  # the run itself was not touched
    page = write_report(reader, tmp_path / "page.html").read_bytes().decode()
    share = said["by_class"]["RR"]["purity"]
    assert "By parent" in page
    assert f"{share['share']:.1%}" in page
    result = varstar("validate", root, tmp_path / "none.csv")
    command_line.refused(result, 2, "table of known stars", "nothing there")
    command_line.refused(varstar("validate", root, file, "--radius", "0"), 2, "--radius")


def test_what_was_found_goes_with_its_run(tmp_path: Path) -> None:
    write_run(tmp_path, run_name(1), RunSpec(partitions=in_slices(ROWS)))
    write_run(tmp_path, run_name(2), RunSpec(partitions=in_slices(ROWS)))
    catalog = open_catalog_root(tmp_path)
    catalog.write_validation(run_name(1), {"right": 1})
    assert catalog.validation(run_name(1)) == {"right": 1}
    prune(catalog, [run_name(1)])
    assert catalog.validation(run_name(1)) is None
    assert not (tmp_path / f"validations/{run_name(1)}").exists()
