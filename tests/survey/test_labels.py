"""Labels as catalogs write them, and the classes that they mean; what means none is told and never counted as wrong."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.makers.runs import read_rows, run
from tests.makers.surveys import simulated_table, write_partition
from varstar_batch.errors import InputError
from varstar_batch.light_curves.classes import CLASSES
from varstar_batch.runs.config import RunConfig, load_config, validate_config
from varstar_batch.survey.labels import LabelReader, known_labels

ROOT = Path(__file__).resolve().parents[2]

# Written by hand from the catalogs' own lists of types.
MEANT = {
    "VSX and GCVS": "EA:ECL EB:ECL EW:ECL E:ECL EC:ECL RRAB:RR RRC:RR RRD:RR RR:RR DCEP:CEP DCEPS:CEP CWA:CEP CWB:CEP "
    "DCEP(B):CEP DSCT:DSCUT HADS:DSCUT HADS(B):DSCUT SXPHE:DSCUT M:M SR:SR SRA:SR SRB:SR SRC:SR SRD:SR SRS:SR "
    "RRAB/BL:RR EA/SD:ECL EA/RS:ECL EW/KW:ECL EW+BY:ECL",
    "ASAS-SN": "EA:ECL EB:ECL EW:ECL RRAB:RR RRC:RR RRD:RR DCEP:CEP DCEPS:CEP CWA:CEP CWB:CEP RVA:CEP DSCT:DSCUT "
    "HADS:DSCUT M:M SR:SR MIRA:M DCEP-FU:CEP DCEP-FO:CEP EC/ESD/ED:ECL",
    "OGLE": "F:CEP 1O:CEP F/1O:CEP 1O/2O:CEP BLHer:CEP WVir:CEP RVTau:CEP RRab:RR RRc:RR RRd:RR C:ECL NC:ECL Mira:M "
    "SRV:SR SINGLEMODE:DSCUT",
    "Catalina": "EW:ECL EA:ECL EA_UP:ECL beta_Lyrae:ECL PCEB:ECL RRab:RR RRc:RR RRd:RR Blazhko:RR Cep-II:CEP "
    "HADS:DSCUT LADS:DSCUT",
    "Gaia": "ECL:ECL CEP:CEP RR:RR DSCT|GDOR|SXPHE:DSCUT RRab:RR RRc:RR RRd:RR DCEP:CEP T2CEP:CEP BL_HER:CEP W_VIR:CEP",
}


@pytest.mark.parametrize("catalog", MEANT)
def test_types_of_a_catalog_mean_the_class_of_the_paper(catalog: str) -> None:
    reader = LabelReader(CLASSES, {})
    pairs = [pair.rpartition(":")[::2] for pair in MEANT[catalog].split()]
    assert {label: reader.read(label).class_ for label, _ in pairs} == dict(pairs)


@pytest.mark.parametrize(
    ("label", "class_", "why"),
    [
        ("RRAB:", "RR", "class"),
        ("  rrab ", "RR", "class"),
        ("ew", "ECL", "class"),
        ("EA|EB", "ECL", "class"),
        ("EW:|EA:", "ECL", "class"),
        ("EW|RRC", None, "unsaid"),
        ("M|SR", None, "unsaid"),
        ("EW|BY", None, "unsaid"),
        ("EA+DSCT", None, "unsaid"),
        ("DSCT/RRC/EC/ESD", None, "unsaid"),
        ("LPV", None, "unsaid"),
        ("VAR", None, "unsaid"),
        ("?", None, "unsaid"),
        ("L:", None, "other"),
        ("ROT", None, "other"),
        ("UGSU+E", None, "other"),
        ("roAp", None, "other"),
        ("RS CVn", None, "other"),
        ("BE|GCAS|SDOR|WR", None, "other"),
        ("", None, "blank"),
        ("   ", None, "blank"),
        (None, None, "blank"),
        ("odd", None, "unknown"),
        ("EW|odd", None, "unknown"),
        ("3", None, "unknown"),
    ],
)
def test_doubt_alternatives_features_and_blanks(label: str | None, class_: str | None, why: str) -> None:
    assert LabelReader(CLASSES, {}).read(label) == (class_, why)


def test_a_model_with_finer_or_wider_classes_is_answered_with_those() -> None:
    fine = LabelReader(("RRAB", "RRC", "EA", "EW", "ROT"), {})
    assert [fine.read(label).class_ for label in ("RRab", "rrc", "EC", "rot", "EB", "RR")] == [
        *("RRAB", "RRC", "EW", "ROT", None, None)
    ]
    # RR is two of its classes, EB none.
    assert [fine.read(label).why for label in ("RR", "EB")] == ["unsaid", "other"]
    wide = LabelReader(("LPV", "RR"), {})
    assert [wide.read(label).class_ for label in ("M", "SRB", "M|SR", "RRAB")] == ["LPV", "LPV", "LPV", "RR"]


def test_ones_own_meanings_come_first_also_of_numbers_and_of_what_is_known() -> None:
    reader = LabelReader(CLASSES, {"1": "ECL", "12": "RR", "EW": "RR", "roAp": "DSCUT", "RRAB": "", "x-y": "M"})
    read = {
        label: reader.read(label).class_ for label in ("1", "1.0", "12", "2", "ew", "ROAP", "RRab:", "X Y", "EW/KW")
    }
    expected = {"1": "ECL", "1.0": "ECL", "12": "RR", "2": None, "ew": "RR", "ROAP": "DSCUT", "RRab:": None}
    assert read == expected | {"X Y": "M", "EW/KW": "RR"}


def test_a_meaning_that_is_no_class_of_the_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"\[labels\].*EW = 'ELC'; did you mean 'ECL'\?"):
        LabelReader(CLASSES, {"EW": "ELC"})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_a_column_is_read_whatever_its_type_and_nulls_have_no_class(kind: pa.DataType) -> None:
    reader = LabelReader(CLASSES, {})
    labels = ["EW", None, "rr", "", "odd", "EW"]
    assert reader.codes(pa.array(labels).cast(kind)).tolist() == [2, -1, 4, -1, -1, 2]
    assert reader.codes(pa.chunked_array([labels[:2], labels[2:]])).tolist() == [2, -1, 4, -1, -1, 2]
    assert reader.codes(pa.array([], kind)).tolist() == []


def test_every_kind_that_the_tables_name_is_there_for_somebody() -> None:
    everything = LabelReader(("EA", "EB", "EW", "ECL", "RRAB", "RRC", "RR", "CEP", "DSCUT", "M", "SR", "LPV"), {})
    means = {label: everything.read(label) for label in known_labels()}
    assert {why for _, why in means.values()} == {"class", "other", "unsaid"}
    assert len({class_ for class_, _ in means.values()}) == 13


def test_what_is_left_out_is_counted_named_and_the_nearest_is_offered() -> None:
    lines = LabelReader(CLASSES, {}).left_out({"odd": 3, "RRABB": 2, "LPV": 9, "ROT": 1000, "YSO": 2, "": 7})
    assert list(lines) == ["other", "unsaid", "unknown"]
    assert "1,002 objects ('ROT' 1,000, 'YSO' 2)" in lines["other"]
    assert "9 objects ('LPV' 9)" in lines["unsaid"]
    assert "5 objects ('odd' 3, 'RRABB' (like RRAB?) 2)" in lines["unknown"]
    # What it proposes is a setting that works.
    (proposed,) = [word for word in shlex.split(lines["unknown"].replace(",", "")) if word.startswith("labels.")]
    config = load_config(None, [proposed])
    assert LabelReader(CLASSES, config.labels).read("odd").why == "class"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, pa.Table]:
    """A survey of simulated stars with VSX's labels, some of them odd, classified."""
    folder = tmp_path_factory.mktemp("labels")
    table = simulated_table(0, 120)
    vsx = {"CEP": "DCEP", "DSCUT": "HADS", "ECL": "EW", "M": "m", "RR": "RRAB:", "SR": "SRB"}
    labels = [vsx[name] for name in table["class"].to_pylist()]
    labels[:6] = ["ROT", "odd", None, "EW|RRC", "EW", "RRAB"]
    table = table.set_column(table.schema.get_field_index("class"), "class", pa.array(labels))
    write_partition(folder / "survey/part.parquet", table)
    record, _ = run(folder / "survey", folder / "catalog", config=RunConfig(labels={"odd": ""}))
    return folder, record, table


def test_the_catalog_has_the_label_as_written_beside_the_class_and_what_it_means(labelled) -> None:
    folder, record, table = labelled
    rows = read_rows(folder / "catalog")
    order = table.sort_by("object_id")
    assert rows["label"].to_pylist() == order["class"].to_pylist()
    reader = LabelReader(CLASSES, {"odd": ""})
    assert rows["label_class"].to_pylist() == [reader.read(label).class_ for label in order["class"].to_pylist()]
    assert rows.schema.names.index("label") == rows.schema.names.index("class") + 1
    counted = {}
    for label, found in zip(rows["label_class"].to_pylist(), rows["class"].to_pylist(), strict=True):
        if label is not None:
            counted[f"{label}>{found or ''}"] = counted.get(f"{label}>{found or ''}", 0) + 1
    assert record["labels"] == counted
    assert record["labels_left_out"] == {"EW|RRC": 1, "ROT": 1, "odd": 1}


def test_the_documented_configuration_is_one() -> None:
    text = (ROOT / "docs/labels.md").read_text().partition("```toml\n")[2].partition("```")[0]
    reader = LabelReader(CLASSES, validate_config(tomllib.loads(text), "docs").labels)
    assert [reader.read(label).class_ for label in ("FOO", "3.0", "ROT")] == ["RR", "ECL", None]


def documented_query() -> list[str]:
    """The query of the docs that finds the stars whose label and class disagree."""
    text = (ROOT / "docs/labels.md").read_text()
    (line,) = [line for line in text.splitlines() if line.strip().startswith("varstar query")]
    return shlex.split(line)


def test_the_documented_query_finds_the_disagreements(labelled, varstar, tmp_path: Path) -> None:
    folder, record, _ = labelled
    words = [str(folder / "catalog") if word == "CATALOG" else word for word in documented_query()[1:]]
    out = tmp_path / "found.parquet"
    assert varstar(*words, "--out", out).code == 0
    found = pq.read_table(out)
    rows = read_rows(folder / "catalog")
    expected = rows.filter(pc.not_equal(rows["label_class"], rows["class"]))
    assert 0 < found.num_rows == expected.num_rows < 20
    assert set(found["object_id"].to_pylist()) == set(expected["object_id"].to_pylist())
    wrong = {key: n for key, n in record["labels"].items() if len({*key.split(">")}) == 2 and not key.endswith(">")}
    assert sum(wrong.values()) == found.num_rows


def test_another_meaning_makes_another_result_and_an_unknown_class_stops_the_run_before_it_begins(labelled) -> None:
    folder, record, _ = labelled
    with pytest.raises(InputError, match=r"\[labels\]"):
        run(folder / "survey", folder / "catalog", config=RunConfig(labels={"odd": "RRR"}))
    again, _ = run(folder / "survey", folder / "other", config=RunConfig(labels={"odd": "ECL"}))
    assert again["fingerprint"] != record["fingerprint"]
    assert again["labels_left_out"] == {"EW|RRC": 1, "ROT": 1}


def test_classify_says_what_it_left_out_and_how_to_say_more(labelled, varstar, tmp_path: Path) -> None:
    folder, _, _ = labelled
    result = varstar("classify", folder / "survey", tmp_path / "catalog", "--workers", 0)
    assert result.code == 0
    assert "Left out, of kinds that are no class of the model: 1 objects ('ROT' 1)" in result.err
    assert "'EW|RRC' 1" in result.err
    assert "warning: Left out, since nobody knows what their labels mean: 1 objects ('odd' 1)" in result.err
    share = float(result.out.partition("own classes: ")[2].partition("%")[0])
    assert share > 80
    told = varstar("inspect", folder / "survey", "--set", "labels.odd=RR").out
    for label, means in (("RRAB:", "RR"), ("ROT", "another kind"), ("EW|RRC", "no single class"), ("odd", "RR")):
        assert re.search(rf"{re.escape(label)} +\W +{means} ", told), label
